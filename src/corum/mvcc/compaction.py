"""Compaction: deleting superseded revisions, a slice at a time, so that nobody waits for it.

What goes at revision C is decided row by row from facts that no later write changes, so slices may
be any size, other writes may come between them, and after a crash it simply begins again:

- a superseded revision goes if what superseded it is <= C;
- a tombstone goes if it is < C. One exactly at C stays until the next compaction, so that a
  watcher that starts at C still sees the deletion (as etcd since 3.5.16).

Reads below C have been refused since `Store.compact`; deleting is not visible to anybody.

No tombstone goes before the revisions that it ended: whoever copies the database in between (a
snapshot to a member, a back-up) would find a key alive that was deleted. So superseded puts go
first, then the tombstones of dead keys, then those of keys that have been put again since.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from corum.mvcc.index import Row
from corum.mvcc.revision import MAIN, REVISION_BYTES, TOMBSTONE, stored_key

if TYPE_CHECKING:
    from corum.mvcc.store import Store

_TOMBSTONE_ROW: Final = REVISION_BYTES + 1 + 8


def superseded_puts(rows: list[Row], revision: int) -> list[tuple[bytes, bytes]]:
    """(history key, stored key) of puts that compaction at `revision` removes."""
    bound = MAIN.pack(revision)
    return [
        (key, row[:-8]) for key, row in rows if row[-8:] <= bound and len(row) != _TOMBSTONE_ROW
    ]


def superseded_tombstones(rows: list[Row], revision: int) -> list[tuple[bytes, bytes]]:
    """(history key, stored key) of tombstones, put over since, that it removes."""
    bound = MAIN.pack(revision)
    return [
        (key, row[:-8])
        for key, row in rows
        if len(row) == _TOMBSTONE_ROW and (row[:8] < bound or row[-8:] <= bound)
    ]


class Compaction:
    """The deletions of one compaction; done when `step` says so."""

    __slots__ = ("_at", "_phase", "_phases", "_store", "done", "removed", "revision")

    def __init__(self, store: Store, revision: int) -> None:
        self._store = store
        self._at = b""
        self._phases = (self._puts, self._dead, self._tombstones)
        self._phase = 0
        self.revision = revision
        self.removed = 0
        """Revisions deleted so far (`etcd_debugging_mvcc_db_compaction_keys_total`)."""
        self.done = False

    def step(self, limit: int = 1_000) -> bool:
        """Look at the next `limit` rows and delete what has to go; True when all is done."""
        if not self.done:
            # Index rows may lag behind the revisions in the file, but a revision must not be gone
            # before the index knows of it: without a tombstone its key would come back to life.
            self._store.backend.flush_own()
            last = self._phases[self._phase](limit)
            if last is not None:
                self._at = last + b"\0"
            elif self._phase < len(self._phases) - 1:
                self._at = b""
                self._phase += 1
            else:
                self.done = True
                self._store.compaction_done(self)
        return self.done

    def _dead(self, limit: int) -> bytes | None:
        """Keys whose newest revision is a tombstone: they leave the index."""
        store, buckets = self._store, self._store.buckets
        rows = buckets.dead.range(self._at, stored_key(self.revision, 0), limit)
        for stored, key in rows:
            buckets.forget(key)
            buckets.dead.delete(stored)
            buckets.key.delete(stored + TOMBSTONE)
        store.reads.dead -= len(rows)
        self.removed += len(rows)
        return rows[-1][0] if len(rows) == limit else None

    def _puts(self, limit: int) -> bytes | None:
        """Puts that others have followed."""
        return self._history(limit, superseded_puts)

    def _tombstones(self, limit: int) -> bytes | None:
        """Tombstones that puts have followed."""
        return self._history(limit, superseded_tombstones)

    def _history(
        self, limit: int, chosen: Callable[[list[Row], int], list[tuple[bytes, bytes]]]
    ) -> bytes | None:
        """The last row looked at; None when there are no more."""
        buckets = self._store.buckets
        rows = buckets.history.range(self._at, None, limit)
        gone = chosen(rows, self.revision)
        buckets.history.pending.update(dict.fromkeys([key for key, _ in gone]))
        buckets.key.pending.update(dict.fromkeys([stored for _, stored in gone]))
        self.removed += len(gone)
        return rows[-1][0] if len(rows) == limit else None
