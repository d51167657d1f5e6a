"""HashKV and Hash: the same 32 bits as Go etcd has for the same history.

Both are CRC-32C over keys and values in order (etcd: server/storage/mvcc/hash.go@v3.6). They read
everything, so they run in a worker on a view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Final

from corum.backend import View, schema
from corum.mvcc.compaction import doomed
from corum.mvcc.index import Row
from corum.mvcc.revision import is_tombstone, main_of, stored_key
from corum.values import value

_POLYNOMIAL: Final = 0x82F63B78  # Castagnoli's, reflected


def _table() -> list[int]:
    table: list[int] = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table


def _crc32c_slow(data: bytes, crc: int = 0) -> int:
    table = _table()
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _find_crc32c() -> Callable[[bytes, int], int]:
    """The transport's, in machine code; where it is not built (simulator, tests) ours."""
    try:
        from corum._transport import crc32c
    except ImportError:
        return _crc32c_slow
    return crc32c


crc32c: Final = _find_crc32c()


@value
class HashKv:
    """HashKVResponse without header; `compact_revision` is -1 before the first compaction."""

    hash: int
    compact_revision: int
    hash_revision: int


def _over(rows: Iterable[Row], crc: int) -> int:
    return crc32c(b"".join(chain.from_iterable(rows)), crc)


class HashKvJob:
    """`run` in a worker; it closes the view."""

    __slots__ = ("_compacted", "_finished", "_revision", "_view")

    def __init__(self, view: View, revision: int, compacted: int, finished: bool) -> None:
        self._view = view
        self._revision = revision
        self._compacted = compacted
        self._finished = finished

    def run(self) -> HashKv:
        try:
            return HashKv(self._hash(), self._compacted, self._revision)
        finally:
            self._view.close()

    def _hash(self) -> int:
        key = self._view.bucket(schema.KEY)
        crc = crc32c(schema.KEY.encode(), 0)
        compacted = self._compacted
        behind = stored_key(max(compacted + 1, 0), 0)
        end = stored_key(self._revision + 1, 0)
        if compacted >= 0:
            # What compaction would still delete does not count, nor does a tombstone exactly at
            # the compacted revision: whether that is kept differs between etcd's versions.
            gone = set[bytes]() if self._finished else doomed(self._view.bucket, compacted)
            for rows in key.scan(end=min(behind, end)):
                kept = [
                    row
                    for row in rows
                    if row[0] not in gone
                    and not (is_tombstone(row[0]) and main_of(row[0]) == compacted)
                ]
                crc = _over(kept, crc)
        for rows in key.scan(behind, end):
            crc = _over(rows, crc)
        return crc


class HashJob:
    """`run` in a worker; it closes the view."""

    __slots__ = ("_view",)

    def __init__(self, view: View) -> None:
        self._view = view

    def run(self) -> int:
        """Over the names, keys and values of etcd's buckets."""
        try:
            crc = 0
            for name in schema.ETCD_BUCKETS:
                crc = crc32c(name.encode(), crc)
                for rows in self._view.bucket(name).scan():
                    kept = rows
                    if name == schema.META:
                        kept = [row for row in rows if row[0] not in schema.UNHASHED_META]
                    crc = _over(kept, crc)
            return crc
        finally:
            self._view.close()
