"""When a lease is to be renewed, and when it is lost. Pure; it is told the time.

A lease is renewed when a third of its TTL has passed. It counts as lost when its TTL has passed
since the last renewal was *sent*: the server may have let it go by then, whatever we heard.
"""

from __future__ import annotations

NS_PER_S = 1_000_000_000
RENEW_MIN_NS = NS_PER_S // 2


class LeaseClock:
    """The deadlines of one lease."""

    __slots__ = ("_lost_ns", "_renew_ns", "ttl_s")

    def __init__(self, ttl_s: int, now_ns: int) -> None:
        self.ttl_s = ttl_s
        self._renew_ns = self._lost_ns = now_ns
        self.renewed(ttl_s, now_ns)

    def renewed(self, ttl_s: int, sent_ns: int) -> None:
        """The server has answered a renewal that was sent at `sent_ns`; 0 or less: it is gone."""
        self.ttl_s = ttl_s
        self._lost_ns = sent_ns + max(ttl_s, 0) * NS_PER_S
        self._renew_ns = sent_ns + max(ttl_s * NS_PER_S // 3, RENEW_MIN_NS)

    def wait_ns(self, now_ns: int) -> int:
        """Until the next renewal is due; 0: now."""
        return max(self._renew_ns - now_ns, 0)

    def is_lost(self, now_ns: int) -> bool:
        return now_ns >= self._lost_ns
