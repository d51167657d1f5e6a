"""Making the index from the `key` bucket: after taking over or restoring a database of etcd's.

Reads every revision once, in order, and writes in committed batches, so it needs little memory and
may be interrupted: the mark that the index is complete comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from corum.backend import Backend, BackendError, schema
from corum.mvcc.buckets import Buckets
from corum.mvcc.index import INDEXED_KEY, LAYOUT, LAYOUT_KEY
from corum.mvcc.revision import MAIN, main_of

_BATCH_ROWS: Final = 10_000
_SCAN_ROWS: Final = 64
"""Read at once: rows of a megabyte each are possible, and their values are not kept."""


def needs_index(backend: Backend) -> bool:
    """Keys without (all of) an index: `Store` would refuse to open."""
    return (
        backend.get(schema.INDEX_META, LAYOUT_KEY) != LAYOUT
        and backend.bucket(schema.KEY).last() is not None
    )


class Indexing:
    """Makes the index of a backend that has none, from revisions as they come, oldest first."""

    def __init__(self, backend: Backend) -> None:
        backend.defer_own = False
        self._backend = backend
        self._buckets = Buckets(backend)

    def add(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Rows of the `key` bucket; commit now and then, rows and index together."""
        add = self._buckets.add_revision
        for stored, kv in rows:
            add(stored, kv)
        self._backend.put(schema.INDEX_META, INDEXED_KEY, MAIN.pack(main_of(rows[-1][0])))

    def finish(self) -> None:
        """All revisions were added; the next commit makes the index complete."""
        self._backend.put(schema.INDEX_META, LAYOUT_KEY, LAYOUT)


def rebuild_index(backend: Backend) -> None:
    """Drop the index and make it anew, committing on the way; nobody else may use the backend.

    Raises BackendError. To be called before `Store(backend)`; not on the loop of a running member.
    """
    backend.defer_own = False
    for name in schema.OWN_BUCKETS:
        while rows := backend.range(name, limit=_BATCH_ROWS):
            backend.bucket(name).pending.update(dict.fromkeys([key for key, _ in rows]))
            _commit(backend)
    indexing = Indexing(backend)
    waiting = 0
    for rows in backend.bucket(schema.KEY).scan(rows=_SCAN_ROWS):
        indexing.add(rows)
        waiting += len(rows)
        if waiting >= _BATCH_ROWS:
            waiting = 0
            _commit(backend)
    indexing.finish()
    _commit(backend)


def _commit(backend: Backend) -> None:
    index = schema.from_u64(backend.get(schema.META, schema.CONSISTENT_INDEX))
    term = schema.from_u64(backend.get(schema.META, schema.TERM))
    batch = backend.seal(index, term)
    if batch is not None:
        error: BackendError | None = batch.write()
        if error is not None:
            raise error
        backend.committed(batch)
