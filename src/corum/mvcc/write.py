"""Writing keys: one transaction on the store, one main revision for all of its writes.

Writes are visible at once (on the loop, to this transaction and whoever comes after it); there is
no rollback. So whoever writes checks first: see `txn.check_apply`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from typing import TYPE_CHECKING, Final

from corum.backend import schema
from corum.mvcc.index import (
    DEAD,
    HISTORY,
    INDEXED_KEY,
    INVERT,
    LEASE,
    LEASE_ID,
    RECORD,
    STORED,
    Columns,
    Row,
)
from corum.mvcc.reads import EVERYTHING, Change, RangeOptions, RangeResult, bounds
from corum.mvcc.revision import (
    MAIN,
    TOMBSTONE,
    encode_kv,
    encode_tombstones,
    stored_key,
    stored_keys,
)

if TYPE_CHECKING:
    from corum.mvcc.store import Store

LeaseChange = tuple[bytes, int, int]
"""(key, lease it was attached to, lease it is attached to now); 0 = none. They differ."""

NOTHING_KNOWN: Final[Mapping[bytes, bytes | None]] = {}
_DELETE_CHUNK: Final = 10_000
_BURIED: Final = b"\1" + bytes(24)  # what a dead key's record has between STORED and BIRTH
_NO_LEASE: Final = bytes(8)


class Write:
    """One write transaction; `end` it before beginning the next."""

    __slots__ = (
        "_buckets",
        "_changes",
        "_main",
        "_store",
        "_sub",
        "lease_changes",
        "reads",
    )

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reads = store.reads
        self._buckets = store.buckets
        self._main = store.reads.revision + 1
        self._sub = 0
        self._changes: list[Change] = []
        self.lease_changes: list[LeaseChange] = []
        """What the lessor has to attach and detach, in the order of the writes."""

    @property
    def revision(self) -> int:
        """The store's revision as this transaction sees it: one more after its first write."""
        return self._main if self._changes else self._main - 1

    def get(self, key: bytes) -> bytes | None:
        """KeyValue of `key`, earlier writes of this transaction included."""
        return self.reads.get(key)

    def kv(self, stored: bytes) -> bytes:
        """The KeyValue behind what `put` or `delete_range` returned."""
        kv = self._buckets.key.get(stored)
        assert kv is not None, f"no revision {stored.hex()}"
        return kv

    def range(
        self, key: bytes, end: bytes = b"", options: RangeOptions = EVERYTHING
    ) -> RangeResult:
        """As `Store.range`, earlier writes of this transaction included."""
        reads = self.reads
        before = reads.revision
        reads.revision = self.revision
        try:
            return reads.range(key, end, options)
        finally:
            reads.revision = before

    def put(self, key: bytes, value: bytes, lease: int = 0) -> bytes | None:
        """Set `key`; returns what `kv` makes the previous KeyValue of, None when there was none.

        That the lease exists is for the caller to check.
        """
        main, sub, buckets = self._main, self._sub, self._buckets
        self._sub = sub + 1
        stored = stored_key(main, sub)
        short = len(key) <= schema.KEY_SIZE_MAX
        old = buckets.current.get(key) if short else buckets.long.records.get(key)
        prev = None
        if old is None:
            create, version, old_lease = main, 1, 0
            birth_main, birth_sub = main, sub
            self.reads.live += 1
            if buckets.counts:
                buckets.counts.changed((key,), 1)
        else:
            fields = RECORD.unpack(old)
            old_main, _, old_sub, dead, create, version, old_lease, birth_main, birth_sub = fields
            prev = old[STORED]
            kept = prev
            if dead:
                create, version = main, 1
                kept += TOMBSTONE
                buckets.dead.pending[prev] = None
                self.reads.dead -= 1
                self.reads.live += 1
                prev = None
                if buckets.counts:
                    buckets.counts.changed((key,), 1)
            else:
                version += 1
                if old_lease:
                    buckets.leased.pending[prev] = None
            history = HISTORY.pack(birth_main, birth_sub, INVERT - old_main, INVERT - old_sub)
            buckets.history.pending[history] = kept + MAIN.pack(main)
        record = RECORD.pack(main, b"_", sub, False, create, version, lease, birth_main, birth_sub)
        if short:
            buckets.current.pending[key] = record
        else:
            buckets.put_long(key, record)
        kv = encode_kv(key, create, main, version, value, lease)
        buckets.key.pending[stored] = kv
        if lease:
            buckets.leased.pending[stored] = LEASE.pack(lease) + key
        if lease != old_lease:
            self.lease_changes.append((key, old_lease, lease))
        self._changes.append((main, key, kv))
        return prev

    def delete_range(self, key: bytes, end: bytes = b"") -> tuple[int, list[bytes]]:
        """Delete `key`, or [key, end).

        Returns how many keys were deleted and what `kv` makes the previous KeyValues of, in key
        order. All tombstones share the main revision.
        """
        if not end:
            record = self.reads.index.get(key)
            if record is None or record[DEAD]:
                return 0, []
            return 1, self._bury([(key, record)])
        start, stop = bounds(key, end)
        prevs: list[bytes] = []
        while True:
            rows = self.reads.index.range(start, stop, _DELETE_CHUNK)
            alive = [row for row in rows if not row[1][DEAD]] if self.reads.dead else rows
            if alive:
                prevs += self._bury(alive)
            if len(rows) < _DELETE_CHUNK:
                return len(prevs), prevs
            start = rows[-1][0] + b"\0"

    def _bury(self, rows: list[Row]) -> list[bytes]:
        """Put tombstones on keys alive in these records; their stored keys. Written for long lists,
        column by column: what is the same for all is packed once, each bucket is told once."""
        main, buckets = self._main, self._buckets
        keys = [key for key, _ in rows]
        olds = Columns([old for _, old in rows])
        buried = stored_keys(main, self._sub, len(rows))
        self._sub += len(rows)
        records = [at + _BURIED + birth for at, birth in zip(buried, olds.births, strict=True)]
        if max(map(len, keys)) <= schema.KEY_SIZE_MAX:
            buckets.current.pending.update(zip(keys, records, strict=True))
        else:
            for key, record in zip(keys, records, strict=True):
                buckets.put_record(key, record)
        buckets.history.pending.update(olds.history_rows(main))
        stones = [at + TOMBSTONE for at in buried]
        buckets.key.pending.update(zip(stones, encode_tombstones(keys), strict=True))
        buckets.dead.pending.update(zip(buried, keys, strict=True))
        for key, old in rows if olds.leased else ():
            if old[LEASE_ID] != _NO_LEASE:
                buckets.leased.pending[old[STORED]] = None
                self.lease_changes.append((key, LEASE.unpack(old[LEASE_ID])[0], 0))
        self._changes += zip(repeat(main), keys, repeat(None))
        self.reads.live -= len(rows)
        self.reads.dead += len(rows)
        if buckets.counts:
            buckets.counts.changed(keys, -1)
        return olds.stored

    def end(self) -> list[Change]:
        """Make it the store's revision; the changes in order, [] when nothing was written."""
        if self._changes:
            self._store.advance(self._main, self._changes)
        return self._changes


def put_alone(
    store: Store, key: bytes, value: bytes, known: Mapping[bytes, bytes | None] = NOTHING_KNOWN
) -> tuple[Change, int]:
    """A transaction that is one put without lease: its change, and the lease the key had (0: none).

    What `begin`, `put`, `end` would do, in one step: by far the commonest write. `known`: records
    that the caller has just looked up.
    """
    reads, buckets = store.reads, store.buckets
    main = reads.revision + 1
    stored = stored_key(main, 0)
    short = len(key) <= schema.KEY_SIZE_MAX
    old = known[key] if key in known else buckets.current.get(key) if short else None
    if not short or (old is not None and old[DEAD]):  # not so simple after all
        write = Write(store)
        write.put(key, value)
        leases = write.lease_changes
        return write.end()[0], leases[0][1] if leases else 0
    packed = MAIN.pack(main)
    if old is None:
        create, version, lease, birth_main, birth_sub = main, 1, 0, main, 0
        reads.live += 1
        if buckets.counts:
            buckets.counts.changed((key,), 1)
    else:
        old_main, _, old_sub, _, create, version, lease, birth_main, birth_sub = RECORD.unpack(old)
        version += 1
        if lease:
            buckets.leased.pending[old[STORED]] = None
        history = HISTORY.pack(birth_main, birth_sub, INVERT - old_main, INVERT - old_sub)
        buckets.history.pending[history] = old[STORED] + packed
    record = RECORD.pack(main, b"_", 0, False, create, version, 0, birth_main, birth_sub)
    buckets.current.pending[key] = record
    kv = encode_kv(key, create, main, version, value, 0)
    buckets.key.pending[stored] = kv
    reads.revision = main
    buckets.index_meta.pending[INDEXED_KEY] = packed
    return (main, key, kv), lease
