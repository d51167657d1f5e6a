"""The two long-lived streams of a pair: one end writes frames into an answer, the other reads them.

To hear from a member we open a request to it and read the endless answer; it does the same with us
(peer-wire §1). Bounds: `QUEUE_MAX` messages wait for a stream whose reader does not keep up, what
is more is dropped and Raft is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from corum.peer.codec import AppReader, AppWriter, CodecError, MessageReader, MessageWriter
from corum.peer.rules import Headers
from corum.raft import Message
from corum.values import NS_PER_MS, value

QUEUE_MAX: Final = 4_096
CONSUMED_BYTES: Final = 128 * 1024
"""Room is given back in such steps (a MiB may be under way): each wakes the transport's thread."""
REDIAL_NS: Final = 100 * NS_PER_MS
APP: Final = "msgapp"
MESSAGE: Final = "message"


@value
class Patience:
    """How long (ns) a stream may say nothing, or take nothing, until it is given up."""

    read_ns: int = 5_000 * NS_PER_MS
    write_ns: int = 5_000 * NS_PER_MS


PATIENCE: Final = Patience()


class Wire(Protocol):
    """The part of the transport that streams need."""

    def http_send(self, call: int, chunk: bytes, /) -> bool: ...
    def http_finish(self, call: int, /) -> None: ...
    def consume(self, call: int, data_bytes: int, /) -> None: ...
    def cancel(self, call: int, /) -> None: ...


class OutStream:
    """What another member opened to hear from us."""

    def __init__(
        self,
        wire: Wire,
        writer: Callable[[], AppWriter | MessageWriter],
        patience: Patience = PATIENCE,
    ) -> None:
        self._wire = wire
        self._patience = patience
        self._make = writer
        self._writer = writer()
        self._waiting: deque[Message] = deque()
        self._blocked_ns = 0
        self.call: int | None = None
        self.heartbeat_ns = 0
        self.sent_bytes = 0

    @property
    def attached(self) -> bool:
        """Is there somebody to write to?"""
        return self.call is not None

    def attach(self, call: int, now_ns: int) -> None:
        """A new reader; one from before is let go."""
        self.close()
        self.call = call
        self._writer = self._make()
        self._blocked_ns = 0
        self.heartbeat(now_ns)

    def send(self, messages: Sequence[Message], now_ns: int) -> bool:
        """Write them all, or queue them while the reader is slow. False: some were dropped."""
        if self.call is None:
            return False
        if self._blocked_ns:
            room = QUEUE_MAX - len(self._waiting)
            self._waiting.extend(messages[:room])
            return len(messages) <= room
        self._write(self._writer.encode(messages), now_ns)
        return True

    def _write(self, data: bytes, now_ns: int) -> None:
        assert self.call is not None
        self.heartbeat_ns = now_ns + self._patience.read_ns // 3
        self.sent_bytes += len(data)
        if self._wire.http_send(self.call, data):
            self._blocked_ns = now_ns

    def writable(self, now_ns: int) -> None:
        """The reader has caught up: what waited goes, until it is slow again."""
        self._blocked_ns = 0
        while self._waiting and not self._blocked_ns:
            self._write(self._writer.encode((self._waiting.popleft(),)), now_ns)

    def heartbeat(self, now_ns: int) -> None:
        """Tell the reader that the link lives."""
        if self.call is not None and not self._blocked_ns:
            self._write(self._writer.heartbeat, now_ns)

    def is_stuck(self, now_ns: int) -> bool:
        """Has the reader taken nothing for too long?"""
        return self._blocked_ns > 0 and now_ns - self._blocked_ns > self._patience.write_ns

    def closed(self) -> None:
        """The reader is gone."""
        self.call = None
        self._waiting.clear()
        self._blocked_ns = 0

    def close(self) -> None:
        """Let the reader go."""
        if self.call is not None:
            self._wire.http_finish(self.call)
        self.closed()


class Dialler(Protocol):
    """Who opens a request to the other member, and hears of what comes of it."""

    local: int
    id: int

    def dial(self, stream: InStream) -> int: ...
    def hang_up(self, call: int) -> None: ...
    def received(self, messages: list[Message]) -> None: ...
    def opened(self, stream: InStream) -> None: ...
    def lost(self, stream: InStream, why: str) -> None: ...
    def not_dialled(self, why: str) -> None: ...
    def refused(self, status: int, text: str) -> None: ...


class InStream:
    """What we opened to hear from another member; opened again whenever it ends."""

    def __init__(self, wire: Wire, peer: Dialler, kind: str, patience: Patience = PATIENCE) -> None:
        self._wire = wire
        self._patience = patience
        self._peer = peer
        self.kind = kind
        self.call: int | None = None
        self.attached = False
        self._reader: Any = None
        self._status = 0
        self.headers: Headers = []
        """Of the answer, names in lower case."""
        self._heard_ns = 0
        self._dial_ns = 0
        self.received_bytes = 0
        self._unconsumed = 0

    def tick(self, now_ns: int) -> None:
        """Dial when it is time to, give up a stream that is silent."""
        if self.call is None:
            if now_ns >= self._dial_ns:
                self._dial_ns = now_ns + REDIAL_NS
                self._heard_ns = now_ns
                self.call = self._peer.dial(self)
        elif now_ns - self._heard_ns > self._patience.read_ns:
            self._peer.hang_up(self.call)
            self.end(0, "i/o timeout", now_ns)

    def head(self, status: int, headers: Headers, now_ns: int) -> None:
        """The answer begins."""
        self._status, self.headers = status, headers
        self._heard_ns = now_ns
        self._unconsumed = 0
        if status == 200:
            self.attached = True
            app = self.kind == APP
            self._reader = AppReader(self._peer.local, self._peer.id) if app else MessageReader()
            self._peer.opened(self)

    def chunk(self, data: bytes, now_ns: int) -> None:
        """Bytes of the other member."""
        assert self.call is not None
        self._heard_ns = now_ns
        self._unconsumed += len(data)
        if self._unconsumed >= CONSUMED_BYTES:
            self._wire.consume(self.call, self._unconsumed)
            self._unconsumed = 0
        self.received_bytes += len(data)
        if not self.attached:
            self._peer.refused(self._status, data.decode("utf-8", "replace").strip())
            return
        try:
            messages = self._reader.feed(data)
        except CodecError as error:
            self._peer.hang_up(self.call)
            self.end(0, str(error), now_ns)
            return
        if messages:
            self._peer.received(messages)

    def end(self, code: int, text: str, now_ns: int) -> None:
        """The answer is over."""
        self.call = None
        if self.attached:
            self.attached = False
            self._peer.lost(self, text or "EOF")
        elif code:
            self._peer.not_dialled(text)
        self._dial_ns = max(self._dial_ns, now_ns + REDIAL_NS)

    def close(self) -> None:
        """Hear no more."""
        if self.call is not None:
            self._peer.hang_up(self.call)
        self.call = None
        self.attached = False
