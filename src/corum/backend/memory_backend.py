"""The backend without a disk: for the simulator and for in-process tests.

Same layers, same commit protocol; the committed layer is dicts. What a crash leaves is in
`MemoryDisk`: make a new `MemoryBackend` on the disk of the old one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from corum.backend import schema
from corum.backend.backend import Backend, BackendError, Batch, DefragmentJob, Row, View
from corum.backend.layered import OWN_PENDING_MAX, LayeredBackend, operations
from corum.backend.layers import Data, LayeredBucket, LayeredReader

_PAGE: Final = 4_096
_PAGES_EMPTY: Final = 5  # of a fresh file, so that sizes look like a disk's
_ROW_OVERHEAD: Final = 32


class _Base:
    """The committed rows of one bucket."""

    __slots__ = ("_rows", "_sorted", "data_bytes")

    def __init__(self, rows: dict[bytes, bytes], data_bytes: int) -> None:
        self._rows = rows
        self._sorted: list[bytes] = sorted(rows)
        self.data_bytes = data_bytes

    def get(self, key: bytes) -> bytes | None:
        return self._rows.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return list(map(self._rows.get, keys))

    def range(self, start: bytes, end: bytes | None, limit: int) -> list[Row]:
        rows = self._rows
        return [(key, rows[key]) for key in self._slice(start, end, limit)]

    def keys(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
        return self._slice(start, end, limit)

    def values(
        self, start: bytes, end: bytes | None, limit: int
    ) -> tuple[list[bytes], bytes | None]:
        keys = self._slice(start, end, limit)
        values = list(map(self._rows.__getitem__, keys))
        return values, keys[-1] + b"\0" if len(keys) == limit else None

    def last(self) -> Row | None:
        if not self._sorted:
            return None
        return (self._sorted[-1], self._rows[self._sorted[-1]])

    def entries(self) -> int:
        return len(self._rows)

    def _slice(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
        low = bisect_left(self._sorted, start)
        high = len(self._sorted) if end is None else bisect_left(self._sorted, end, low)
        return self._sorted[low : min(high, low + limit) if limit else high]

    def merged(self, data: Data, *, in_place: bool) -> _Base:
        """With `data` applied; a copy when somebody may still read this one."""
        base = self if in_place else _Base(self._rows.copy(), self.data_bytes)
        rows, known = base._rows, base._sorted
        added: list[bytes] = []
        gone = False
        for key, value in data.items():
            old = rows.get(key)
            if old is not None:
                base.data_bytes -= len(key) + len(old) + _ROW_OVERHEAD
            if value is not None:
                base.data_bytes += len(key) + len(value) + _ROW_OVERHEAD
                if old is None:
                    added.append(key)
                rows[key] = value
            elif old is not None:
                gone = True
                del rows[key]
        if gone:
            known[:] = [key for key in known if key in rows]
        known.extend(added)
        known.sort()
        return base


class MemoryDisk:
    """What survives a crash: every batch that was written. `error` makes writes fail."""

    def __init__(self) -> None:
        self.bases: dict[str, _Base] = {name: _Base({}, 0) for name in schema.BUCKETS}
        self.written: list[dict[str, Data]] = []  # durable, not yet merged: at most one
        self.error: BackendError | None = None

    def merge(self, *, in_place: bool) -> None:
        for batch in self.written:
            for name, data in batch.items():
                self.bases[name] = self.bases[name].merged(data, in_place=in_place)
        self.written.clear()


class _Batch:
    __slots__ = ("_disk", "data", "operations")

    def __init__(self, disk: MemoryDisk, data: dict[str, Data]) -> None:
        self._disk = disk
        self.data = data
        self.operations = operations(data)

    def write(self) -> BackendError | None:
        if self._disk.error is None:
            self._disk.written.append(self.data)
        return self._disk.error


class _View:
    __slots__ = ("_buckets", "_views")

    def __init__(self, backend: MemoryBackend, views: set[_View]) -> None:
        self._views = views
        self._buckets = {
            name: bucket.frozen(backend.disk.bases[name])
            for name, bucket in backend.buckets.items()
        }
        views.add(self)

    def bucket(self, name: str) -> LayeredReader:
        return self._buckets[name]

    def close(self) -> None:
        self._views.discard(self)


class _DefragmentJob:
    def run(self) -> BackendError | None:
        return None


class MemoryBackend(LayeredBackend):
    """`Backend` on a `MemoryDisk`."""

    def __init__(
        self, disk: MemoryDisk | None = None, *, own_pending_max: int = OWN_PENDING_MAX
    ) -> None:
        super().__init__(own_pending_max)
        self.disk: Final = disk or MemoryDisk()
        self.disk.merge(in_place=False)
        self.buckets = {name: LayeredBucket(base, {}, {}) for name, base in self.disk.bases.items()}
        self._views: set[_View] = set()
        self.reread()

    def reread(self) -> None:
        """The committed layer is another one: what is known of it is read again."""
        self._read_index()
        self._size = self.size_in_use

    def _batch(self, sealed: dict[str, Data]) -> _Batch:
        return _Batch(self.disk, sealed)

    def committed(self, batch: Batch) -> None:
        self._landed(batch)
        self.disk.merge(in_place=not self._views)
        for name, bucket in self.buckets.items():
            bucket.committed(self.disk.bases[name])
        self._size = max(self._size, self.size_in_use)

    def view(self) -> View:
        return _View(self, self._views)

    @property
    def size(self) -> int:
        return self._size

    @property
    def size_in_use(self) -> int:
        data = sum(base.data_bytes for base in self.disk.bases.values())
        return (_PAGES_EMPTY + -(-data // _PAGE)) * _PAGE

    def defragment(self) -> DefragmentJob | None:
        if self._is_busy:
            return None
        self._defragmenting = _DefragmentJob()
        return self._defragmenting

    def defragmented(self, job: DefragmentJob) -> None:
        assert job is self._defragmenting, "not the rewrite in progress"
        self._defragmenting = None
        self._size = self.size_in_use

    def close(self) -> None:
        self._views.clear()


if TYPE_CHECKING:
    _CHECKED: type[Backend] = MemoryBackend
