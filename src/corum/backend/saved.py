"""A database file of either kind, to be read: etcd's bbolt or our LMDB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from corum.backend.backend import Row
from corum.backend.bbolt_read import Database
from corum.backend.lmdb_read import LmdbFile, is_lmdb


class SavedBucket(Protocol):
    """One bucket of a file."""

    name: bytes

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        ...

    def scan(self) -> Iterator[list[Row]]:
        """All rows ascending, in lists; none of them is empty."""
        ...


class Saved(Protocol):
    """An open file. Its context closes it."""

    @property
    def size(self) -> int:
        """Bytes of pages in use or free."""
        ...

    def buckets(self) -> Iterator[SavedBucket]:
        """All buckets of etcd's, by name."""
        ...

    def __enter__(self) -> Saved: ...

    def __exit__(self, *_: object) -> None: ...


def open_saved(path: Path) -> Saved:
    """The file at `path`, whichever it is. Raises OSError, BboltError, BackendError."""
    return LmdbFile(path) if is_lmdb(path) else Database(path)


def value_in(saved: Saved, bucket: str, key: bytes) -> bytes | None:
    """One value of one bucket."""
    name = bucket.encode()
    found = next((each for each in saved.buckets() if each.name == name), None)
    return None if found is None else found.get(key)
