"""What takes too long: a line for operators and a count, or the end of streams without a leader.
Also clocks that jump.

Thresholds are etcd's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from corum.values import NS_PER_MS, NS_PER_S

JUMP_NS: Final = NS_PER_S
"""Between two looks at the wall clock; slewing (NTP) moves it by less."""
LEADERLESS_ELECTIONS: Final = 3
"""Election timeouts without a leader after which clients that demand one are told."""


class Slowness:
    """Told by whoever measured; says and counts."""

    def __init__(
        self,
        tick_ns: int,
        election_ns: int,
        say: Callable[..., None],
        *,
        apply_ns: int = 100 * NS_PER_MS,
        request_ns: int = 300 * NS_PER_MS,
    ) -> None:
        """`apply_ns`: of a batch of entries (etcd: of one); `request_ns`: of its oldest request."""
        self._apply_ns = apply_ns
        self._request_ns = request_ns
        self._tick_ns = tick_ns
        self._patience_ns = LEADERLESS_ELECTIONS * election_ns
        self._say = say
        self._leaderless_at_ns = 0
        """When there will have been no leader for long; 0 while there is one, or it is told."""
        self.leaderless: Callable[[], None] = lambda: None
        """Told then."""
        self._wall_offset_ns = 0
        """Wall clock minus ours, when last looked at."""
        self.late_heartbeats_total = 0
        self.slow_applies_total = 0

    def leader_changed(self, before: int, after: int, now_ns: int) -> None:
        """From one leader (0: none) to another."""
        if after:
            self._leaderless_at_ns = 0
        elif before:
            self._leaderless_at_ns = now_ns + self._patience_ns

    def tick(self, now_ns: int, unix_ns: int) -> None:
        """Time passed; what the wall clock shows counts for nothing that has to be safe."""
        offset_ns = unix_ns - now_ns
        jump_ns = offset_ns - self._wall_offset_ns
        if abs(jump_ns) >= JUMP_NS and self._wall_offset_ns:
            self._say("warn", "the wall clock jumped", by=f"{jump_ns / NS_PER_S:g}s")
        self._wall_offset_ns = offset_ns
        if 0 < self._leaderless_at_ns <= now_ns:
            self._leaderless_at_ns = 0
            self.leaderless()

    def heartbeat(self, late_ns: int) -> None:
        """A leader's heartbeat left so long after its time; one interval is granted."""
        if late_ns <= self._tick_ns:
            return
        self.late_heartbeats_total += 1
        fields: dict[str, Any] = {"heartbeat-interval": _ms(self._tick_ns)}
        fields["expected-duration"] = _ms(2 * self._tick_ns)
        fields["exceeded-duration"] = _ms(late_ns - self._tick_ns)
        self._say(
            "warn",
            "leader failed to send out heartbeat on time; took too long, "
            "leader is overloaded likely from slow disk",
            **fields,
        )

    def applied(self, entries: int, took_ns: int, waited_ns: int) -> None:
        """So many entries were applied; the first one's client has waited (0: it is elsewhere)."""
        if took_ns > self._apply_ns:
            self.slow_applies_total += 1
            fields = {"took": _ms(took_ns), "expected-duration": _ms(self._apply_ns)}
            self._say("warn", "apply request took too long", **fields, entries=entries)
        if waited_ns > self._request_ns:
            fields = {"time spent": _ms(waited_ns), "expected-duration": _ms(self._request_ns)}
            self._say("warn", "request stats", **fields, **{"request count": entries})

    def sync(self, took_ns: int) -> None:
        """The log was synced, slowly: who calls has looked."""
        fields = {"took": _ms(took_ns), "expected-duration": "1s"}
        self._say("warn", "slow fdatasync", **fields)


def _ms(ns: int) -> str:
    return f"{ns / NS_PER_MS:g}ms"
