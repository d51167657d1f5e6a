"""The last 1,000 events, and those who wait for the next one (v2-store.md §7).

A waiter that finds its event in the history has it at once. Others are told as events happen; what
they were told waits in the waiter for the server to take, up to 100 events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from corum.v2store import errors
from corum.v2store.errors import V2Error
from corum.v2store.events import DELETE, EXPIRE, Event
from corum.v2store.tree import clean

HISTORY_EVENTS: Final = 1_000
WAITER_EVENTS_MAX: Final = 100  # one more, and the waiter is dropped (as etcd)


class EventHistory:
    """A ring of events with consecutive indexes, in the shape in which etcd saves it."""

    __slots__ = ("back", "events", "front", "last_index", "size", "start_index")

    def __init__(self, capacity: int = HISTORY_EVENTS) -> None:
        self.events: list[Event | None] = [None] * capacity
        self.size = 0
        self.front = 0
        self.back = 0
        self.start_index = 0  # of the oldest event kept; 0: none
        self.last_index = 0

    def add(self, event: Event) -> None:
        events = self.events
        capacity = len(events)
        events[self.back] = event
        self.back = (self.back + 1) % capacity
        if self.size == capacity:
            self.front = self.back
        else:
            self.size += 1
        oldest = events[self.front]
        assert oldest is not None
        self.start_index = oldest.node.modified_index
        self.last_index = event.node.modified_index

    def newest_first(self) -> Iterator[Event]:
        """All that is kept."""
        for offset in reversed(range(self.size)):
            event = self.events[(self.front + offset) % len(self.events)]
            assert event is not None
            yield event

    def scan(self, key: str, recursive: bool, since: int, store_index: int) -> Event | None:
        """The first event from index `since` on that concerns `key`. Raises 401 when it is gone."""
        if since < self.start_index:
            cause = f"the requested history has been cleared [{self.start_index}/{since}]"
            raise V2Error(errors.EVENT_INDEX_CLEARED, cause, store_index)
        if since > self.last_index:
            return None
        below = key.rstrip("/") + "/"
        capacity = len(self.events)
        for offset in range(since - self.start_index, self.size):
            event = self.events[(self.front + offset) % capacity]
            assert event is not None
            if not event.refresh and _concerns(event, key, below if recursive else None):
                return event
        return None


def _concerns(event: Event, key: str, below: str | None) -> bool:
    changed = event.node.key
    if changed == key or (below is not None and changed.startswith(below)):
        return True
    # A vanished directory concerns who waits below it. etcd compares plain prefixes here, so that
    # deleting /a wakes the waiters of /ab, too.
    gone = event.prev_node
    return (
        event.action in (DELETE, EXPIRE)
        and gone is not None
        and gone.directory
        and key.startswith(gone.key)
    )


class Waiter:
    """One `wait=true` request. The server takes its events and closes it.

    `start_index` is the store's index when it began (X-Etcd-Index). `removed`: no event will follow
    those in `events`; a stream's answer ends then, and the client starts over.
    """

    __slots__ = ("events", "key", "recursive", "removed", "since", "start_index", "stream")

    def __init__(
        self, key: str, since: int, start_index: int, *, recursive: bool, stream: bool
    ) -> None:
        self.key = key
        self.since = since
        self.start_index = start_index
        self.recursive = recursive
        self.stream = stream
        self.events: list[Event] = []
        self.removed = False

    def take(self) -> list[Event]:
        """The events told so far, oldest first."""
        events, self.events = self.events, []
        return events


class WaiterHub:
    """All waiters by the path they wait at, and the history."""

    def __init__(self) -> None:
        self.history = EventHistory()
        self.count = 0
        self._waiters: dict[str, dict[Waiter, None]] = {}
        self._told: dict[Waiter, None] = {}

    def take_told(self) -> list[Waiter]:
        """Waiters with new events, or that were removed, since the last call."""
        told = list(self._told)
        self._told.clear()
        return told

    def wait(self, waiter: Waiter) -> None:
        """Give it its event from the history, or register it. Raises 401."""
        event = self.history.scan(waiter.key, waiter.recursive, waiter.since, waiter.start_index)
        if event is not None:
            waiter.events.append(event)
            waiter.removed = not waiter.stream  # a stream stays open but hears no more (as etcd)
            self._told[waiter] = None
            return
        self._waiters.setdefault(waiter.key, {})[waiter] = None
        self.count += 1

    def remove(self, waiter: Waiter) -> None:
        """Nobody wants its events any more (or it had too many). May be called twice."""
        at_key = self._waiters.get(waiter.key)
        if at_key is None or waiter not in at_key:
            return
        del at_key[waiter]
        if not at_key:
            del self._waiters[waiter.key]
        waiter.removed = True
        self.count -= 1

    def remove_all(self) -> None:
        """The store was replaced: everybody is told to start over."""
        for waiter in [each for at_key in self._waiters.values() for each in at_key]:
            self.remove(waiter)
            self._told[waiter] = None

    def notify(self, event: Event) -> None:
        """Keep the event, and tell who waits at its path or, recursively, above."""
        self.history.add(event)
        if not self._waiters:
            return
        key = event.node.key
        for path in _prefixes(key):
            self._tell(path, event, forced=False)

    def notify_removed(self, event: Event, path: str) -> None:
        """`path` vanished with the event's node: who waits there is told in any case."""
        self._tell(path, event, forced=True)

    def _tell(self, path: str, event: Event, *, forced: bool) -> None:
        at_path = self._waiters.get(path)
        if at_path is None:
            return
        exact = event.node.key == path
        if _hidden_below(path, event.node.key):
            return
        for waiter in list(at_path):
            if event.index < waiter.since or not (waiter.recursive or exact or forced):
                continue
            self._told[waiter] = None
            if len(waiter.events) >= WAITER_EVENTS_MAX:
                self.remove(waiter)
                continue
            waiter.events.append(event)
            if not waiter.stream:
                self.remove(waiter)


def _prefixes(key: str) -> Iterable[str]:
    """ "/", "/a", "/a/b" for "/a/b"."""
    yield "/"
    at = key.find("/", 1)
    while at > 0:
        yield key[:at]
        at = key.find("/", at + 1)
    if len(key) > 1:
        yield key


def _hidden_below(watched: str, key: str) -> bool:
    """The rest of `key` after the watched path leads through something hidden."""
    if len(watched) > len(key):  # told because a directory above vanished
        return False
    return "/_" in clean(key[len(watched) :])
