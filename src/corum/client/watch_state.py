"""What one watch has seen, and what follows from the next response. Pure.

A watch may lose its stream at any time; `request` then asks for what comes after the last event
handed out, so that none is lost or repeated. Pieces of a response (`fragment`) are put together
before they are handed out: a revision is seen whole or not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from corum.client.errors import COMPACTED_TEXT, ClientError, WatchCanceled, compacted
from corum.client.results import Events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corum.client.results import RawEvent
    from corum.pb import rpc


class Response(NamedTuple):
    """What a server has told a watch: `head` is its response, the events of which are `events`."""

    head: rpc.WatchResponse
    events: Events

    def message(self) -> rpc.WatchResponse:
        """The whole response, with its events."""
        whole = type(self.head)()
        whole.CopyFrom(self.head)
        for deleted, kv, previous in self.events:
            event = whole.events.add(type=int(deleted), kv=kv._asdict())
            if previous is not None:
                event.prev_kv.MergeFrom(type(event.kv)(**previous._asdict()))
        return whole


class WatchState:
    """One watch, from its first request over any number of streams to its end."""

    __slots__ = ("_first", "_next", "_pieces", "created")

    def __init__(self, request: rpc.WatchCreateRequest) -> None:
        self._first = request
        self._next = request.start_revision
        self._pieces: list[RawEvent] = []
        self.created = False

    @property
    def next_revision(self) -> int:
        """The oldest revision not yet handed out; 0 before the server has said where it starts."""
        return self._next

    def request(self) -> rpc.WatchCreateRequest:
        """What to ask for on a new stream."""
        self._pieces = []
        again = type(self._first)()
        again.CopyFrom(self._first)
        again.start_revision = self._next
        return again

    def received(self, head: rpc.WatchResponse, raw: Sequence[RawEvent]) -> Response | None:
        """What to hand out for a response and its events; None for nothing (yet).

        A response without events tells only how far the watch is. Raises Compacted or
        WatchCanceled when the server has ended the watch, ValueError when it talks nonsense.
        """
        if head.canceled:
            raise _ended(head)
        if head.created:
            self.created = True
            if self._next == 0:
                self._next = head.header.revision + 1
            return None
        if self._pieces or head.fragment:
            self._pieces += raw
            if head.fragment:
                return None
            raw, self._pieces = self._pieces, []
        events = Events(raw)
        if raw:
            self._next = max(self._next, events.revision + 1)
        elif head.watch_id >= 0:  # an answer for all of a stream may overtake events of one
            self._next = max(self._next, head.header.revision + 1)
        return Response(head, events)


def _ended(response: rpc.WatchResponse) -> ClientError:
    if response.compact_revision:
        return compacted(response.compact_revision)
    if response.cancel_reason == COMPACTED_TEXT:
        return compacted()
    return WatchCanceled(response.cancel_reason or "etcdserver: watch canceled")
