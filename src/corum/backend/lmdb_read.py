"""Reading our own backend file from outside: for commands that look at it while a member may run.

Nothing is written but the reader's place in the lock file, and not even that where the directory
may not be written. Only etcd's buckets are shown: ours are derived from them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import lmdb

from corum.backend import schema
from corum.backend.backend import BackendCorrupt, BackendError, Row

if TYPE_CHECKING:
    from lmdb import Environment

_MAGIC: Final = (0xBEEFC0DE).to_bytes(4, "little")
_MAGIC_AT: Final = 16  # behind the header of the first page
_BATCH_ROWS: Final = 1_000


def is_lmdb(path: Path) -> bool:
    """Whether the file begins like an LMDB file. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(_MAGIC_AT + len(_MAGIC))
    return head[_MAGIC_AT:] == _MAGIC


class LmdbFile:
    """One state of the file at `path`, for as long as it is open. A context manager.

    Raises BackendError when it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._env = _open(path)
            self._txn = self._env.begin()
        except lmdb.Error as error:
            raise BackendCorrupt(f"{path}: {error}") from error

    @property
    def size(self) -> int:
        """Bytes of pages in use or free; the file may be longer."""
        return (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]

    def buckets(self) -> Iterator[LmdbBucket]:
        """etcd's buckets that are there, by name."""
        for name in schema.ETCD_BUCKETS:
            try:
                database = self._env.open_db(name.encode(), txn=self._txn, create=False)
            except lmdb.NotFoundError:
                continue
            yield LmdbBucket(name.encode(), self._txn, database)

    def copy_to(self, path: Path) -> None:
        """All of it, our buckets too, compacted and synced, mode 0600.

        A commit that came after this was opened may be in the copy. Raises BackendError, OSError.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._env.copyfd(fd, compact=True)
            os.fsync(fd)
        except lmdb.Error as error:
            raise BackendError(f"{path}: {error}") from error
        finally:
            os.close(fd)

    def close(self) -> None:
        """Buckets of it can be used no more."""
        self._txn.abort()
        self._env.close()

    def __enter__(self) -> LmdbFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LmdbBucket:
    """One bucket of an open `LmdbFile`."""

    def __init__(self, name: bytes, txn: Any, database: Any) -> None:
        self.name = name
        self._txn = txn
        self._database = database

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        return self._txn.get(key, db=self._database)

    def scan(self) -> Iterator[list[Row]]:
        """All rows ascending, in lists."""
        rows = cast("Iterator[Row]", iter(self._txn.cursor(self._database)))
        while batch := list(islice(rows, _BATCH_ROWS)):
            yield batch


def _open(path: Path) -> Environment:
    """With a place among the readers, so that a running member keeps what we look at."""
    words: dict[str, Any] = {
        "subdir": False,
        "readonly": True,
        "create": False,
        "max_dbs": len(schema.BUCKETS),
        "map_size": max(path.stat().st_size, 1),
    }
    try:
        return lmdb.open(os.fspath(path), **words)
    except (lmdb.ReadonlyError, lmdb.LockError, lmdb.Error):
        if os.access(path.parent, os.W_OK):
            raise
        return lmdb.open(os.fspath(path), lock=False, **words)
