"""Whether v2 requests may go into the log: etcd from 3.6 on dies of one there.

The peer room tells what the others run, from the heads of their streams and by asking `/version`.
A member of whom nothing was heard since we started might be such an etcd, too. Just after the
start, or after it came on the list, requests wait until it is known; later they are refused. Two
are taken for harmless: who lived through a v2 request since it told its address, and who never
started while the log holds v2 requests, as it would die of those.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from corum import errors
from corum.raft import EntryType
from corum.server.proposals import Answer
from corum.v2store import CLUSTER_PREFIX, MEMBERS_PREFIX, Request
from corum.values import NS_PER_S

if TYPE_CHECKING:
    from corum.server.node import Node
    from corum.server.v2 import V2

FIRST_DEAF: Final = (3, 6)
HOLD_NS: Final = 5 * NS_PER_S
HELD_MAX: Final = 1_000
V2_ENTRY: Final = b"\x08"
"""The first byte of a v2 request in the log, its id; entries of v3 have no field 1."""


class Guard:
    """`open` says that there is no doubt, which is all that a request asks then."""

    def __init__(self, node: Node, v2: V2) -> None:
        self._node = node
        self._v2 = v2
        self.open = True
        self._runs: dict[int, str] = {}
        """The version of members that must not be sent v2 requests; "" of those that may."""
        self._unknown: dict[int, int] = {}
        """Since when (ns) others are on the list of whom nothing was heard."""
        self._held: deque[tuple[Request, Any, Answer, int]] = deque()
        self._v2_at = 0  # index of the last entry with a v2 request, of those looked at
        self._looked_at = 0  # of the last entry looked at

    # ---- what is known

    def members_changed(self) -> None:
        """The list may have changed. Never called where nobody tells what the others run."""
        members = self._node.members
        others = [one for one in members.by_id if one != members.local]
        since = self._unknown
        self._runs = {one: self._runs[one] for one in others if one in self._runs}
        now_ns = self._node.ports.clock_ns()  # the node's own begins with its first turn
        self._unknown = {one: since.get(one, now_ns) for one in others if one not in self._runs}
        self._look()

    def member_runs(self, member: int, version: str, *, corum: bool) -> None:
        """What a member of the list was found to be."""
        too_new = not corum and numbers_of(version) >= FIRST_DEAF
        found = version if too_new else ""
        if member not in self._node.members.by_id or self._runs.get(member) == found:
            return
        self._runs[member] = found
        self._unknown.pop(member, None)
        if too_new:
            text = "a member is too new for v2 requests: all will be refused"
            told = {"member-id": f"{member:x}", "server-version": version}
            self._node.ports.transition("warn", text, **told)
        self._look()

    def knows(self, member: int) -> bool:
        """Whether it need not be asked soon."""
        return member in self._runs

    def _look(self) -> None:
        self.open = not self._unknown and not any(self._runs.values())
        self.tick(self._node.now_ns)

    # ---- requests in doubt

    def keeps(self, request: Request, call: Any, answer: Answer) -> bool:
        """Whether a request waits here now; raises EtcdError when it is refused."""
        refusal, may_end = self._doubt()
        if refusal is None:
            return False
        if not may_end or call is None or len(self._held) >= HELD_MAX:
            raise refusal
        self._held.append((request, call, answer, self._node.now_ns + HOLD_NS))
        return True

    def tick(self, now_ns: int) -> None:
        """Let go what waits, once it is known what will become of it."""
        if not self._held:
            return
        refusal, may_end = self._doubt()
        held = self._held
        while held and (not may_end or refusal is None or now_ns >= held[0][3]):
            request, call, answer, _ = held.popleft()
            try:
                if refusal is None:
                    self._v2.queue(request, call, answer)
                else:
                    self._node.refuse(call, refusal)
            except errors.EtcdError as error:  # too many wait already
                self._node.refuse(call, error)

    def _doubt(self) -> tuple[errors.EtcdError | None, bool]:
        """(why requests are refused, whether that may be over in a moment)."""
        for member, version in self._runs.items():
            if version:
                why = f"member {member:x} runs etcd {version}, the last with v2 is 3.5"
                return refused(why), False
        for member, since_ns in self._unknown.items():
            if not self._harmless(member):
                why = f"member {member:x} was not reached yet, it may be newer than etcd 3.5"
                return refused(why), self._node.now_ns - since_ns < HOLD_NS
        return None, False

    def _harmless(self, member: int) -> bool:
        tree = self._v2.store.tree
        told = tree.find_or_none(f"{MEMBERS_PREFIX}/{member:x}/attributes", 0)
        if told is not None:
            return self._last_request() > told.modified_index
        return not self._node.members.by_id[member].client_urls and self._log_has_v2()

    def _last_request(self) -> int:
        """The store's index at the last change that a v2 request made, of those remembered."""
        history = self._v2.store.hub.history
        for event in history.newest_first():
            if not event.node.key.startswith(CLUSTER_PREFIX + "/"):
                return event.node.modified_index
        return 0

    def _log_has_v2(self) -> bool:
        """Of what is committed: others may still take the place of the rest."""
        storage = self._node.raft_storage
        first = storage.first_index()
        last = min(storage.last_index(), self._node.committed)
        new = max(first, self._looked_at + 1)
        if new <= last:
            self._looked_at = last
            self._v2_at = next(
                (
                    entry.index
                    for entry in reversed(storage.entries(new, last + 1))
                    if entry.type == EntryType.NORMAL and entry.data[:1] == V2_ENTRY
                ),
                self._v2_at,
            )
        return self._v2_at >= first


def refused(why: str) -> errors.EtcdError:
    """What a client is told."""
    text = f"etcdserver: v2 requests are refused while a member cannot take them ({why})"
    return errors.EtcdError(errors.FAILED_PRECONDITION, text)


def numbers_of(version: str) -> tuple[int, int]:
    """Major and minor of "3.6.1"; (0, 0) of what is no version."""
    parts = version.split(".")
    if len(parts) < 2 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return 0, 0
    return int(parts[0]), int(parts[1])
