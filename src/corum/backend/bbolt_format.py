"""What a bbolt file consists of: constants and the checksum. No reading or writing.

A file is pages of 4096 bytes (or what its meta pages say). Pages 0 and 1 are metas; the valid one
with the higher transaction number names the root bucket's page. A bucket is a B+tree of branch and
leaf pages; its place is a value in the root bucket's leaves. A page that does not fit into 4096
bytes runs on into `overflow` more. Numbers are little endian (bbolt: the machine's own order).
(bbolt: page.go, bucket.go, db.go at v1.3.6)
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import ge
from struct import Struct
from typing import Final, NamedTuple

Row = tuple[bytes, bytes]

PAGE_BYTES: Final = 4096
MAGIC: Final = 0xED0CDAED
VERSION: Final = 2
BRANCH: Final = 0x01
LEAF: Final = 0x02
META: Final = 0x04
NESTED: Final = 0x01  # flag of a leaf element that is a bucket
NO_FREELIST: Final = 2**64 - 1

HEADER: Final = Struct("<QHHI")  # id, kind, count, overflow
HEADER_BYTES: Final = HEADER.size
ELEMENT_BYTES: Final = 16  # of leaf and branch alike
META_BODY: Final = Struct("<IIIIQQQQQ")
LEAF_ELEMENT: Final = Struct("<IIII")  # flags, position, key size, value size
BRANCH_ELEMENT: Final = Struct("<IIQ")  # position, key size, page
CHECKSUM: Final = Struct("<Q")
BUCKET: Final = Struct("<QQ")  # root page (0: inline, its page follows), sequence


class BboltError(Exception):
    """The file is no sound bbolt database; the text says where and why."""


class Meta(NamedTuple):
    magic: int
    version: int
    page_bytes: int
    flags: int
    root: int
    sequence: int
    freelist: int
    high_water: int
    transaction: int


def fnv1a(data: bytes) -> int:
    """FNV-1a, 64 bits: the checksum of meta pages."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def is_unordered(rows: Sequence[Row]) -> bool:
    """Whether some key is not greater than the one before."""
    keys = [key for key, _ in rows]
    return any(map(ge, keys, keys[1:]))
