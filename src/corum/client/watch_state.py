"""What one watch has seen, and what follows from the next response. Pure.

A watch may lose its stream at any time; `request` then asks for what comes after the last event
handed out, so that none is lost or repeated. Pieces of a response (`fragment`) are put together
before they are handed out: a revision is seen whole or not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.client.errors import COMPACTED_TEXT, ClientError, WatchCanceled, compacted

if TYPE_CHECKING:
    from corum.pb import rpc


class WatchState:
    """One watch, from its first request over any number of streams to its end."""

    __slots__ = ("_first", "_next", "_pieces", "created")

    def __init__(self, request: rpc.WatchCreateRequest) -> None:
        self._first = request
        self._next = request.start_revision
        self._pieces: rpc.WatchResponse | None = None
        self.created = False

    @property
    def with_previous(self) -> bool:
        """Whether its events tell what was before."""
        return self._first.prev_kv

    @property
    def next_revision(self) -> int:
        """The oldest revision not yet handed out; 0 before the server has said where it starts."""
        return self._next

    def request(self) -> rpc.WatchCreateRequest:
        """What to ask for on a new stream."""
        self._pieces = None
        again = type(self._first)()
        again.CopyFrom(self._first)
        again.start_revision = self._next
        return again

    def received(self, response: rpc.WatchResponse) -> rpc.WatchResponse | None:
        """What to hand out for a response; None for nothing (yet).

        A response without events tells only how far the watch is. Raises Compacted or
        WatchCanceled when the server has ended the watch.
        """
        if response.canceled:
            raise _ended(response)
        if response.created:
            self.created = True
            if self._next == 0:
                self._next = response.header.revision + 1
            return None
        if self._pieces is not None:
            self._pieces.events.extend(response.events)
            response = self._joined(response)
        if response.fragment:
            self._pieces = response
            return None
        self._pieces = None
        if response.events:
            self._next = max(self._next, response.events[-1].kv.mod_revision + 1)
        elif response.watch_id >= 0:  # an answer for all of a stream may overtake events of one
            self._next = max(self._next, response.header.revision + 1)
        return response

    def _joined(self, last: rpc.WatchResponse) -> rpc.WatchResponse:
        assert self._pieces is not None, "no pieces to join"
        self._pieces.fragment = last.fragment
        return self._pieces


def _ended(response: rpc.WatchResponse) -> ClientError:
    if response.compact_revision:
        return compacted(response.compact_revision)
    if response.cancel_reason == COMPACTED_TEXT:
        return compacted()
    return WatchCanceled(response.cancel_reason or "etcdserver: watch canceled")
