"""When leases are to be renewed, and when they are lost. Pure; it is told the time.

A lease is renewed when a third of its TTL has passed. It counts as lost when its TTL has passed
since the last renewal was *sent*: the server may have let it go by then, whatever we heard.
"""

from __future__ import annotations

from heapq import heappop, heappush

NS_PER_S = 1_000_000_000
RENEW_MIN_NS = NS_PER_S // 2
ANSWER_NS = 2 * NS_PER_S  # for a renewal; who takes longer is not asked again


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

    @property
    def lost_ns(self) -> int:
        """When it will be lost without another renewal."""
        return self._lost_ns

    @property
    def renew_ns(self) -> int:
        """When the next renewal is due."""
        return self._renew_ns


class RenewalPlan:
    """Which leases of many need something now; each is looked at when its time has come."""

    __slots__ = ("_asked_ns", "_clocks", "_heap")

    def __init__(self) -> None:
        self._clocks: dict[int, LeaseClock] = {}
        self._asked_ns: dict[int, int] = {}  # renewals without an answer yet
        self._heap: list[tuple[int, int]] = []  # (when to look, lease), one entry a lease

    def __len__(self) -> int:
        return len(self._clocks)

    def add(self, lease_id: int, clock: LeaseClock) -> None:
        if lease_id not in self._clocks:
            heappush(self._heap, (0, lease_id))
        self._clocks[lease_id] = clock

    def remove(self, lease_id: int) -> None:
        """Its entry goes when its time comes."""
        self._clocks.pop(lease_id, None)
        self._asked_ns.pop(lease_id, None)

    def new_stream(self) -> None:
        """What was asked for on the last one will not be answered; it is asked for again."""
        asked, self._asked_ns = self._asked_ns, {}
        self._heap = [(0 if i in asked else when, i) for when, i in self._heap]
        self._heap.sort()

    def due(self, now_ns: int) -> tuple[list[int], list[int], bool]:
        """(to be renewed now, lost, whether an answer is overdue); lost ones are forgotten."""
        renew: list[int] = []
        lost: list[int] = []
        overdue = False
        heap = self._heap
        while heap and heap[0][0] <= now_ns:
            _, lease_id = heappop(heap)
            clock = self._clocks.get(lease_id)
            if clock is None:
                continue
            if clock.is_lost(now_ns):
                lost.append(lease_id)
                self.remove(lease_id)
                continue
            asked_ns = self._asked_ns.get(lease_id)
            if asked_ns is None and clock.wait_ns(now_ns) == 0:
                renew.append(lease_id)
                asked_ns = self._asked_ns[lease_id] = now_ns
            elif asked_ns is not None and now_ns - asked_ns >= ANSWER_NS:
                overdue = True
                asked_ns = now_ns  # looked at again after as long
            look_ns = clock.renew_ns if asked_ns is None else asked_ns + ANSWER_NS
            heappush(heap, (min(look_ns, clock.lost_ns), lease_id))
        return renew, lost, overdue

    def renewed(self, lease_id: int, ttl_s: int) -> bool:
        """Take an answer in; False: the lease is gone, and forgotten here."""
        clock = self._clocks.get(lease_id)
        sent_ns = self._asked_ns.pop(lease_id, None)
        if clock is None or sent_ns is None:
            return True
        clock.renewed(ttl_s, sent_ns)
        if ttl_s <= 0:
            self.remove(lease_id)
        return ttl_s > 0

    def wait_ns(self, now_ns: int) -> int | None:
        """Until `due` has something to say; None: never."""
        return max(self._heap[0][0] - now_ns, 0) if self._heap else None
