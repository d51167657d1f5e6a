"""The backend on disk: one LMDB file, one named database per bucket.

Why LMDB: a commit is one write and two syncs, readers never wait for the writer, and opening costs
nothing whatever the size. The file is memory-mapped read-only, so what the kernel keeps of it is
its page cache and not our heap. All calls hold or release the GIL inside py-lmdb; no lock of ours.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import lmdb

from corum.backend import schema
from corum.backend.backend import (
    Backend,
    BackendCorrupt,
    BackendError,
    BackendFull,
    Batch,
    DefragmentJob,
    Row,
    View,
)
from corum.backend.layered import OWN_PENDING_MAX, LayeredBackend, operations
from corum.backend.layers import Data, Get, LayeredBucket, LayeredReader
from corum.values import GIB

if TYPE_CHECKING:
    from lmdb import Cursor, Environment, Transaction

MAP_BYTES: Final = 64 * GIB
"""Address space reserved for the map, eight times the quota that etcd recommends as the largest.
Not memory, not disk: the file grows page by page."""
MAP_BYTES_MIN: Final = GIB
READERS_MAX: Final = 1_024
_STEP_FIRST: Final = 8
_KEYS_STEP: Final = 64
_FULL_BYTES: Final = 1 << 20
"""Less room than this, and a failed write means a full disk."""
_STEP_MAX: Final = 1_024


class _Cursor(Protocol):
    """lmdb.Cursor where it gives bytes (`buffers=False`), which its own types leave open."""

    def get(self, key: bytes, /) -> bytes | None: ...
    def set_range(self, key: bytes, /) -> bool: ...
    def first(self) -> bool: ...
    def last(self) -> bool: ...
    def item(self) -> Row: ...
    def key(self) -> bytes: ...
    def iternext(self) -> Iterator[Row]: ...


def _start_of(cursor: _Cursor, start: bytes) -> bool:
    return cursor.set_range(start) if start else cursor.first()


class _Base:
    """The committed rows of one database, as one read transaction sees them."""

    __slots__ = ("_cursor", "_db", "_txn", "get")

    get: Get
    """The value of a key of 1 to 511 bytes: the cursor's own method, a frame less than one of ours,
    and a cursor that stays on its page spares half of the walk (0.31 to 0.40 us)."""

    def __init__(self, txn: Transaction, db: Any) -> None:
        self._txn = txn
        self._db = db
        self._cursor: _Cursor | None = None  # made when first needed: most touch few buckets

    def __getattr__(self, name: str) -> Any:
        """`get` before there is a cursor. A method of our own in its place would make a cycle, and
        a transaction gives its place in the table of readers (`READERS_MAX`) back when the last
        reference to it goes, not when the collector passes by."""
        if name != "get":
            raise AttributeError(name)
        self._open()
        return self.get

    def _open(self) -> _Cursor:
        if self._cursor is None:
            self._cursor = cast("_Cursor", self._txn.cursor(self._db))
            self.get = self._cursor.get
        return self._cursor

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return list(map(self._open().get, keys))  # measured faster than cursor.getmulti

    def range(self, start: bytes, end: bytes | None, limit: int) -> list[Row]:
        cursor = self._open()
        if not _start_of(cursor, start):
            return []
        rows = cursor.iternext()
        out: list[Row] = []
        step = _STEP_FIRST
        while True:
            step = min(step, limit - len(out)) if limit else step
            chunk: list[Row] = list(islice(rows, step))
            if end is not None and chunk and chunk[-1][0] >= end:
                del chunk[bisect_left(chunk, (end, b"")) :]
                return out + chunk
            out += chunk
            if len(chunk) < step or len(out) == limit:
                return out
            step = min(step * 4, _STEP_MAX)

    def keys(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
        cursor = self._open()
        if not _start_of(cursor, start):
            return []
        keys = cast("Iterator[bytes]", cast("Cursor", cursor).iternext(keys=True, values=False))
        out: list[bytes] = []
        while len(out) < limit:
            step = min(_KEYS_STEP, limit - len(out))
            chunk = list(islice(keys, step))
            out += chunk
            if end is not None and chunk and chunk[-1] >= end:
                del out[bisect_left(out, end) :]
                break
            if len(chunk) < step:
                break
        return out

    def values(
        self, start: bytes, end: bytes | None, limit: int
    ) -> tuple[list[bytes], bytes | None]:
        cursor = self._open()
        if not _start_of(cursor, start):
            return [], None
        values = cast("Iterator[bytes]", cast("Cursor", cursor).iternext(keys=False, values=True))
        out: list[bytes] = []
        step, at = _STEP_FIRST, start
        while True:
            step = min(step, limit - len(out))
            chunk = list(islice(values, step))
            last = cursor.key() if len(chunk) == step else None
            if end is not None and (last is None or last >= end):
                return out + chunk[: len(self.keys(at, end, step))], None
            out += chunk
            if last is None:
                return out, None
            at = last + b"\0"
            if len(out) == limit:
                return out, at
            step = min(step * 4, _STEP_MAX)

    def last(self) -> Row | None:
        cursor = self._open()
        return cursor.item() if cursor.last() else None

    def entries(self) -> int:
        return self._txn.stat(self._db)["entries"]


def _is_full(path: Path) -> bool:
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _FULL_BYTES


def _as_error(error: lmdb.Error, path: Path) -> BackendError:
    if isinstance(error, lmdb.MapFullError | lmdb.DiskError):
        return BackendFull(f"{path}: {error}")
    if "Input/output error" in str(error) and _is_full(path):
        return BackendFull(f"{path}: {os.strerror(errno.ENOSPC)}")  # LMDB's word for a short write
    if isinstance(error, lmdb.CorruptedError | lmdb.PanicError | lmdb.InvalidError):
        return BackendCorrupt(f"{path}: {error}")
    return BackendError(f"{path}: {error}")


def _write_bucket(txn: Transaction, db: Any, data: Data) -> None:
    """Sorted, so that neighbours meet the same pages; appended when all is beyond the last key."""
    keys = sorted(data)  # a third of what sorting the items takes
    if None in data.values():
        for key in keys:
            if data[key] is None:
                txn.delete(key, db=db)
        keys = [key for key in keys if data[key] is not None]
    rows = cast("list[Row]", list(zip(keys, map(data.__getitem__, keys), strict=True)))
    if rows:
        with txn.cursor(db) as cursor:
            append = not cursor.last() or bytes(cursor.key()) < rows[0][0]
            cursor.putmulti(rows, append=append)


class _Batch:
    __slots__ = ("_backend", "_data", "operations")

    def __init__(self, backend: LmdbBackend, data: Mapping[str, Data]) -> None:
        self._backend = backend
        self._data = data
        self.operations = operations(data)

    def write(self) -> BackendError | None:
        backend = self._backend
        started = perf_counter_ns()
        try:
            with backend.env.begin(write=True) as txn:
                for name, data in self._data.items():
                    _write_bucket(txn, backend.databases[name], data)
        except lmdb.Error as error:
            return _as_error(error, backend.path)
        backend.commit_ns = perf_counter_ns() - started
        return None


class _View:
    __slots__ = ("_buckets", "_txn", "_views")

    def __init__(self, backend: LmdbBackend, views: set[_View]) -> None:
        self._txn = backend.env.begin()
        self._views = views
        self._buckets = {
            name: bucket.frozen(_Base(self._txn, backend.databases[name]))
            for name, bucket in backend.buckets.items()
        }
        views.add(self)

    def bucket(self, name: str) -> LayeredReader:
        return self._buckets[name]

    def close(self) -> None:
        self._txn.abort()
        self._views.discard(self)


class _DefragmentJob:
    __slots__ = ("_env", "copied", "copy")

    def __init__(self, env: Environment, copy: Path) -> None:
        self._env = env
        self.copy = copy
        self.copied = False

    def run(self) -> BackendError | None:
        try:
            self.copy.unlink(missing_ok=True)
            self._env.copy(os.fspath(self.copy), compact=True)
            with self.copy.open("rb") as file:
                os.fsync(file.fileno())
        except lmdb.Error as error:
            return _as_error(error, self.copy)
        except OSError as error:
            return BackendError(f"{self.copy}: {error}")
        self.copied = True
        return None


class LmdbBackend(LayeredBackend):
    """`Backend` on the file `path` (with `path`-lock beside it), created when absent."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        map_bytes: int = MAP_BYTES,
        own_pending_max: int = OWN_PENDING_MAX,
        durable: bool = True,
    ) -> None:
        """`durable` False: commits are synced all together by `close`, for a file that counts
        only when it is whole."""
        super().__init__(own_pending_max)
        self.path: Final = Path(path)
        self.databases: dict[str, Any] = {}
        self.buckets = {}
        self._map_bytes = map_bytes
        self._durable = durable
        self._views: set[_View] = set()
        self._copy = self.path.with_name(self.path.name + ".tmp")
        self._copy.unlink(missing_ok=True)  # a rewrite that a crash interrupted
        self._open()

    # ---- commits

    def _batch(self, sealed: dict[str, Data]) -> _Batch:
        return _Batch(self, sealed)

    def committed(self, batch: Batch) -> None:
        self._landed(batch)
        self._read_committed()

    # ---- views, sizes, maintenance

    def view(self) -> View:
        return _View(self, self._views)

    @property
    def size(self) -> int:
        return self._size

    @property
    def size_in_use(self) -> int:
        stats = [self._txn.stat(db) for db in (None, *self.databases.values())]
        parts = ("branch_pages", "leaf_pages", "overflow_pages")
        pages = 2 + sum(stat[part] for stat in stats for part in parts)  # 2: the meta pages
        return min(pages * self._page_bytes, self.size)

    def defragment(self) -> DefragmentJob | None:
        if self._is_busy:
            return None
        self._defragmenting = _DefragmentJob(self.env, self._copy)
        return self._defragmenting

    def defragmented(self, job: DefragmentJob) -> None:
        assert job is self._defragmenting, "not the rewrite in progress"
        assert isinstance(job, _DefragmentJob)
        if job.copied:
            self._replace(job.copy)
            self._open()
        else:
            with suppress(OSError):
                job.copy.unlink(missing_ok=True)
        self._defragmenting = None

    def adopt(self, path: Path) -> None:
        """Put another file, made by `LmdbBackend` and closed, in place of this one.

        What is pending is forgotten. Only while no batch is in flight and nothing is rewritten.
        Open views keep the old file, which goes with the last of them.
        """
        assert self._in_flight is None, "a batch is being written"
        assert self._defragmenting is None, "the file is being rewritten"
        self._replace(path)
        for bucket in self.buckets.values():
            bucket.forget()
        self._open()
        self._read_index()

    def _replace(self, path: Path) -> None:
        """`path` becomes our file; the old one is closed, by its last view if there are any."""
        self._txn.abort()
        if not self._views:
            self.env.close()
        self._views = set()
        os.replace(path, self.path)
        # The old file's lock table must not be shared with the new one.
        for lock in (path, self.path):
            lock.with_name(lock.name + "-lock").unlink(missing_ok=True)
        self._sync_directory()

    def close(self) -> None:
        for view in tuple(self._views):
            view.close()
        if not self._durable:
            try:
                self.env.sync(True)
            except lmdb.Error as error:
                raise _as_error(error, self.path) from error
        self._shut()

    # ---- the file

    def _open(self) -> None:
        fresh = not self.path.exists()
        self.env = self._map()
        try:
            with self.env.begin(write=True) as txn:
                for name in schema.BUCKETS:
                    self.databases[name] = self.env.open_db(name.encode(), txn=txn)
        except lmdb.Error as error:
            self.env.close()
            raise _as_error(error, self.path) from error
        if fresh:
            self._sync_directory()
        self._page_bytes = self.env.stat()["psize"]
        self._measure()
        self._txn: Transaction = self.env.begin()
        if not self.buckets:
            for name, db in self.databases.items():
                self.buckets[name] = LayeredBucket(_Base(self._txn, db), {}, {})
            self._read_index()
        else:
            self._rebase()

    def _map(self) -> Environment:
        """Open with the largest map the process may have (RLIMIT_AS, small machines)."""
        size = self._map_bytes
        if self.path.exists():
            size = max(size, 4 * self.path.stat().st_size)
        while True:
            try:
                return lmdb.open(
                    os.fspath(self.path),
                    subdir=False,
                    map_size=size,
                    max_dbs=len(schema.BUCKETS),
                    max_readers=READERS_MAX,
                    mode=0o600,
                    sync=self._durable,
                    readahead=False,  # reads are scattered; readahead would fill memory in vain
                )
            except lmdb.MemoryError:
                size //= 2
                if size < MAP_BYTES_MIN:
                    raise BackendFull(f"{self.path}: no address space for {size} bytes") from None
            except lmdb.Error as error:
                raise _as_error(error, self.path) from error

    def _read_committed(self) -> None:
        self._txn.abort()
        self._txn = self.env.begin()
        self._measure()
        self._rebase()

    def _measure(self) -> None:
        """Only commits change the size; it is asked for at each turn."""
        self._size = (self.env.info()["last_pgno"] + 1) * self._page_bytes

    def _rebase(self) -> None:
        for name, bucket in self.buckets.items():
            bucket.committed(_Base(self._txn, self.databases[name]))

    def _shut(self) -> None:
        self._txn.abort()
        self.env.close()

    def _sync_directory(self) -> None:
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


if TYPE_CHECKING:
    _CHECKED: type[Backend] = LmdbBackend
