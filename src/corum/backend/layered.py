"""What both backends do alike: the loop's reads and writes, and what of them a batch holds.

A backend adds the committed layer: where it is, and how a batch gets there. No I/O here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

from corum.backend import schema
from corum.backend.backend import Batch, DefragmentJob, Row
from corum.backend.layers import Data, LayeredBucket

OWN_PENDING_MAX: Final = 50_000
"""Entries of our own buckets that may wait in memory (about 15 MB). The index is written all over
its trees, a page for each entry: in batches of 2,000 puts on 1,000,000 keys that is 45 kB written
per put, competing with the log's syncs; the more entries go at once, the more share a page."""


class LayeredBackend(ABC):
    """`Backend` but for its committed layer. Owned by the loop."""

    buckets: dict[str, LayeredBucket]
    _views: set[Any]

    def __init__(self, own_pending_max: int) -> None:
        self.commit_ns = 0
        self.defer_own = False
        self._own_due = False
        self._own_pending_max = own_pending_max
        self._in_flight: Batch | None = None
        self._defragmenting: DefragmentJob | None = None
        self._committed_index = (0, 0)
        """What the last batch was sealed with, or what the file says."""

    # ---- reads and writes

    def bucket(self, name: str) -> LayeredBucket:
        return self.buckets[name]

    def get(self, bucket: str, key: bytes) -> bytes | None:
        return self.buckets[bucket].get(key)

    def put(self, bucket: str, key: bytes, value: bytes) -> None:
        self.buckets[bucket].pending[key] = value

    def delete(self, bucket: str, key: bytes) -> None:
        self.buckets[bucket].pending[key] = None

    def range(
        self, bucket: str, start: bytes = b"", end: bytes | None = None, limit: int = 0
    ) -> list[Row]:
        return self.buckets[bucket].range(start, end, limit)

    # ---- batches

    @property
    def pending_operations(self) -> int:
        return self._pending(schema.ETCD_BUCKETS)

    @property
    def own_pending(self) -> int:
        return self._pending(schema.OWN_BUCKETS)

    def _pending(self, names: Sequence[str]) -> int:
        return sum([len(self.buckets[name].pending) for name in names])

    def seal(self, consistent_index: int, term: int) -> Batch | None:
        if self._is_busy:
            return None
        index = (consistent_index, term)
        own_pending = self.own_pending
        due = self._own_due or not self.defer_own or own_pending >= self._own_pending_max
        own = due and own_pending > 0
        if index == self._committed_index and not (own or self.pending_operations):
            return None
        assert index >= self._committed_index, f"index {index} < {self._committed_index}"
        self.put(schema.META, schema.CONSISTENT_INDEX, schema.u64(consistent_index))
        self.put(schema.META, schema.TERM, schema.u64(term))
        self._committed_index = index
        names = schema.BUCKETS if own else schema.ETCD_BUCKETS
        buckets = self.buckets
        sealed = {name: buckets[name].seal() for name in names if buckets[name].pending}
        self._own_due = self._own_due and not own
        self._in_flight = self._batch(sealed)
        return self._in_flight

    @abstractmethod
    def _batch(self, sealed: dict[str, Data]) -> Batch:
        """What writes this, by bucket."""

    def flush_own(self) -> None:
        self._own_due = True

    def _landed(self, batch: Batch) -> None:
        assert batch is self._in_flight, "not the batch in flight"
        self._in_flight = None

    @property
    def _is_busy(self) -> bool:
        """Is a batch being written, or the file rewritten?"""
        return self._in_flight is not None or self._defragmenting is not None

    def _read_index(self) -> None:
        """The committed layer is another one."""
        self._committed_index = (
            schema.from_u64(self.get(schema.META, schema.CONSISTENT_INDEX)),
            schema.from_u64(self.get(schema.META, schema.TERM)),
        )

    @property
    def open_views(self) -> int:
        return len(self._views)


def operations(batch: Mapping[str, Data]) -> int:
    """Distinct keys that a batch writes."""
    return sum(map(len, batch.values()))
