"""Rules of HTTP/2 connections that no well-behaved client shows: pings, limits, back-pressure."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from corum import _transport as transport

from .conftest import EchoServer

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 7, 8, 11


def literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def request_block(path: bytes) -> bytes:
    return (
        b"\x83\x86"
        + literal(b":path", path)
        + literal(b":authority", b"h")
        + literal(b"content-type", b"application/grpc")
    )


class Wire:
    """A client of frames."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(SETTINGS, 0, 0, b"")
        self.buffer = b""

    def send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        head = struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream)
        self.socket.sendall(head + payload)

    def call(self, stream: int, path: bytes = b"/test.Echo/Unary") -> None:
        self.send(HEADERS, END_HEADERS, stream, request_block(path))
        self.send(DATA, END_STREAM, stream, struct.pack(">BI", 0, 2) + b"hi")

    def receive(self, size: int) -> bytes:
        while len(self.buffer) < size:
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            self.buffer += data
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    def next(self, *kinds: int) -> tuple[int, int, int, bytes]:
        """The next frame of one of these kinds: kind, flags, stream, payload."""
        while True:
            head = self.receive(9)
            kind, flags, stream = struct.unpack(">BBI", head[3:])
            payload = self.receive(int.from_bytes(head[:3], "big"))
            if kind in kinds:
                return kind, flags, stream, payload


Connect = Callable[..., tuple[EchoServer, Wire]]


@pytest.fixture
def connect(start_server: Callable[..., EchoServer]) -> Iterator[Connect]:
    """A server with settings, and a raw connection to it."""
    with contextlib.ExitStack() as wires:

        def connect(**settings: Any) -> tuple[EchoServer, Wire]:
            server = start_server(**settings)
            wire = Wire(server.transport.listen("http://127.0.0.1:0").address)
            wires.enter_context(wire.socket)
            return server, wire

        yield connect


def test_ping_is_answered(connect: Connect) -> None:
    """A PING comes back, also while a call is open whose answer could have carried it."""
    _, wire = connect()
    wire.send(PING, 0, 0, b"12345678")
    assert wire.next(PING) == (PING, ACK, 0, b"12345678")
    wire.call(1, b"/test.Echo/Never")
    wire.send(PING, 0, 0, b"abcdefgh")
    assert wire.next(PING) == (PING, ACK, 0, b"abcdefgh")


def test_disconnect_cancels(connect: Connect) -> None:
    """A connection that breaks cancels each of its open calls, unary or stream, once."""
    server, wire = connect()
    wire.call(1, b"/test.Echo/Never")
    wire.send(HEADERS, END_HEADERS, 3, request_block(b"/test.Echo/Chat"))
    opened = {server.wait_for(transport.UNARY)[0][1], server.wait_for(transport.STREAM_OPEN)[0][1]}
    wire.socket.close()
    cancelled = server.wait_for(transport.CANCELLED, 2)
    assert {event[1] for event in cancelled} == opened
    assert {event[2] for event in cancelled} == {1}
    assert server.transport.stats()["calls"] == 0


def test_too_many_pings(connect: Connect) -> None:
    """Pings faster than allowed: two are forgiven, then the client is sent away by name."""
    server, wire = connect(keepalive_min_time_ms=60_000)
    wire.call(1, b"/test.Echo/Never")
    server.wait_for(transport.UNARY)
    for _ in range(4):
        wire.send(PING, 0, 0, bytes(8))
    _, _, _, payload = wire.next(GOAWAY)
    assert struct.unpack(">II", payload[:8]) == (1, ENHANCE_YOUR_CALM)
    assert payload[8:] == b"too_many_pings"
    with pytest.raises((EOFError, ConnectionResetError)):
        wire.next(DATA)
    server.wait_for(transport.CANCELLED)
    assert server.transport.stats()["keepalive_goaways"] == 1


def test_answers_excuse_pings(connect: Connect) -> None:
    """A ping after each answer, as clients that measure bandwidth send, is fine."""
    _, wire = connect(keepalive_min_time_ms=60_000)
    for stream in range(1, 21, 2):
        wire.call(stream)
        while not wire.next(HEADERS)[1] & END_STREAM:
            pass
        wire.send(PING, 0, 0, bytes(8))
        wire.next(PING)


def test_data_under_way_excuses_pings(connect: Connect) -> None:
    """One answer excuses as many pings as it has pieces: Go clients ping while they receive."""
    server, wire = connect(keepalive_min_time_ms=60_000)
    size = 500_000
    server.http = lambda event: server.transport.http_reply(event[1], 200, [], b"x" * size)
    fields = literal(b":path", b"/large") + literal(b":authority", b"a")
    wire.send(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82\x86" + fields)
    window, seen = 65_535, 0
    for pings in range(1, 6):
        while seen < min(size, pings * window):
            seen += len(wire.next(DATA)[3])
        wire.send(PING, 0, 0, bytes(8))  # the window is used up: nothing else is on its way
        assert wire.next(PING)[1] == ACK
        for stream in (0, 1):
            wire.send(WINDOW_UPDATE, 0, stream, struct.pack(">I", window))
    assert server.transport.stats()["keepalive_goaways"] == 0


def test_silent_client_is_pinged_and_dropped(connect: Connect) -> None:
    """A client that does not answer the server's keepalive is gone."""
    server, wire = connect(keepalive_interval_ms=50, keepalive_timeout_ms=50)
    wire.call(1, b"/test.Echo/Never")
    assert wire.next(PING)[1] == 0
    server.wait_for(transport.CANCELLED)
    with pytest.raises((EOFError, ConnectionResetError)):
        wire.next(DATA)


def test_streams_max(connect: Connect) -> None:
    """One stream beyond the limit is refused, and announced limits are announced."""
    server, wire = connect(streams_max=2)
    _, _, _, settings = wire.next(SETTINGS)
    assert struct.pack(">HI", 3, 2) in settings
    for stream in (1, 3, 5):
        wire.call(stream, b"/test.Echo/Never")
    assert wire.next(RST_STREAM)[2:] == (5, struct.pack(">I", REFUSED_STREAM))
    assert len(server.wait_for(transport.UNARY, 2)) == 2


def test_calls_max(connect: Connect) -> None:
    """Beyond the transport's limit of calls, new ones get UNAVAILABLE."""
    server, wire = connect(calls_max=1)
    wire.call(1, b"/test.Echo/Never")
    server.wait_for(transport.UNARY)
    wire.call(3)
    _, flags, stream, payload = wire.next(HEADERS)
    assert (stream, flags & END_STREAM) == (3, END_STREAM)
    assert b"grpc-status\x0214" in payload
    assert server.transport.stats()["calls_refused"] == 1


def test_full_inbox_stops_reading() -> None:
    """While nobody polls, only so many events wait; all arrive in the end."""
    settings = transport.Settings(
        methods=[("/test.Echo/Unary", "unary")], inbox_events_max=10, keepalive_min_time_ms=0
    )
    count = 3000
    with transport.Transport(settings) as server:
        wire = Wire(server.listen("http://127.0.0.1:0").address)
        for stream in range(1, 2 * count, 2):
            wire.call(stream)
        answered = largest = 0
        while answered < count:
            largest = max(largest, server.stats()["inbox_events"])
            events = server.poll(10_000, 50)
            assert events
            server.reply([(event[1], event[3]) for event in events])
            answered += len(events)
        wire.socket.close()
    one_read = (64 << 10) // 90  # requests in one read from the socket
    assert largest <= 10 + one_read


def test_http_over_http2(connect: Connect) -> None:
    """A request that is not gRPC becomes an HTTP event with a host header."""
    server, wire = connect()
    wire.send(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        b"\x82\x86" + literal(b":path", b"/health") + literal(b":authority", b"name:1"),
    )
    (event,) = server.wait_for(transport.HTTP)
    assert event[3:5] == ("GET", "/health")
    assert ("host", "name:1") in event[5]
    assert wire.next(DATA)[3] == b"/health"


def test_answers_of_lone_calls(connect: Connect) -> None:
    """One call at a time takes a short cut; answers, acknowledgements and figures stay right."""
    server, wire = connect()
    for number in range(50):
        stream = 2 * number + 1
        if number % 3 == 0:
            wire.send(PING, 0, 0, struct.pack(">Q", number))
        wire.call(stream)
        if number % 3 == 0:
            assert wire.next(PING)[3] == struct.pack(">Q", number)
        assert wire.next(HEADERS, RST_STREAM)[:3] == (HEADERS, END_HEADERS, stream)
        assert wire.next(DATA)[2:] == (stream, struct.pack(">BI", 0, 2) + b"hi")
        ended = END_HEADERS | END_STREAM
        assert wire.next(HEADERS, RST_STREAM)[:3] == (HEADERS, ended, stream)
    wire.send(PING, 0, 0, bytes(8))
    wire.next(PING)  # all the rest has been seen
    stats = server.transport.stats()
    assert (stats["calls"], stats["calls_started"], stats["stale_replies"]) == (0, 50, 0)


def test_lone_call_given_up(connect: Connect) -> None:
    """A lone call that its client has given up is cancelled, and its answer goes nowhere."""
    server, wire = connect()
    wire.call(1)
    wire.next(DATA)
    wire.call(3, b"/test.Echo/Never")
    (event,) = server.wait_for(transport.UNARY, 2)[1:]
    wire.send(RST_STREAM, 0, 3, struct.pack(">I", CANCEL))
    server.wait_for(transport.CANCELLED)
    server.transport.reply([(event[1], b"late")])
    wire.call(5)
    assert wire.next(DATA)[2] == 5
    assert server.transport.stats()["stale_replies"] == 1


def test_lone_answer_to_a_reader_that_waits(connect: Connect) -> None:
    """Answers that find no room in the socket or the window arrive whole and in order."""
    server, wire = connect()
    body = bytes(range(250)) * 60
    message = struct.pack(">BI", 0, len(body)) + body
    count = 600  # more than the sockets' buffers hold: some answers are cut
    wire.send(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30))
    for number in range(count):
        stream = 2 * number + 1
        wire.send(HEADERS, END_HEADERS, stream, request_block(b"/test.Echo/Unary"))
        wire.send(DATA, END_STREAM, stream, message)
        server.wait_for(transport.UNARY, number + 1)
    for number in range(count):
        _, _, stream, data = wire.next(DATA)
        assert (stream, data) == (2 * number + 1, message)
    wire.send(PING, 0, 0, bytes(8))
    wire.next(PING)
    assert server.transport.stats()["calls"] == 0


def test_too_many_resets(connect: Connect) -> None:
    """Who opens calls only to give them up is sent away; a thousand at once are forgiven."""
    server, wire = connect()

    def give_up(streams: range) -> None:
        for stream in streams:
            wire.call(stream, b"/test.Echo/Never")
            wire.send(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))

    give_up(range(1, 2001, 2))
    wire.send(PING, 0, 0, bytes(8))
    assert wire.next(PING, GOAWAY)[0] == PING
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        give_up(range(2001, 12001, 2))
    _, _, _, payload = wire.next(GOAWAY)
    assert struct.unpack(">I", payload[4:8]) == (ENHANCE_YOUR_CALM,)
    server.wait_for(transport.CANCELLED, 1000)
