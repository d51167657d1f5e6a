"""What both backends promise: layers, batches, views, sizes, defragmenting."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corum.backend import Backend, BackendError, BackendFull, schema
from corum.backend import lmdb_backend as lmdb_module
from corum.backend.lmdb_backend import LmdbBackend
from corum.backend.memory_backend import MemoryBackend, MemoryDisk


@pytest.fixture(params=["lmdb", "memory"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    made = LmdbBackend(tmp_path / "db.lmdb") if request.param == "lmdb" else MemoryBackend()
    yield made
    made.close()


def commit(backend: Backend, index: int) -> None:
    batch = backend.seal(index, 1)
    assert batch is not None
    assert batch.write() is None
    backend.committed(batch)


def test_a_write_is_seen_in_every_stage_of_its_commit(backend: Backend) -> None:
    """Pending, sealed, written, committed: the value is there all the time."""
    backend.put(schema.AUTH, b"k", b"v")
    seen = [backend.get(schema.AUTH, b"k")]
    batch = backend.seal(1, 1)
    assert batch is not None
    seen.append(backend.get(schema.AUTH, b"k"))
    assert batch.write() is None
    seen.append(backend.get(schema.AUTH, b"k"))
    backend.committed(batch)
    seen.append(backend.get(schema.AUTH, b"k"))
    assert seen == [b"v"] * 4


def test_the_newest_layer_decides(backend: Backend) -> None:
    """Committed, sealed and pending versions of one key; a pending delete hides the others."""
    backend.put(schema.AUTH, b"k", b"1")
    commit(backend, 1)
    backend.put(schema.AUTH, b"k", b"2")
    batch = backend.seal(2, 1)
    assert batch is not None
    backend.put(schema.AUTH, b"k", b"3")
    assert backend.range(schema.AUTH) == [(b"k", b"3")]
    backend.delete(schema.AUTH, b"k")
    assert backend.range(schema.AUTH) == []
    assert backend.get(schema.AUTH, b"k") is None
    assert batch.write() is None
    backend.committed(batch)
    assert backend.get(schema.AUTH, b"k") is None
    commit(backend, 3)
    assert backend.bucket(schema.AUTH).entries() == 0


def test_every_batch_carries_index_and_term(backend: Backend) -> None:
    """Nothing is committed without the index from which the log has to be replayed."""
    backend.put(schema.AUTH, b"k", b"1")
    commit(backend, 77)
    meta = dict(backend.range(schema.META))
    assert meta == {b"consistent_index": schema.u64(77), b"term": schema.u64(1)}


def test_one_batch_at_a_time(backend: Backend) -> None:
    """A second batch waits for the first; nothing new means no batch."""
    backend.put(schema.AUTH, b"k", b"1")
    batch = backend.seal(1, 1)
    assert batch is not None
    assert backend.seal(2, 1) is None
    assert batch.write() is None
    backend.committed(batch)
    assert backend.seal(1, 1) is None
    assert backend.seal(2, 1) is not None


def test_an_index_never_goes_back(backend: Backend) -> None:
    """That would apply entries twice after a restart."""
    commit(backend, 5)
    with pytest.raises(AssertionError, match="index"):
        backend.seal(4, 1)


def test_a_view_is_a_moment(backend: Backend) -> None:
    """Later writes and commits do not reach it; pending ones before it do."""
    backend.put(schema.AUTH, b"a", b"1")
    commit(backend, 1)
    backend.put(schema.AUTH, b"b", b"2")
    view = backend.view()
    backend.put(schema.AUTH, b"c", b"3")
    backend.delete(schema.AUTH, b"a")
    commit(backend, 2)
    assert view.bucket(schema.AUTH).range() == [(b"a", b"1"), (b"b", b"2")]
    assert backend.open_views == 1
    view.close()
    assert backend.open_views == 0
    assert backend.range(schema.AUTH) == [(b"b", b"2"), (b"c", b"3")]


def test_sizes_look_like_a_database(backend: Backend) -> None:
    """A fresh store is some 10 to 30 kB, and grows with what is in it."""
    commit(backend, 1)
    assert 8_000 < backend.size_in_use <= backend.size < 32_000
    for number in range(100):
        backend.put(schema.AUTH, b"%d" % number, bytes(4_000))
    commit(backend, 2)
    assert backend.size_in_use > 400_000
    assert backend.size >= backend.size_in_use


def test_defragmenting_gives_space_back(backend: Backend) -> None:
    """After deletes the size stays; after defragmenting it is what is in use, with all data."""
    for number in range(100):
        backend.put(schema.AUTH, b"%d" % number, bytes(4_000))
    commit(backend, 1)
    full = backend.size
    for number in range(99):
        backend.delete(schema.AUTH, b"%d" % number)
    commit(backend, 2)
    assert backend.size >= full
    backend.put(schema.AUTH, b"pending", b"kept")
    job = backend.defragment()
    assert job is not None
    assert backend.seal(3, 1) is None, "no commit may come between the copy and its use"
    assert job.run() is None
    backend.defragmented(job)
    assert backend.size < full // 4
    assert backend.range(schema.AUTH) == [(b"99", bytes(4_000)), (b"pending", b"kept")]
    commit(backend, 3)
    assert backend.get(schema.AUTH, b"pending") == b"kept"


def test_last_sees_through_the_layers(backend: Backend) -> None:
    """The greatest live key, whichever layer holds or hides it."""
    bucket = backend.bucket(schema.AUTH)
    assert bucket.last() is None
    backend.put(schema.AUTH, b"b", b"1")
    commit(backend, 1)
    assert bucket.last() == (b"b", b"1")
    backend.put(schema.AUTH, b"c", b"2")
    assert bucket.last() == (b"c", b"2")
    backend.delete(schema.AUTH, b"c")
    assert bucket.last() == (b"b", b"1")


@given(
    st.lists(st.tuples(st.sampled_from("pdsc"), st.integers(0, 60)), max_size=120),
    st.integers(0, 61),
    st.one_of(st.none(), st.integers(0, 61)),
    st.integers(0, 12),
)
def test_ranges_are_those_of_a_dict(
    steps: list[tuple[str, int]], low: int, high: int | None, limit: int
) -> None:
    """Whatever is pending, sealed and committed, a range is a sorted slice of one dict."""
    backend, model, batch, index = MemoryBackend(), {}, None, 0
    for what, number in steps:
        key = b"%02d" % number
        if what == "p":
            backend.put(schema.AUTH, key, b"%d" % len(model))
            model[key] = b"%d" % len(model)
        elif what == "d":
            backend.delete(schema.AUTH, key)
            model.pop(key, None)
        elif what == "s" and batch is None:
            index += 1
            batch = backend.seal(index, 1)
        elif what == "c" and batch is not None:
            assert batch.write() is None
            backend.committed(batch)
            batch = None
    start, end = b"%02d" % low, None if high is None else b"%02d" % high
    inside = sorted((k, v) for k, v in model.items() if start <= k and (end is None or k < end))
    bucket = backend.bucket(schema.AUTH)
    assert bucket.range(start, end, limit) == (inside[:limit] if limit else inside)
    assert [row for rows in bucket.scan(start, end, 3) for row in rows] == inside
    number, rest = 0, start
    while rest is not None:
        found, rest = bucket.count(rest, end, 5)
        number += found
    assert number == len(inside)
    values, rest = [], start
    while rest is not None:
        some, rest = bucket.values(rest, end, 5)
        values += some
    assert values == [value for _, value in inside]
    assert bucket.get_many([b"%02d" % n for n in range(61)]) == [
        model.get(b"%02d" % n) for n in range(61)
    ]


def test_what_was_not_committed_is_gone_after_a_crash(tmp_path: Path) -> None:
    """The log brings it back, from the committed index on."""
    backend = LmdbBackend(tmp_path / "db.lmdb")
    backend.put(schema.AUTH, b"a", b"1")
    commit(backend, 1)
    backend.put(schema.AUTH, b"b", b"2")
    backend.close()
    again = LmdbBackend(tmp_path / "db.lmdb")
    assert again.range(schema.AUTH) == [(b"a", b"1")]
    assert again.get(schema.META, schema.CONSISTENT_INDEX) == schema.u64(1)
    again.close()


def test_a_file_that_counts_when_whole_is_synced_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `durable` no commit waits for the disk; closing does, and all is there."""
    opened = lmdb.open
    told: list[bool] = []

    def watched(*args: object, **options: object) -> lmdb.Environment:
        told.append(bool(options["sync"]))
        return opened(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(lmdb, "open", watched)
    backend = LmdbBackend(tmp_path / "db.lmdb", durable=False)
    for index in range(1, 4):
        backend.put(schema.AUTH, b"%d" % index, b"v")
        commit(backend, index)
    backend.close()
    again = LmdbBackend(tmp_path / "db.lmdb")
    assert [key for key, _ in again.range(schema.AUTH)] == [b"1", b"2", b"3"]
    again.close()
    assert told == [False, True]


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused batch is an error value; its data stays readable, and the retry writes it."""
    backend = LmdbBackend(tmp_path / "db.lmdb")
    backend.put(schema.AUTH, b"a", b"1")
    batch = backend.seal(1, 1)
    assert batch is not None

    def full(*_: object) -> None:
        raise lmdb.DiskError(os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(lmdb_module, "_write_bucket", full)
        assert isinstance(batch.write(), BackendFull)
    assert backend.get(schema.AUTH, b"a") == b"1"
    assert batch.write() is None
    backend.committed(batch)
    assert backend.range(schema.AUTH) == [(b"a", b"1")]
    backend.close()


def test_an_exhausted_map_is_reported(tmp_path: Path) -> None:
    """LMDB's own limit is an error value too, and the file stays usable."""
    backend = LmdbBackend(tmp_path / "db.lmdb", map_bytes=1 << 20)
    for number in range(600):
        backend.put(schema.AUTH, b"%d" % number, bytes(4_000))
    batch = backend.seal(1, 1)
    assert batch is not None
    assert isinstance(batch.write(), BackendFull)
    assert backend.get(schema.AUTH, b"599") == bytes(4_000)
    backend.close()
    again = LmdbBackend(tmp_path / "db.lmdb", map_bytes=1 << 20)
    assert again.range(schema.AUTH) == []
    again.close()


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    """Not ours: an error that names the file, and the file is left alone."""
    path = tmp_path / "db.lmdb"
    path.write_bytes(b"not a database" * 1_000)
    with pytest.raises(BackendError, match=r"db\.lmdb"):
        LmdbBackend(path)
    assert path.read_bytes() == b"not a database" * 1_000


def test_the_files_are_private(tmp_path: Path) -> None:
    """0600, as everything in a data directory."""
    LmdbBackend(tmp_path / "db.lmdb").close()
    assert {f.name: f.stat().st_mode & 0o777 for f in tmp_path.iterdir()} == {
        "db.lmdb": 0o600,
        "db.lmdb-lock": 0o600,
    }


def test_views_and_commits_leave_no_readers_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even until the next collection: the table of readers is small, and full it ends us."""
    monkeypatch.setattr(lmdb_module, "READERS_MAX", 8)
    backend = LmdbBackend(tmp_path / "db.lmdb")
    gc.disable()
    try:
        for index in range(1, 100):
            backend.put(schema.AUTH, b"k", b"%d" % index)
            commit(backend, index)
            view = backend.view()
            assert view.bucket(schema.AUTH).get(b"k") == b"%d" % index
            assert view.bucket(schema.AUTH).range() == [(b"k", b"%d" % index)]
            view.close()
            backend.view().close()
    finally:
        gc.enable()
        backend.close()


def test_a_view_outlives_defragmenting(tmp_path: Path) -> None:
    """Nobody waits for a slow reader: it keeps the old file, and everybody else has the new."""
    backend = LmdbBackend(tmp_path / "db.lmdb")
    backend.put(schema.AUTH, b"a", b"1")
    commit(backend, 1)
    view = backend.view()
    job = backend.defragment()
    assert job is not None
    assert job.run() is None
    backend.put(schema.AUTH, b"b", b"2")
    backend.defragmented(job)
    commit(backend, 2)
    assert view.bucket(schema.AUTH).range() == [(b"a", b"1")]
    assert backend.range(schema.AUTH) == [(b"a", b"1"), (b"b", b"2")]
    assert backend.open_views == 0
    view.close()
    assert [f.name for f in sorted(tmp_path.iterdir())] == ["db.lmdb", "db.lmdb-lock"]
    backend.close()


def test_memory_disk_that_refuses() -> None:
    """The simulator's full disk behaves as the real one."""
    disk = MemoryDisk()
    backend = MemoryBackend(disk)
    backend.put(schema.AUTH, b"a", b"1")
    batch = backend.seal(1, 1)
    assert batch is not None
    disk.error = BackendFull("full")
    assert batch.write() is disk.error
    assert MemoryBackend(disk).range(schema.AUTH) == []
    disk.error = None
    assert batch.write() is None
    assert MemoryBackend(disk).range(schema.AUTH) == [(b"a", b"1")]
