"""Reading keys at a revision: `Range` in all its forms, over live buckets or over a view's.

The same code serves the loop (small ranges, inside transactions) and worker threads (big ones, as
a `RangeJob` on a view). Results are the stored KeyValue bytes, to be spliced into an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import chain
from typing import Final, TypeVar

from corum import errors
from corum.backend import Reader, schema
from corum.mvcc.counts import KeyCounts, OverBudget
from corum.mvcc.index import (
    CREATE,
    DEAD,
    MOD,
    RECORD,
    STORED,
    VERSION,
    Index,
    LongKeys,
    Row,
)
from corum.mvcc.revision import (
    MAIN,
    KeyValue,
    decode_kv,
    encode_kv,
    from_stored_key,
    is_tombstone,
    key_of,
    main_of,
    stored_key,
)
from corum.values import value

# RangeRequest.SortOrder
NONE: Final = 0
ASCEND: Final = 1
DESCEND: Final = 2
# RangeRequest.SortTarget
BY_KEY: Final = 0
BY_VERSION: Final = 1
BY_CREATE: Final = 2
BY_MOD: Final = 3
BY_VALUE: Final = 4

_SORT_FIELDS: Final = {BY_VERSION: VERSION, BY_CREATE: CREATE, BY_MOD: MOD}
_STEP_MIN: Final = 16
_CHUNK: Final = 1_000  # keys looked at in one go
_COUNT_DISCOUNT: Final = 8  # counting keys costs so much less than fetching them
_CATCH_UP_BYTES: Final = 4 << 20  # of values in one answer of `changes_since`

T = TypeVar("T")

Change = tuple[int, bytes, bytes | None]
"""One write: main revision, key, stored KeyValue bytes (None: the key was deleted)."""


@value
class RangeOptions:
    """RangeRequest without its key and end, field by field; zero means off."""

    revision: int = 0
    limit: int = 0
    sort_order: int = NONE
    sort_target: int = BY_KEY
    keys_only: bool = False
    count_only: bool = False
    min_mod_revision: int = 0
    max_mod_revision: int = 0
    min_create_revision: int = 0
    max_create_revision: int = 0

    @property
    def plain(self) -> bool:
        """In key order and without filters, so it can be answered as it is read."""
        in_order = self.sort_order != DESCEND and self.sort_target == BY_KEY
        return in_order and not self.filtered

    @property
    def filtered(self) -> bool:
        return bool(
            self.min_mod_revision
            or self.max_mod_revision
            or self.min_create_revision
            or self.max_create_revision
        )


EVERYTHING: Final = RangeOptions()


@value
class RangeResult:
    """`kvs`: stored KeyValue bytes; `count`: keys in the range whatever the limit and filters."""

    kvs: list[bytes]
    count: int
    more: bool
    revision: int


def bounds(key: bytes, end: bytes) -> tuple[bytes, bytes | None]:
    """[start, end) of a request's key and range_end; end None = to the last key."""
    if not end:
        return key, key + b"\0"
    return key, None if end == b"\0" else end


class ReadView:
    """Reads of one store at `revision`; the loop's own is moved on by every write."""

    __slots__ = ("compacted", "counts", "dead", "index", "key", "live", "revision")

    def __init__(
        self,
        bucket: Callable[[str], Reader],
        long: LongKeys,
        counts: KeyCounts,
        live: int,
        dead: int,
    ) -> None:
        self.index = Index(bucket, long)
        self.key = bucket(schema.KEY)
        self.counts = counts
        self.live = live
        self.dead = dead
        self.revision = 1
        self.compacted = -1

    def get(self, key: bytes) -> bytes | None:
        """KeyValue of `key` now."""
        record = self.index.get(key)
        if record is None or record[DEAD]:
            return None
        return self.key.get(record[STORED])

    def describe(self, key: bytes) -> KeyValue:
        """The numbers of `key` now, without its value, from the index alone; zeros when absent."""
        record = self.index.get(key)
        if record is None or record[DEAD]:
            return KeyValue(key)
        main, _, _, _, create, version, lease, _, _ = RECORD.unpack(record)
        return KeyValue(key, create, main, version, b"", lease)

    def kv_at(self, key: bytes, revision: int) -> bytes | None:
        """KeyValue of `key` as of `revision`; None when absent then, or compacted."""
        if revision < self.compacted:
            return None
        record = self.index.get(key)
        if record is None:
            return None
        stored = self.index.at(record, revision)
        if stored is None or is_tombstone(stored):
            return None
        return self.key.get(stored)

    def check_revision(self, revision: int) -> None:
        """Raises COMPACTED or FUTURE_REV; a revision <= 0 means the newest."""
        if revision > self.revision:
            raise errors.FUTURE_REV()
        if 0 < revision < self.compacted:
            raise errors.COMPACTED()

    def range(
        self,
        key: bytes,
        end: bytes = b"",
        options: RangeOptions = EVERYTHING,
        *,
        budget: int = 0,
    ) -> RangeResult:
        """KeyValues of `key`, or of [key, end), as `options` say.

        With `budget`, raises OverBudget rather than look at more than about so many keys.
        """
        current = self.revision
        at = self._checked(options.revision)
        if not end and not (options.filtered or options.count_only or options.keys_only):
            kv = self.kv_at(key, at) if at else self.get(key)
            kvs = [] if kv is None else [kv]
            return RangeResult(kvs, len(kvs), False, current)
        start, stop = bounds(key, end)
        if options.count_only:
            return RangeResult([], self._count(start, stop, at, budget), False, current)
        if options.plain and options.limit <= 0:
            kvs = list(chain.from_iterable(self._chunks(start, stop, options, at, budget)))
            return RangeResult(kvs, len(kvs), False, current)
        if options.plain and not options.keys_only:
            return self._page(start, stop, at, options.limit, budget)
        whole = options.sort_order != NONE or options.filtered
        wanted = 0 if whole or options.limit <= 0 else options.limit + 1
        found, rest = self._select(self._alive, start, stop, at, wanted, budget)
        count = len(found)
        if rest is not None:
            count += self._count(rest, stop, at, budget)
        if wanted:
            found = found[:wanted]
        if options.filtered:
            found = _filtered(found, options)
        kvs, more = self._finish(found, options)
        return RangeResult(kvs, count, more, current)

    def chunks(
        self, key: bytes, end: bytes, options: RangeOptions
    ) -> Generator[list[bytes], None, tuple[int, bool]]:
        """A plain range with values, about 1,000 KeyValues at a time; returns `count` and `more`.

        So a big answer is in memory once, as what is sent, and not also as what it is made of."""
        assert options.plain, "sorted or filtered: needs all of it at once"
        start, stop = bounds(key, end)
        at, limit = self._checked(options.revision), options.limit
        if limit <= 0:
            count = 0
            for kvs in self._chunks(start, stop, options, at, 0):
                count += len(kvs)
                yield kvs
            return count, False
        found, count = self._first(start, stop, at, limit, 0)
        for first in range(0, min(limit, len(found)), _CHUNK):
            yield self._fetch(found[first : min(first + _CHUNK, limit)])
        return count, len(found) > limit

    def changes_since(self, revision: int, limit: int) -> list[Change]:
        """Changes with main >= `revision` in (main, sub) order; never ends within a revision.

        Ends after about `limit` changes or 4 MiB; empty only when nothing is left.
        """
        rows: list[Row] = []
        start = stored_key(revision, 0)
        step, room = 8, _CATCH_UP_BYTES
        while limit > len(rows) and room > 0:
            chunk = self.key.range(start, None, min(step, limit - len(rows)))
            if not chunk:
                break
            rows += chunk
            start = chunk[-1][0] + b"\0"
            size = sum([len(kv) for _, kv in chunk])
            room -= size
            step = max(1, room * len(chunk) // max(size, 1))
        else:
            if rows:
                rows += self.key.range(start, stored_key(main_of(rows[-1][0]) + 1, 0))
        return [
            (main_of(stored), key_of(kv), kv if len(stored) == 17 else None) for stored, kv in rows
        ]

    # ---- the parts of a range

    def _page(
        self, start: bytes, end: bytes | None, at: int, limit: int, budget: int
    ) -> RangeResult:
        """The first `limit` KeyValues, as clients ask that page through a prefix."""
        found, count = self._first(start, end, at, limit, budget)
        kvs = self._fetch(found[:limit])
        return RangeResult(kvs, count, len(found) > limit, self.revision)

    def _first(
        self, start: bytes, end: bytes | None, at: int, limit: int, budget: int
    ) -> tuple[list[bytes], int]:
        """The records of the first `limit` keys and some more; how many there are in the range."""
        found, rest = self._select(self._records, start, end, at, limit + 1, budget)
        count = len(found)
        if rest is not None:
            count += self._count(rest, end, at, budget)
        return found, count

    def _checked(self, revision: int) -> int:
        """The past revision to read at, 0 for the present."""
        if revision <= 0:
            return 0
        self.check_revision(revision)
        return revision if revision < self.revision else 0

    def _alive(
        self, start: bytes, end: bytes | None, at: int, step: int
    ) -> tuple[list[Row], bytes | None]:
        """(key, record) of those of the next `step` keys that are alive at `at`; where to go on."""
        rows = self.index.range(start, end, step)
        rest = rows[-1][0] + b"\0" if len(rows) == step else None
        if at:
            return self._as_of(rows, at), rest
        if self.dead:
            return [row for row in rows if not row[1][DEAD]], rest
        return rows, rest

    def _records(
        self, start: bytes, end: bytes | None, at: int, step: int
    ) -> tuple[list[bytes], bytes | None]:
        """As `_alive`, but the records alone."""
        if at:
            rows, rest = self._alive(start, end, at, step)
            return [record for _, record in rows], rest
        records, rest = self.index.records(start, end, step)
        if self.dead:
            records = [record for record in records if not record[DEAD]]
        return records, rest

    def _chunks(
        self, start: bytes, end: bytes | None, options: RangeOptions, at: int, budget: int
    ) -> Iterator[list[bytes]]:
        """KeyValues in key order. Lists of rows die young: a million tuples at once would keep
        the garbage collector busy for 100 ms.

        With `budget` there is but one chunk, or OverBudget before anything was fetched."""
        rest: bytes | None = start
        step = budget + 1 if budget else _CHUNK
        while rest is not None:
            if options.keys_only:
                rows, rest = self._alive(rest, end, at, step)
                found = [_header_only(key, record) for key, record in rows]
            else:
                found, rest = self._records(rest, end, at, step)
            if budget and (rest is not None or len(found) > budget):
                raise OverBudget
            yield found if options.keys_only else self._fetch(found)

    def _select(
        self,
        read: Callable[[bytes, bytes | None, int, int], tuple[list[T], bytes | None]],
        start: bytes,
        end: bytes | None,
        at: int,
        limit: int,
        budget: int,
    ) -> tuple[list[T], bytes | None]:
        """What `read` (`_alive` or `_records`) gives of about the first `limit` keys alive at `at`
        (0 = all); where to go on."""
        found: list[T] = []
        looked = 0
        rest: bytes | None = start
        while rest is not None and not (limit and len(found) >= limit):
            # Some keys may be dead, so never go on in tiny steps.
            step = max(limit - len(found), _STEP_MIN) if limit else _CHUNK
            if budget:
                if looked > budget:
                    raise OverBudget
                step = min(step, budget + 1 - looked)
            rows, rest = read(rest, end, at, step)
            found += rows
            looked += step
        return found, rest

    def _as_of(self, rows: list[Row], revision: int) -> list[Row]:
        """The rows with the records they had at `revision`, without those not alive then."""
        out: list[Row] = []
        bound = MAIN.pack(revision)
        for row in rows:
            key, record = row
            if record[MOD] <= bound:
                if not record[DEAD]:
                    out.append(row)
                continue
            stored = self.index.at(record, revision)
            if stored is not None and not is_tombstone(stored):
                kv = self.key.get(stored)
                assert kv is not None, f"{stored.hex()} is in the history but not in the store"
                old = decode_kv(kv)
                main, sub = from_stored_key(stored)
                fields = (main, b"_", sub, False, old.create_revision, old.version, old.lease, 0, 0)
                out.append((key, RECORD.pack(*fields)))
        return out

    def _count(self, start: bytes, end: bytes | None, at: int, budget: int) -> int:
        if at:
            number = looked = 0
            rest: bytes | None = start
            while rest is not None:
                if budget and looked > budget:
                    raise OverBudget
                rows, rest = self._alive(rest, end, at, _CHUNK)
                number += len(rows)
                looked += _CHUNK
            return number
        if end is None and start <= b"\0":
            return self.live
        budget *= _COUNT_DISCOUNT
        live, dead = self.live, self.dead
        return self.counts.count(start, end, self._walk, live=live, dead=dead, budget=budget)

    def _walk(self, start: bytes, end: bytes | None, rows: int) -> tuple[int, bytes | None]:
        if self.dead:
            found, rest = self._alive(start, end, 0, rows)
            return len(found), rest
        return self.index.count(start, end, rows)

    def _finish(self, found: list[Row], options: RangeOptions) -> tuple[list[bytes], bool]:
        """Sort, cut and fetch."""
        order, target, limit = options.sort_order, options.sort_target, options.limit
        descend = order == DESCEND
        if target == BY_VALUE:
            kvs = self._fetch([record for _, record in found])
            kvs.sort(key=lambda kv: decode_kv(kv).value, reverse=descend)
            more = 0 < limit < len(kvs)
            kvs = kvs[:limit] if more else kvs
            return ([_without_value(kv) for kv in kvs] if options.keys_only else kvs), more
        if target != BY_KEY:
            field = _SORT_FIELDS[target]
            found.sort(key=lambda row: row[1][field], reverse=descend)
        elif descend:
            found.reverse()
        more = 0 < limit < len(found)
        if more:
            found = found[:limit]
        if options.keys_only:
            return [_header_only(key, record) for key, record in found], more
        return self._fetch([record for _, record in found]), more

    def _fetch(self, records: list[bytes]) -> list[bytes]:
        """The KeyValues that these records point to."""
        kvs = self.key.get_many([record[:17] for record in records])
        assert None not in kvs, "a key is in the index but not in the store"
        return kvs  # pyright: ignore[reportReturnType] just asserted


def _filtered(rows: list[Row], options: RangeOptions) -> list[Row]:
    for field, low, high in (
        (MOD, options.min_mod_revision, options.max_mod_revision),
        (CREATE, options.min_create_revision, options.max_create_revision),
    ):
        if high:
            bound = MAIN.pack(max(high, 0))
            rows = [row for row in rows if row[1][field] <= bound]
        if low > 0:
            bound = MAIN.pack(low)
            rows = [row for row in rows if row[1][field] >= bound]
    return rows


def _header_only(key: bytes, record: bytes) -> bytes:
    main, _, _, _, create, version, lease, _, _ = RECORD.unpack(record)
    return encode_kv(key, create, main, version, b"", lease)


def _without_value(kv: bytes) -> bytes:
    old = decode_kv(kv)
    return encode_kv(old.key, old.create_revision, old.mod_revision, old.version, b"", old.lease)
