"""Time as an argument: what the shell gives to cores instead of letting them look at a clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from. Two clocks, because wall time may jump."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds since some moment: for intervals and deadlines."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC: for timestamps that people or etcd's formats see."""
        ...


class SystemClock:
    """The machine's clocks."""

    now_ns = staticmethod(time.monotonic_ns)
    wall_ns = staticmethod(time.time_ns)


class ManualClock:
    """A clock that moves when told: the simulator's, and a test's."""

    __slots__ = ("_now_ns", "_wall_offset_ns")

    def __init__(self, now_ns: int = 0, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns = now_ns
        self._wall_offset_ns = wall_ns - now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def wall_ns(self) -> int:
        return self._now_ns + self._wall_offset_ns

    def advance(self, ns: int) -> None:
        """Move both clocks forward by `ns` >= 0."""
        assert ns >= 0, f"time cannot go back by {-ns} ns"
        self._now_ns += ns

    def jump(self, ns: int) -> None:
        """Set the wall clock `ns` forward (or back), as an administrator or NTP would."""
        self._wall_offset_ns += ns
