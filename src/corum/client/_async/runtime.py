"""What the asynchronous client stands on: the transport, asyncio's lock and sleep.

All calls are started on the transport and answered through its inbox, which the event loop
empties when the transport's descriptor becomes readable. Everything happens on that one loop.
"""

from __future__ import annotations

import asyncio
from asyncio import Lock, sleep
from collections import deque
from contextlib import nullcontext as Guard
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias, TypeVar

from corum._transport import (
    RESPONSE,
    RESPONSE_END,
    RESPONSE_MESSAGE,
    Channel,
    ChannelSettings,
    ClientTls,
    RpcError,
    Settings,
    Transport,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from corum.client.options import Options

__all__ = [
    "Background",
    "Channel",
    "Guard",
    "Lock",
    "Mailbox",
    "Network",
    "RpcError",
    "Sink",
    "Stream",
    "Work",
    "sleep",
]  # Guard: what few steps without an await need in the other colour, nothing here

T = TypeVar("T")
Work: TypeAlias = "Callable[[], Awaitable[None]]"  # what a background can be given to run

PENDING_BYTES_MAX = 64 * 1024 * 1024  # of one stream that is not read; then it is broken off
PATIENT_BYTES_MAX = 4 * 1024 * 1024  # of a download; then the inbox is left alone
POLL_EVENTS_MAX = 1024
BACKOFF_MAX_MS = 1_000  # a member that comes back is found within it
TOO_SLOW_TEXT = "connection error: the stream was not read and has been broken off"


class Network:
    """The transport of one client, bound to the running event loop.

    patient: when a stream is not read, let the sender wait (all of this network waits with it)
    instead of breaking the stream off.
    """

    def __init__(self, options: Options, *, patient: bool = False) -> None:
        self._options = options
        self._patient = patient
        inbox_bytes = PATIENT_BYTES_MAX if patient else PENDING_BYTES_MAX
        self._transport = Transport(Settings(inbox_bytes_max=inbox_bytes))
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._streams: dict[int, Stream] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._paused = False

    def channel(self, address: str) -> Channel:
        """The way to one endpoint, as `options.target` writes it; it connects at first use.

        It closes when neither the caller nor a call on it holds it any more.
        """
        options = self._options
        tls = None
        if options.tls is not None:
            tls = ClientTls(
                ca_file=options.tls.ca_file,
                cert_file=options.tls.cert_file,
                key_file=options.tls.key_file,
                server_name=options.tls.server_name,
                skip_verify=options.tls.skip_verify,
            )
        settings = ChannelSettings(
            tls=tls,
            recv_max_bytes=options.recv_max_bytes,
            connect_timeout_ms=max(1, int(options.dial_timeout_s * 1000)),
            backoff_max_ms=BACKOFF_MAX_MS,
            keepalive_time_ms=int(options.keepalive_s * 1000),
            keepalive_timeout_ms=int(options.keepalive_timeout_s * 1000),
        )
        return self._transport.connect(address, settings)

    async def unary(
        self,
        channel: Channel,
        path: str,
        message: bytes,
        metadata: Sequence[tuple[str, str]],
        timeout_s: float | None,
    ) -> bytes:
        """The answer of one call. Raises RpcError; a cancelled task cancels the call."""
        loop = self._attach()
        timeout_ms = 0 if timeout_s is None else int(timeout_s * 1000) + 1
        call = channel.start_unary(path, message, metadata, timeout_ms)
        future: asyncio.Future[bytes] = loop.create_future()
        self._calls[call] = future
        try:
            return await future
        finally:
            if self._calls.pop(call, None) is not None:
                self._transport.cancel(call)

    async def stream(
        self,
        channel: Channel,
        path: str,
        metadata: Sequence[tuple[str, str]],
        sink: Sink | None = None,
    ) -> Stream:
        """A new stream of any kind; failures to connect show when it is read.

        sink: who gets its messages and its end instead of `receive`.
        """
        self._attach()
        call = channel.start_stream(path, metadata)
        stream = self._streams[call] = Stream(self, self._transport, channel, call, sink)
        return stream

    async def aclose(self) -> None:
        """Break everything off. Idempotent."""
        if self._loop is not None:
            if not self._loop.is_closed():
                self._pause()
            self._loop = None
        gone = RpcError(1, "the client was closed")
        for future in self._calls.values():
            if not future.done() and not future.get_loop().is_closed():
                future.set_exception(gone)
        self._calls.clear()
        for stream in list(self._streams.values()):
            stream.ended(gone)
        self._streams.clear()
        self._transport.close()

    def forget(self, call: int) -> None:
        self._streams.pop(call, None)

    def drained(self, stream: Stream) -> None:
        """A patient stream has been read: go on, if it was the reason to pause."""
        if self._paused and stream.pending_bytes <= PATIENT_BYTES_MAX and self._loop is not None:
            self._loop.add_reader(self._transport.fileno(), self._readable)
            self._paused = False

    def _attach(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            loop.add_reader(self._transport.fileno(), self._readable)
        elif self._loop is not loop:
            raise RuntimeError("this client belongs to another event loop")
        return loop

    def _pause(self) -> None:
        if self._loop is not None and not self._paused:
            self._loop.remove_reader(self._transport.fileno())
            self._paused = True

    def _readable(self) -> None:
        self._transport.drain_fileno()
        while not self._paused:
            events = self._transport.poll(0, POLL_EVENTS_MAX)
            for event in events:
                self._deal(event)
            if len(events) < POLL_EVENTS_MAX:
                return

    def _deal(self, event: tuple[object, ...]) -> None:
        kind, call = event[0], event[1]
        assert isinstance(call, int), f"no call id in {event[:2]}"
        if kind == RESPONSE_MESSAGE:
            stream = self._streams.get(call)
            if stream is not None:
                assert isinstance(event[2], bytes), "a message is bytes"
                self._deliver(stream, event[2])
        elif kind == RESPONSE:
            future = self._calls.pop(call, None)
            if future is not None and not future.done():
                assert isinstance(event[2], bytes), "a message is bytes"
                future.set_result(event[2])
        elif kind == RESPONSE_END:
            self._end(call, event)

    def _end(self, call: int, event: tuple[object, ...]) -> None:
        code, text = event[2], event[3]
        assert isinstance(code, int), f"no code in {event[:4]}"
        error = RpcError(code, str(text)) if code else None
        future = self._calls.pop(call, None)
        if future is not None and not future.done():
            future.set_exception(error or RpcError(13, "the call ended without an answer"))
        stream = self._streams.pop(call, None)
        if stream is not None:
            stream.ended(error)

    def _deliver(self, stream: Stream, message: bytes) -> None:
        pending = stream.received(message)
        if self._patient:
            if pending > PATIENT_BYTES_MAX:
                self._pause()
        elif pending > PENDING_BYTES_MAX:
            stream.cancel()
            stream.ended(RpcError(14, TOO_SLOW_TEXT))


class Mailbox(Generic[T]):
    """A queue that one task reads."""

    __slots__ = ("_items", "_waiter")

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, item: T) -> None:
        self._items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self, timeout_s: float | None = None) -> T:
        """The oldest item. Raises TimeoutError. Who is cancelled here has taken nothing."""
        while not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            if timeout_s is None:
                await self._waiter
            else:
                await asyncio.wait_for(self._waiter, timeout_s)
        return self._items.popleft()


class Sink(Protocol):
    """Who hears of a stream at once, on the event loop."""

    def received(self, stream: Stream, message: bytes) -> None: ...

    def ended(self, stream: Stream, error: RpcError | None) -> None: ...


class Stream:
    """One call with many messages. `index` is the endpoint it goes to. One task reads it."""

    __slots__ = (
        "_call", "_channel", "_end", "_mailbox", "_network", "_sink", "_transport", "index",
        "is_over", "pending_bytes",
    )  # fmt: skip

    def __init__(
        self,
        network: Network,
        transport: Transport,
        channel: Channel,
        call: int,
        sink: Sink | None,
    ) -> None:
        self._network = network
        self._transport = transport
        self._channel = channel  # held while the stream is
        self._call = call
        self._sink = sink
        self._mailbox: Mailbox[bytes | None] = Mailbox()
        self._end: RpcError | None = None
        self.is_over = False
        self.index = 0
        self.pending_bytes = 0

    async def send(self, message: bytes) -> None:
        self._transport.stream_send(self._call, message)

    def post(self, message: bytes) -> None:
        """As `send`, from where nothing can be awaited."""
        self._transport.stream_send(self._call, message)

    async def half_close(self) -> None:
        self._transport.half_close(self._call)

    async def receive(self, timeout_s: float | None = None) -> bytes | None:
        """The next message; None at a good end. Raises RpcError, TimeoutError."""
        message = await self._mailbox.get(timeout_s)
        if message is None:
            self._mailbox.put(None)  # the end stays the end
            if self._end is not None:
                raise self._end
            return None
        self.pending_bytes -= len(message)
        self._network.drained(self)
        return message

    def cancel(self) -> None:
        """Give the call up; nothing more arrives, who waits gets RpcError 1."""
        self._network.forget(self._call)
        self._transport.cancel(self._call)
        self.ended(RpcError(1, "canceled"))

    # The network's side ----------------------------------------------------------------------

    def received(self, message: bytes) -> int:
        """Queue a message; bytes that now wait to be read."""
        if self._sink is not None:
            self._sink.received(self, message)
            return 0
        self.pending_bytes += len(message)
        self._mailbox.put(message)
        return self.pending_bytes

    def ended(self, error: RpcError | None) -> None:
        if self.is_over:
            return
        self._end = error
        self.is_over = True
        self._mailbox.put(None)
        if self._sink is not None:
            self._sink.ended(self, error)


class Background:
    """A function that runs beside its caller until it returns."""

    def __init__(self, run: Callable[[], Awaitable[None]]) -> None:
        self._task = asyncio.ensure_future(run())

    async def aclose(self) -> None:
        """Wait for its end, which the caller has made it come to."""
        if not self._task.done():
            await asyncio.gather(self._task, return_exceptions=True)
