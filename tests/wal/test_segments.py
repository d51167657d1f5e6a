"""The files: created, cut, released, locked, refused."""

import errno
import os
import stat
from pathlib import Path

import pytest

from corum.raft.messages import ConfState, Entry, HardState
from corum.wal import (
    SEGMENT_BYTES,
    SnapshotNotFound,
    Wal,
    WalCorrupt,
    WalFilesMissing,
    WalLocked,
    WalSnapshot,
    WalTorn,
    preallocation,
    repair,
    segments,
    valid_snapshots,
)
from corum.wal.codec import encode_hard_state
from corum.wal.locks import try_lock

from .helpers import METADATA, entries, names, perform, read, save

FIRST = "0000000000000000-0000000000000000.wal"
SMALL = 4096


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "member" / "wal"


def create(directory: Path, segment_bytes: int = SMALL) -> Wal:
    return Wal.create(directory, METADATA, segment_bytes=segment_bytes)


def reopen(directory: Path, start: WalSnapshot | None = None) -> Wal:
    return Wal.open(directory, start or WalSnapshot(), segment_bytes=SMALL)


def test_new_log_has_etcds_name_size_and_modes(directory: Path) -> None:
    """One segment 0-0 of 64,000,000 bytes; nobody else may read it."""
    create(directory, SEGMENT_BYTES).close()
    assert names(directory) == [FIRST]
    found = (directory / FIRST).stat()
    assert found.st_size == 64_000_000
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert names(directory.parent) == ["wal"]


def test_interrupted_creation_leaves_no_log(directory: Path) -> None:
    """What a dead process left as `wal.tmp` is swept away by the next creation."""
    building = directory.with_name("wal.tmp")
    building.mkdir(parents=True)
    (building / FIRST).write_bytes(b"half")
    create(directory).close()
    assert read(directory).metadata == METADATA
    assert names(directory.parent) == ["wal"]


def test_what_was_saved_is_read_back(directory: Path) -> None:
    """Entries, hard state and metadata survive; the reopened log goes on in the same segment."""
    wal = create(directory)
    save(wal, entries(1, 3), commit=2)
    wal.close()
    wal = reopen(directory)
    assert wal.replay is not None
    assert wal.replay.entries == entries(1, 3)
    assert wal.replay.hard_state == HardState(1, 1, 2)
    save(wal, entries(4, 5), commit=5)
    wal.close()
    assert read(directory).entries == entries(1, 5)
    assert names(directory) == [FIRST]


def test_nothing_to_save_is_nothing_to_write(directory: Path) -> None:
    """An empty Ready costs no write; a commit-only hard state need not be synced."""
    wal = create(directory)
    assert wal.save(None, [], must_sync=False) is None
    assert wal.save(HardState(), [], must_sync=False) is None
    write = wal.save(HardState(1, 1, 1), [], must_sync=False)
    assert write is not None
    assert write.sync is False
    wal.close()


def test_later_entries_replace_the_tail(directory: Path) -> None:
    """A new leader's entry at an index drops the old one and all behind it."""
    wal = create(directory)
    save(wal, entries(1, 5, term=1))
    save(wal, entries(3, 4, term=2))
    wal.close()
    found = read(directory)
    assert found.entries == entries(1, 2, term=1) + entries(3, 4, term=2)
    assert found.last_index == 4


def test_cut_begins_the_next_segment(directory: Path) -> None:
    """Named by the next index; the old file shrinks to what it holds; the chain goes on."""
    wal = create(directory)
    assert not wal.cut_due
    save(wal, entries(1, 20, data=b"x" * 250), commit=7)
    assert wal.cut_due
    wal.cut()
    assert not wal.cut_due
    save(wal, entries(21, 22))
    wal.close()
    assert names(directory) == [FIRST, "0000000000000001-0000000000000015.wal"]
    assert (directory / FIRST).stat().st_size < 7000
    assert (directory / "0000000000000001-0000000000000015.wal").stat().st_size == SMALL
    assert [entry.index for entry in read(directory).entries] == list(range(1, 23))


def test_what_was_replaced_below_a_snapshot_does_not_come_back(directory: Path) -> None:
    """Entries 5 to 8 of term 1 were never committed: others took the place from 3 on."""
    wal = create(directory)
    save(wal, entries(1, 8), commit=2)
    save(wal, entries(3, 4, term=2), commit=4)
    perform(wal.save_snapshot(WalSnapshot(4, 2)))
    wal.close()
    assert read(directory, WalSnapshot(4, 2)).entries == []
    wal = reopen(directory, WalSnapshot(4, 2))
    save(wal, entries(5, 6, term=3), commit=5)
    wal.close()
    assert read(directory, WalSnapshot(4, 2)).entries == entries(5, 6, term=3)


@pytest.mark.parametrize("index", [3, 4])
def test_what_a_leaders_snapshot_replaced_does_not_come_back(directory: Path, index: int) -> None:
    """The log's own entry at its index was another one, or it had none; behind a snapshot that the
    member made itself, entries stay."""
    wal = create(directory)
    save(wal, entries(1, 2), commit=2)
    save(wal, entries(3, 8, term=1), commit=2)
    start = WalSnapshot(index, 2)
    perform(wal.save_snapshot(start))
    perform(wal.save(HardState(2, 1, index), [], must_sync=True))
    wal.close()
    assert read(directory, start).entries == []
    backup = directory.with_name("backup")
    wal = create(backup)
    save(wal, entries(index + 1, 8, term=2), commit=8)
    perform(wal.save_snapshot(start))
    wal.close()
    assert read(backup, start).entries == entries(index + 1, 8, term=2)
    own = directory.with_name("own")
    wal = create(own)
    save(wal, entries(1, 8), commit=index)
    perform(wal.save_snapshot(WalSnapshot(index, 1)))
    wal.close()
    assert read(own, WalSnapshot(index, 1)).entries == entries(index + 1, 8)


def test_a_snapshot_without_entries_behind_it_names_the_next_segment(directory: Path) -> None:
    """Also after a restart: a segment named older would hide the snapshot's record for ever."""
    wal = create(directory)
    save(wal, entries(1, 3), commit=3)
    perform(wal.save_snapshot(WalSnapshot(90, 2)))
    perform(wal.save(HardState(2, 1, 90), [], must_sync=True))
    wal.close()
    wal = reopen(directory, WalSnapshot(90, 2))
    wal.cut()
    save(wal, entries(91, 92, term=2), commit=91)
    wal.close()
    assert names(directory)[-1] == "0000000000000001-000000000000005b.wal"
    assert read(directory, WalSnapshot(90, 2)).entries == entries(91, 92, term=2)


def test_new_segment_repeats_the_hard_state(directory: Path) -> None:
    """So that older segments can go, although no later write tells term and vote."""
    wal = create(directory)
    save(wal, entries(1, 20), commit=20)
    wal.cut()
    perform(wal.save(None, entries(21, 25), must_sync=True))
    perform(wal.save_snapshot(WalSnapshot(22, 1)))
    wal.close()
    (directory / FIRST).unlink()
    found = read(directory, WalSnapshot(22, 1))
    assert found.hard_state == HardState(1, 1, 20)
    assert found.entries == entries(23, 25)
    with pytest.raises(WalFilesMissing, match="older than"):
        read(directory, WalSnapshot(20, 1))


def test_no_write_while_a_cut_is_under_way(directory: Path) -> None:
    """The next segment continues the chain of the old one: nothing may come between."""
    wal = create(directory)
    save(wal, entries(1, 2))
    cut = wal.begin_cut()
    with pytest.raises(AssertionError, match="begin_cut"):
        wal.save(None, entries(3, 3), must_sync=True)
    assert cut.run() is None
    wal.finish_cut(cut)
    save(wal, entries(3, 3))
    wal.close()


@pytest.mark.parametrize("step", ["reserve", "rename", "sync_directory"])
def test_failed_cut_leaves_the_log_as_it_was(
    directory: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A full disk in any step: the old segment goes on being written, the cut is tried again."""

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    wal = create(directory)
    save(wal, entries(1, 20, data=b"x" * 250))
    place = os if step == "rename" else segments
    with monkeypatch.context() as broken:
        broken.setattr(place, step, full)
        with pytest.raises(OSError, match="No space left"):
            wal.cut()
    save(wal, entries(21, 22))
    wal.cut()
    save(wal, entries(23, 23))
    wal.close()
    assert [name for name in names(directory) if name.endswith(".wal")] == [
        FIRST,
        "0000000000000001-0000000000000017.wal",
    ]
    assert [entry.index for entry in read(directory).entries] == list(range(1, 24))


def test_repeated_write_after_a_full_disk(directory: Path) -> None:
    """Bytes of a write that failed and was cut off again are written again as they are."""
    wal = create(directory)
    save(wal, entries(1, 2))
    write = wal.save(None, entries(3, 4), must_sync=True)
    assert write is not None
    begin = os.lseek(write.fd, 0, os.SEEK_CUR)
    os.write(write.fd, write.data[:20])
    os.ftruncate(write.fd, begin)
    os.lseek(write.fd, begin, os.SEEK_SET)
    perform(write)
    save(wal, entries(5, 5))
    wal.close()
    assert read(directory).entries == entries(1, 5)


def test_second_opener_is_refused(directory: Path) -> None:
    """The segments are locked, also for a second `Wal` in this process."""
    wal = create(directory)
    with pytest.raises(WalLocked, match=FIRST):
        reopen(directory)
    with pytest.raises(WalLocked, match=FIRST):
        repair(directory)
    wal.close()
    reopen(directory).close()


def test_gap_between_segments_is_refused(directory: Path) -> None:
    """A missing segment is not skipped; the error names its neighbours."""
    wal = create(directory)
    for first in (1, 3, 5):
        save(wal, entries(first, first + 1))
        wal.cut()
    wal.close()
    (directory / "0000000000000001-0000000000000003.wal").unlink()
    with pytest.raises(WalFilesMissing, match=r"gap between .*0-0{16}\.wal and .*2-0{15}5\.wal"):
        reopen(directory)


def test_no_log_at_all(tmp_path: Path) -> None:
    """An absent or empty directory is an error that says so."""
    with pytest.raises(WalFilesMissing, match="file not found"):
        reopen(tmp_path / "nothing")


def test_unknown_snapshot_is_refused(directory: Path) -> None:
    """Starting at a snapshot that the log has no record of could skip entries."""
    wal = create(directory)
    save(wal, entries(1, 9), commit=9)
    wal.close()
    with pytest.raises(SnapshotNotFound, match="wal: snapshot not found"):
        reopen(directory, WalSnapshot(5, 1))


def test_snapshot_of_another_term_is_refused(directory: Path) -> None:
    """The same index with another term is another history."""
    wal = create(directory)
    save(wal, entries(1, 9), commit=9)
    perform(wal.save_snapshot(WalSnapshot(5, 1)))
    wal.close()
    with pytest.raises(WalCorrupt, match="snapshot mismatch"):
        reopen(directory, WalSnapshot(5, 2))


def test_only_committed_snapshots_are_valid(directory: Path) -> None:
    """A record of a snapshot beyond the commit index is from a history that may not have been."""
    wal = create(directory)
    save(wal, entries(1, 9), commit=5)
    known = WalSnapshot(5, 1, ConfState(voters=(1,)))
    perform(wal.save_snapshot(known))
    perform(wal.save_snapshot(WalSnapshot(9, 1)))
    wal.close()
    assert valid_snapshots(directory) == [WalSnapshot(), known]


def test_replay_begins_at_the_segment_of_the_snapshot(directory: Path) -> None:
    """Segments before it are neither read nor locked."""
    wal = create(directory)
    for first in (1, 11, 21):
        save(wal, entries(first, first + 9), commit=first + 9)
        perform(wal.save_snapshot(WalSnapshot(first + 9, 1)))
        wal.cut()
    wal.close()
    (directory / FIRST).write_bytes(b"damaged")
    wal = reopen(directory, WalSnapshot(20, 1))
    assert wal.replay is not None
    assert wal.replay.entries == entries(21, 30)
    assert _locks(directory / FIRST)
    wal.close()


def test_release_unlocks_what_a_snapshot_covers(directory: Path) -> None:
    """Locks are given back segment by segment, never of one that later entries need."""
    wal = create(directory)
    for first in (1, 11, 21):
        save(wal, entries(first, first + 9))
        wal.cut()
    wal.release_to(15)
    first, second, *_ = sorted(directory.iterdir())
    assert _locks(first)
    assert not _locks(second)
    wal.release_to(1000)
    assert _locks(second)
    save(wal, entries(31, 31))
    wal.close()
    wal.close()


def _locks(path: Path) -> bool:
    """Whether nobody holds a lock on it."""
    fd = os.open(path, os.O_RDWR)
    try:
        return try_lock(fd)
    finally:
        os.close(fd)


def torn(directory: Path) -> tuple[Path, list[Entry]]:
    """A log whose last write lost a sector."""
    wal = create(directory, 64 * 1024)
    save(wal, entries(1, 3), commit=3)
    path = directory / FIRST
    write = wal.save(None, entries(4, 5, data=b"y" * 2000), must_sync=True)
    perform(write)
    at = os.lseek(write.fd, 0, os.SEEK_CUR) if write else 0
    wal.close()
    with path.open("r+b") as file:
        file.seek((at - 1200) // 512 * 512)
        file.write(bytes(512))
    return path, entries(1, 3) + entries(4, 4, data=b"y" * 2000)


def test_torn_log_is_repaired_with_a_copy(directory: Path) -> None:
    """`open` says torn, `repair` cuts and keeps the original, the next `open` goes on."""
    path, kept = torn(directory)
    original = path.read_bytes()
    with pytest.raises(WalTorn, match=FIRST) as caught:
        reopen(directory)
    assert repair(directory) == path.with_name(FIRST + ".broken")
    assert path.with_name(FIRST + ".broken").read_bytes() == original
    assert path.stat().st_size == caught.value.offset
    wal = reopen(directory)
    assert wal.replay is not None
    assert wal.replay.entries == kept
    save(wal, entries(5, 6))
    wal.close()
    assert read(directory).entries == kept + entries(5, 6)
    assert repair(directory) is None


def test_a_torn_hard_state_hides_no_snapshot(directory: Path) -> None:
    """A commit index whose last bytes are zeros is a torn write, no reason not to start."""
    known = WalSnapshot(2, 1, ConfState((1,)))
    wal = create(directory, 64 * 1024)
    save(wal, entries(1, 3), commit=3)
    perform(wal.save_snapshot(known))
    torn_at = wal._offset  # the state record begins behind its 8 bytes of length
    perform(wal.save(HardState(7, 1 << 40, 3), [], must_sync=True))
    wal.close()
    path = directory / FIRST
    image = path.read_bytes()
    data_at = image.index(encode_hard_state(HardState(7, 1 << 40, 3)), torn_at)
    for lost_from in range(data_at, data_at + 10):
        path.write_bytes(image[:lost_from] + bytes(len(image) - lost_from))
        assert valid_snapshots(directory) == [WalSnapshot(), known]


def test_leftovers_behind_the_end_do_not_come_back(directory: Path) -> None:
    """Bytes of a torn batch behind a lost sector are gone once the log was opened."""
    wal = create(directory, 64 * 1024)
    save(wal, entries(1, 2))
    wal.close()
    path = directory / FIRST
    end = read(directory).end
    with path.open("r+b") as file:
        file.seek(end + 1024)
        file.write(b"\x08" * 600)
    Wal.open(directory, WalSnapshot(), segment_bytes=64 * 1024).close()
    assert not any(path.read_bytes()[end:])
    assert path.stat().st_size == 64 * 1024


def test_damage_names_file_and_offset_and_is_not_repaired(directory: Path) -> None:
    """A wrong byte in what was synced: the start is refused, nothing is cut off."""
    wal = create(directory)
    save(wal, entries(1, 9, data=b"z" * 100))
    wal.close()
    path = directory / FIRST
    image = bytearray(path.read_bytes())
    image[300] ^= 1
    path.write_bytes(image)
    with pytest.raises(WalCorrupt, match=rf"crc mismatch \(file .*{FIRST}, offset \d+\)") as caught:
        reopen(directory)
    assert not isinstance(caught.value, WalTorn)
    with pytest.raises(WalCorrupt, match="crc mismatch"):
        repair(directory)
    assert path.read_bytes() == image


def test_space_is_zeroed_ahead_of_the_log_never_under_it(directory: Path) -> None:
    """Housekeeping writes zeros behind what was prepared, whatever the order of the two."""
    size = 4 * preallocation.SLICE_BYTES
    wal = create(directory, size)
    write = wal.save(None, entries(1, 3, data=b"q" * 200_000), must_sync=True)
    assert wal.housekeeping_due
    assert wal.housekeep()
    perform(write)
    save(wal, entries(4, 4))
    while wal.housekeep():
        pass
    assert not wal.housekeeping_due
    save(wal, entries(5, 5))
    wal.close()
    assert not wal.housekeep()
    assert read(directory).entries == entries(1, 3, data=b"q" * 200_000) + entries(4, 5)
    assert (directory / FIRST).stat().st_size == size


def test_leftover_of_a_cut_is_removed(directory: Path) -> None:
    """A crash before the new segment had its name leaves `0.tmp`; the old segment goes on."""
    wal = create(directory)
    save(wal, entries(1, 2))
    wal.close()
    (directory / "0.tmp").write_bytes(b"half a segment")
    wal = reopen(directory)
    save(wal, entries(3, 3))
    wal.close()
    assert names(directory) == [FIRST]
    assert read(directory).entries == entries(1, 3)


def test_log_that_begins_with_content(directory: Path) -> None:
    """First entries, hard state and a snapshot's record come with the creation, in one piece."""
    state = HardState(1, 7, 3)
    known = WalSnapshot(3, 1, ConfState(voters=(7,)))
    first = entries(1, 3)
    wal = Wal.create(directory, METADATA, hard_state=state, entries=first, snapshot=known)
    save(wal, entries(4, 4), commit=4)
    wal.close()
    assert valid_snapshots(directory) == [WalSnapshot(), known]
    assert read(directory).entries == entries(1, 4)
    assert read(directory, WalSnapshot(3, 1)).entries == entries(4, 4)


def test_first_content_larger_than_a_segment(directory: Path) -> None:
    """It is written whole; the next segment begins at the first opportunity."""
    first = entries(1, 90, data=b"z" * 100)
    wal = Wal.create(directory, METADATA, entries=first, segment_bytes=SMALL)
    assert wal.cut_due
    wal.cut()
    save(wal, entries(91, 91))
    wal.close()
    assert read(directory).last_index == 91
