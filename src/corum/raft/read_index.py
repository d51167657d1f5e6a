"""Linearizable reads that wait until a quorum has confirmed the leader (diss. §6.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from corum.raft.messages import Message

PENDING_READS_MAX: Final = 4096
"""Requests waiting on one leader. Beyond it they are dropped; who asked asks again."""


class PendingRead:
    """A request with the commit index when it came, and who has confirmed us since."""

    __slots__ = ("acks", "index", "request")

    def __init__(self, request: Message, index: int) -> None:
        self.request = request
        self.index = index
        self.acks: dict[int, bool] = {}


class PendingReads:
    """Requests by context, oldest first. Each heartbeat carries the context of the newest.

    Whoever confirms a request confirms all before it: we were leader later than they came.
    """

    __slots__ = ("_reads",)

    def __init__(self) -> None:
        self._reads: dict[bytes, PendingRead] = {}

    def __len__(self) -> int:
        return len(self._reads)

    def add(self, context: bytes, request: Message, index: int) -> bool:
        """Remember a request; False if there are too many. A known context is not added twice."""
        if context in self._reads:
            return True
        if len(self._reads) >= PENDING_READS_MAX:
            return False
        self._reads[context] = PendingRead(request, index)
        return True

    def acknowledge(self, member: int, context: bytes) -> dict[int, bool]:
        """`member` answered a heartbeat with `context`. Returns who has so far."""
        read = self._reads.get(context)
        if read is None:
            return {}
        read.acks[member] = True
        return read.acks

    def release(self, context: bytes) -> list[PendingRead]:
        """Take out the request with `context` and all older ones, oldest first."""
        released: list[PendingRead] = []
        if context not in self._reads:
            return released
        for key in list(self._reads):
            released.append(self._reads.pop(key))
            if key == context:
                break
        return released

    def newest_context(self) -> bytes:
        """Of the request that came last, or b"" if none waits."""
        return next(reversed(self._reads), b"")
