"""What versions the other members run (peer-wire §4).

The leader asks for the cluster's version; everybody asks for what a v2 request would do to them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from corum.values import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from corum.peer.transport import Peers

ASK_NS: Final = 4 * NS_PER_S
RETRY_NS: Final = NS_PER_S // 2
TIMEOUT_MS: Final = 2_000


class VersionPoll:
    """Asks `GET /version` of every member; only a leader remembers the versions."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._known: dict[int, str] = {}
        self._ask_ns: dict[int, int] = {}
        self._led = False

    def tick(self, now_ns: int) -> None:
        """Ask whoever is due."""
        leads = self._peers.node.is_leader
        if leads != self._led:
            self._led = leads
            self._known.clear()
            self._ask_ns.clear()
        guard = self._peers.node.v2.guard
        for peer in self._peers.peers:
            if now_ns >= self._ask_ns.get(peer.id, 0):
                known = peer.id in self._known if leads else guard.knows(peer.id)
                self._ask_ns[peer.id] = now_ns + (ASK_NS if known else RETRY_NS)
                self._ask(peer.id)

    def _ask(self, member: int) -> None:
        asked_ns = self._peers.now_ns

        def done(status: int, body: bytes) -> None:
            peer = self._peers.get(member)
            if status == 200 and peer is not None:
                peer.statistics.took((self._peers.now_ns - asked_ns) / NS_PER_MS)
            try:
                found: Any = json.loads(body) if status == 200 else {}
                version = str(found["etcdserver"])
            except (ValueError, KeyError, TypeError):
                self._known.pop(member, None)
                return
            node = self._peers.node
            node.v2.guard.member_runs(member, version, corum="corum" in found)
            if not node.is_leader:
                return
            self._known[member] = version
            self._peers.node.versions.members_known()

        self._peers.post(member, "/version", [], b"", TIMEOUT_MS, done, verb="GET")

    def all(self) -> list[str] | None:
        """Every other member's version; None while one is not known."""
        known = self._known
        peers = self._peers.peers
        if any(peer.id not in known for peer in peers):
            return None
        return [known[peer.id] for peer in peers]
