"""Databases of other members and of Go etcd in the data directory, made into our backend.

snap/tmp*               being received
snap/<index>.snap.db    received whole; its snapshot may not be in the log yet
db.lmdb.received*       being made of it, or of what arrives in the order of its keys
db.lmdb.whole-<index>   made while it arrived; its snapshot may not be in the log yet
snap/db                 the backend of a Go etcd whose directory this was
snap/db.taken-over      the same, once it is ours
"""

from __future__ import annotations

import fcntl
import itertools
import os
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from corum.backend import schema
from corum.backend.bbolt import HEAD_BYTES, Arrival, Filling, commit, spans_of
from corum.raft import Snapshot
from corum.wal import DataDir, DataDirLocked, SnapshotFiles
from corum.wal.snapshot_files import sync_directory

if TYPE_CHECKING:
    from corum.backend.backend import Backend
    from corum.backend.bbolt_stream import Span
    from corum.backend.lmdb_backend import LmdbBackend

SUFFIX: Final = ".received"
TAKEN_OVER: Final = "db.taken-over"
"""A Go etcd's backend that is ours now; nothing reads it any more."""

Say = Callable[..., None]


class Received:
    """See the module's docstring. `install` is for the loop, everything else for workers."""

    def __init__(self, data: DataDir) -> None:
        self._files = SnapshotFiles(data.snap)
        self._backend = data.backend
        self._ready = made_of(data.backend)
        self._count = itertools.count(1)
        self._prepared: dict[int, Path] = {}
        """Backends made of databases, by the index of their snapshot. Two may be there at a time,
        and of one index too: the leader sends again what it thinks was lost."""
        for left in data.backend.parent.glob(f"{self._ready.name}*"):
            left.unlink()  # of a start before
        self._etcd = data.snap / "db"

    def create(self) -> Arriving:
        """A temporary file to write to. Raises OSError."""
        fd, name = tempfile.mkstemp(prefix="tmp", dir=self._files.directory)
        return Arriving(fd, Path(name), self._next_path())

    def _next_path(self) -> Path:
        return self._ready.with_name(f"{self._ready.name}{next(self._count)}")

    def discard(self, file: Arriving) -> None:
        """It will not be whole."""
        file.close()

    def keep(self, file: Arriving, index: int) -> None:
        """It is whole: make it durable, if it is a file. Raises OSError."""
        if file.building is None:
            file.sync()
            os.rename(file.path, self._files.database_path(index))
            sync_directory(self._files.directory)

    def prepare(self, file: Arriving, index: int, term: int) -> None:
        """Make the database kept for `index` into a backend, unless it became one while it came.
        Raises BboltError, BackendError, OSError."""
        if file.building is None:
            path = self._next_path()
            make(self._files.database_path(index), path, index, term)
        else:
            path = whole_of(self._backend, index)
            file.finish(index, term, path)
        before, self._prepared[index] = self._prepared.get(index), path
        if before is not None and before != path:
            _remove(before)

    def install(self, backend: Any, snapshot: Snapshot) -> None:
        """The backend that was prepared takes the place of the one in use."""
        backend.adopt(self._prepared.pop(snapshot.index))

    def release(self, index: int) -> None:
        """Databases up to this index have been taken over."""
        self._files.release_databases(index + 1)
        self.forget(index)
        for old in [each for each in list(self._prepared) if each <= index]:
            _remove(self._prepared.pop(old))

    def forget(self, index: int | None = None) -> None:
        """Remove backends that were made for snapshots up to `index`, None: for any."""
        last = None if index is None else whole_of(self._backend, index).name
        for left in self._backend.parent.glob(whole_of(self._backend, None).name + "*"):
            if last is None or left.name <= last:
                left.unlink(missing_ok=True)

    def take_over_etcd(self, say: Say) -> None:
        """At the start: what a Go etcd left here becomes our backend, if it is newer than ours.

        Its file stays, under a name that Go etcd does not open: what is older than the log must not
        be taken for the present. Raises DataDirLocked while a Go etcd uses it.
        """
        if not self._etcd.exists():
            return
        with _bbolt_locked(self._etcd):
            if not self._backend.exists() or _index_in(self._etcd) > _index_of(self._backend):
                say("info", "taking over the backend of another etcd", path=str(self._etcd))
                make(self._etcd, self._ready, None, 0)
                os.rename(self._ready, self._backend)
                _lock_of(self._ready).unlink(missing_ok=True)
                sync_directory(self._backend.parent)
            os.rename(self._etcd, self._etcd.with_name(TAKEN_OVER))


class Arriving:
    """A database that is being received: a backend, if its pages come in order, else a file."""

    def __init__(self, fd: int, path: Path, backend: Path) -> None:
        self.path = path
        self._file = open(fd, "wb")  # noqa: SIM115  # closed by `close`
        self._backend = backend
        self._head: bytes | None = b""
        """The first bytes, until there are enough to tell; then None."""
        self.building: Building | None = None

    def write(self, *pieces: bytes) -> None:
        """The next bytes. Raises OSError, BboltError, BackendError."""
        if self._head is not None:
            data = b"".join((self._head, *pieces))
            self._head = data if len(data) < HEAD_BYTES else None
            if self._head is not None:
                return
            pieces = (data,)
            spans = spans_of(data[:HEAD_BYTES])
            if spans is not None:
                self.building = Building(self._backend, spans)
        if self.building is not None:
            self.building.feed(pieces)
        else:
            self._file.writelines(pieces)

    def sync(self) -> None:
        """All of the file is on the disk. Raises OSError."""
        self._file.write(self._head or b"")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def finish(self, index: int, term: int, path: Path) -> None:
        """The backend is whole: put it on the disk as `path`, as of this entry.
        Raises BboltError, BackendError, OSError."""
        building, self.building = self.building, None
        assert building is not None, "it is a file"
        self.close()
        try:
            building.finish(index, term)
            os.rename(self._backend, path)
        finally:
            _remove(self._backend)
        sync_directory(path.parent)

    def close(self) -> None:
        """It will not be whole; idempotent."""
        self._file.close()
        self.path.unlink(missing_ok=True)
        if self.building is not None:
            self.building.close()
            self.building = None
            _remove(self._backend)


class Building:
    """A backend of ours, made of a database while that arrives. Counts once it is finished."""

    def __init__(self, path: Path, spans: Sequence[Span]) -> None:
        from corum.backend.lmdb_backend import LmdbBackend
        from corum.mvcc.rebuild import Indexing

        _remove(path)
        self._backend = LmdbBackend(path, durable=False)
        self._arrival = Arrival(spans)
        self._filling = Filling(self._backend)
        self._indexing = Indexing(self._backend)

    def feed(self, pieces: Sequence[bytes]) -> None:
        """The next bytes. Raises BboltError, BackendError."""
        for bucket, rows in self._arrival.feed(*pieces):
            name = bucket.decode("utf-8", "backslashreplace")
            if name not in schema.ETCD_BUCKETS:
                continue
            due = self._filling.add(name, rows)
            if name == schema.KEY:
                self._indexing.add(rows)
            if due:
                commit(self._backend, 0, 0)  # no member's yet

    def finish(self, index: int, term: int) -> None:
        """All has come: on the disk, as of this entry. Raises BboltError, BackendError."""
        try:
            self._arrival.finish()
            self._indexing.finish()
            commit(self._backend, index, term)
        finally:
            self._backend.close()

    def close(self) -> None:
        """It will not be whole."""
        self._backend.close()


@contextmanager
def _bbolt_locked(path: Path) -> Generator[None]:
    """Nobody writes to the file meanwhile; raises DataDirLocked when a Go etcd may."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirLocked(f"{path} is used by another process") from None
        yield


def _index_in(database: Path) -> int:
    """The consistent index of a bbolt file."""
    from corum.backend.saved import open_saved, value_in

    with open_saved(database) as saved:
        return schema.from_u64(value_in(saved, schema.META, schema.CONSISTENT_INDEX))


def _index_of(path: Path) -> int:
    """The consistent index of a backend of ours that is not open."""
    from corum.backend.lmdb_backend import LmdbBackend

    backend = LmdbBackend(path)
    try:
        return consistent_index(backend)
    finally:
        backend.close()


def made_of(backend: Path) -> Path:
    """Where a backend is built that will take the place of `backend`."""
    return backend.with_name(backend.name + SUFFIX)


def whole_of(backend: Path, index: int | None) -> Path:
    """Where a backend made for the snapshot at `index` waits; without: how all such begin."""
    name = f"{backend.name}.whole-"
    return backend.with_name(name if index is None else f"{name}{index:016x}")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _lock_of(path).unlink(missing_ok=True)


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + "-lock")


def make(database: Path, path: Path, index: int | None, term: int) -> None:
    """A backend file at `path` from a bbolt file; `index` None: with the file's own index and term.

    Raises BboltError, BackendError, OSError.
    """
    from corum.backend.bbolt import Database, load
    from corum.backend.lmdb_backend import LmdbBackend
    from corum.mvcc.rebuild import rebuild_index

    _remove(path)
    with Database(database) as source:
        if index is None:
            meta = next((b for b in source.buckets() if b.name == schema.META.encode()), None)
            index = schema.from_u64(meta and meta.get(schema.CONSISTENT_INDEX))
            term = schema.from_u64(meta and meta.get(schema.TERM))
        backend = LmdbBackend(path, durable=False)
        try:
            load(source, backend, consistent_index=index, term=term)
            rebuild_index(backend)
        finally:
            backend.close()


def consistent_index(backend: Backend) -> int:
    """The last entry whose effect the backend holds."""
    return schema.from_u64(backend.get(schema.META, schema.CONSISTENT_INDEX))


def take_over(database: Path, backend: Backend, snapshot: Snapshot) -> None:
    """At the start: a crash came between a snapshot's record and its backend.

    Raises FileNotFoundError when the database is not there.
    """
    ours: LmdbBackend = backend  # type: ignore[assignment]  # memory has no snapshots to miss
    whole = whole_of(ours.path, snapshot.index)
    if whole.exists():
        ours.adopt(whole)
        return
    if not database.exists():
        raise FileNotFoundError(
            f"snapshot at index {snapshot.index} is newer than the backend, and {database} is gone"
        )
    ready = made_of(ours.path)
    make(database, ready, snapshot.index, snapshot.term)
    ours.adopt(ready)
