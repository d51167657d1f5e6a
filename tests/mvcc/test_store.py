"""The store's promises that the model does not reach: jobs, counts, restart, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from corum import errors
from corum.backend import schema
from corum.backend.lmdb_backend import LmdbBackend
from corum.backend.memory_backend import MemoryBackend
from corum.mvcc import store as store_module
from corum.mvcc.hashing import _crc32c_slow, crc32c
from corum.mvcc.reads import RangeOptions
from corum.mvcc.rebuild import needs_index, rebuild_index
from corum.mvcc.revision import key_of
from corum.mvcc.store import RangeJob, Store

COUNT = RangeOptions(count_only=True)


def put(store: Store, *keys: bytes, value: bytes = b"v") -> None:
    write = store.begin()
    for key in keys:
        write.put(key, value)
    write.end()


def delete(store: Store, key: bytes, end: bytes = b"") -> None:
    write = store.begin()
    write.delete_range(key, end)
    write.end()


def commit(store: Store, index: int) -> None:
    batch = store.backend.seal(index, 1)
    assert batch is not None
    assert batch.write() is None
    store.backend.committed(batch)


@pytest.fixture
def store() -> Store:
    return Store(MemoryBackend())


def test_an_empty_store(store: Store) -> None:
    """Revision 1, nothing compacted (-1, as etcd reports it)."""
    assert (store.revision, store.compacted, store.keys_total) == (1, -1, 0)
    assert store.range(b"\0", b"\0").kvs == []


def test_deleting_nothing_is_not_a_revision(store: Store) -> None:
    """Also in a range."""
    delete(store, b"a")
    delete(store, b"a", b"\0")
    assert store.revision == 1


def test_refused_revisions(store: Store) -> None:
    """Exactly the compacted and the current revision are readable; one beyond is not."""
    for number in range(4):
        put(store, b"%d" % number)
    store.compact(3)
    assert store.range(b"0", b"", RangeOptions(revision=3)).count == 1
    assert store.range(b"0", b"", RangeOptions(revision=5)).count == 1
    with pytest.raises(errors.COMPACTED):
        store.range(b"0", b"", RangeOptions(revision=2))
    with pytest.raises(errors.FUTURE_REV):
        store.range(b"0", b"", RangeOptions(revision=6))
    with pytest.raises(errors.COMPACTED):
        store.compact(3)
    with pytest.raises(errors.FUTURE_REV):
        store.compact(6)
    with pytest.raises(errors.COMPACTED):
        store.hash_kv(2)
    with pytest.raises(errors.FUTURE_REV):
        store.hash_kv(6)
    assert store.kv_at(b"0", 2) is None


def test_big_ranges_become_jobs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit the loop answers itself; one key more is a worker's work."""
    monkeypatch.setattr(store_module, "INLINE_KEYS_MAX", 10)
    put(store, *[b"k%02d" % n for n in range(11)])
    small = store.plan_range(b"k", b"k10")
    assert not isinstance(small, RangeJob)
    assert small.count == 10
    job = store.plan_range(b"k", b"l")
    assert isinstance(job, RangeJob)
    put(store, b"k99")
    result = job.run()
    assert (result.count, len(result.kvs)) == (11, 11)
    assert store.finish(job) is result
    stream = store.plan_range(b"k", b"l")
    assert isinstance(stream, RangeJob)
    assert sum(len(kvs) for kvs in stream.stream()) == 12
    assert store.finish(stream).count == 12
    assert store.backend.open_views == 0


def test_a_big_count_is_kept_up_to_date(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted once by a worker, then known, whatever is written meanwhile and afterwards."""
    monkeypatch.setattr(store_module, "INLINE_KEYS_MAX", 1)
    put(store, *[b"k%04d" % n for n in range(2_000)], b"other")
    store.backend.flush_own()
    commit(store, 1)
    job = store.plan_range(b"k", b"l", COUNT)
    assert isinstance(job, RangeJob)
    put(store, b"knew", b"k0000")  # after the job's view
    delete(store, b"k0001")
    delete(store, b"k0002", b"k0004")
    assert job.run().count == 2_000
    store.finish(job)
    for change in (lambda: None, lambda: put(store, b"k0001"), lambda: put(store, b"m")):
        change()
        known = store.plan_range(b"k", b"l", COUNT)
        assert not isinstance(known, RangeJob)
        assert known.count == store.range(b"k", b"l", COUNT).count
    page = store.plan_range(b"k", b"l", RangeOptions(limit=1))
    assert not isinstance(page, RangeJob)
    assert (page.count, page.more) == (1_999, True)


def test_one_worker_counts_for_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who needs a count that is being made is told to ask again; who needs none is served."""
    monkeypatch.setattr(store_module, "INLINE_KEYS_MAX", 10)
    put(store, *[b"k%04d" % n for n in range(2_000)])
    page = RangeOptions(limit=5)
    job = store.plan_range(b"k", b"l", page)
    assert isinstance(job, RangeJob)
    assert store.plan_range(b"k", b"l", page) is None
    whole = store.plan_range(b"k", b"l")
    assert isinstance(whole, RangeJob)
    assert store.plan_range(b"k", b"k0005") == store.range(b"k", b"k0005")
    assert whole.run().count == job.run().count == 2_000
    store.finish(whole)
    assert store.plan_range(b"k", b"l", page) is None
    store.finish(job)
    assert store.plan_range(b"k", b"l", page) == store.range(b"k", b"l", page)


def test_a_failed_count_is_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that never ran leaves nothing behind; the next one counts anew."""
    monkeypatch.setattr(store_module, "INLINE_KEYS_MAX", 1)
    put(store, *[b"k%04d" % n for n in range(2_000)])
    store.backend.flush_own()
    commit(store, 1)
    for _ in range(20):
        job = store.plan_range(b"k", b"l", COUNT)
        assert isinstance(job, RangeJob)
        assert store.finish(job) is None
    assert not store.buckets.counts


def test_changes_end_with_a_revision(store: Store) -> None:
    """A limit inside a transaction is stretched to its end."""
    put(store, b"a")
    put(store, b"b", b"c", b"d")
    put(store, b"e")
    assert [change[0] for change in store.changes_since(2, 2)] == [2, 3, 3, 3]
    assert [change[0] for change in store.changes_since(3, 1)] == [3, 3, 3]
    assert store.changes_since(5, 10) == []


def test_changes_are_bounded_in_bytes(store: Store) -> None:
    """Big values: a slice ends early, and the next goes on behind it."""
    for number in range(20):
        put(store, b"%d" % number, value=bytes(1 << 20))
    slices, revision = [], 2
    while changes := store.changes_since(revision, 1_000):
        slices.append(len(changes))
        revision = changes[-1][0] + 1
    assert sum(slices) == 20
    assert max(slices) <= 9


def test_restart_reads_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening does not look at any key but the last, however many there are."""
    backend = LmdbBackend(tmp_path / "db.lmdb")
    store = Store(backend)
    put(store, *[b"%04d" % n for n in range(3_000)])
    delete(store, b"0000", b"1000")
    backend.flush_own()
    commit(store, 1)
    backend.close()
    rows = 0
    plain = backend.bucket(schema.KEY).range.__func__

    def counting(self: object, *args: object, **kw: object) -> list:
        nonlocal rows
        found = plain(self, *args, **kw)
        rows += len(found)
        return found

    monkeypatch.setattr("corum.backend.layers.LayeredReader.range", counting)
    again = LmdbBackend(tmp_path / "db.lmdb")
    store = Store(again)
    assert (store.revision, store.keys_total, rows) == (3, 2_000, 0)
    again.close()


def test_index_rows_may_come_later(tmp_path: Path) -> None:
    """Revisions that were committed without their index rows are indexed when the store opens."""
    backend = LmdbBackend(tmp_path / "db.lmdb")
    store = Store(backend)
    put(store, b"a", b"b")
    commit(store, 1)
    for number in range(5):
        put(store, b"a", b"c", value=b"%d" % number)
    delete(store, b"b")
    commit(store, 2)
    committed = len(backend.view().bucket(schema.HISTORY).range())
    now, past = (list(store.range(b"\0", b"\0", RangeOptions(revision=at)).kvs) for at in (0, 5))
    backend.close()
    again = LmdbBackend(tmp_path / "db.lmdb")
    assert len(again.range(schema.HISTORY)) < committed
    store = Store(again)
    assert store.keys_total == 2
    assert store.range(b"\0", b"\0").kvs == now
    assert store.range(b"\0", b"\0", RangeOptions(revision=5)).kvs == past
    again.close()


def test_a_compaction_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Scheduled and not finished: the new store refuses the same reads and deletes the rest."""
    backend = LmdbBackend(tmp_path / "db.lmdb")
    store = Store(backend)
    for number in range(50):
        put(store, b"k", value=b"%d" % number)
    store.compact(40).step(5)
    commit(store, 1)
    backend.close()
    again = LmdbBackend(tmp_path / "db.lmdb")
    store = Store(again)
    assert store.compacted == 40
    compaction = store.compaction
    assert compaction is not None
    while not compaction.step(5):
        pass
    assert store.compaction is None
    assert [main for main, _, _ in store.changes_since(1, 100)] == list(range(40, 52))
    again.close()


def test_a_compacted_key_does_not_come_back(tmp_path: Path) -> None:
    """Its tombstone is gone from the file, so the index rows must have gone with it."""
    backend = LmdbBackend(tmp_path / "db.lmdb")
    store = Store(backend)
    put(store, b"a")
    commit(store, 1)
    delete(store, b"a")
    put(store, b"b")
    commit(store, 2)  # the index rows of these two may wait
    compaction = store.compact(4)
    while not compaction.step():
        pass
    commit(store, 3)
    backend.close()
    again = LmdbBackend(tmp_path / "db.lmdb")
    store = Store(again)
    assert [key_of(kv) for kv in store.range(b"\0", b"\0").kvs] == [b"b"]
    assert store.keys_total == 1
    again.close()


def test_a_tombstone_at_the_compacted_revision_stays(store: Store) -> None:
    """A watcher that starts there has to see the deletion, also when the key is there again."""
    put(store, b"a")
    delete(store, b"a")
    put(store, b"a")
    compaction = store.compact(3)
    while not compaction.step():
        pass
    assert [change[:2] for change in store.changes_since(3, 10)] == [(3, b"a"), (4, b"a")]
    compaction = store.compact(4)
    while not compaction.step():
        pass
    assert [change[:2] for change in store.changes_since(1, 10)] == [(4, b"a")]


def test_the_revision_survives_compacted_tombstones(tmp_path: Path) -> None:
    """The newest revision was a tombstone and is gone: the store does not go back in time."""
    backend = LmdbBackend(tmp_path / "db.lmdb")
    store = Store(backend)
    put(store, b"a")
    delete(store, b"a")
    put(store, b"b")
    delete(store, b"b")
    compaction = store.compact(5)
    while not compaction.step():
        pass
    commit(store, 1)
    assert len(backend.range(schema.KEY)) == 1, "the tombstone exactly at the revision stays"
    backend.close()
    again = LmdbBackend(tmp_path / "db.lmdb")
    assert Store(again).revision == 5
    again.close()


def test_keys_without_index_are_refused(store: Store) -> None:
    """A database of etcd's has to be indexed before it is served."""
    backend = MemoryBackend()
    for number in range(3):
        put(store, b"%d" % number)
    delete(store, b"1")
    for stored, kv in store.backend.range(schema.KEY):
        backend.put(schema.KEY, stored, kv)
    batch = backend.seal(9, 2)
    assert batch is not None
    assert batch.write() is None
    backend.committed(batch)
    assert needs_index(backend)
    with pytest.raises(AssertionError, match="rebuild_index"):
        Store(backend)
    rebuild_index(backend)
    assert not needs_index(backend)
    again = Store(backend)
    assert again.range(b"\0", b"\0").kvs == store.range(b"\0", b"\0").kvs
    assert again.revision == store.revision
    assert backend.get(schema.META, schema.CONSISTENT_INDEX) == schema.u64(9)


def test_hash_leaves_out_what_is_ours(tmp_path: Path) -> None:
    """Hash is over etcd's buckets: the same for a member that stores otherwise."""
    on_disk, in_memory = LmdbBackend(tmp_path / "db.lmdb"), MemoryBackend()
    stores = [Store(on_disk), Store(in_memory)]
    for at, store in enumerate(stores):
        put(store, b"a", b"b")
        store.backend.put(schema.LEASE, schema.u64(7), b"lease")
        commit(store, 5 + at)  # members' indexes differ
    first, second = (store.hash().run() for store in stores)
    assert first == second
    on_disk.put(schema.LEASE, schema.u64(8), b"lease")
    assert stores[0].hash().run() != second
    on_disk.close()


def test_crc32c() -> None:
    """The check value of CRC-32C (RFC 3720 B.4), whichever implementation is used."""
    for function in (crc32c, _crc32c_slow):
        assert function(b"123456789", 0) == 0xE3069283
        assert function(b"6789", function(b"12345", 0)) == 0xE3069283
