"""Watch: who is to be told of which change, and the bytes to tell it with (rpc.md §5).

A *stream* is one Watch call, named by the transport's opaque call id; it holds *watchers*, each
with an id of its own. A watcher is in exactly one state:

    FUTURE ───(the store gets to its start revision)──▶ SYNCED ◀──(newest revision sent)──┐
                                                          │                               │
              (stream blocked, or the notify is too big)  ▼                               │
    PARKED ◀──(stream blocked)── UNSYNCED ◀───────────────┘                               │
       └──────(unblocked)──────▶ UNSYNCED ──── sync_slice ────────────────────────────────┘
                                     └──(its revision was compacted)──▶ GONE

Synced watchers hear from `notify`. All others remember the next revision they need and read it from
the store in slices. Nothing is queued per watcher: a slow stream costs no memory here, its
watchers fall back and read again. This module sends nothing and keeps no clock; every answer is
returned as `(stream, encoded WatchResponse)`, to be sent in order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, Protocol

from corum.mvcc import watch_wire as wire
from corum.mvcc.watch_ranges import Change, Group, RangeIndex
from corum.mvcc.watch_streams import (
    FUTURE,
    GONE,
    PARKED,
    SYNCED,
    UNSYNCED,
    RevisionQueue,
    Stream,
    Watcher,
)

Output = list[tuple[int, bytes]]
"""Encoded WatchResponses in sending order, each with the stream it belongs to."""

SLICE_WATCHERS_MAX: Final = 512  # in one catch-up step (as etcd)
SLICE_CHANGES: Final = 1_000  # read from the store in one step (as etcd's watchBatchMaxRevs)
SLICE_STREAM_BYTES: Final = 1024 * 1024  # then the stream waits for the next step
SLICE_BYTES: Final = 8 * 1024 * 1024  # then everybody waits for the next step
NOTIFY_BYTES: Final = 64 * 1024 * 1024  # in one notify; further watchers catch up in slices

DUPLICATE_ID: Final = "mvcc: duplicate watch ID provided on the WatchStream"
EMPTY_RANGE: Final = "mvcc: watcher range is empty"
COMPACTED: Final = "etcdserver: mvcc: required revision has been compacted"


class History(Protocol):
    """What watching needs of the store."""

    @property
    def revision(self) -> int:
        """Newest main revision."""
        ...

    @property
    def compacted(self) -> int:
        """Last compacted revision; 0 or less when there was none."""
        ...

    def changes_since(self, revision: int, limit: int, /) -> Sequence[Change]:
        """Changes with main revision >= `revision` in (main, sub) order.

        Never ends within a revision. May end early, after about `limit` changes or whatever size
        in bytes is sensible; it is empty only when nothing is left.
        """
        ...

    def kv_at(self, key: bytes, revision: int, /) -> bytes | None:
        """Stored KeyValue of `key` as of `revision`; None when absent then, or compacted."""
        ...


class WatchHub:
    """All watch streams of one member."""

    def __init__(
        self,
        store: History,
        header: Callable[[int], bytes],
        *,
        fragment_bytes: int = 2 * 1024 * 1024,
    ) -> None:
        """`header(revision)` is the whole field 1 of a response: tag, length and ResponseHeader.

        `fragment_bytes`: maximum request size + 512 KiB; larger answers are cut for watchers that
        asked for fragments.
        """
        self.revision = store.revision
        """Everything up to here has been handed out to the synced watchers."""
        self.events_total = 0
        """Events handed out so far, counted once per watcher."""
        self._store = store
        self._header = header
        self._fragment_bytes = fragment_bytes
        self._streams: dict[int, Stream] = {}
        self._index = RangeIndex()  # synced watchers only
        self._unsynced = RevisionQueue(UNSYNCED)
        self._future = RevisionQueue(FUTURE)
        self._blocked = 0  # blocked streams
        self._room = 0  # bytes that the current notify may still hand out
        self._ready: dict[Stream, None] = {}  # to be told their progress at the next slice
        self._timers: list[tuple[int, int]] = []  # (due, stream), stale ones included

    @property
    def idle(self) -> bool:
        """Nobody waits for new changes: `notify` may be left out, the hub follows the store."""
        return not len(self._index) and not len(self._future)

    @property
    def has_work(self) -> bool:
        """`sync_slice` has something to do: call it soon."""
        return len(self._unsynced) > 0 or bool(self._ready)

    @property
    def stream_count(self) -> int:
        return len(self._streams)

    @property
    def watcher_count(self) -> int:
        return sum(len(stream.watchers) for stream in self._streams.values())

    @property
    def slow_count(self) -> int:
        """Watchers that are behind the store."""
        return sum(stream.behind for stream in self._streams.values())

    # -- streams ------------------------------------------------------------------------------

    def open(self, stream: int, now_ns: int, progress_interval_ns: int) -> None:
        """A Watch call began. The interval carries its jitter already (10 min + up to 10 %)."""
        assert stream not in self._streams, f"stream {stream} opened twice"
        made = self._streams[stream] = Stream(stream, now_ns, progress_interval_ns)
        heappush(self._timers, (made.progress_due_ns, stream))
        if len(self._timers) > 2 * len(self._streams) + 64:
            self._timers = [(each.progress_due_ns, each.id) for each in self._streams.values()]
            heapify(self._timers)

    def close(self, stream: int) -> None:
        """The call ended, for whatever reason; its watchers vanish without an answer."""
        closed = self._streams.pop(stream, None)
        if closed is None:
            return
        for watcher in closed.watchers.values():
            self._take_out(watcher)
        self._ready.pop(closed, None)
        self._blocked -= closed.blocked

    def blocked(self, stream: int) -> None:
        """The transport's queue of `stream` is over its high-water mark: send it no events."""
        found = self._streams.get(stream)
        if found is not None and not found.blocked:
            found.blocked = True
            self._blocked += 1

    def is_blocked(self, stream: int) -> bool:
        """Is its queue over the mark?"""
        return self._blocked > 0 and self._streams[stream].blocked

    def unblocked(self, stream: int) -> None:
        """The queue drained (WRITABLE): its watchers may catch up."""
        found = self._streams.get(stream)
        if found is None or not found.blocked:
            return
        found.blocked = False
        self._blocked -= 1
        for watcher in found.parked:
            self._unsynced.push(watcher)
        found.parked.clear()
        if found.progress_wanted and not found.behind:
            self._ready[found] = None

    # -- requests -----------------------------------------------------------------------------

    def create(
        self,
        stream: int,
        key: bytes,
        range_end: bytes = b"",
        *,
        start_revision: int = 0,
        watch_id: int = 0,
        progress_notify: bool = False,
        no_put: bool = False,
        no_delete: bool = False,
        prev_kv: bool = False,
        fragment: bool = False,
    ) -> Output:
        """A WatchCreateRequest that passed authorization; the answer is its `created` response."""
        self._follow()
        owner = self._streams[stream]
        key = key or b"\0"
        end = None if not range_end else b"" if range_end == b"\0" else range_end
        if start_revision < 0:
            return self.refuse(stream, COMPACTED)
        if end and key >= end:
            return self.refuse(stream, EMPTY_RANGE)
        if watch_id == 0:
            while owner.next_id in owner.watchers:
                owner.next_id += 1
            watch_id = owner.next_id
            owner.next_id += 1
        elif watch_id in owner.watchers:
            return self.refuse(stream, DUPLICATE_ID)
        bits = (
            no_put * wire.NO_PUT
            | no_delete * wire.NO_DELETE
            | prev_kv * wire.PREV_KV
            | fragment * wire.FRAGMENT
            | progress_notify * wire.PROGRESS
        )
        watcher = Watcher(owner, watch_id, key, end, bits)
        owner.watchers[watch_id] = watcher
        watcher.next = start_revision or self.revision + 1
        self._place(watcher)
        return [(stream, self._response(watcher.id_field, wire.created_body()))]

    def refuse(self, stream: int, reason: str) -> Output:
        """Created + canceled with id -1: what a request that may not watch is answered."""
        self._follow()
        body = wire.created_body(reason)
        return [(stream, self._response(wire.id_field(wire.INVALID_ID), body))]

    def cancel(self, stream: int, watch_id: int) -> Output:
        """A WatchCancelRequest; an unknown id has no answer."""
        self._follow()
        owner = self._streams[stream]
        watcher = owner.watchers.pop(watch_id, None)
        if watcher is None:
            return []
        self._take_out(watcher)
        out = [(stream, self._response(watcher.id_field, wire.canceled_body()))]
        self._answer_progress(owner, out)
        return out

    def progress(self, stream: int) -> Output:
        """A WatchProgressRequest: answered (with id -1) once all watchers of it are synced.

        While some are behind, any number of requests gets one answer. A stream without watchers
        gets none at all, as in etcd.
        """
        self._follow()
        owner = self._streams[stream]
        out: Output = []
        if owner.watchers:
            owner.progress_wanted = True
            self._answer_progress(owner, out)
        return out

    # -- what drives it -----------------------------------------------------------------------

    def notify(self, revision: int, changes: Sequence[Change]) -> Output:
        """The store went forward to `revision` by `changes` (of one or of many revisions).

        One call for everything that was applied at once is cheapest: watchers get one response.
        """
        out: Output = []
        if changes and changes[0][0] <= self.revision:  # the idle hub had followed the store
            changes = [change for change in changes if change[0] > self.revision]
        if changes and len(self._index):
            assert changes[-1][0] <= revision, f"change {changes[-1][0]} > revision {revision}"
            matched = self._index.match(changes)
            if matched:
                self._room = NOTIFY_BYTES
                self._tell(matched, self._batch(changes, revision), out)
        self.revision = max(revision, self.revision)
        if len(self._future):
            self._wake_future()
        return out

    def sync_slice(self) -> Output:
        """One bounded step of catching up for the watchers that are furthest behind."""
        self._follow()
        out: Output = []
        for stream in self._ready:
            self._answer_progress(stream, out)
        self._ready.clear()
        first = self._next_unsynced(out)
        if first is None:
            return out
        changes = self._store.changes_since(first.next, SLICE_CHANGES)
        high = changes[-1][0] if changes else self.revision
        assert high >= first.next, f"changes since {first.next} end at {high}"
        if high > self.revision:  # the store is ahead of `notify`, which will bring the rest
            high = self.revision
            changes = [change for change in changes if change[0] <= high]
        chosen: list[Watcher] = []
        while first is not None and first.next <= high and len(chosen) < SLICE_WATCHERS_MAX:
            chosen.append(self._unsynced.pop())
            first = self._next_unsynced(out)
        self._catch_up(chosen, changes, high, out)
        return out

    def tick(self, now_ns: int) -> Output:
        """Progress notifications that are due."""
        self._follow()
        out: Output = []
        timers = self._timers
        while timers and timers[0][0] <= now_ns:
            due, stream_id = heappop(timers)
            stream = self._streams.get(stream_id)
            if stream is None or stream.progress_due_ns != due:
                continue
            stream.progress_due_ns = now_ns + stream.interval_ns
            heappush(timers, (stream.progress_due_ns, stream_id))
            if stream.blocked:
                continue
            for watcher in stream.watchers.values():
                if watcher.bits & wire.PROGRESS:
                    if watcher.quiet and watcher.state in (SYNCED, FUTURE):
                        out.append((stream_id, self._response(watcher.id_field, b"")))
                    watcher.quiet = True
        return out

    def restored(self, store: History) -> None:
        """The store was replaced by a snapshot: every synced watcher goes on from where it was."""
        since = self.revision + 1
        self._store = store
        self.revision = max(store.revision, self.revision)
        for stream in self._streams.values():
            for watcher in stream.watchers.values():
                if watcher.state == SYNCED and since <= self.revision:
                    self._fall_behind(watcher, since)
        self._wake_future()

    # -- inside -------------------------------------------------------------------------------

    def _response(self, id_field: bytes, body: bytes) -> bytes:
        return self._header(self.revision) + id_field + body

    def _follow(self) -> None:
        """Without synced or future watchers, a jump to the store's revision misses nothing."""
        if self.idle:
            self.revision = max(self.revision, self._store.revision)

    def _place(self, watcher: Watcher) -> None:
        """Give a watcher that is in no structure the state that its next revision asks for."""
        if watcher.next > self.revision + 1:
            self._future.push(watcher)
        elif watcher.next == self.revision + 1:
            watcher.state = SYNCED
            self._index.group(watcher.key, watcher.end).add(watcher)
        else:
            watcher.stream.behind += 1
            self._unsynced.push(watcher)

    def _take_out(self, watcher: Watcher) -> None:
        """Remove from whatever structure holds it; the watcher is GONE."""
        state = watcher.state
        watcher.state = GONE
        if state == SYNCED:
            self._leave_group(watcher)
        elif state == UNSYNCED:
            watcher.stream.behind -= 1
            self._unsynced.forget()
        elif state == PARKED:
            watcher.stream.behind -= 1
            del watcher.stream.parked[watcher]
        elif state == FUTURE:
            self._future.forget()

    def _leave_group(self, watcher: Watcher) -> None:
        group = watcher.group
        assert group is not None
        if group.remove(watcher):
            self._index.discard(group)

    def _fall_behind(self, watcher: Watcher, since: int) -> None:
        """SYNCED -> UNSYNCED: it has everything before `since` and nothing from there on."""
        assert watcher.state == SYNCED
        self._leave_group(watcher)
        watcher.next = since
        watcher.stream.behind += 1
        self._unsynced.push(watcher)

    def _wake_future(self) -> None:
        while (watcher := self._future.first()) and watcher.next <= self.revision + 1:
            self._place(self._future.pop())

    def _answer_progress(self, stream: Stream, out: Output) -> None:
        if stream.progress_wanted and not stream.behind and not stream.blocked:
            stream.progress_wanted = False
            if stream.watchers:
                out.append((stream.id, self._response(wire.id_field(wire.INVALID_ID), b"")))

    # -- notify -------------------------------------------------------------------------------

    def _tell(self, matched: dict[Group, list[int]], batch: wire.EventBatch, out: Output) -> None:
        for group, hits in matched.items():
            if self._blocked:
                self._shed_blocked(group)
            if group.plain:
                bodies = batch.bodies(hits, 0)
                self._shed_excess(group.plain, bodies)
                _deliver(group.plain, batch.head, bodies, out)
                self.events_total += len(hits) * len(group.plain)
            if group.special:
                self._tell_special(group.special, hits, batch, out)

    def _tell_special(
        self, watchers: list[Watcher], hits: list[int], batch: wire.EventBatch, out: Output
    ) -> None:
        by_form: dict[int, list[Watcher]] = {}
        for watcher in watchers:
            by_form.setdefault(watcher.bits & wire.FORM, []).append(watcher)
        for form, members in by_form.items():
            bodies = batch.bodies(hits, form)
            if not bodies:
                continue
            self._shed_excess(members, bodies)
            kept = [watcher for watcher in members if watcher.state == SYNCED]
            for watcher in kept:
                watcher.quiet = False
            _deliver(kept, batch.head, bodies, out)
            self.events_total += len(hits) * len(kept)

    def _shed_blocked(self, group: Group) -> None:
        slow = [each for each in (*group.plain, *(group.special or ())) if each.stream.blocked]
        for watcher in slow:
            self._fall_behind(watcher, self.revision + 1)

    def _shed_excess(self, watchers: list[Watcher], bodies: list[bytes]) -> None:
        """Let those who do not fit into the room of this notify catch up later."""
        size = sum(map(len, bodies)) + 1
        fitting = self._room // size
        for watcher in watchers[fitting:]:
            self._fall_behind(watcher, self.revision + 1)
        self._room -= size * min(fitting, len(watchers))

    def _batch(self, changes: Sequence[Change], revision: int) -> wire.EventBatch:
        head = self._header(revision)
        return wire.EventBatch(changes, head, self._store.kv_at, self._fragment_bytes)

    # -- catching up --------------------------------------------------------------------------

    def _next_unsynced(self, out: Output) -> Watcher | None:
        """The watcher furthest behind that may be sent to; settles those that may not or cannot."""
        while (watcher := self._unsynced.first()) is not None:
            if watcher.stream.blocked:
                self._unsynced.pop()
                watcher.state = PARKED
                watcher.stream.parked[watcher] = None
            elif watcher.next < self._store.compacted:
                self._cancel_compacted(watcher, out)
            else:
                return watcher
        return None

    def _cancel_compacted(self, watcher: Watcher, out: Output) -> None:
        """The history it needs is gone. etcd leaves the revision out of this header, so do we."""
        stream = watcher.stream
        del stream.watchers[watcher.id]
        self._take_out(watcher)
        body = wire.canceled_body(self._store.compacted)
        out.append((stream.id, self._header(0) + watcher.id_field + body))
        self._answer_progress(stream, out)

    def _catch_up(
        self, chosen: Iterable[Watcher], changes: Sequence[Change], high: int, out: Output
    ) -> None:
        """Bring these watchers to `high + 1`, or leave them where they are for want of room."""
        scratch = RangeIndex()
        ranged = [(watcher, scratch.group(watcher.key, watcher.end)) for watcher in chosen]
        matched = scratch.match(changes)
        batch = self._batch(changes, self.revision)
        encoded: dict[tuple[Group, int, int], list[bytes]] = {}
        sent: dict[Stream, int] = {}
        total = 0
        for watcher, group in ranged:
            stream = watcher.stream
            hits = matched.get(group)
            if hits and changes[hits[-1]][0] >= watcher.next:
                if total >= SLICE_BYTES or sent.get(stream, 0) >= SLICE_STREAM_BYTES:
                    self._unsynced.push(watcher)
                    continue
                start = bisect_left(hits, watcher.next, key=lambda at: changes[at][0])
                form = watcher.bits & wire.FORM
                bodies = encoded.get((group, start, form))
                if bodies is None:
                    bodies = batch.bodies(hits[start:] if start else hits, form)
                    encoded[group, start, form] = bodies
                if bodies:
                    _deliver((watcher,), batch.head, bodies, out)
                    size = sum(map(len, bodies))
                    sent[stream] = sent.get(stream, 0) + size
                    total += size
                    watcher.quiet = False
                    self.events_total += len(hits) - start
            watcher.next = high + 1
            stream.behind -= 1
            self._place(watcher)
            self._answer_progress(stream, out)


def _deliver(
    watchers: Sequence[Watcher], head: bytes, bodies: Sequence[bytes], out: Output
) -> None:
    """The same bodies to each of these; watchers with equal ids even share the whole response."""
    append = out.append
    if len(bodies) != 1:
        for watcher in watchers:
            start = head + watcher.id_field
            for body in bodies:
                append((watcher.stream.id, start + body))
        return
    body = bodies[0]
    made: dict[bytes, bytes] = {}
    for watcher in watchers:
        field = watcher.id_field
        response = made.get(field)
        if response is None:
            response = made[field] = head + field + body
        append((watcher.stream.id, response))
