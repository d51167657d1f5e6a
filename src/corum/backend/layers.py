"""A bucket in three layers: pending over sealed over committed.

Both backends and their views are made of this; they differ only in `Base`, the committed layer.
No I/O, no threads here. A layer is a dict of key -> value, None for a deleted key; its sorted keys
are made when a range first needs them and merged lazily, since most keys are never ranged over
before they are committed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import countOf, itemgetter
from typing import Final, Protocol, cast

from corum.backend.backend import Row

Data = dict[bytes, bytes | None]

_Slice = tuple[Data, list[bytes], int, int]
"""A layer, its keys in order, and from where to where the range is in them."""

_MISSING: Final = b"\0missing"  # compared by identity; no value is this object
_KEY_OF: Final = itemgetter(0)
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

    def values(
        self, start: bytes, end: bytes | None, limit: int, /
    ) -> tuple[list[bytes], bytes | None]: ...

    def last(self) -> Row | None: ...

    def entries(self) -> int: ...


class SortedKeys:
    """The keys of a growing dict, in order. The dict must never lose a key."""

    __slots__ = ("_data", "_keys")

    def __init__(self, data: Data, keys: list[bytes] | None = None) -> None:
        self._data = data
        self._keys: list[bytes] = keys or []

    def of_copy(self, data: Data) -> SortedKeys:
        """Those of a copy of the dict, as far as they have been sorted."""
        return SortedKeys(data, self._keys.copy())

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

    def __init__(
        self,
        base: Base,
        pending: Data,
        sealed: Data,
        pending_keys: SortedKeys | None = None,
        sealed_keys: SortedKeys | None = None,
    ) -> None:
        self._base = base
        self.pending = pending
        self._pending_keys = pending_keys or SortedKeys(pending)
        self._sealed = sealed
        self._sealed_keys = sealed_keys or SortedKeys(sealed)

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
        found: list[bytes | None] = list(map(self.pending.get, keys))
        if None not in found:
            return found
        gaps = [at for at, value in enumerate(found) if value is None]
        older = [keys[at] for at in gaps]
        if not self.pending.keys().isdisjoint(older):  # deleted
            gaps = [at for at in gaps if keys[at] not in self.pending]
            older = [keys[at] for at in gaps]
        if self._sealed:
            sealed, base = self._sealed.get, self._base.get
            below = [sealed(key, _MISSING) for key in older]
            below = [base(key) if v is _MISSING else v for key, v in zip(older, below, strict=True)]
        else:
            below = self._base.get_many(older)
        if len(gaps) == len(found):
            return below
        for at, value in zip(gaps, below, strict=True):
            found[at] = value
        return found

    def range(self, start: bytes = b"", end: bytes | None = None, limit: int = 0) -> list[Row]:
        out: list[Row] = []
        at: bytes | None = start
        while at is not None:
            slices = self._slices(at, end)
            if not slices:
                rows = self._base.range(at, end, limit - len(out) if limit else 0)
                return out + rows if out else rows
            rows, at = self._merge(slices, at, end, (limit - len(out)) if limit else _CHUNK)
            out += rows
            if limit and len(out) >= limit:
                return out[:limit]
        return out

    def values(
        self, start: bytes, end: bytes | None, limit: int
    ) -> tuple[list[bytes], bytes | None]:
        slices = self._slices(start, end)
        if not slices:
            return self._base.values(start, end, limit)
        rows, rest = self._merge(slices, start, end, limit)
        return [value for _, value in rows], rest

    def count(self, start: bytes, end: bytes | None, limit: int) -> tuple[int, bytes | None]:
        keys = self._base.keys(start, end, limit)
        bound = keys[-1] if len(keys) == limit else None
        parts, bound = _cut(self._slices(start, end), bound, limit)
        if parts:
            known: Data = dict.fromkeys(
                keys if bound is None else keys[: bisect_right(keys, bound)], b""
            )
            for data, part in parts:
                known.update(zip(part, map(data.__getitem__, part), strict=True))
            number = len(known) - countOf(known.values(), None)
        else:
            number = len(keys)
        return number, None if bound is None else bound + b"\0"

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

    def _slices(self, start: bytes, end: bytes | None) -> list[_Slice]:
        """What the layers above the committed one know of the range, the newest last."""
        found: list[_Slice] = []
        for data, ordered in (
            (self._sealed, self._sealed_keys),
            (self.pending, self._pending_keys),
        ):
            if data:
                keys = ordered.refreshed()
                low = bisect_left(keys, start)
                high = len(keys) if end is None else bisect_left(keys, end, low)
                if low < high:
                    found.append((data, keys, low, high))
        return found

    def _merge(
        self, slices: list[_Slice], start: bytes, end: bytes | None, rows: int
    ) -> tuple[list[Row], bytes | None]:
        """About `rows` rows from `start` on, and where to go on (None: the range is done)."""
        below = self._base.range(start, end, rows)
        bound = below[-1][0] if len(below) == rows else None
        parts, bound = _cut(slices, bound, rows)
        if bound is not None and below and below[-1][0] > bound:
            del below[bisect_right(below, bound, key=_KEY_OF) :]
        merged: Data = dict(below)
        for data, part in parts:
            merged.update(zip(part, map(data.__getitem__, part), strict=True))
        keys = sorted(merged)  # of few ascending runs, which is what sorting is fastest at
        found = list(zip(keys, map(merged.__getitem__, keys), strict=True))
        if None in merged.values():
            found = [row for row in found if row[1] is not None]
        return cast("list[Row]", found), None if bound is None else bound + b"\0"


def _cut(
    slices: list[_Slice], bound: bytes | None, rows: int
) -> tuple[list[tuple[Data, list[bytes]]], bytes | None]:
    """The first `rows` keys of each layer, as far as the next ones of every layer are known.

    What is beyond the last key of a layer that has more to give is not yet known, so all end at the
    least such key, `bound`: None when all of them are at their ends.
    """
    for _, keys, low, high in slices:
        if high > low + rows and (bound is None or keys[low + rows - 1] < bound):
            bound = keys[low + rows - 1]
    parts: list[tuple[Data, list[bytes]]] = []
    for data, keys, low, high in slices:
        upto = min(high, low + rows)
        if bound is not None:
            upto = bisect_right(keys, bound, low, upto)
        if low < upto:
            parts.append((data, keys[low:upto]))
    return parts, bound


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
        pending, sealed = self.pending.copy(), self._sealed
        keys = self._pending_keys.of_copy(pending), self._sealed_keys.of_copy(sealed)
        return LayeredReader(base, pending, sealed, *keys)
