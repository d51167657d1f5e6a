"""A leader whose process is gone is succeeded at once, not after an election timeout.

A process that was killed leaves traces that a slow or cut-off one does not: its streams end, and
its address refuses to be dialled. Whoever sees that forgets the leader, so that it gives its
pre-vote to others, and campaigns a moment later itself, one after the other in the order of ids.
Only time is won: who may lead is Raft's to decide, as ever (Raft §5.2 and §9.3: safety must not
depend on timing; pre-votes keep a member that errs from disturbing anybody). Go etcd waits for its
timeout here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corum.raft import RaftError

if TYPE_CHECKING:
    from corum.server.node import Node

NOBODY_LISTENS: Final = "connection refused"
"""What the transport says of an address where no process is."""


class Succession:
    """Of one node's leader; see the module's docstring. Owned by the loop."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._campaign_ns = 0
        """When to campaign; 0: there is no reason to."""

    def gone(self, member: int, now_ns: int) -> None:
        """Both streams of `member` have ended, and nobody listens at its address."""
        node = self._node
        if member != node.leader or node.is_leader or node.stopping:
            return
        heirs = sorted(m.id for m in node.members if not m.is_learner and m.id != member)
        if node.members.local not in heirs:
            return
        node.raft.forget_leader()
        # The others see it within a tick or so; the first heir lets them, each further one lets
        # the one before it win.
        turn = 1 + 2 * heirs.index(node.members.local)
        self._campaign_ns = now_ns + turn * node.config.tick_ns

    def tick(self, now_ns: int) -> None:
        """Campaign when it is time to and nobody leads yet."""
        if self._campaign_ns and now_ns >= self._campaign_ns:
            self._campaign_ns = 0
            if not self._node.leader:
                text = "the process of the leader is gone: campaigning before the election timeout"
                self._node.ports.transition("info", text)
                try:
                    self._node.raft.campaign()
                except RaftError:
                    pass  # not now: the election timeout will
