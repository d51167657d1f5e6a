"""HashKV and Hash: the same 32 bits as Go etcd has for the same history.

Both are CRC-32C over keys and values in order (etcd: server/storage/mvcc/hash.go@v3.6). They read
everything, so they run in a worker on a view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Final

from corum.backend import View, schema
from corum.mvcc.index import Row
from corum.mvcc.reads import RangeOptions, ReadView
from corum.mvcc.revision import MAIN, stored_key
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


def _crc32c_slow(data: bytes, crc: int = 0, table: Sequence[int] = tuple(_table())) -> int:
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
    """`run` in a worker; it closes the view.

    What counts, at revision R of a store compacted at C: all revisions above C, and of those up to
    C the ones that are alive at R, be they deleted later or not; if no key at all is alive at R,
    whatever compaction has left (an accident of etcd's that has become part of the format). A
    tombstone exactly at C never counts: whether it is kept differs between etcd's versions.
    """

    __slots__ = ("_reads", "_revision", "_view")

    def __init__(self, view: View, reads: ReadView, revision: int) -> None:
        self._view = view
        self._reads = reads
        self._revision = revision

    def run(self) -> HashKv:
        """Worker thread."""
        try:
            return HashKv(self._hash(), self._reads.compacted, self._revision)
        finally:
            self._view.close()

    def _hash(self) -> int:
        key = self._view.bucket(schema.KEY)
        compacted, revision = self._reads.compacted, self._revision
        crc = crc32c(schema.KEY.encode(), 0)
        behind = stored_key(max(compacted + 1, 0), 0)
        if compacted >= 0:
            options = RangeOptions(revision=revision, limit=1)
            if self._reads.range(b"\0", b"\0", options).kvs:
                gone = self._superseded(compacted, revision)
                for rows in key.scan(end=behind):
                    crc = _over([r for r in rows if len(r[0]) == 17 and r[0] not in gone], crc)
            else:
                stone = MAIN.pack(compacted)
                for rows in key.scan(end=behind):
                    crc = _over([r for r in rows if len(r[0]) == 17 or r[0][:8] != stone], crc)
        for rows in key.scan(behind, stored_key(revision + 1, 0)):
            crc = _over(rows, crc)
        return crc

    def _superseded(self, compacted: int, revision: int) -> set[bytes]:
        """Stored keys up to `compacted` that something up to `revision` took the place of."""
        old, new = MAIN.pack(compacted), MAIN.pack(revision)
        found: set[bytes] = set()
        for rows in self._view.bucket(schema.HISTORY).scan():
            found.update([row[:-8] for _, row in rows if row[:8] <= old and row[-8:] <= new])
        return found


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
