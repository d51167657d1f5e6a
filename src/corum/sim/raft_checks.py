"""What must hold between members at every step (Raft, figure 3), whatever happens around them.

Election safety: one leader a term. Votes: one a term, over restarts. Durability: what was promised
in a message is there after a restart. Log matching: an index and a term name one entry with one
past. Leader completeness: who leads has all that was committed. State-machine safety: an index is
applied once and the same everywhere, and members that have applied as much hold the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from corum.raft import Entry, EntryType, Message, MessageType
from corum.sim.v2_model import V2Record
from corum.sim.world import Violation

if TYPE_CHECKING:
    from corum.server.node import Node


class Promises:
    """What a member has told others that its disk must remember."""

    __slots__ = ("acknowledged", "term", "vote")

    def __init__(self) -> None:
        self.term = 0
        """The highest in any message that a member may send only when it is durable."""
        self.vote = 0
        """Given in `term`; 0: none."""
        self.acknowledged = 0
        """Index up to which the log was called durable in `term`."""

    def sent(self, message: Message) -> None:
        """A message leaves. Raises Violation."""
        kind = message.type
        if kind not in (MessageType.VOTE_RESP, MessageType.APP_RESP) or not message.term:
            return
        if message.term < self.term:
            return  # on its way since before
        if message.term > self.term:
            self.term, self.vote, self.acknowledged = message.term, 0, 0
        if message.reject:
            return
        if kind == MessageType.VOTE_RESP:
            if self.vote not in (0, message.to):
                raise Violation(
                    f"{message.sender:x} votes for {message.to:x} in term {message.term}, "
                    f"and has for {self.vote:x}"
                )
            self.vote = message.to
        else:
            self.acknowledged = max(self.acknowledged, message.index)

    def kept(self, node: Node) -> None:
        """The member has started again. Raises Violation."""
        raft = node.raft.raft
        who = f"{node.members.local:x}"
        if raft.term < self.term:
            raise Violation(f"{who} forgot term {self.term}, is at {raft.term}")
        if raft.term > self.term:
            return
        if self.vote and raft.vote != self.vote:
            raise Violation(f"{who} forgot its vote for {self.vote:x} in term {self.term}")
        if raft.log.last_index < self.acknowledged:
            raise Violation(
                f"{who} lost entries {raft.log.last_index + 1} to {self.acknowledged}, which it "
                f"acknowledged in term {self.term}"
            )


class Invariants:
    """One for a whole cluster; told by every member of what it does."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        """Term -> who leads it."""
        self.entries: dict[tuple[int, int], tuple[int, EntryType, bytes]] = {}
        """(index, term) -> (term of the entry before, type, data)."""
        self.applied: dict[int, tuple[int, bytes]] = {}
        self.applied_max = 0
        self.states: dict[int, tuple[Any, ...]] = {}
        """Applied index -> what a member held then, in short."""
        self.v2: V2Record | None = None
        """Told of the v2 stores, if somebody wants to know."""
        self._written: dict[int, tuple[Node, dict[int, int]]] = {}
        """Member -> its node since the last start, and index -> term of what that wrote last: one
        write may hold entries that replace each other."""
        self._seen: dict[int, int] = {}
        """Member -> the applied index it was looked at last."""

    def written(self, node: Node, entries: Sequence[Entry]) -> None:
        """Entries go into a member's log. Raises Violation."""
        storage, known = node.raft_storage, self.entries
        written_by, terms = self._written.get(node.members.local, (None, dict[int, int]()))
        if written_by is not node:
            terms = dict[int, int]()
            self._written[node.members.local] = (node, terms)
        for entry in entries:
            before = terms.get(entry.index - 1)
            if entry.index - 1 == storage.snapshot().index:  # a leader's, in place of what it wrote
                before = storage.snapshot().term
            if (
                before is None
                and storage.first_index() - 1 < entry.index <= storage.last_index() + 1
            ):
                before = storage.term(entry.index - 1)
            here = (entry.index, entry.term)
            if before is not None:
                content = (before, entry.type, entry.data)
                found = known.setdefault(here, content)
                if found != content:
                    raise Violation(f"entry {here} is {content} on one member, {found} on another")
            terms[entry.index] = entry.term

    def turned(self, node: Node) -> None:
        """A member has ended a turn. Raises Violation."""
        if node.raft.is_leader:
            self._leads(node)
        if node.applied_index != self._seen.get(node.members.local):
            self._seen[node.members.local] = node.applied_index
            self.applied_max = max(self.applied_max, node.applied_index)
            self._state(node)
            if self.v2 is not None:
                self.v2.turned(node)

    def _leads(self, node: Node) -> None:
        term, me = node.term, node.members.local
        known = self.leaders.get(term)
        if known == me:
            return
        if known is not None:
            raise Violation(f"{known:x} and {me:x} both lead in term {term}")
        self.leaders[term] = me
        if max(self.leaders) > term:
            return  # elected long ago, or too late to matter: others have committed without it
        last, log = self.applied_max, node.raft.raft.log
        if not last:
            return
        if log.last_index < last:
            raise Violation(f"{me:x} leads with {log.last_index} entries, {last} are committed")
        if log.term(last) not in (None, self.applied[last][0]):
            raise Violation(f"{me:x} leads with another entry {last} than was committed")

    def _state(self, node: Node) -> None:
        index = node.applied_index
        if node.replaying or index < node.consistent_index:
            return  # the backend is ahead of what is replayed
        store, members = node.store, node.members
        here = (
            store.revision,
            store.compacted,
            store.keys_total,
            sorted(node.lessor.leases()),
            [(each.id, each.is_learner, each.name, each.peer_urls) for each in members],
            sorted(members.removed),
            members.version,
            node.reconfiguration.conf_state,
            sorted(node.alarms.get(0, 0)),
            members.downgrade_target,
            (node.auth.store.enabled, node.auth.store.revision),
            node.v2.store.index,
        )
        known = self.states.setdefault(index, here)
        if known != here:
            names = (
                "revision compacted keys leases members removed version configuration alarms "
                "downgrade auth v2"
            )
            parts = [
                f"{name}: {one} / {other}"
                for name, one, other in zip(names.split(), here, known, strict=True)
                if one != other
            ]
            raise Violation(f"{members.local:x} at {index} differs from another: {parts}")
