"""Watchers, the streams that own them, and the queue of those that wait for a revision.

Only bookkeeping that one object can do alone; which state follows which is decided in `watch`.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from corum.mvcc import watch_wire as wire
from corum.mvcc.watch_ranges import Group

SYNCED: Final = 0
UNSYNCED: Final = 1
PARKED: Final = 2
FUTURE: Final = 3
GONE: Final = 4


class Watcher:
    """One watch of one range. Owned by its stream; `next` counts unless it is synced."""

    __slots__ = (
        "bits",
        "end",
        "group",
        "id",
        "id_field",
        "key",
        "next",
        "place",
        "quiet",
        "state",
        "stream",
    )

    def __init__(self, stream: Stream, watch_id: int, key: bytes, end: bytes | None, bits: int):
        self.stream = stream
        self.id = watch_id
        self.id_field = _ID_FIELDS[watch_id] if 0 <= watch_id < 1024 else wire.id_field(watch_id)
        self.key = key
        self.end = end
        self.bits = bits
        self.next = 0
        self.state = GONE
        self.quiet = True  # no events since the last progress notification
        self.group: Group | None = None
        self.place = 0


_ID_FIELDS: Final = tuple(wire.id_field(number) for number in range(1024))


class Stream:
    """One Watch call."""

    __slots__ = (
        "behind",
        "blocked",
        "id",
        "interval_ns",
        "next_id",
        "parked",
        "progress_due_ns",
        "progress_wanted",
        "watchers",
    )

    def __init__(self, stream_id: int, now_ns: int, interval_ns: int) -> None:
        self.id = stream_id
        self.watchers: dict[int, Watcher] = {}
        self.next_id = 0
        self.blocked = False
        self.behind = 0  # watchers that are UNSYNCED or PARKED
        self.parked: dict[Watcher, None] = {}
        self.progress_wanted = False
        self.interval_ns = interval_ns
        self.progress_due_ns = now_ns + interval_ns


class RevisionQueue:
    """Watchers by the next revision they need. Those that left are skipped, and swept in time."""

    __slots__ = ("_count", "_gone", "_heap", "_state")

    def __init__(self, state: int) -> None:
        self._state = state
        self._heap: list[tuple[int, int, Watcher]] = []
        self._count = 0
        self._gone = 0

    def __len__(self) -> int:
        return len(self._heap) - self._gone

    def push(self, watcher: Watcher) -> None:
        watcher.state = self._state
        self._count += 1
        heappush(self._heap, (watcher.next, self._count, watcher))

    def first(self) -> Watcher | None:
        heap = self._heap
        while heap:
            watcher = heap[0][2]
            if watcher.state == self._state:
                return watcher
            heappop(heap)
            self._gone -= 1
        return None

    def pop(self) -> Watcher:
        """The one that `first` has just shown."""
        return heappop(self._heap)[2]

    def forget(self) -> None:
        """One of the queued watchers has changed its state elsewhere."""
        self._gone += 1
        if self._gone * 2 > len(self._heap) + 64:
            self._heap = [entry for entry in self._heap if entry[2].state == self._state]
            heapify(self._heap)
            self._gone = 0
