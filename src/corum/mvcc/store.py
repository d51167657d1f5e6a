"""The key-value store with all its revisions: what `server/apply` writes and everybody reads.

Owned by the loop. Reads that may be big come as a `RangeJob`, to be run by a worker on a view;
hashes likewise. State that must survive is in the backend; after a crash the store is as of the
last committed batch, and the log brings the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from corum import errors
from corum.backend import Backend, Bucket, View, schema
from corum.mvcc.buckets import Buckets
from corum.mvcc.compaction import Compaction
from corum.mvcc.counts import KeyCounts, OverBudget, Uncounted
from corum.mvcc.hashing import HashJob, HashKvJob
from corum.mvcc.index import INDEXED_KEY, LAYOUT, LAYOUT_KEY, LEASE
from corum.mvcc.reads import (
    EVERYTHING,
    Change,
    RangeOptions,
    RangeResult,
    ReadView,
)
from corum.mvcc.revision import MAIN, main_of, stored_key
from corum.mvcc.write import Write

INLINE_KEYS_MAX: Final = 1_000
"""Keys that a read may look at on the loop (about 3 ms); more go to a worker."""
VIEW_PENDING_MAX: Final = 20_000
"""Index rows that views may copy again and again (0.4 ms) before they are committed."""
_PIECE: Final = 1_000  # KeyValues of a job's answer at a time


class RangeJob:
    """A range that is too big for the loop. `run` in a worker, then `Store.finish` on the loop."""

    __slots__ = ("_end", "_key", "_options", "_reads", "_view", "counts", "result")

    def __init__(
        self, view: View, reads: ReadView, key: bytes, end: bytes, options: RangeOptions
    ) -> None:
        self._view = view
        self._reads = reads
        self._key = key
        self._end = end
        self._options = options
        self.counts: Final = reads.counts
        self.result: RangeResult | None = None

    def run(self) -> RangeResult:
        """Worker thread."""
        try:
            self.result = self._reads.range(self._key, self._end, self._options)
        finally:
            self._view.close()
        return self.result

    def stream(self) -> Iterator[list[bytes]]:
        """Worker thread, instead of `run`: its KeyValues about 1,000 at a time; then `result` is
        there, without them if it is a plain range of whatever size."""
        options = self._options
        if not options.plain or options.count_only or (options.keys_only and options.limit > 0):
            kvs = self.run().kvs
            yield from (kvs[at : at + _PIECE] for at in range(0, len(kvs), _PIECE))
            return
        try:
            count, more = yield from self._reads.chunks(self._key, self._end, options)
            self.result = RangeResult([], count, more, self._reads.revision)
        finally:
            self._view.close()


class Store:
    """See the module's docstring.

    `Store(backend)` opens what the backend holds, in time that does not depend on how much it is;
    a backend with keys but without our index (taken over from Go etcd) has to be indexed first:
    `rebuild.rebuild_index`.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend: Final = backend
        self.open()

    def open(self) -> None:
        """Begin with what the backend holds; again after its content was replaced."""
        backend = self.backend
        assert backend.pending_operations == 0, "a store opens on what is committed"
        self.buckets = Buckets(backend)
        self.compaction: Compaction | None = None
        """The compaction whose deletions are not finished; the driver calls its `step`."""
        buckets = self.buckets
        dead = buckets.dead.entries()
        live = buckets.current.entries() + len(buckets.long.keys) - dead
        self.reads = ReadView(backend.bucket, buckets.long, buckets.counts, live, dead)
        self._restore()

    # ---- revisions

    @property
    def revision(self) -> int:
        """Main revision of the newest write; 1 in an empty store."""
        return self.reads.revision

    @property
    def compacted(self) -> int:
        """Reads below this revision are refused; -1 before the first compaction (as etcd)."""
        return self.reads.compacted

    @property
    def keys_total(self) -> int:
        """Keys alive now."""
        return self.reads.live

    def _restore(self) -> None:
        buckets = self.buckets
        last = buckets.key.last()
        layout = self.backend.get(schema.INDEX_META, LAYOUT_KEY)
        assert layout == LAYOUT or last is None, "keys without an index: rebuild_index first"
        if layout is None:
            self.backend.put(schema.INDEX_META, LAYOUT_KEY, LAYOUT)
            self.backend.flush_own()  # the mark has to be there with the first keys
        self._make_up()
        finished = _revision_in(buckets.meta, schema.FINISHED_COMPACT)
        scheduled = _revision_in(buckets.meta, schema.SCHEDULED_COMPACT)
        # Compaction may have taken the newest revisions, if they were tombstones.
        newest = 0 if last is None else main_of(last[0])
        self.reads.revision = max(1, newest, finished, scheduled)
        self.reads.compacted = max(finished, scheduled)
        if scheduled > finished:
            self.compaction = Compaction(self, scheduled)
        self.backend.defer_own = True  # `_make_up` makes up for it

    def _make_up(self) -> None:
        """Index the revisions that were committed before their index rows were."""
        buckets, reads = self.buckets, self.reads
        indexed = schema.from_u64(buckets.index_meta.get(INDEXED_KEY))
        for rows in buckets.key.scan(stored_key(indexed + 1, 0)):
            for stored, kv in rows:
                live, dead = buckets.add_revision(stored, kv)
                reads.live += live
                reads.dead += dead
            buckets.index_meta.pending[INDEXED_KEY] = MAIN.pack(main_of(rows[-1][0]))

    def advance(self, revision: int, changes: list[Change]) -> None:
        """For `Write.end`: `changes` have become `revision`."""
        assert revision == self.reads.revision + 1, f"{revision} after {self.reads.revision}"
        self.reads.revision = revision
        self.buckets.index_meta.pending[INDEXED_KEY] = MAIN.pack(revision)

    # ---- reads

    def get(self, key: bytes) -> bytes | None:
        """Stored KeyValue of `key` now."""
        return self.reads.get(key)

    def range(
        self, key: bytes, end: bytes = b"", options: RangeOptions = EVERYTHING
    ) -> RangeResult:
        """KeyValues of `key`, or of [key, end) (`end` b"\\0": from `key` on), however many.

        Raises COMPACTED, FUTURE_REV.
        """
        return self.reads.range(key, end, options)

    def plan_range(
        self,
        key: bytes,
        end: bytes = b"",
        options: RangeOptions = EVERYTHING,
        *,
        crowded: bool = False,
    ) -> RangeResult | RangeJob | None:
        """As `range`, but what is too big for the loop comes back as a job for a worker.

        None: it would be a job and the workers are `crowded`, or one of them is making the counts
        that this one needs, too; ask again after a `finish`.
        """
        if not end:
            return self.reads.range(key, end, options)
        counts = self.buckets.counts
        try:
            return self.reads.range(key, end, options, budget=INLINE_KEYS_MAX)
        except OverBudget as over:
            if crowded or (isinstance(over, Uncounted) and counts.lent):
                return None
        if self.backend.own_pending > VIEW_PENDING_MAX:
            self.backend.flush_own()
        view = self.backend.view()
        counting = options.count_only or options.limit > 0 or not options.plain
        reads = self._reads_of(view, counts.lend() if counting else None)
        return RangeJob(view, reads, key, end, options)

    def finish(self, job: RangeJob) -> RangeResult | None:
        """The result of a job that has run, failed (None) or was given up; call it once."""
        self.buckets.counts.take_back(job.counts, failed=job.result is None)
        return job.result

    def kv_at(self, key: bytes, revision: int) -> bytes | None:
        """Stored KeyValue of `key` as of `revision`; None when absent then, or compacted."""
        return self.reads.kv_at(key, revision)

    def changes_since(self, revision: int, limit: int) -> list[Change]:
        """See `ReadView.changes_since`."""
        return self.reads.changes_since(revision, limit)

    def leased_keys(self) -> Iterator[tuple[int, bytes]]:
        """(lease, key) of every live key with a lease, to rebuild the lessor at start."""
        for rows in self.buckets.leased.scan():
            for _, row in rows:
                yield LEASE.unpack_from(row)[0], row[LEASE.size :]

    # ---- writes and compaction

    def begin(self) -> Write:
        """A write transaction."""
        return Write(self)

    def compact(self, revision: int) -> Compaction:
        """Refuse reads below `revision` from now on; what is superseded is deleted by `step`s.

        Raises COMPACTED, FUTURE_REV.
        """
        if revision <= self.compacted:
            raise errors.COMPACTED()
        if revision > self.revision:
            raise errors.FUTURE_REV()
        self.reads.compacted = revision
        self.buckets.meta.put(schema.SCHEDULED_COMPACT, stored_key(revision, 0))
        self.compaction = Compaction(self, revision)
        return self.compaction

    def compaction_done(self, compaction: Compaction) -> None:
        """For `Compaction.step`: its last deletion is pending."""
        if self.compaction is compaction:
            self.buckets.meta.put(schema.FINISHED_COMPACT, stored_key(compaction.revision, 0))
            self.compaction = None

    # ---- hashes

    def hash_kv(self, revision: int = 0) -> HashKvJob:
        """HashKV up to `revision` (0: now), for a worker. Raises COMPACTED, FUTURE_REV."""
        self.reads.check_revision(revision)
        at = revision if revision > 0 else self.revision
        view = self.backend.view()
        return HashKvJob(view, self._reads_of(view), at)

    def hash(self) -> HashJob:
        """Hash of the whole backend, for a worker."""
        return HashJob(self.backend.view())

    def _reads_of(self, view: View, counts: KeyCounts | None = None) -> ReadView:
        """A reader of `view`, which was just made, for another thread."""
        counts = KeyCounts() if counts is None else counts
        live, dead = self.reads.live, self.reads.dead
        reads = ReadView(view.bucket, self.buckets.long.copy(), counts, live, dead)
        reads.revision = self.revision
        reads.compacted = self.compacted
        return reads


def _revision_in(meta: Bucket, key: bytes) -> int:
    stored = meta.get(key)
    return -1 if stored is None else main_of(stored)
