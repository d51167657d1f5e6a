"""The index: which revisions a key has, without having every key in memory.

It lives in four buckets of our own, so that opening a store costs nothing per key
(docs/decisions/0001-index-in-lmdb.md):

    _current   user key -> record of its newest revision, put or tombstone
    _history   birth, inverted revision -> stored key of a superseded revision, superseding main
    _dead      stored revision of a tombstone that is its key's newest -> user key
    _leased    stored revision of a put that is its key's newest -> lease, user key

A key's *birth* is the first revision it had since it is in the index: its name, 16 bytes however
long the key. In a key's history the newest revision comes first (inverted = all ones minus it), so
"the newest up to R" is one seek. Each history row knows when it was superseded, so compaction can
judge rows one by one.

Keys too long for the file's own keys (511 bytes; rare) have their record in `_long`, by birth, and
are loaded at start: they cost memory, as every key does in Go etcd.

This file knows the rows and reads them; `write` changes them, `compaction` removes them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import Final

from corum.backend import Reader, schema
from corum.mvcc.revision import MAIN, from_stored_key

Row = tuple[bytes, bytes]

# main, `_`, sub (together the stored key), dead, create, version, lease, birth's main and sub.
RECORD: Final = Struct(">QcQ?QQqQQ")
HISTORY: Final = Struct(">QQQQ")  # key: birth main and sub, inverted main and sub
_INVERTED: Final = Struct(">QQ")
LEASE: Final = Struct(">q")

# Where things are in a record: big endian, so slices compare as the numbers do.
STORED: Final = slice(0, 17)
MOD: Final = slice(0, 8)
SUB: Final = slice(9, 17)
DEAD: Final = 17
CREATE: Final = slice(18, 26)
VERSION: Final = slice(26, 34)
LEASE_ID: Final = slice(34, 42)
BIRTH: Final = slice(42, 58)
BIRTH_MAIN: Final = slice(42, 50)

_STORED_COLUMN: Final = Struct(">17s41x")
_BIRTH_COLUMN: Final = Struct(">42x16s")
_REVISION_COLUMNS: Final = Struct(">8sx8s41x")

INVERT: Final = (1 << 64) - 1
_INVERTED_BYTES: Final = bytes(range(255, -1, -1))
_BIRTH_END: Final = b"\xff" * 17

LAYOUT: Final = b"1"
"""Version of these rows, kept in `_meta`; without it the index is rebuilt from the `key` bucket."""
LAYOUT_KEY: Final = b"layout"
INDEXED_KEY: Final = b"indexed"
"""Key in `_meta` of the main revision up to which the index is complete. Index rows may be
committed later than what they point to; opening a store makes up for it from here on."""


class LongKeys:
    """Records of the keys that do not fit into `_current`, in memory, sorted."""

    __slots__ = ("keys", "records")

    def __init__(self, records: dict[bytes, bytes]) -> None:
        self.records = records
        self.keys = sorted(records)

    def put(self, key: bytes, record: bytes) -> None:
        if key not in self.records:
            insort(self.keys, key)
        self.records[key] = record

    def delete(self, key: bytes) -> None:
        del self.records[key]
        del self.keys[bisect_left(self.keys, key)]

    def range(self, start: bytes, end: bytes | None, limit: int) -> list[Row]:
        low = bisect_left(self.keys, start)
        high = len(self.keys) if end is None else bisect_left(self.keys, end, low)
        if limit:
            high = min(high, low + limit)
        return [(key, self.records[key]) for key in self.keys[low:high]]

    def copy(self) -> LongKeys:
        return LongKeys(self.records.copy())


def load_long_keys(bucket: Reader) -> LongKeys:
    """Rows of `_long`: birth -> record, user key."""
    size = RECORD.size
    return LongKeys({row[size:]: row[:size] for rows in bucket.scan() for _, row in rows})


class Index:
    """Reads of the index, over the loop's buckets or a view's."""

    __slots__ = ("current", "history", "long")

    def __init__(self, bucket: Callable[[str], Reader], long: LongKeys) -> None:
        self.current = bucket(schema.CURRENT)
        self.history = bucket(schema.HISTORY)
        self.long = long

    def get(self, key: bytes) -> bytes | None:
        """The newest record of `key`, dead or alive."""
        if len(key) <= schema.KEY_SIZE_MAX:
            return self.current.get(key)
        return self.long.records.get(key)

    def range(self, start: bytes, end: bytes | None, limit: int) -> list[Row]:
        """(key, newest record) of the first `limit` keys in the range, dead ones too; 0 = all."""
        rows = self.current.range(start, end, limit)
        if self.long.keys:
            extra = self.long.range(start, end, limit)
            if extra:
                rows = sorted(rows + extra)
                return rows[:limit] if limit else rows
        return rows

    def records(
        self, start: bytes, end: bytes | None, limit: int
    ) -> tuple[list[bytes], bytes | None]:
        """The records alone of about the first `limit` keys, and where to go on."""
        if self.long.keys:
            rows = self.range(start, end, limit)
            rest = rows[-1][0] + b"\0" if len(rows) == limit else None
            return [record for _, record in rows], rest
        return self.current.values(start, end, limit)

    def count(self, start: bytes, end: bytes | None, limit: int) -> tuple[int, bytes | None]:
        """How many keys are in the range, dead ones too: see `Reader.count`."""
        number, more = self.current.count(start, end, limit)
        if self.long.keys:
            number += len(self.long.range(start, end if more is None else more, 0))
        return number, more

    def at(self, record: bytes, revision: int) -> bytes | None:
        """Stored key of the newest put or tombstone up to `revision` of the record's key.

        None when the key did not exist yet, or no longer (compaction has been there).
        """
        if MAIN.unpack_from(record)[0] <= revision:
            return record[STORED] + b"t" if record[DEAD] else record[STORED]
        if MAIN.unpack_from(record, BIRTH_MAIN.start)[0] > revision:
            return None
        birth = record[BIRTH]
        start = birth + MAIN.pack(INVERT - revision)
        rows = self.history.range(start, birth + _BIRTH_END, 1)
        # What took its place at or before `revision` can only be a tombstone that a compaction
        # under way has removed already, older rows being next.
        if not rows or rows[0][1][-8:] <= MAIN.pack(revision):
            return None
        return rows[0][1][:-8]


def history_row(birth: bytes, stored: bytes, superseded: int) -> Row:
    """The row that keeps `stored` findable when main revision `superseded` takes its place."""
    main, sub = from_stored_key(stored)
    return birth + _INVERTED.pack(INVERT - main, INVERT - sub), stored + MAIN.pack(superseded)


class Columns:
    """What many records of keys that are alive hold, each field as a list."""

    __slots__ = ("births", "joined", "stored")

    def __init__(self, records: Sequence[bytes]) -> None:
        self.joined = b"".join(records)
        self.stored = [one for (one,) in _STORED_COLUMN.iter_unpack(self.joined)]
        self.births = [one for (one,) in _BIRTH_COLUMN.iter_unpack(self.joined)]

    @property
    def leased(self) -> bool:
        """Whether any of them has a lease."""
        at, size = LEASE_ID.start, RECORD.size
        return any(self.joined[at + byte :: size].strip(b"\0") for byte in range(8))

    def history_rows(self, superseded: int) -> Iterator[Row]:
        """`history_row` of each."""
        packed = MAIN.pack(superseded)
        inverted = _REVISION_COLUMNS.iter_unpack(self.joined.translate(_INVERTED_BYTES))
        births = zip(self.births, inverted, strict=True)
        return zip(
            [birth + main + sub for birth, (main, sub) in births],
            [stored + packed for stored in self.stored],
            strict=True,
        )
