"""Making the index from the `key` bucket: after taking over or restoring a database of etcd's.

Reads every revision once, in order, and writes in committed batches, so it needs little memory and
may be interrupted: the mark that the index is complete comes last.
"""

from __future__ import annotations

from typing import Final

from corum.backend import Backend, BackendError, schema
from corum.mvcc.index import BIRTH, DEAD, LAYOUT, LAYOUT_KEY, LEASE, RECORD, STORED, history_row
from corum.mvcc.revision import (
    REVISION_BYTES,
    TOMBSTONE,
    decode_kv,
    from_stored_key,
    is_tombstone,
    key_of,
)
from corum.mvcc.store import Buckets

_BATCH_ROWS: Final = 10_000


def needs_index(backend: Backend) -> bool:
    """Keys without (all of) an index: `Store` would refuse to open."""
    return (
        backend.get(schema.INDEX_META, LAYOUT_KEY) != LAYOUT
        and backend.bucket(schema.KEY).last() is not None
    )


def rebuild_index(backend: Backend) -> None:
    """Drop the index and make it anew, committing on the way; nobody else may use the backend.

    Raises BackendError. To be called before `Store(backend)`; not on the loop of a running member.
    """
    for name in schema.OWN_BUCKETS:
        while rows := backend.range(name, limit=_BATCH_ROWS):
            backend.bucket(name).pending.update(dict.fromkeys([key for key, _ in rows]))
            _commit(backend)
    buckets = Buckets(backend)
    for rows in backend.bucket(schema.KEY).scan(rows=_BATCH_ROWS):
        for stored, kv in rows:
            _add(buckets, stored, kv)
        _commit(backend)
    backend.put(schema.INDEX_META, LAYOUT_KEY, LAYOUT)
    _commit(backend)


def _add(buckets: Buckets, stored: bytes, kv: bytes) -> None:
    """Make `stored` the newest revision of its key."""
    main, sub = from_stored_key(stored)
    dead = is_tombstone(stored)
    key = key_of(kv)
    short = len(key) <= schema.KEY_SIZE_MAX
    old = buckets.current.get(key) if short else buckets.long.records.get(key)
    birth = (main, sub)
    if old is not None:
        birth = RECORD.unpack(old)[-2:]
        before = old[STORED]
        if old[DEAD]:
            buckets.dead.delete(before)
            before += TOMBSTONE
        else:
            buckets.leased.delete(before)
        buckets.history.put(*history_row(old[BIRTH], before, main))
    create = version = lease = 0
    if not dead:
        fields = decode_kv(kv)
        create, version, lease = fields.create_revision, fields.version, fields.lease
    record = RECORD.pack(main, b"_", sub, dead, create, version, lease, *birth)
    if short:
        buckets.current.put(key, record)
    else:
        buckets.put_long(key, record)
    if dead:
        buckets.dead.put(stored[:REVISION_BYTES], key)
    if lease:
        buckets.leased.put(stored, LEASE.pack(lease) + key)


def _commit(backend: Backend) -> None:
    index = schema.from_u64(backend.get(schema.META, schema.CONSISTENT_INDEX))
    term = schema.from_u64(backend.get(schema.META, schema.TERM))
    batch = backend.seal(index, term)
    if batch is not None:
        error: BackendError | None = batch.write()
        if error is not None:
            raise error
        backend.committed(batch)
