"""Clients that watch, come back after every break, and check each answer as it arrives.

Ordered, unique and atomic are checked here: after a response (or its last fragment) the watcher
is past all of its revisions, and nothing at or before that may come again. What was received is
kept, to be compared with the whole history (reliable) by the checkers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from corum.pb import rpc
from corum.sim.calls import Call, Calls
from corum.sim.model import Event, History
from corum.sim.sessions import INDEX, Process
from corum.sim.world import Violation, World
from corum.values import NS_PER_MS

WATCH: Final = INDEX["/etcdserverpb.Watch/Watch"]
ALL: Final = rpc.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=1, watch_id=1)


@dataclass(slots=True)
class Watch:
    """One watcher over all of its connections."""

    request: Any
    next: int
    """The first revision not seen yet; 0: not known before the watch is created."""
    first: int = 0
    """Where it began to watch."""
    created: bool = False
    received: list[Any] = field(default_factory=list[Any])
    gaps: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """[from, to) revisions that a compaction took away."""
    partial: list[Any] = field(default_factory=list[Any])
    """Events of fragments whose last has not come yet."""

    def created_at(self, revision: int) -> None:
        """The member says since when it watches."""
        self.created = True
        if self.next == 0:
            self.next = revision + 1
        self.first = self.first or self.next

    def events(self, events: Sequence[Any], header: int) -> None:
        """A whole response."""
        if not self.created:
            raise Violation("events before the watch was created")
        revision = self.next
        for event in events:
            if event.kv.mod_revision < revision:
                raise Violation(f"event of {event.kv.mod_revision} again or late, at {revision}")
            revision = event.kv.mod_revision
        if revision > header:
            raise Violation(f"event of {revision} under a header of {header}")
        self.received += events
        self.next = revision + 1

    def progress(self, revision: int) -> None:
        """Nothing up to `revision` is outstanding."""
        if self.created:
            self.next = max(self.next, revision + 1)

    def compacted(self, revision: int) -> None:
        """History before `revision` is gone."""
        if revision <= self.next:
            raise Violation(f"told of a compaction at {revision}, watched from {self.next}")
        self.gaps.append((self.next, revision))
        self.next = revision


class WatchStream:
    """A Watch call with some watchers, opened again until `close`."""

    def __init__(
        self,
        world: World,
        network: Calls,
        name: str,
        requests: Sequence[Any],
        *,
        read_ns: int,
        patience_ns: int = 0,
    ) -> None:
        """`patience_ns`: leave the call after about so long and come back; 0: never."""
        self.world = world
        self.network = network
        self.name = name
        self.read_ns = read_ns
        self.patience_ns = patience_ns
        self.watches = {each.watch_id: Watch(each, each.start_revision) for each in requests}
        self.connections = 0
        self._closed = False
        self._call: Call | None = None
        self._resume: Callable[[Any], None] | None = None

    def run(self) -> Process:
        """The process."""
        while not self._closed:
            self.connections += 1
            yield self._connect
            pause_ns = self.world.delay(20 * NS_PER_MS)
            yield lambda resume, pause_ns=pause_ns: self.world.after(pause_ns, lambda: resume(None))

    def close(self) -> None:
        """No more."""
        self._closed = True
        self._leave()

    def ask_progress(self) -> None:
        """Send a WatchProgressRequest."""
        if self._call is not None:
            request = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())
            self._call.send(request.SerializeToString())

    def _connect(self, resume: Callable[[Any], None]) -> None:
        self._resume = resume
        call = self.network.stream(WATCH, self._message, self._ended, self.read_ns)
        self._call = call
        for watch in self.watches.values():
            watch.created = False
            watch.partial.clear()
            create = rpc.WatchCreateRequest()
            create.CopyFrom(watch.request)
            create.start_revision = watch.next
            call.send(rpc.WatchRequest(create_request=create).SerializeToString())
        if self.patience_ns:
            self.world.after(self.world.delay(self.patience_ns), lambda: self._leave_call(call))

    def _leave_call(self, call: Call) -> None:
        if self._call is call:
            self._leave()

    def _leave(self) -> None:
        """Cancel the call, if there is one; the process goes on."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
            self._continue()

    def _ended(self, code: int, text: str) -> None:
        self._call = None
        self._continue()

    def _continue(self) -> None:
        resume, self._resume = self._resume, None
        if resume is not None:
            resume(None)

    def _message(self, message: bytes) -> None:
        response = rpc.WatchResponse.FromString(message)
        revision = response.header.revision
        if response.watch_id == -1:
            if response.created:
                raise Violation(f"{self.name}: refused: {response.cancel_reason}")
            for watch in self.watches.values():
                watch.progress(revision)
            return
        watch = self.watches[response.watch_id]
        if response.created:
            watch.created_at(revision)
        elif response.canceled:
            self.world.trace(f"{self.name}: compacted at {response.compact_revision}")
            watch.compacted(response.compact_revision)
            self._leave()
        elif response.events:
            watch.partial += response.events
            if not response.fragment:
                events = list(watch.partial)
                watch.partial.clear()
                watch.events(events, revision)
                self.told(watch, events)
        else:
            watch.progress(revision)

    def told(self, watch: Watch, events: Sequence[Any]) -> None:
        """For those who want to hear of events at once."""


class Auditor(WatchStream):
    """Watches everything from the beginning: what it was told is the history of the run."""

    def __init__(self, world: World, network: Calls) -> None:
        super().__init__(world, network, "auditor", [ALL], read_ns=50_000)
        self.history = History()
        self.seen: dict[int, tuple[int, int]] = {}
        """Revision -> (ticket, time) of its arrival."""

    def told(self, watch: Watch, events: Sequence[Any]) -> None:
        """Every revision has an event, so none may be missing."""
        by_revision: dict[int, list[Any]] = {}
        for event in events:
            by_revision.setdefault(event.kv.mod_revision, []).append(event)
        for revision, found in by_revision.items():
            if revision != self.history.revision + 1:
                raise Violation(f"revision {revision} follows {self.history.revision}")
            self.history.add([_event_of(each) for each in found])
            self.seen[revision] = (self.world.ticket(), self.world.now_ns)
            for each in found:
                _check_arithmetic(self.history, each)


def _event_of(event: Any) -> Event:
    if event.type:  # DELETE
        return Event(event.kv.key, None)
    return Event(event.kv.key, event.kv.value, event.kv.lease)


def _check_arithmetic(history: History, event: Any) -> None:
    """create_revision, mod_revision and version follow from the events alone."""
    if event.type:
        return
    expected = history.at(event.kv.key, event.kv.mod_revision)
    if event.kv != expected:
        raise Violation(f"event {event.kv}, expected {expected}")
