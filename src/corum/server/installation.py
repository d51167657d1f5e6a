"""A leader's snapshot takes the place of everything this member holds (peer-wire §3).

By the time Raft hears of it, the database that came with it has been made into a backend beside the
one in use. Commits pause while Raft decides; if it wants the snapshot, the `.snap` file and the
log's record come first. When both are durable, and not before (or the backend would be ahead of the
log after a crash), the backends change places, and every room starts over from the new one. A crash
in between is made up for at the next start, which finds the received database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from corum.backend import schema
from corum.raft import Message, RaftError, Snapshot

if TYPE_CHECKING:
    from corum.server.node import Node

Done = Callable[[RaftError | None], None]


class Installation:
    """One offered snapshot at a time; another one meanwhile takes its place."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._offer: tuple[Message, Done] | None = None
        self._installing = False
        """Raft wants it; its record is on the way to the disk."""

    @property
    def active(self) -> bool:
        """Does a snapshot wait to be shown to Raft?"""
        return self._offer is not None

    def offer(self, message: Message, done: Done) -> None:
        """Show it to Raft as soon as the backend rests; `done(error or None)`."""
        if self._offer is not None:
            self._offer[1](None)
        self._offer = (message, done)
        self.step()

    def step(self) -> None:
        """Once per turn while `active`."""
        node = self._node
        if self._offer is None or self._installing:
            return
        if not node.commits.resting or node.defragmentation.active:
            return
        (message, done), self._offer = self._offer, None
        error: RaftError | None = None
        try:
            node.raft.step(message)
        except RaftError as refused:
            error = refused
        # From here to `install` the backend must rest; when Raft has no use for it, at once again.
        self._installing = node.raft.raft.log.unstable.snapshot is not None
        node.commits.paused = self._installing
        done(error)

    @property
    def installing(self) -> bool:
        """Has Raft taken a snapshot that is not yet in place?"""
        return self._installing

    def keep(self, snapshot: Snapshot) -> None:
        """Raft wants it: its file and its record go to the disk, before anything else does."""
        node = self._node
        about = {"incoming-leader-snapshot-index": snapshot.index}
        node.ports.transition("info", "applying snapshot", **about)
        node.ports.snapshots.save(snapshot)
        node.ports.snapshots.record(snapshot, lambda: None)

    def install(self, snapshot: Snapshot) -> None:
        """It is durable: be it."""
        node = self._node
        say = node.ports.transition
        node.ports.install(snapshot)
        self._installing = node.commits.paused = False
        node.store.open()
        node.consistent_index = snapshot.index
        node.applied_index, node.applied_term = snapshot.index, snapshot.term
        node.snapshotting.installed(snapshot)
        node.reconfiguration.conf_state = snapshot.conf_state
        backend, members = node.backend, node.members
        members.by_id.clear()
        members.removed.clear()
        members.restore(
            backend.range(schema.MEMBERS),
            backend.range(schema.MEMBERS_REMOVED),
            backend.range(schema.CLUSTER),
        )
        node.v2.recover(snapshot.data)
        node.restore()
        node.compactions.restarted()
        node.watch.restored(node.store)
        node.replaying = node.applied_index < node.first_commit
        node.members_changed()
        say("info", "applied snapshot", **{"incoming-leader-snapshot-index": snapshot.index})
        node.versions.leader_changed()
