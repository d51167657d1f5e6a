"""What the node needs of the other members, beside Raft's messages; and a node without any."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from corum.values import NS_PER_S

Headers = list[tuple[str, str]]
RECENT_MAX: Final = 200
"""Batches of appends from which rates are taken (etcd: requests)."""


class Appends:
    """Messages with log entries, MsgApp, that left or came; for `/v2/stats/self`."""

    __slots__ = ("_recent", "total")

    def __init__(self) -> None:
        self.total = 0
        self._recent: deque[tuple[int, int, int]] = deque(maxlen=RECENT_MAX)

    def count(self, now_ns: int, messages: int, size_bytes: int) -> None:
        """A batch of them; on a stream `size_bytes` is what it took there."""
        self.total += messages
        self._recent.append((now_ns, messages, size_bytes))

    def rates(self, now_ns: int) -> tuple[float, float]:
        """(messages, bytes) per second over the last ones; zeros a second after the last."""
        recent = self._recent
        if not recent or now_ns - recent[-1][0] > NS_PER_S:
            recent.clear()
            return 0, 0
        seconds = (recent[-1][0] - recent[0][0]) / NS_PER_S
        if not seconds:
            return 0, 0
        return sum(one[1] for one in recent) / seconds, sum(one[2] for one in recent) / seconds


class LinkStatistics:
    """Messages to one member: how many appends left, how often some were lost, and how long its
    answers take (etcd: how long writing a message takes)."""

    __slots__ = (
        "average_ms",
        "current_ms",
        "fail",
        "losses",
        "maximum_ms",
        "minimum_ms",
        "received_bytes",
        "samples",
        "sent_bytes",
        "snapshots_lost",
        "snapshots_received",
        "snapshots_refused",
        "snapshots_sent",
        "squares",
        "success",
    )

    def __init__(self) -> None:
        self.success = self.fail = self.losses = self.samples = 0
        self.sent_bytes = self.received_bytes = 0
        self.snapshots_sent = self.snapshots_lost = 0
        self.snapshots_received = self.snapshots_refused = 0
        self.current_ms = self.average_ms = self.minimum_ms = self.maximum_ms = 0.0
        self.squares = 0.0
        """Sum of squared distances from the average (Welford)."""

    def took(self, ms: float) -> None:
        """An answer came after `ms`."""
        self.samples += 1
        self.current_ms = ms
        self.minimum_ms = min(self.minimum_ms, ms) if self.samples > 1 else ms
        self.maximum_ms = max(self.maximum_ms, ms)
        distance = ms - self.average_ms
        self.average_ms += distance / self.samples
        self.squares += distance * (ms - self.average_ms)

    def to_json(self) -> dict[str, dict[str, float]]:
        """etcd's form; milliseconds."""
        deviation = (self.squares / self.samples) ** 0.5 if self.samples else 0.0
        latency = {
            "current": self.current_ms,
            "average": self.average_ms,
            "standardDeviation": deviation,
            "minimum": self.minimum_ms,
            "maximum": self.maximum_ms,
        }
        latency = {name: int(ms) if ms == int(ms) else ms for name, ms in latency.items()}
        return {"latency": latency, "counts": {"fail": self.fail, "success": self.success}}


class Peering(Protocol):
    """The rooms that talk to other members (`corum.peer`)."""

    appends_sent: Appends
    appends_received: Appends

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

    def __init__(self) -> None:
        self.appends_sent = self.appends_received = Appends()

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
