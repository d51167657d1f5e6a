"""`.snap` files: saved, chosen, broken ones set aside."""

import errno
import stat
from pathlib import Path

import pytest

from corum.raft.messages import ConfState, Snapshot
from corum.wal import SnapshotFiles, WalSnapshot, snapshot_files
from corum.wal.snapshot_files import SnapshotBroken, decode_file, encode_file

from .helpers import names


def snapshot(index: int, term: int = 1, data: bytes = b"{}") -> Snapshot:
    return Snapshot(index, term, ConfState(voters=(1, 2), learners=(3,)), data)


def known(*indexes: int) -> list[WalSnapshot]:
    return [WalSnapshot(index, 1) for index in indexes]


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    return SnapshotFiles(tmp_path)


def test_saved_snapshot_is_loaded(files: SnapshotFiles) -> None:
    """Named by term and index in hex, private, and nothing else stays in the directory."""
    path = files.save(snapshot(0x1234, term=0xAB))
    assert names(files.directory) == ["00000000000000ab-0000000000001234.snap"]
    assert files.load(path) == snapshot(0x1234, term=0xAB)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_newest_that_the_log_knows(files: SnapshotFiles) -> None:
    """A file is written before its record: without the record it does not count."""
    for index in (10, 20, 30):
        files.save(snapshot(index))
    found = files.newest(known(0, 10, 20))
    assert found is not None
    assert found.index == 20
    assert files.newest(known(0)) is None
    assert len(names(files.directory)) == 3


def test_higher_term_is_newer(files: SnapshotFiles) -> None:
    """Names sort by term first."""
    files.save(snapshot(30, term=1))
    files.save(snapshot(20, term=2))
    found = files.newest([WalSnapshot(30, 1), WalSnapshot(20, 2)])
    assert found is not None
    assert found.term == 2


def test_broken_file_is_set_aside(files: SnapshotFiles) -> None:
    """The one before is used; the broken one keeps its bytes under another name."""
    files.save(snapshot(10))
    path = files.save(snapshot(20))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found = files.newest(known(10, 20))
    assert found is not None
    assert found.index == 10
    assert path.with_name(path.name + ".broken").read_bytes() == content
    assert not path.exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "empty snapshot"),
        (b"\x08\x01", "empty snapshot"),
        (encode_file(snapshot(1))[:-1], "no snapshot"),
        (b"\x08\x07" + encode_file(snapshot(1))[6:], "crc mismatch"),
    ],
)
def test_what_is_no_snapshot(files: SnapshotFiles, content: bytes, text: str) -> None:
    """The error names the file."""
    path = files.path(1, 1)
    path.write_bytes(content)
    with pytest.raises(SnapshotBroken, match=rf"snap: {text}.*file {path}"):
        files.load(path)


def test_every_changed_bit_is_noticed() -> None:
    """Of a small file: whatever bit flips, it does not load as another snapshot."""
    whole = encode_file(snapshot(5))
    for bit in range(len(whole) * 8):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SnapshotBroken):
            decode_file(bytes(content))


def test_full_disk_leaves_nothing(files: SnapshotFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot that cannot be synced has no name and no leftovers."""

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(snapshot_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.save(snapshot(5))
    assert names(files.directory) == []


def test_received_databases_are_released(files: SnapshotFiles) -> None:
    """`.snap.db` files older than the applied snapshot go; others are not touched."""
    for index in (5, 20, 30):
        files.database_path(index).write_bytes(b"db")
    (files.directory / "db").write_bytes(b"db")
    removed = files.release_databases(20)
    assert [path.name for path in removed] == ["0000000000000005.snap.db"]
    assert len(names(files.directory)) == 3


def test_other_files_are_ignored(files: SnapshotFiles) -> None:
    """Names that are none of ours neither load nor change."""
    for name in ("x.snap", "0000000000000001-000000000000000g.snap", "db.lmdb"):
        (files.directory / name).write_bytes(b"")
    assert files.newest(known(1)) is None
    assert len(names(files.directory)) == 3
