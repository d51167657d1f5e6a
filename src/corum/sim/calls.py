"""The network between clients and one member: calls in order each, in any order among them.

Takes the place of the transport: answers arrive late, slow readers fill a bounded queue, and when
the member dies a part of what it had sent still arrives, then the connection breaks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from corum import _transport as wire
from corum import errors
from corum.server.outbox import Message, whole
from corum.sim.world import World

NETWORK_NS: Final = 150_000
HIGH_WATER_BYTES: Final = 2_048
LOW_WATER_BYTES: Final = 512
REFUSED: Final = "sim: connection refused"
"""The request never left the client."""
BROKEN: Final = "sim: connection broken"
"""The request may have been carried out."""
META: Final[tuple[Any, ...]] = (None, None, None, None, 1, None, None)
CLIENTS: Final = 0
"""The listener that clients' HTTP requests come to."""
FORM: Final = (("content-type", "application/x-www-form-urlencoded"),)

OnMessage = Callable[[bytes], None]
OnEnd = Callable[[int, str], None]


class Server(Protocol):
    """Where calls go."""

    @property
    def is_up(self) -> bool: ...
    @property
    def incarnation(self) -> int: ...
    def deliver(self, event: tuple[Any, ...]) -> None:
        """Into the inbox of the loop."""
        ...


class Calls(Protocol):
    """Whom a client calls: a member, or any of several."""

    def unary(
        self, method: int, message: bytes, on_message: OnMessage, on_end: OnEnd, token: str = ""
    ) -> Call: ...
    def stream(
        self, method: int, on_message: OnMessage, on_end: OnEnd, read_ns: int = ...
    ) -> Call: ...
    def http(
        self, verb: str, target: str, body: bytes, on_message: OnMessage, on_end: OnEnd
    ) -> Call: ...


class Call:
    """One call as the client holds it."""

    def __init__(
        self, network: Network, number: int, on_message: OnMessage, on_end: OnEnd, read_ns: int
    ) -> None:
        self.number = number
        self.on_message = on_message
        self.on_end = on_end
        self.read_ns = read_ns
        """How long the client takes for one message, typically."""
        self.open = True
        self.blocked = False
        self.queued_bytes = 0
        self.arrived_ns = 0
        """When the last message to the member arrives: the next one comes behind it."""
        self.pending: deque[tuple[int, bytes | str]] = deque()
        """(-1, message) or (code, text) on its way to the client."""
        self.moving = False
        self._network = network

    def send(self, message: bytes) -> None:
        """A message of a stream."""
        self._network.forward(self, (wire.STREAM_MESSAGE, self.number, message))

    def half_close(self) -> None:
        """The client sends no more."""
        self._network.forward(self, (wire.STREAM_END, self.number))

    def cancel(self) -> None:
        """The client is not interested any more; `on_end` is not called."""
        self.open = False
        self.pending.clear()
        self._network.forward(self, (wire.CANCELLED, self.number, errors.CANCELLED))


class Network:
    """`Answers` for the node, calls for the clients."""

    def __init__(self, world: World, server: Server) -> None:
        self._world = world
        self._server = server
        self._calls: dict[int, Call] = {}
        self._numbers = 0
        self.meta = META
        """What the transport says of who calls."""

    # ---- the clients' side

    def unary(
        self, method: int, message: bytes, on_message: OnMessage, on_end: OnEnd, token: str = ""
    ) -> Call:
        """A call with one request; `on_end(0, "")` follows its answer."""
        call = self._open(on_message, on_end, NETWORK_NS)
        meta = (token, *self.meta[1:]) if token else self.meta
        self.forward(call, (wire.UNARY, call.number, method, message, meta))
        return call

    def http(
        self, verb: str, target: str, body: bytes, on_message: OnMessage, on_end: OnEnd
    ) -> Call:
        """An HTTP request; its messages are status and headers, then (or behind it) the body."""
        call = self._open(on_message, on_end, NETWORK_NS)
        about = (call.number, CLIENTS, verb, target, FORM, body, None)
        self.forward(call, (wire.HTTP, *about))
        return call

    def stream(
        self, method: int, on_message: OnMessage, on_end: OnEnd, read_ns: int = NETWORK_NS
    ) -> Call:
        """A bidirectional call."""
        call = self._open(on_message, on_end, read_ns)
        self.forward(call, (wire.STREAM_OPEN, call.number, method, self.meta))
        return call

    def _open(self, on_message: OnMessage, on_end: OnEnd, read_ns: int) -> Call:
        self._numbers += 1
        call = Call(self, self._numbers, on_message, on_end, read_ns)
        if self._server.is_up:
            self._calls[call.number] = call
        else:
            call.pending.append((errors.UNAVAILABLE, REFUSED))
            self._move(call)
        return call

    def forward(self, call: Call, event: tuple[Any, ...]) -> None:
        """To the member, behind what this call sent before."""
        if call.number not in self._calls:
            return
        world, server = self._world, self._server
        incarnation = server.incarnation
        call.arrived_ns = max(call.arrived_ns, world.now_ns + world.delay(NETWORK_NS))
        if event[0] == wire.CANCELLED:
            del self._calls[call.number]

        def arrive() -> None:
            if server.is_up and server.incarnation == incarnation:
                server.deliver(event)

        world.at(call.arrived_ns, arrive)

    # ---- the member's side (`Answers`)

    def reply(self, batch: Sequence[tuple[int, Message]], /) -> None:
        """Answers of unary calls."""
        for number, message in batch:
            self._answer(number, (-1, whole(message)), (errors.OK, ""))

    def fail(self, batch: Sequence[tuple[int, int, str]], /) -> None:
        """Ends of calls."""
        for number, code, text in batch:
            self._answer(number, (code, text))

    def http_replies(self, batch: Sequence[tuple[int, int, bytes, bytes]], /) -> None:
        """Whole answers."""
        for number, status, lines, body in batch:
            head = b"%d\r\n%b\r\n" % (status, lines)
            self._answer(number, (-1, head + body), (errors.OK, ""))

    def http_start(self, call: int, status: int, headers: Sequence[tuple[str, str]], /) -> None:
        """The head of a streamed answer."""
        lines = "".join([f"{name}: {text}\r\n" for name, text in headers])
        self._push(call, f"{status}\r\n{lines}\r\n".encode())

    def http_send(self, call: int, chunk: bytes, /) -> bool:
        """A piece of a streamed answer; True when the client is too slow."""
        return self._push(call, chunk)

    def http_finish(self, call: int, /) -> None:
        """The end of a streamed answer."""
        self._answer(call, (errors.OK, ""))

    def _answer(self, number: int, *items: tuple[int, bytes | str]) -> None:
        call = self._calls.pop(number, None)
        if call is not None:
            call.pending += items
            self._move(call)

    def send(self, batch: Sequence[tuple[int, bytes]], /) -> list[int]:
        """Messages of streams; the calls whose client is too slow."""
        over: dict[int, None] = {}
        for number, message in batch:
            if self._push(number, message):
                over[number] = None
        return list(over)

    def _push(self, number: int, message: bytes) -> bool:
        call = self._calls.get(number)
        if call is None:
            return False
        call.pending.append((-1, message))
        call.queued_bytes += len(message)
        over = call.queued_bytes > HIGH_WATER_BYTES
        call.blocked = call.blocked or over
        self._move(call)
        return over

    def _move(self, call: Call) -> None:
        if call.pending and not call.moving:
            call.moving = True
            self._world.after(self._world.delay(call.read_ns), lambda: self._arrive(call))

    def _arrive(self, call: Call) -> None:
        call.moving = False
        if not call.open or not call.pending:
            return
        code, item = call.pending.popleft()
        if code >= 0:
            call.open = False
            assert isinstance(item, str)
            call.on_end(code, item)
            return
        assert isinstance(item, bytes)
        call.queued_bytes -= len(item)
        if call.blocked and call.queued_bytes < LOW_WATER_BYTES:
            call.blocked = False
            self.forward(call, (wire.WRITABLE, call.number))
        call.on_message(item)
        self._move(call)

    def server_died(self) -> None:
        """Of what was on its way a part arrives, then every call ends."""
        calls, self._calls = self._calls, {}
        for call in calls.values():
            survivors = self._world.between(0, len(call.pending))
            call.pending = deque(list(call.pending)[:survivors])
            call.pending.append((errors.UNAVAILABLE, BROKEN))
            self._move(call)
