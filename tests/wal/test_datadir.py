"""The data directory: what it holds, who may use it, what is purged."""

import stat
from pathlib import Path

import pytest

from corum.wal import DataDir, DataDirLocked, Wal, WalSnapshot
from corum.wal.datadir import Contents

from .helpers import METADATA, entries, names, perform, save


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path / "default.etcd")


def test_layout_is_etcds(data: DataDir) -> None:
    """member/wal and member/snap, directories 0700."""
    data.create()
    Wal.create(data.wal, METADATA, segment_bytes=4096).close()
    assert names(data.member) == ["snap", "wal"]
    for directory in (data.path, data.member, data.snap, data.wal):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_wal_elsewhere(tmp_path: Path) -> None:
    """`--wal-dir`: its parents are made, itself is left to the log."""
    data = DataDir(tmp_path / "d", tmp_path / "fast" / "disk" / "wal")
    data.create()
    assert data.wal == tmp_path / "fast" / "disk" / "wal"
    assert data.wal.parent.is_dir()
    assert not data.wal.exists()
    assert not data.has_wal()


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ([], Contents.EMPTY),
        (["member"], Contents.MEMBER),
        (["proxy"], Contents.PROXY),
        (["member", "proxy"], Contents.BOTH),
        (["lost+found"], Contents.UNKNOWN),
        (["lost+found", "member"], Contents.MEMBER),
    ],
)
def test_contents(data: DataDir, made: list[str], expected: Contents) -> None:
    """What the directory was used for decides how to start."""
    assert data.contents() is Contents.EMPTY
    for name in made:
        (data.path / name).mkdir(parents=True)
    data.path.mkdir(exist_ok=True)
    assert data.contents() is expected


def test_only_a_log_makes_a_member(data: DataDir) -> None:
    """A start that died before its log was there is a first start again."""
    data.create()
    assert not data.has_wal()
    Wal.create(data.wal, METADATA, segment_bytes=4096).close()
    assert data.has_wal()


def test_one_process_at_a_time(data: DataDir) -> None:
    """The second is told which directory; after the first has gone it may."""
    data.create()
    other = DataDir(data.path)
    data.lock()
    with pytest.raises(DataDirLocked, match=str(data.path)):
        other.lock()
    data.unlock()
    data.unlock()
    other.lock()
    other.unlock()


def with_segments(data: DataDir, count: int) -> Wal:
    """A log of `count` segments with ten entries each, and as many `.snap` files."""
    data.create()
    wal = Wal.create(data.wal, METADATA, segment_bytes=4096)
    for number in range(count - 1):
        save(wal, entries(10 * number + 1, 10 * number + 10))
        wal.cut()
    for number in range(count):
        (data.snap / f"{1:016x}-{number:016x}.snap").write_bytes(b"")
        (data.snap / f"{number:016x}.snap.db").write_bytes(b"")
    return wal


def test_purge_keeps_the_newest(data: DataDir) -> None:
    """Of each kind so many; the backend is no snapshot."""
    wal = with_segments(data, 8)
    (data.snap / "db").write_bytes(b"")
    wal.release_to(1000)
    removed = data.purge(3, 5)
    wal.close()
    assert len(removed) == 3 + 5 + 5
    assert len(names(data.wal)) == 5
    assert names(data.wal)[0].startswith("0000000000000003-")
    kept = [f"{number:016x}.snap.db" for number in (5, 6, 7)]
    kept += [f"{1:016x}-{number:016x}.snap" for number in (5, 6, 7)]
    assert names(data.snap) == sorted([*kept, "db"])


def test_purge_spares_what_is_locked(data: DataDir) -> None:
    """Segments that entries after the newest snapshot need stay, however many they are."""
    wal = with_segments(data, 8)
    assert data.purge(0, 2) == []
    wal.release_to(35)
    assert [path.name[:16] for path in data.purge(0, 2)] == [f"{n:016x}" for n in range(3)]
    wal.close()
    assert len(data.purge(0, 2)) == 3


def test_purged_log_still_opens(data: DataDir) -> None:
    """What is left holds everything from the snapshot on."""
    wal = with_segments(data, 8)
    perform(wal.save_snapshot(WalSnapshot(65, 1)))
    save(wal, entries(71, 75), commit=75)
    wal.release_to(65)
    data.purge(1, 1)
    wal.close()
    wal = Wal.open(data.wal, WalSnapshot(65, 1), segment_bytes=4096)
    assert wal.replay is not None
    assert wal.replay.entries == entries(66, 75)
    wal.close()


def test_zero_keeps_all(data: DataDir) -> None:
    """`--max-snapshots 0` and `--max-wals 0` mean unlimited."""
    with_segments(data, 4).close()
    assert data.purge(0, 0) == []
