"""When the log is cut short: a `.snap` file every `--snapshot-count` applied entries (peer-wire
§10).

Order, each step durable before the next: the backend covers the index; the `.snap` file; the log's
snapshot record. Then old segments are released and entries older than the catch-up window
forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from corum import v2store
from corum.raft import Snapshot
from corum.values import NS_PER_S

if TYPE_CHECKING:
    from corum.server.node import Node

RETRY_NS: Final = NS_PER_S
"""After a snapshot that could not be saved; the log only grows meanwhile."""


ENTRY_PAYS_BYTES: Final = 500
"""Of a snapshot, which holds the v2 tree whole: a large one is worth its while after as many
entries as it has half kB (decisions/0008)."""
FREE_BYTES: Final = 1 << 20
"""The v2 store's history is in each, however small the tree."""


class SnapshotKeeper(Protocol):
    """Where snapshots are kept."""

    def save(self, snapshot: Snapshot) -> None:
        """Worker thread: write and sync the file. Raises OSError."""
        ...

    def record(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        """Note it in the log and release segments; `done` when that is durable."""
        ...


class Snapshotting:
    """One snapshot at a time."""

    def __init__(self, node: Node, keeper: SnapshotKeeper) -> None:
        self._node = node
        self._keeper = keeper
        self._busy = False
        self._retry_at_ns = 0
        self._unrecorded: Snapshot | None = None
        """Its file is there; the log may be busy with a new segment just now."""
        self.last_index = 0
        self._entries_due = 0
        self._note(node.raft_storage.snapshot())

    def _note(self, snapshot: Snapshot) -> None:
        """The newest there is. The next may wait for more entries when it will be large."""
        self.last_index = snapshot.index
        paid = (len(snapshot.data) - FREE_BYTES) // ENTRY_PAYS_BYTES
        self._entries_due = max(self._node.config.snapshot_count, paid)

    def step(self) -> None:
        """After entries were applied."""
        node = self._node
        if self._unrecorded is not None and node.ports.log.ready:
            snapshot, self._unrecorded = self._unrecorded, None
            node.driver.flush_state()
            self._keeper.record(snapshot, lambda: self._recorded(snapshot))
        if self._busy or node.applied_index - self.last_index <= self._entries_due:
            return
        if node.now_ns < self._retry_at_ns:
            return
        self._busy = True
        index, term = node.applied_index, node.applied_term
        conf_state = node.reconfiguration.conf_state
        captured = v2store.capture(node.v2.store)

        def save() -> Snapshot:
            snapshot = Snapshot(index, term, conf_state, captured.encode())
            self._keeper.save(snapshot)
            return snapshot

        node.ports.transition(
            "info",
            "triggering snapshot",
            **{"local-member-id": f"{node.members.local:x}", "local-member-applied-index": index},
        )
        node.commits.when_durable(
            lambda: node.ports.jobs.start(save, self._saved),
        )

    def _saved(self, snapshot: object) -> None:
        node = self._node
        if not isinstance(snapshot, Snapshot):
            self._busy = False
            self._retry_at_ns = node.now_ns + RETRY_NS
            node.ports.transition("warn", "failed to save snapshot", error=str(snapshot))
            return
        node.ports.transition("info", "saved snapshot", **{"snapshot-index": snapshot.index})
        if snapshot.index > self.last_index:
            self._unrecorded = snapshot
        else:
            self._busy = False

    def installed(self, snapshot: Snapshot) -> None:
        """A leader's snapshot took the place of everything: an older one is of no use any more,
        however far it has got."""
        self._note(snapshot)
        if self._unrecorded is not None and self._unrecorded.index <= snapshot.index:
            self._unrecorded, self._busy = None, False

    def _recorded(self, snapshot: Snapshot) -> None:
        node = self._node
        storage = node.raft_storage
        if snapshot.index <= self.last_index:
            self._busy = False
            return
        storage.create_snapshot(snapshot.index, snapshot.conf_state, snapshot.data)
        self._note(snapshot)
        self._busy = False
        keep_from = snapshot.index - node.config.snapshot_catchup_entries
        if keep_from > storage.first_index() and not node.snapshots_in_flight:
            storage.compact(keep_from)
            node.ports.transition("info", "compacted Raft logs", **{"compact-index": keep_from})
