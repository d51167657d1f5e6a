"""Automatic compaction: when, and up to which revision (etcd: `--auto-compaction-mode`).

Periodic: the revision is noted ten times per period (at most hourly periods count: longer
retentions compact once an hour), and what was current one retention ago is compacted. Revision:
every five minutes everything but the newest N revisions. The leader alone decides; it does nothing
else.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from corum.values import NS_PER_S

HOUR_NS: Final = 3_600 * NS_PER_S
SAMPLES_PER_PERIOD: Final = 10
REVISION_INTERVAL_NS: Final = 300 * NS_PER_S
SAMPLES_MAX: Final = 10_000
"""Notes kept at most: a retention of about six weeks in hourly periods."""


class Periodic:
    """Keep the history of `retention_ns`."""

    def __init__(self, retention_ns: int) -> None:
        self._retention_ns = retention_ns
        self._step_ns = max(1, min(retention_ns, HOUR_NS) // SAMPLES_PER_PERIOD)
        self._notes: deque[tuple[int, int]] = deque(maxlen=SAMPLES_MAX)
        self._next_ns = 0
        self._compact_ns = 0
        self._last = 0

    def due(self, now_ns: int, revision: int) -> int:
        """The revision to compact now; 0 for none. Call it a few times a second."""
        if now_ns < self._next_ns:
            return 0
        if not self._notes:
            self._compact_ns = now_ns + self._retention_ns
        self._next_ns = now_ns + self._step_ns
        self._notes.append((now_ns, revision))
        if now_ns < self._compact_ns:
            return 0
        target = 0
        while self._notes and self._notes[0][0] <= now_ns - self._retention_ns:
            target = self._notes.popleft()[1]
        if target <= self._last:
            return 0
        self._last = target
        self._compact_ns = now_ns + min(self._retention_ns, HOUR_NS)
        return target

    def paused(self) -> None:
        """This member leads no more: its notes are stale when it leads again."""
        self._notes.clear()
        self._next_ns = 0


class ByRevision:
    """Keep the newest `retention` revisions."""

    def __init__(self, retention: int) -> None:
        self._retention = retention
        self._next_ns: int | None = None
        self._last = 0

    def due(self, now_ns: int, revision: int) -> int:
        """The revision to compact now; 0 for none."""
        if self._next_ns is None:
            self._next_ns = now_ns + REVISION_INTERVAL_NS
        if now_ns < self._next_ns:
            return 0
        self._next_ns = now_ns + REVISION_INTERVAL_NS
        target = revision - self._retention
        if target <= max(self._last, 0):
            return 0
        self._last = target
        return target

    def paused(self) -> None:
        """Nothing is remembered that could become stale."""
        self._next_ns = None


Policy = Periodic | ByRevision
