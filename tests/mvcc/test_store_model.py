"""The store against the model, under everything that may happen to it."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from corum.backend import Backend
from corum.backend.lmdb_backend import LmdbBackend
from corum.backend.memory_backend import MemoryBackend, MemoryDisk
from corum.mvcc import counts as counts_module
from corum.mvcc.reads import RangeOptions
from corum.mvcc.rebuild import rebuild_index
from corum.mvcc.revision import decode_kv, from_stored_key, key_of
from corum.mvcc.store import RangeJob, Store

from .model import Model, encoded

LONG = b"c" * 600
KEYS = st.sampled_from([b"a", b"ab", b"b", b"c", b"c\0", LONG, LONG + b"1", b"d\xff", b"\xff\xff"])
ENDS = st.one_of(st.just(b""), st.just(b"\0"), KEYS)
VALUES = st.binary(max_size=6)
LEASES = st.sampled_from([0, 0, 7, 1 << 62])
OPS = st.one_of(
    st.tuples(st.just("put"), KEYS, VALUES, LEASES),
    st.tuples(st.just("delete"), KEYS, ENDS),
)


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that these few keys make several segments of `KeyCounts`."""
    monkeypatch.setattr(counts_module, "SEGMENT", 1)
    monkeypatch.setattr(counts_module, "_WALK_MAX", 2)


class StoreMachine(RuleBasedStateMachine):
    """Random writes, reads, compactions, commits and crashes; the log is `self.log`."""

    backend: Backend
    store: Store

    def open_backend(self) -> Backend:
        raise NotImplementedError

    def close(self) -> None:
        self.backend.close()

    def teardown(self) -> None:
        if hasattr(self, "backend"):
            self.close()

    @initialize()
    def start(self) -> None:
        self.model = Model()
        self.index = 0
        self.batch = None
        self.durable = (0, copy.deepcopy(self.model))
        self.sealed = self.durable
        self.backend = self.open_backend()
        self.store = Store(self.backend)

    @rule(ops=st.lists(OPS, min_size=1, max_size=4))
    def transact(self, ops: list) -> None:
        """All writes of a transaction share one revision, and it sees its own."""
        self.index += 1
        write = self.store.begin()
        main = self.model.revision + 1
        wrote = False
        expected = []
        for op in ops:
            if op[0] == "put":
                prev = write.put(op[1], op[2], op[3])
                old = self.model.put(main, op[1], op[2], op[3])
                assert (None if prev is None else write.kv(prev)) == (old and encoded(old))
                expected.append((main, op[1], encoded(self.model.at(op[1], main))))
                wrote = True
            else:
                count, prevs = write.delete_range(op[1], op[2])
                gone = self.model.delete(main, op[1], op[2])
                assert [write.kv(prev) for prev in prevs] == [encoded(kv) for kv in gone]
                assert count == len(gone)
                expected += [(main, kv.key, None) for kv in gone]
                wrote |= bool(gone)
            seen = write.range(op[1], b"\0").kvs
            assert seen == [encoded(kv) for kv in self.model.range(op[1], b"\0", main)]
        assert write.end() == expected
        self.model.revision += wrote

    @rule(key=KEYS, end=ENDS, back=st.integers(0, 6), limit=st.integers(0, 3))
    def read(self, key: bytes, end: bytes, back: int, limit: int) -> None:
        """Any kept revision reads as it was; count does not depend on the limit."""
        revision = max(self.model.revision - back, self.model.compacted, 1)
        options = RangeOptions(revision=revision, limit=limit)
        result = self.store.range(key, end, options)
        all_kvs = [encoded(kv) for kv in self.model.range(key, end, revision)]
        assert result.kvs == (all_kvs[:limit] if limit else all_kvs)
        assert result.count == len(all_kvs)
        assert result.more == (0 < limit < len(all_kvs))
        assert result.revision == self.model.revision
        counted = self.store.range(key, end, RangeOptions(revision=revision, count_only=True))
        assert (counted.count, counted.kvs) == (len(all_kvs), [])
        names = self.store.range(key, end, RangeOptions(revision=revision, keys_only=True))
        assert [decode_kv(kv).value for kv in names.kvs] == [b""] * len(all_kvs)
        for kv in self.model.range(key, end, revision):
            assert self.store.kv_at(kv.key, revision) == encoded(kv)

    @rule(back=st.integers(0, 3), finish=st.booleans())
    def compact(self, back: int, finish: bool) -> None:
        revision = self.model.revision - back
        if revision <= self.model.compacted:
            return
        self.index += 1
        self.store.compact(revision)
        self.model.compacted = revision
        while finish and self.store.compaction is not None:
            self.store.compaction.step(2)

    @rule(limit=st.integers(1, 3))
    def compact_slice(self, limit: int) -> None:
        """Deletions come in slices, between other writes."""
        if self.store.compaction is not None:
            self.store.compaction.step(limit)

    @precondition(lambda self: self.batch is None)
    @rule()
    def seal(self) -> None:
        self.batch = self.backend.seal(self.index, 1)
        if self.batch is not None:
            self.sealed = (self.index, copy.deepcopy(self.model))

    @precondition(lambda self: self.batch is None)
    @rule()
    def commit(self) -> None:
        self.seal()
        if self.batch is not None:
            self.write_batch()

    @precondition(lambda self: self.batch is not None)
    @rule()
    def write_batch(self) -> None:
        assert self.batch.write() is None
        self.durable = self.sealed
        self.backend.committed(self.batch)
        self.batch = None

    @rule(written=st.booleans())
    def crash(self, written: bool) -> None:
        """Only what was committed is left; it is the state as of its consistent index."""
        if written and self.batch is not None:  # durable, but the loop never heard of it
            assert self.batch.write() is None
            self.durable = self.sealed
        self.close()
        self.batch = None
        self.index, model = self.durable
        self.model = copy.deepcopy(model)
        self.sealed = self.durable
        self.backend = self.open_backend()
        self.store = Store(self.backend)
        assert self.store.revision == self.model.revision

    @rule()
    def view(self) -> None:
        """A job on a view answers for the moment it was made, whatever is written afterwards."""
        before = [encoded(kv) for kv in self.model.range(b"\0", b"\0", self.model.revision)]
        view = self.backend.view()
        job = RangeJob(view, self.store._reads_of(view), b"\0", b"\0", RangeOptions())
        write = self.store.begin()
        write.put(b"b", b"later", 0)
        write.delete_range(b"c", b"\0")
        self.model.revision += 1
        self.model.put(self.model.revision, b"b", b"later", 0)
        self.model.delete(self.model.revision, b"c", b"\0")
        write.end()
        self.index += 1
        assert job.run().kvs == before
        assert self.backend.open_views == 0

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "store"):
            return
        live = self.model.range(b"\0", b"\0", self.model.revision)
        assert self.store.keys_total == len(live)
        assert self.store.revision == self.model.revision
        assert self.store.compacted == self.model.compacted
        assert sorted(self.store.leased_keys()) == sorted(
            (kv.lease, kv.key) for kv in live if kv.lease
        )
        since = max(self.model.compacted + 1, 1)
        assert set(self.store.changes_since(since, 1_000)) == self.model.changes(since)
        if self.store.compaction is None:
            rows = self.backend.range("key")
            assert {(from_stored_key(k)[0], key_of(v)) for k, v in rows} == self.model.kept()
            assert len(self.backend.range("_history")) == len(rows) - len(
                self.backend.range("_current")
            ) - len(self.backend.range("_long"))


class MemoryMachine(StoreMachine):
    """Over the memory backend."""

    disk: MemoryDisk | None = None

    def open_backend(self) -> Backend:
        self.disk = self.disk or MemoryDisk()
        return MemoryBackend(self.disk, own_pending_max=40)


class LmdbMachine(StoreMachine):
    """Over LMDB, with the index thrown away and rebuilt at times."""

    directory: tempfile.TemporaryDirectory[str] | None = None

    def open_backend(self) -> Backend:
        self.directory = self.directory or tempfile.TemporaryDirectory()
        return LmdbBackend(
            Path(self.directory.name) / "db.lmdb", map_bytes=1 << 30, own_pending_max=40
        )

    def teardown(self) -> None:
        super().teardown()
        if self.directory is not None:
            self.directory.cleanup()

    @precondition(lambda self: self.batch is None)
    @rule()
    def reindex(self) -> None:
        """The index follows from the `key` bucket alone."""
        self.seal()
        if self.batch is not None:
            self.write_batch()
        view = self.backend.view()
        own = ("_current", "_history", "_dead", "_leased", "_long")
        if self.store.compaction is not None:  # then the bucket holds more than the index needs
            view.close()
            return
        before = {name: sorted(v for _, v in view.bucket(name).range()) for name in ("_dead",)}
        counts = {name: len(view.bucket(name).range()) for name in own}
        view.close()
        rebuild_index(self.backend)
        self.store = Store(self.backend)
        self.seal()
        if self.batch is not None:
            self.write_batch()
        assert counts == {name: len(self.backend.range(name)) for name in own}
        assert before == {"_dead": sorted(v for _, v in self.backend.range("_dead"))}


SETTINGS = settings(
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestMemory = pytest.mark.slow(MemoryMachine.TestCase)
TestMemory.settings = SETTINGS
TestLmdb = pytest.mark.slow(LmdbMachine.TestCase)
TestLmdb.settings = settings(SETTINGS, max_examples=25)
