"""The loop's buckets of one store, and the index rows that follow from a stored revision.

`write` has the same steps spelled out for speed; here they are for whatever is indexed after the
fact: a database of etcd's, or what a crash left without its index rows.
"""

from __future__ import annotations

from typing import Final

from corum.backend import Backend, Bucket, schema
from corum.mvcc.counts import KeyCounts
from corum.mvcc.index import (
    BIRTH,
    DEAD,
    LEASE,
    RECORD,
    STORED,
    LongKeys,
    history_row,
    load_long_keys,
)
from corum.mvcc.revision import (
    REVISION_BYTES,
    TOMBSTONE,
    facts_of,
    from_stored_key,
    is_tombstone,
)


class Buckets:
    """The loop's buckets of a store."""

    __slots__ = (
        "counts",
        "current",
        "dead",
        "history",
        "index_meta",
        "key",
        "leased",
        "long",
        "long_rows",
        "meta",
    )

    def __init__(self, backend: Backend) -> None:
        self.key: Bucket = backend.bucket(schema.KEY)
        self.meta: Bucket = backend.bucket(schema.META)
        self.current: Bucket = backend.bucket(schema.CURRENT)
        self.history: Bucket = backend.bucket(schema.HISTORY)
        self.dead: Bucket = backend.bucket(schema.DEAD)
        self.leased: Bucket = backend.bucket(schema.LEASED)
        self.index_meta: Bucket = backend.bucket(schema.INDEX_META)
        self.long_rows: Bucket = backend.bucket(schema.LONG)
        self.counts: Final = KeyCounts()
        self.long: LongKeys = load_long_keys(self.long_rows)

    def put_record(self, key: bytes, record: bytes) -> None:
        """Set the record of `key`, however long."""
        if len(key) <= schema.KEY_SIZE_MAX:
            self.current.pending[key] = record
        else:
            self.put_long(key, record)

    def put_long(self, key: bytes, record: bytes) -> None:
        """Set the record of a key that does not fit into `_current`."""
        self.long.put(key, record)
        self.long_rows.pending[record[BIRTH]] = record + key

    def forget(self, key: bytes) -> None:
        """Remove the record of `key`: compaction has taken its last revision."""
        if len(key) <= schema.KEY_SIZE_MAX:
            self.current.pending[key] = None
        else:
            self.long_rows.pending[self.long.records[key][BIRTH]] = None
            self.long.delete(key)

    def add_revision(self, stored: bytes, kv: bytes) -> tuple[int, int]:
        """Index `stored`, newer than all that is indexed; how many keys more live and are dead."""
        main, sub = from_stored_key(stored)
        dead = is_tombstone(stored)
        key, create, version, lease = facts_of(kv)
        short = len(key) <= schema.KEY_SIZE_MAX
        old = self.current.get(key) if short else self.long.records.get(key)
        birth = (main, sub)
        live_before = dead_before = 0
        if old is not None:
            birth = RECORD.unpack(old)[-2:]
            before = old[STORED]
            if old[DEAD]:
                dead_before = 1
                self.dead.delete(before)
                before += TOMBSTONE
            else:
                live_before = 1
                self.leased.delete(before)
            self.history.put(*history_row(old[BIRTH], before, main))
        if dead:
            self.dead.put(stored[:REVISION_BYTES], key)
        record = RECORD.pack(main, b"_", sub, dead, create, version, lease, *birth)
        self.put_record(key, record)
        if lease:
            self.leased.put(stored, LEASE.pack(lease) + key)
        return (not dead) - live_before, dead - dead_before
