"""A bucket in three layers: pending over sealed over committed.

Both backends and their views are made of this; they differ only in `Base`, the committed layer.
No I/O, no threads here. A layer is a dict of key -> value, None for a deleted key; its sorted keys
are made when a range first needs them and merged lazily, since most keys are never ranged over
before they are committed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol

from corum.backend import schema
from corum.backend.backend import Row

Data = dict[bytes, bytes | None]

_MISSING: Final = b"\0missing"  # compared by identity; no value is this object
_INSORT_MAX: Final = 64  # new keys up to which one insertion each beats sorting the whole list
_CHUNK: Final = 1_000  # rows merged at a time when the caller sets no limit


class Get(Protocol):
    """From a key of 1 to `schema.KEY_SIZE_MAX` bytes to its value."""

    def __call__(self, key: bytes, /) -> bytes | None: ...


class Base(Protocol):
    """The committed rows of one bucket."""

    @property
    def get(self) -> Get:
        """The function that gives the value of a key."""
        ...

    def get_many(self, keys: Sequence[bytes], /) -> list[bytes | None]: ...

    def range(self, start: bytes, end: bytes | None, limit: int, /) -> list[Row]: ...

    def keys(self, start: bytes, end: bytes | None, limit: int, /) -> list[bytes]: ...

    def last(self) -> Row | None: ...

    def entries(self) -> int: ...


class SortedKeys:
    """The keys of a growing dict, in order. The dict must never lose a key."""

    __slots__ = ("_data", "_keys")

    def __init__(self, data: Data) -> None:
        self._data = data
        self._keys: list[bytes] = []

    def refreshed(self) -> list[bytes]:
        keys, data = self._keys, self._data
        added = len(data) - len(keys)
        if added:
            newest = islice(reversed(data), added)  # a dict keeps the order of insertion
            if added <= _INSORT_MAX:
                for key in newest:
                    insort(keys, key)
            else:
                keys.extend(newest)
                keys.sort()
        return keys


class LayeredReader:
    """Reads of one bucket through all its layers; the newest layer that knows a key decides."""

    __slots__ = ("_base", "_pending_keys", "_sealed", "_sealed_keys", "pending")

    pending: Data
    _sealed: Data

    def __init__(self, base: Base, pending: Data, sealed: Data) -> None:
        self._base = base
        self.pending = pending
        self._pending_keys = SortedKeys(pending)
        self._sealed = sealed
        self._sealed_keys = SortedKeys(sealed)

    def get(self, key: bytes) -> bytes | None:
        found = self.pending.get(key, _MISSING)
        if found is _MISSING:
            found = self._sealed.get(key, _MISSING)
            if found is _MISSING:
                return self._base.get(key)
        return found

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if not self.pending and not self._sealed:
            return self._base.get_many(keys)
        pending, sealed, base = self.pending.get, self._sealed.get, self._base.get
        found = [pending(key, _MISSING) for key in keys]
        for at, (key, value) in enumerate(zip(keys, found, strict=True)):
            if value is _MISSING:
                older = sealed(key, _MISSING)
                found[at] = base(key) if older is _MISSING else older
        return found

    def range(self, start: bytes = b"", end: bytes | None = None, limit: int = 0) -> list[Row]:
        if not self._touched(start, end):
            return self._base.range(start, end, limit)
        out: list[Row] = []
        at: bytes | None = start
        while at is not None:
            rows, at = self._merge(at, end, (limit - len(out)) if limit else _CHUNK)
            out += rows
            if limit and len(out) >= limit:
                return out[:limit]
        return out

    def count(self, start: bytes, end: bytes | None, limit: int) -> tuple[int, bytes | None]:
        if not self._touched(start, end):
            keys = self._base.keys(start, end, limit)
            return len(keys), keys[-1] + b"\0" if len(keys) == limit else None
        keys = self._base.keys(start, end, limit)
        rest = keys[-1] + b"\0" if len(keys) == limit else None
        known = set(keys)
        changed = self._known(start, rest or end)
        for key, value in changed.items():
            known.discard(key) if value is None else known.add(key)
        return len(known), rest

    def last(self) -> Row | None:
        keys = set(islice(reversed(self._pending_keys.refreshed()), 1))
        keys.update(islice(reversed(self._sealed_keys.refreshed()), 1))
        row = self._base.last()
        top = max(keys, default=b"")
        if row is not None and row[0] > top:
            return row
        value = self.get(top) if top else None
        if value is not None:
            return (top, value)
        # The greatest key was deleted and that is not committed yet: rare, so the slow way.
        last: Row | None = None
        for rows in self.scan():
            last = rows[-1]
        return last

    def scan(
        self, start: bytes = b"", end: bytes | None = None, rows: int = _CHUNK
    ) -> Iterator[list[Row]]:
        while chunk := self.range(start, end, rows):
            yield chunk
            start = chunk[-1][0] + b"\0"

    def _touched(self, start: bytes, end: bytes | None) -> bool:
        """Whether a layer above the committed one knows of any key in the range."""
        for data, keys in ((self.pending, self._pending_keys), (self._sealed, self._sealed_keys)):
            if data:
                ordered = keys.refreshed()
                at = bisect_left(ordered, start)
                if at < len(ordered) and (end is None or ordered[at] < end):
                    return True
        return False

    def _known(self, start: bytes, end: bytes | None) -> Data:
        """What the layers above the committed one say of the range."""
        found: Data = {}
        for data, keys in (
            (self._sealed, self._sealed_keys.refreshed()),
            (self.pending, self._pending_keys.refreshed()),
        ):
            at = bisect_left(keys, start)
            upto = len(keys) if end is None else bisect_left(keys, end, at)
            found.update([(key, data[key]) for key in keys[at:upto]])
        return found

    def _merge(self, start: bytes, end: bytes | None, rows: int) -> tuple[list[Row], bytes | None]:
        """About `rows` rows from `start` on, and where to go on (None: the range is done).

        Each layer gives its first `rows` keys. What is beyond the last key of a layer that has
        more to give is not yet known, so the merge ends at the least such key.
        """
        below = self._base.range(start, end, rows)
        bound = below[-1][0] if len(below) == rows else None
        merged: Data = dict(below)
        for data, keys in (
            (self._sealed, self._sealed_keys.refreshed()),
            (self.pending, self._pending_keys.refreshed()),
        ):
            at = bisect_left(keys, start)
            upto = len(keys) if end is None else bisect_left(keys, end, at)
            known = keys[at : min(upto, at + rows)]
            if upto > at + rows and (bound is None or known[-1] < bound):
                bound = known[-1]
            merged.update((key, data[key]) for key in known)
        found = [(k, v) for k, v in sorted(merged.items()) if v is not None]
        if bound is None:
            return found, None
        return [row for row in found if row[0] <= bound], bound + b"\0"


class LayeredBucket(LayeredReader):
    """The loop's bucket: reads as above, writes into `pending`."""

    __slots__ = ()

    def put(self, key: bytes, value: bytes) -> None:
        self.pending[key] = value

    def delete(self, key: bytes) -> None:
        self.pending[key] = None

    def entries(self) -> int:
        return self._base.entries()

    def seal(self) -> Data:
        """Pending becomes sealed; the caller sees to it that nothing is sealed yet."""
        assert not self._sealed, "a batch is already on its way to the disk"
        self._sealed, self._sealed_keys = self.pending, self._pending_keys
        self.pending = {}
        self._pending_keys = SortedKeys(self.pending)
        return self._sealed

    def committed(self, base: Base) -> None:
        """`base` now holds what was sealed."""
        self._base = base
        self._sealed = {}
        self._sealed_keys = SortedKeys(self._sealed)

    def forget(self) -> None:
        """Drop what is not committed: another file takes the place of this one."""
        self.pending = {}
        self._pending_keys = SortedKeys(self.pending)
        self._sealed = {}
        self._sealed_keys = SortedKeys(self._sealed)

    def frozen(self, base: Base) -> LayeredReader:
        """What a view sees of this bucket, above the committed rows `base`."""
        return LayeredReader(base, self.pending.copy(), self._sealed)


OWN_PENDING_MAX: Final = 50_000
"""Entries of our own buckets that may wait in memory (about 15 MB). The index is written all over
its trees, a page for each entry: in batches of 2,000 puts on 1,000,000 keys that is 45 kB written
per put, competing with the log's syncs; the more entries go at once, the more share a page."""


def entries_pending(buckets: Mapping[str, LayeredBucket], names: Sequence[str]) -> int:
    """Distinct keys pending in these buckets."""
    return sum([len(buckets[name].pending) for name in names])


def seal_buckets(buckets: Mapping[str, LayeredBucket], *, own: bool) -> dict[str, Data]:
    """Seal what is pending, our own buckets only if `own`."""
    names = schema.BUCKETS if own else schema.ETCD_BUCKETS
    return {name: buckets[name].seal() for name in names if buckets[name].pending}


def operations(batch: Mapping[str, Data]) -> int:
    """Distinct keys that a batch writes."""
    return sum(map(len, batch.values()))
