"""Leadership given to another: asked for by a client, or because this one stops (diss. §3.10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from corum import errors
from corum.values import NS_PER_MS

if TYPE_CHECKING:
    from corum.server.node import Node

TOO_LONG: Final = "etcdserver: request timed out, leader transfer took too long"

Done = Callable[[BaseException | None], None]


class Handover:
    """One at a time; Raft gives up after an election timeout, and so do we."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._deadline_ns = 0
        self._waiting: list[tuple[int, Done]] = []
        """(who is to lead, who wants to know)."""

    def start(self, target: int, done: Done) -> None:
        """Hand over to `target`; `done` when it leads, or with an error when another one does or
        nobody soon. A newer wish replaces an older one."""
        node = self._node
        if target == node.leader:
            done(None)
            return
        self._deadline_ns = node.now_ns + node.config.election_ms * NS_PER_MS
        self._waiting.append((target, done))
        node.raft.transfer_leader(target)

    def leave(self) -> None:
        """Hand over to whoever is best, if there is anybody; what waits is proposed by him."""
        successor = self.successor()
        if successor:
            self.start(successor, _nobody_waits)

    def leader_changed(self) -> None:
        """Somebody leads, or nobody."""
        leader = self._node.leader
        if self._waiting and leader not in (0, self._node.members.local):
            self._finish(leader)

    def tick(self, now_ns: int) -> None:
        """Give up in time."""
        if self._waiting and now_ns >= self._deadline_ns:
            self._finish(0)

    def _finish(self, leader: int) -> None:
        waiting, self._waiting = self._waiting, []
        for target, done in waiting:
            done(None if target == leader else errors.EtcdError(errors.UNKNOWN, TOO_LONG))

    def successor(self) -> int:
        """Who should lead when this one stops: the voter that is reachable longest; 0: nobody."""
        node = self._node
        if not node.is_leader:
            return 0
        found = [
            (since, member.id)
            for member in node.members.voters
            if member.id != node.members.local and (since := node.peers.active_since(member.id))
        ]
        return min(found)[1] if found else 0


def _nobody_waits(error: BaseException | None) -> None:
    """It goes on as before if the handover failed."""
