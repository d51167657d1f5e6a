"""bbolt databases: read one (any that etcd wrote), write one from sorted rows in a single stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

Row = tuple[bytes, bytes]


class BboltError(Exception):
    """The file is no sound bbolt database; the text says where and why."""


class Source(NamedTuple):
    """One bucket to write: `scan()` yields its rows, ascending, in lists; twice, with equal results.

    `lambda: view.bucket(name).scan()` fits.
    """

    name: bytes
    scan: Callable[[], Iterable[Sequence[Row]]]


class Bucket:
    """One bucket of an open `Database`."""

    name: bytes

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        raise NotImplementedError

    def scan(self) -> Iterator[list[Row]]:
        """All rows ascending, a leaf page at a time."""
        raise NotImplementedError


class Database:
    """A bbolt file, mapped and read only. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        raise NotImplementedError

    def bucket(self, name: bytes) -> Bucket | None:
        """The top-level bucket `name`, or None."""
        raise NotImplementedError

    def buckets(self) -> Iterator[Bucket]:
        """All top-level buckets, by name."""
        raise NotImplementedError

    def close(self) -> None: ...

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Image:
    """A bbolt file to be: the first pass over the sources has fixed its layout and size."""

    size: int
    """Bytes that `chunks` will yield in all; a multiple of 4096."""

    def __init__(self, sources: Sequence[Source]) -> None:
        raise NotImplementedError

    def chunks(self) -> Iterator[bytes]:
        """The file from its first byte to its last, in pieces of about 64 KiB."""
        raise NotImplementedError


def write_snapshot(path: Path, image: Image) -> None:
    """The file with the SHA-256 trailer of `etcdctl snapshot save`: `.part`, synced, renamed."""
    raise NotImplementedError
