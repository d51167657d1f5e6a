"""Linearizable reads: one ReadIndex round for all that arrived in a batch (diss. §6.4).

A read that must not be stale waits until this member has applied everything that was committed
when the read arrived. Serializable reads never come here.
Bounds: `WAITING_MAX` reads; each fails after the request timeout, and the round is asked again
every 500 ms (as etcd).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from corum import errors
from corum.values import NS_PER_MS

WAITING_MAX: Final = 200_000
RETRY_NS: Final = 500 * NS_PER_MS

Read: TypeAlias = tuple[Callable[..., None], Any, Any, Any]
"""(serve, call, request, meta): `serve(call, request)` runs when the read may be answered, if the
gate lets the caller that `meta` tells of; `serve` raises nothing."""


class Reads:
    """Reads between their arrival and the moment they may be served."""

    def __init__(self, timeout_ns: int, first_round: int = 0) -> None:
        """`first_round`: no other member, and no earlier start, counts from there."""
        self._timeout_ns = timeout_ns
        self._gathered: list[Read] = []
        self._rounds: dict[bytes, tuple[list[Read], int]] = {}
        self._confirmed: deque[tuple[int, list[Read]]] = deque()
        self._count = 0
        self._round = first_round
        self._retry_at_ns = 0
        self.failed_total = 0
        self.slow_total = 0

    def add(self, serve: Callable[..., None], call: Any, request: Any, meta: Any = None) -> None:
        """A read of this batch; raises TOO_MANY_REQUESTS."""
        if self._count >= WAITING_MAX:
            raise errors.TOO_MANY_REQUESTS()
        self._count += 1
        self._gathered.append((serve, call, request, meta))

    def begin_round(self, now_ns: int) -> bytes | None:
        """The context to ask Raft about for what was gathered; None when nothing was."""
        if not self._gathered:
            return None
        self._round = (self._round + 1) & 0xFFFFFFFFFFFFFFFF
        context = self._round.to_bytes(8, "big")
        if not self._rounds:
            self._retry_at_ns = now_ns + RETRY_NS
        self._rounds[context] = (self._gathered, now_ns + self._timeout_ns)
        self._gathered = []
        return context

    def confirmed(self, context: bytes, index: int) -> None:
        """Raft confirmed that `index` was committed when the round began."""
        found = self._rounds.pop(context, None)
        if found is not None:
            self._confirmed.append((index, found[0]))

    def ready(self, applied: int) -> list[Read]:
        """Reads whose index has been applied, in order of their rounds."""
        confirmed = self._confirmed
        if not confirmed or confirmed[0][0] > applied:
            return []
        reads: list[Read] = []
        while confirmed and confirmed[0][0] <= applied:
            reads += confirmed.popleft()[1]
        self._count -= len(reads)
        return reads

    def retry(self, now_ns: int) -> list[bytes]:
        """Contexts to ask again, every 500 ms while no answer came."""
        if not self._rounds or now_ns < self._retry_at_ns:
            return []
        self._retry_at_ns = now_ns + RETRY_NS
        self.slow_total += 1
        return list(self._rounds)

    def overdue(self, now_ns: int) -> list[Read]:
        """Reads whose time is up, to be failed by the caller."""
        late: list[Read] = []
        for context, (reads, deadline_ns) in list(self._rounds.items()):
            if deadline_ns > now_ns:
                break
            late += reads
            del self._rounds[context]
        self._count -= len(late)
        self.failed_total += len(late)
        return late

    def leader_changed(self) -> list[Read]:
        """Rounds asked of a leader that is gone are lost: their reads are asked anew."""
        lost = [read for reads, _ in self._rounds.values() for read in reads]
        self._rounds.clear()
        self._gathered = lost + self._gathered
        return lost
