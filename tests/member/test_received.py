"""Databases of other members become backends of ours, while they arrive or afterwards."""

import os
from pathlib import Path

import pytest

from corum.backend import schema
from corum.backend.bbolt import BboltError, commit, image_of
from corum.backend.lmdb_backend import LmdbBackend
from corum.member.boot import join, restart
from corum.member.received import Received, consistent_index, take_over, whole_of
from corum.membership.bootstrap import FirstList
from corum.mvcc.rebuild import needs_index
from corum.mvcc.store import Store
from corum.raft import ConfState, Entry, HardState, Snapshot
from corum.values import ClusterId, LeaseId, MemberId
from corum.wal import DataDir, SnapshotFiles, WalSnapshot

INDEX, TERM = 90, 4


@pytest.fixture
def image(tmp_path: Path) -> bytes:
    """A member's database in bbolt's format; it stays in `tmp_path / "source"`."""
    source = filled(tmp_path / "source")
    view = source.view()
    found = b"".join(image_of(view).chunks())
    view.close()
    source.close()
    return found


def filled(path: Path) -> LmdbBackend:
    """Keys that are put, put again, deleted, and with a lease."""
    backend = LmdbBackend(path)
    store = Store(backend)
    for n in range(300):
        write = store.begin()
        write.put(b"key%d" % (n % 70), b"value %d" % n * (1 + n % 400), LeaseId(n % 2))
        write.end()
    write = store.begin()
    write.delete_range(b"key1", b"key2")
    write.end()
    commit(backend, 50, 3)
    return backend


def data_dir(tmp_path: Path) -> DataDir:
    data = DataDir(tmp_path / "member.etcd")
    data.create()
    return data


def content(backend: LmdbBackend) -> dict[str, list[tuple[bytes, bytes]]]:
    return {name: backend.range(name) for name in schema.BUCKETS}


def received(data: DataDir, image: bytes, piece: int) -> dict[str, list[tuple[bytes, bytes]]]:
    """What the member's backend holds after `image` was received."""
    keeper = Received(data)
    file = keeper.create()
    for at in range(0, len(image), piece):
        file.write(image[at : at + piece])
    keeper.keep(file, INDEX)
    keeper.prepare(file, INDEX, TERM)
    backend = LmdbBackend(data.backend)
    keeper.install(backend, Snapshot(INDEX, TERM, ConfState((1,)), b""))
    keeper.release(INDEX)
    assert not needs_index(backend)
    assert Store(backend).get(b"key5") is not None
    found = content(backend)
    backend.close()
    assert [each.name for each in data.snap.iterdir() if each.name.startswith("tmp")] == []
    return found


def test_on_the_way_or_whole_it_is_the_same(tmp_path: Path, image: bytes) -> None:
    """A file in order, read as it comes, and one that says nothing of its order (a Go etcd's)."""
    unmarked = image[:1_024] + bytes(3_072) + image[4_096:]
    ways = [
        received(data_dir(tmp_path / str(n)), one, piece)
        for n, (one, piece) in enumerate([(image, 5_000), (image, 1 << 20), (unmarked, 1 << 20)])
    ]
    assert ways[0] == ways[1] == ways[2]
    assert dict(ways[0][schema.META])[schema.CONSISTENT_INDEX] == schema.u64(INDEX)
    assert ways[0][schema.KEY]


def test_what_is_not_whole_leaves_nothing(tmp_path: Path, image: bytes) -> None:
    """Neither when the sender is gone, nor when the bytes make no sense."""
    data = data_dir(tmp_path)
    keeper = Received(data)
    cut = keeper.create()
    cut.write(image[: len(image) // 2])
    keeper.discard(cut)
    damaged = keeper.create()
    with pytest.raises(BboltError):
        damaged.write(image[:8_192] + image)
    keeper.discard(damaged)
    short = keeper.create()
    short.write(image[: len(image) // 2])
    keeper.keep(short, INDEX)
    with pytest.raises(BboltError):
        keeper.prepare(short, INDEX, TERM)
    keeper.discard(short)
    assert [each.name for each in data.backend.parent.glob("db.lmdb*")] == []


def test_a_snapshot_that_the_repair_cuts_off_is_not_taken(tmp_path: Path, image: bytes) -> None:
    """Its record stood behind a torn write: the database of it would be ahead of the log."""
    data = data_dir(tmp_path)
    first = FirstList(ClusterId(7), MemberId(1), ())
    wal = join(data, first).wal
    assert wal is not None
    torn = wal.save(HardState(1, 1, 1), [Entry(1, 1, data=b"y" * 2_000)], must_sync=True)
    assert torn is not None
    behind = [
        wal.save_snapshot(WalSnapshot(INDEX, TERM)),
        wal.save(HardState(TERM, 1, INDEX), [], must_sync=True),
    ]
    os.write(torn.fd, torn.data)
    sector = os.lseek(torn.fd, 0, os.SEEK_CUR) // 512 * 512 - 512
    for write in behind:
        assert write is not None
        os.write(write.fd, write.data)
    wal.close()
    with next(data.wal.glob("*.wal")).open("r+b") as file:
        file.seek(sector)
        file.write(bytes(512))
    SnapshotFiles(data.snap).save(Snapshot(INDEX, TERM, ConfState((1,)), b""))
    (data.snap / f"{INDEX:016x}.snap.db").write_bytes(image)
    backend = LmdbBackend(data.backend)
    booted = restart(data, backend)
    assert booted.storage.last_index() == 0
    assert consistent_index(backend) == 0
    assert content(backend)[schema.KEY] == []
    assert booted.wal is not None
    booted.wal.close()
    backend.close()


def test_a_crash_before_the_swap_is_made_up_for(tmp_path: Path, image: bytes) -> None:
    """The backend that was made waits under its snapshot's index; what no snapshot names goes."""
    data = data_dir(tmp_path)
    LmdbBackend(data.backend).close()
    keeper = Received(data)
    for index in (INDEX, INDEX + 5):
        file = keeper.create()
        file.write(image)
        keeper.keep(file, index)
        keeper.prepare(file, index, TERM)
    again = Received(data)  # the process died, and another one starts
    backend = LmdbBackend(data.backend)
    missing = tmp_path / "missing"
    take_over(missing, backend, Snapshot(INDEX, TERM, ConfState((1,)), b""))
    again.forget()
    source = LmdbBackend(tmp_path / "source")
    assert content(backend)[schema.KEY] == content(source)[schema.KEY]
    assert dict(content(backend)[schema.META])[schema.CONSISTENT_INDEX] == schema.u64(INDEX)
    assert not whole_of(data.backend, INDEX + 5).exists()
    with pytest.raises(FileNotFoundError):
        take_over(missing, backend, Snapshot(INDEX + 5, TERM, ConfState((1,)), b""))
    backend.close()
    source.close()
