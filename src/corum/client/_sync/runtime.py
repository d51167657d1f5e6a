"""What the synchronous client stands on: the transport, a lock, sleeping.

A unary call waits in the transport without the GIL, on the caller's thread. Streams come through
the transport's inbox, which one thread of the network (the pump) empties into a queue per stream;
it starts with the first stream. Methods may be called from any thread.
"""

from __future__ import annotations

from _thread import allocate_lock as Lock
from time import sleep
from typing import TYPE_CHECKING, Generic, TypeVar

from corum._transport import RpcError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import Thread
    from typing import Protocol, TypeAlias

    from corum._transport import Channel, Transport
    from corum.client.options import Options

    class Sink(Protocol):
        """Who hears of a stream at once, on the pump's thread."""

        def received(self, stream: Stream, message: bytes) -> None: ...

        def ended(self, stream: Stream, error: RpcError | None) -> None: ...


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
]

T = TypeVar("T")
Guard = Lock  # around few steps that wait for nothing

Work: TypeAlias = "Callable[[], None]"  # what a background can be given to run

PENDING_BYTES_MAX = 64 * 1024 * 1024  # of one stream that is not read; then it is broken off
PATIENT_BYTES_MAX = 4 * 1024 * 1024  # of a download; then the pump waits
POLL_EVENTS_MAX = 1024
BACKOFF_MAX_MS = 1_000  # a member that comes back is found within it
TOO_SLOW_TEXT = "connection error: the stream was not read and has been broken off"


class Network:
    """The transport of one client, and the thread that deals out its events.

    patient: when a stream is not read, let the sender wait (all streams of this network wait with
    it) instead of breaking the stream off.
    """

    def __init__(self, options: Options, *, patient: bool = False) -> None:
        from corum._transport import Settings, Transport

        self._options = options
        self._patient = patient
        inbox_bytes = PATIENT_BYTES_MAX if patient else PENDING_BYTES_MAX
        self._transport: Transport = Transport(Settings(inbox_bytes_max=inbox_bytes))
        self._streams: dict[int, Stream] = {}
        self._lock = Lock()
        self._pump: Thread | None = None
        self._closed = False

    def channel(self, address: str) -> Channel:
        """The way to one endpoint, as `options.target` writes it; it connects at first use.

        It closes when neither the caller nor a call on it holds it any more.
        """
        from corum._transport import ChannelSettings, ClientTls

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

    def unary(
        self,
        channel: Channel,
        path: str,
        message: bytes,
        metadata: Sequence[tuple[str, str]],
        timeout_s: float | None,
    ) -> bytes:
        """The answer of one call. Raises RpcError."""
        timeout_ms = 0 if timeout_s is None else int(timeout_s * 1000) + 1
        return channel.unary(path, message, metadata, timeout_ms)

    def stream(
        self,
        channel: Channel,
        path: str,
        metadata: Sequence[tuple[str, str]],
        sink: Sink | None = None,
    ) -> Stream:
        """A new stream of any kind; failures to connect show when it is read.

        sink: who gets its messages and its end instead of `receive`.
        """
        with self._lock:  # so that the pump knows the stream before its first event
            if self._pump is None and not self._closed:
                self._start_pump()
            call = channel.start_stream(path, metadata)
            stream = self._streams[call] = Stream(self, self._transport, channel, call, sink)
        return stream

    def close(self) -> None:
        """Break everything off and join the pump. Idempotent."""
        with self._lock:  # a pump that is being started is started first
            self._closed = True
            pump, self._pump = self._pump, None
        self._transport.close()
        if pump is not None:
            pump.join()
        for stream in list(self._streams.values()):
            stream.ended(RpcError(1, "the client was closed"))

    def forget(self, call: int) -> None:
        with self._lock:
            self._streams.pop(call, None)

    def _start_pump(self) -> None:
        from threading import Thread

        self._pump = Thread(target=self._run_pump, name="corum-client", daemon=True)
        self._pump.start()

    def _run_pump(self) -> None:
        from corum._transport import RESPONSE_END, RESPONSE_MESSAGE

        while not self._closed:
            for event in self._transport.poll(-1, POLL_EVENTS_MAX):
                kind, call = event[0], event[1]
                with self._lock:
                    stream = self._streams.get(call)
                if stream is None:
                    continue
                if kind == RESPONSE_MESSAGE:
                    self._deliver(stream, event[2])
                elif kind == RESPONSE_END:
                    self.forget(call)
                    stream.ended(RpcError(event[2], event[3], event[4]) if event[2] else None)

    def _deliver(self, stream: Stream, message: bytes) -> None:
        pending = stream.received(message)
        if self._patient:
            while stream.pending_bytes > PATIENT_BYTES_MAX and not self._closed:
                sleep(0.002)
        elif pending > PENDING_BYTES_MAX:
            stream.cancel()
            stream.ended(RpcError(14, TOO_SLOW_TEXT))


class Mailbox(Generic[T]):
    """A queue that one thread reads."""

    __slots__ = ("_queue", "put")

    def __init__(self) -> None:
        from queue import SimpleQueue

        self._queue: SimpleQueue[T] = SimpleQueue()
        self.put = self._queue.put

    def get(self, timeout_s: float | None = None) -> T:
        """The oldest item. Raises TimeoutError."""
        from queue import Empty

        try:
            return self._queue.get(timeout=timeout_s)
        except Empty:
            raise TimeoutError from None


class Stream:
    """One call with many messages. `index` is the endpoint it goes to."""

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

    def send(self, message: bytes) -> None:
        self._transport.stream_send(self._call, message)

    def post(self, message: bytes) -> None:
        """As `send`, from where nothing can be awaited."""
        self._transport.stream_send(self._call, message)

    def half_close(self) -> None:
        self._transport.half_close(self._call)

    def receive(self, timeout_s: float | None = None) -> bytes | None:
        """The next message; None at a good end. Raises RpcError, TimeoutError."""
        message = self._mailbox.get(timeout_s)
        if message is None:
            self._mailbox.put(None)  # the end stays the end
            if self._end is not None:
                raise self._end
            return None
        self.pending_bytes -= len(message)
        return message

    def cancel(self) -> None:
        """Give the call up; nothing more arrives, who waits gets RpcError 1."""
        self._network.forget(self._call)
        self._transport.cancel(self._call)
        self.ended(RpcError(1, "canceled"))

    # The pump's side -------------------------------------------------------------------------

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
    """A function that runs on its own thread until it returns."""

    def __init__(self, run: Callable[[], None]) -> None:
        from threading import Thread

        self._thread = Thread(target=run, name="corum-client-background", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait for its end, which the caller has made it come to."""
        self._thread.join()
