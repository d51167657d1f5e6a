"""What the node needs of the other members, beside Raft's messages; and a node without any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Headers = list[tuple[str, str]]


class LinkStatistics:
    """Messages to one member: how many left, how many were lost, and the time of its answers."""

    __slots__ = (
        "average_ms",
        "current_ms",
        "fail",
        "losses",
        "maximum_ms",
        "minimum_ms",
        "received_bytes",
        "sent_bytes",
        "squares",
        "success",
    )

    def __init__(self) -> None:
        self.success = self.fail = self.losses = 0
        self.sent_bytes = self.received_bytes = 0
        self.current_ms = self.average_ms = self.minimum_ms = self.maximum_ms = 0.0
        self.squares = 0.0
        """Sum of squared distances from the average (Welford)."""

    def took(self, ms: float) -> None:
        """An answer came after `ms`."""
        self.success += 1
        self.current_ms = ms
        self.minimum_ms = min(self.minimum_ms, ms) if self.success > 1 else ms
        self.maximum_ms = max(self.maximum_ms, ms)
        distance = ms - self.average_ms
        self.average_ms += distance / self.success
        self.squares += distance * (ms - self.average_ms)

    def to_json(self) -> dict[str, dict[str, float]]:
        """etcd's form; milliseconds."""
        deviation = (self.squares / self.success) ** 0.5 if self.success else 0.0
        latency = {
            "current": self.current_ms,
            "average": self.average_ms,
            "standardDeviation": deviation,
            "minimum": self.minimum_ms,
            "maximum": self.maximum_ms,
        }
        return {"latency": latency, "counts": {"fail": self.fail, "success": self.success}}


class Peering(Protocol):
    """The rooms that talk to other members (`corum.peer`)."""

    def post(
        self,
        member: int,
        path: str,
        headers: Headers,
        body: bytes,
        timeout_ms: int,
        done: Callable[[int, bytes], None],
        *,
        verb: str = "POST",
    ) -> None:
        """Ask a member's peer port; `done(status, body)`, status 0 without an answer."""
        ...

    def active_since(self, member: int) -> int:
        """Since when a member is reachable, in monotonic ns; 0 when it is not."""
        ...

    def versions_of_others(self) -> list[str] | None:
        """The server version of every other member; None while one is not known."""
        ...

    def statistics(self) -> dict[int, LinkStatistics]:
        """How sending to each other member went, for `/v2/stats/leader`."""
        ...


class NoPeers:
    """There is nobody else."""

    def post(
        self,
        member: int,
        path: str,
        headers: Headers,
        body: bytes,
        timeout_ms: int,
        done: Callable[[int, bytes], None],
        *,
        verb: str = "POST",
    ) -> None:
        """Nobody answers."""
        done(0, b"")

    def active_since(self, member: int) -> int:
        """Nobody is there."""
        return 0

    def versions_of_others(self) -> list[str] | None:
        """There are none."""
        return []

    def statistics(self) -> dict[int, LinkStatistics]:
        """There are none."""
        return {}
