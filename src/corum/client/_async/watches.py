"""All watches of a session on one stream of its cluster.

The server numbers watches in the order in which they are asked for, so an answer "created" belongs
to the oldest request without one. When the stream breaks, each watch is told so and joins the next
stream itself, from the revision that it has not seen; nobody is needed to keep idle watches alive.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from corum.client import methods
from corum.client._async.runtime import Guard, Lock, RpcError
from corum.client.errors import INTERNAL, from_status
from corum.client.results import split_events
from corum.pb import rpc

if TYPE_CHECKING:
    from corum.client._async.runtime import Stream
    from corum.client._async.session import Session
    from corum.client._async.watching import Watching

GOING_AWAY = "the stream was closed"


class Watches:
    """Who is on the stream, and the stream's events dealt out to them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._opening = Lock()
        self._guard = Guard()  # around what follows
        self._stream: Stream | None = None
        self._asked: deque[Watching] = deque()  # not created yet, in the order of the requests
        self._members: dict[int, Watching] = {}  # by the server's number
        self._numbers: dict[Watching, int] = {}

    async def join(self, watching: Watching) -> None:
        """Ask for the watch on the stream, which is opened if there is none.

        What becomes of it arrives as `Watching.arrived` and `Watching.parted`.
        """
        async with self._opening:
            stream = self._stream
            if stream is None:
                stream = await self._session.stream(methods.WATCH, self)
                with self._guard:
                    self._stream = stream
        request = rpc.WatchRequest(create_request=watching.state.request())
        with self._guard:
            if self._stream is stream and not stream.is_over:
                self._asked.append(watching)
                stream.post(request.SerializeToString())  # in the order of `_asked`
                return
            if self._stream is stream:  # it ended before it was ours
                self._stream = None
        watching.parted(None)

    def leave(self, watching: Watching) -> None:
        """End a watch on the server; one that is not created yet ends when it is."""
        with self._guard:
            number = self._numbers.get(watching)
            if number is not None and self._stream is not None:
                self._cancel(self._stream, watching, number)

    def request_progress(self) -> None:
        """Ask how far the stream is; each watch gets the answer as a response without events."""
        request = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())
        with self._guard:
            if self._stream is not None:
                self._stream.post(request.SerializeToString())

    def restart(self) -> None:
        """Give the stream up, so that the next one is opened with the session's newest token."""
        with self._guard:
            stream, everybody = self._taken()
        if stream is not None:
            stream.cancel()
        for watching in everybody:
            watching.parted(None)

    # The stream's side -----------------------------------------------------------------------

    def received(self, stream: Stream, message: bytes) -> None:
        try:
            events, rest = split_events(message)
            response = methods.WATCH.decode(rest)
        except (ValueError, DecodeError) as error:
            self.ended(stream, RpcError(INTERNAL, f"not a watch response: {error}"))
            stream.cancel()
            return
        size = len(message)
        with self._guard:
            if stream is not self._stream:
                return
            if response.created:
                self._created(stream, response, size)
            elif response.watch_id < 0:
                for watching in self._members.values():
                    watching.arrived(response, [], 0)
            elif response.watch_id in self._members:
                watching = self._members[response.watch_id]
                if response.canceled:
                    del self._members[response.watch_id], self._numbers[watching]
                    watching.arrived(response, events, size)
                elif not watching.arrived(response, events, size):
                    self._cancel(stream, watching, response.watch_id)
                    watching.parted(None)  # to come back when it has read what is there

    def ended(self, stream: Stream, error: RpcError | None) -> None:
        error = error or RpcError(14, GOING_AWAY)
        with self._guard:
            if stream is not self._stream:
                return
            _, everybody = self._taken()
        again = self._session.stream_ended(stream, error)
        failure = None if again else from_status(error.code, error.text)
        for watching in everybody:
            watching.parted(failure)

    # Inside, with the guard held -------------------------------------------------------------

    def _created(self, stream: Stream, response: rpc.WatchResponse, size: int) -> None:
        if not self._asked:
            return  # not ours: the server has invented it
        watching = self._asked.popleft()
        if response.canceled:
            watching.arrived(response, [], size)
        elif watching.closed:
            self._cancel(stream, watching, response.watch_id)
        else:
            self._members[response.watch_id] = watching
            self._numbers[watching] = response.watch_id
            watching.arrived(response, [], size)

    def _cancel(self, stream: Stream, watching: Watching, number: int) -> None:
        self._members.pop(number, None)
        self._numbers.pop(watching, None)
        request = rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=number))
        stream.post(request.SerializeToString())

    def _taken(self) -> tuple[Stream | None, list[Watching]]:
        """The stream and everybody on it, who are not on it any more."""
        everybody = [*self._members.values(), *self._asked]
        stream, self._stream = self._stream, None
        self._members.clear()
        self._numbers.clear()
        self._asked.clear()
        return stream, everybody
