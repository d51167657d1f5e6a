"""A watch on its own stream that opens the next one when it breaks."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from corum.client import methods
from corum.client._async.runtime import RpcError, Stream
from corum.client.errors import from_status
from corum.client.lease_clock import NS_PER_S

if TYPE_CHECKING:
    from corum.client._async.session import Session
    from corum.client.watch_state import WatchState
    from corum.pb import rpc

CANCELED = 1


class Watching:
    """An iterator of watch responses. `aclose` ends it, from any thread in the synchronous form.

    Yields responses with events, and such without events where only progress is told. Raises
    Compacted, WatchCanceled, or what the server refused the stream with.
    """

    def __init__(self, session: Session, state: WatchState) -> None:
        self._session = session
        self._state = state
        self._stream: Stream | None = None
        self._closed = False

    async def __aenter__(self) -> Watching:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Watching:
        return self

    async def __anext__(self) -> rpc.WatchResponse:
        response = await self.receive()
        if response is None:
            raise StopAsyncIteration
        return response

    async def receive(self, timeout_s: float | None = None) -> rpc.WatchResponse | None:
        """The next response; None when closed. Raises TimeoutError, and can then be called again.

        timeout_s: until it comes; None waits for ever.
        """
        end_ns = None if timeout_s is None else monotonic_ns() + int(timeout_s * NS_PER_S)
        while not self._closed:
            stream = self._stream or await self._open()
            left_s = None if end_ns is None else max(end_ns - monotonic_ns(), 0) / NS_PER_S
            try:
                data = await stream.receive(left_s)
            except RpcError as error:
                if self._closed:
                    break
                self._stream = None
                if not self._session.stream_ended(stream, error):
                    raise from_status(error.code, error.text) from None
                continue
            if data is None:  # the server closed in good order: it is going away
                self._stream = None
                self._session.stream_ended(stream, RpcError(14, "the stream was closed"))
                continue
            response = self._state.received(methods.WATCH.decode(data))
            if response is not None:
                return response
        return None

    async def request_progress(self) -> None:
        """Ask the server to tell how far the watch is; the answer comes as a response."""
        from corum.pb import rpc

        if self._stream is not None:
            request = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())
            await self._stream.send(request.SerializeToString())

    async def aclose(self) -> None:
        self._closed = True
        if self._stream is not None:
            self._stream.cancel()

    async def _open(self) -> Stream:
        from corum.pb import rpc

        stream = await self._session.stream(methods.WATCH)
        request = rpc.WatchRequest(create_request=self._state.request())
        await stream.send(request.SerializeToString())
        self._stream = stream
        if self._closed:
            stream.cancel()
        return stream
