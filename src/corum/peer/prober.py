"""How far away the other members are, and what their clocks say: `GET /raft/probing`, every 4 s.

The answer holds the other member's time of day. What is found is said every 30 s, or 5 s after a
failure: that a member does not answer, and that a clock is more than a second off (as etcd, which
probes all of a member's URLs; we probe the one in use). Nothing depends on it but operators.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from corum.values import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from corum.peer.transport import Peers

PROBE_NS: Final = 4 * NS_PER_S
TIMEOUT_MS: Final = 4_000
SAY_NS: Final = 30 * NS_PER_S
SAY_AFTER_FAILURE_NS: Final = 5 * NS_PER_S
DRIFT_NS: Final = NS_PER_S
"""A clock that differs by more is worth a line."""
NAME: Final = {"round-tripper-name": "ROUND_TRIPPER_RAFT_MESSAGE"}
TARGET: Final = "/raft/probing"


class Health:
    """What is known of one member."""

    __slots__ = ("drift_ns", "error", "probe_ns", "say_ns", "trip_ns")

    def __init__(self, now_ns: int) -> None:
        self.probe_ns = now_ns
        self.say_ns = now_ns + SAY_AFTER_FAILURE_NS
        self.trip_ns = 0
        """There and back, smoothed."""
        self.drift_ns = 0
        """Our clock minus theirs."""
        self.error = "probe is not finished"

    def answered(self, trip_ns: int, sent_unix_ns: int, theirs_ns: int) -> None:
        """It was alive: its clock showed `theirs_ns` half a round trip after `sent_unix_ns`."""
        self.trip_ns = (self.trip_ns + trip_ns) // 2 if self.trip_ns else trip_ns
        self.drift_ns = sent_unix_ns + trip_ns // 2 - theirs_ns
        self.error = ""


class Prober:
    """Probes every other member."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._health: dict[int, Health] = {}

    def tick(self, now_ns: int) -> None:
        """Probe and say what is due."""
        peers = self._peers.peers
        for peer in peers:
            health = self._health.get(peer.id)
            if health is None:
                health = self._health[peer.id] = Health(now_ns)
            if now_ns >= health.probe_ns:
                health.probe_ns = now_ns + PROBE_NS
                self._probe(peer.id, health)
            if now_ns >= health.say_ns:
                self._say(peer.id, health, now_ns)
        if len(self._health) > len(peers):
            known = {peer.id for peer in peers}
            self._health = {one: found for one, found in self._health.items() if one in known}

    def _probe(self, member: int, health: Health) -> None:
        node = self._peers.node
        sent_ns, sent_unix_ns = self._peers.now_ns, node.ports.unix_time_ns()

        def done(status: int, body: bytes) -> None:
            if status != 200:
                health.error = body.decode("utf-8", "replace").strip() or f"status {status}"
                return
            try:
                theirs_ns = unix_ns(json.loads(body)["Now"])
            except (ValueError, KeyError, TypeError) as error:
                health.error = f"not an answer to a probe: {error}"
                return
            health.answered(self._peers.now_ns - sent_ns, sent_unix_ns, theirs_ns)

        self._peers.post(member, TARGET, [], b"", TIMEOUT_MS, done, verb="GET")

    def _say(self, member: int, health: Health, now_ns: int) -> None:
        fields: dict[str, Any] = {**NAME, "rtt": f"{health.trip_ns / NS_PER_MS:g}ms"}
        health.say_ns = now_ns + (SAY_AFTER_FAILURE_NS if health.error else SAY_NS)
        if health.error:
            text = "prober detected unhealthy status"
            self._peers.note(text, member, "warn", error=health.error, **fields)
            return
        self._peers.node.round_trip(member, health.trip_ns)
        if abs(health.drift_ns) > DRIFT_NS:
            drift = {"clock-drift": f"{health.drift_ns / NS_PER_S:g}s"}
            self._peers.note("prober found high clock drift", member, "warn", **drift, **fields)


def unix_ns(text: str) -> int:
    """Nanoseconds since 1970 of a time as Go writes it in JSON (RFC 3339, up to nine decimals).

    Raises ValueError.
    """
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"a time without zone: {text}")
    return int(found.replace(microsecond=0).timestamp()) * NS_PER_S + found.microsecond * 1_000
