"""Large messages are not copied: they are kept by reference, sent as windows allow, and let go."""

from __future__ import annotations

import http.client
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from corum import _transport as transport

from .conftest import EchoServer
from .test_http2 import CANCEL, DATA, HEADERS, RST_STREAM, WINDOW_UPDATE, Connect, connect

__all__ = ["connect"]

LARGE = 256 << 10
"""From here on messages are kept by reference."""


def pattern(size: int) -> bytes:
    """Bytes in which every shift by less than 251 shows."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


class Watched:
    """Objects, and how many hold each of them now. Only the transport comes and goes."""

    def __init__(self, objects: list[bytes]) -> None:
        self.objects = [one for one in objects if len(one) > 1]  # others are everybody's
        self.before = self.counts()

    def counts(self) -> list[int]:
        return [sys.getrefcount(one) for one in self.objects]

    def are_let_go(self, server: EchoServer) -> bool:
        """Sooner or later; what the runtime thread dropped is given back on entering."""
        until = time.monotonic() + 20
        while self.counts() != self.before and time.monotonic() < until:
            server.transport.stats()
            time.sleep(0.005)
        return self.counts() == self.before


@pytest.fixture
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)]) as channel:
        yield channel


@pytest.mark.parametrize(
    "sizes",
    [
        (),
        (0,),
        (1, 0, 2),
        (LARGE - 1,),
        (LARGE,),
        (LARGE + 1, 0, 3),
        (5, 16_384, 16_379, 1),
        (20, *[70_001] * 100, 3),
        (3_000_000, 1, 3_000_000),
    ],
)
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_pieces_make_one_message(
    server: EchoServer, channel: grpc.Channel, sizes: tuple[int, ...], compression: Any
) -> None:
    """However a message is cut, its reader sees the whole; afterwards nobody holds the pieces."""
    call = channel.unary_unary("/test.Echo/Never").future(b"", compression=compression)
    (unary,) = server.wait_for(transport.UNARY)
    pieces = [pattern(size) for size in sizes]
    watched = Watched(pieces)
    server.transport.reply([(unary[1], pieces)])
    assert call.result(timeout=20) == b"".join(pieces)
    assert watched.are_let_go(server)


def test_large_and_small_in_one_batch(server: EchoServer, channel: grpc.Channel) -> None:
    """Each call gets its own, whatever else is in the batch."""
    never = channel.unary_unary("/test.Echo/Never")
    calls = {b"%d" % i: never.future(b"%d" % i) for i in range(4)}
    answers: dict[bytes, Any] = {
        b"0": b"small",
        b"1": pattern(LARGE * 3),
        b"2": [b"in ", b"pieces"],
        b"3": (pattern(LARGE), b"end"),
    }
    events = server.wait_for(transport.UNARY, 4)
    server.transport.reply([(event[1], answers[event[3]]) for event in events])
    for name, call in calls.items():
        answer = answers[name]
        assert call.result(timeout=20) == (answer if type(answer) is bytes else b"".join(answer))


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_large_messages_of_a_stream(
    server: EchoServer, channel: grpc.Channel, compression: Any
) -> None:
    """Large and small messages of one stream keep their order, and are let go."""
    stream = channel.unary_stream("/test.Echo/Never")(b"", compression=compression)
    (unary,) = server.wait_for(transport.UNARY)
    large = [pattern(LARGE), pattern(LARGE + 5), pattern(2_000_000)]
    messages = [b"a", large[0], b"", large[1], b"b" * 40_000, large[2], large[2], b"c"]
    watched = Watched(large)
    server.transport.send([(unary[1], message) for message in messages])
    server.transport.fail([(unary[1], 0, "")])
    assert list(stream) == messages
    assert watched.are_let_go(server)


def test_a_window_at_a_time(connect: Connect) -> None:
    """No more than the window is sent; others on the connection are answered meanwhile."""
    server, wire = connect()
    wire.send(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 24))
    wire.call(1, b"/test.Echo/Never")
    (unary,) = server.wait_for(transport.UNARY)
    pieces = [pattern(100_003), pattern(LARGE), b"tail"]
    body = b"".join(pieces)
    message = struct.pack(">BI", 0, len(body)) + body
    watched = Watched(pieces)
    server.transport.reply([(unary[1], pieces)])
    received = b""
    window = 65_535
    while len(received) < window:
        _, _, stream, data = wire.next(DATA)
        assert stream == 1
        received += data
    assert len(received) == window
    wire.call(3)
    assert wire.next(DATA)[2] == 3
    while len(received) < len(message):
        wire.send(WINDOW_UPDATE, 0, 1, struct.pack(">I", 10_007))
        upto = min(len(received) + 10_007, len(message))
        while len(received) < upto:
            received += wire.next(DATA)[3]
    assert received == message
    while wire.next(HEADERS)[2] != 1:  # the trailers
        pass
    assert watched.are_let_go(server)


def test_given_up_in_the_middle(connect: Connect) -> None:
    """What a client does not want any more, or cannot take, is let go; it may ask again."""
    server, wire = connect()
    pieces = [pattern(LARGE) for _ in range(8)]
    watched = Watched(pieces)
    wire.call(1, b"/test.Echo/Never")
    (first,) = server.wait_for(transport.UNARY)
    server.transport.reply([(first[1], pieces)])
    wire.next(DATA)
    wire.send(RST_STREAM, 0, 1, struct.pack(">I", CANCEL))
    assert watched.are_let_go(server)
    wire.call(3, b"/test.Echo/Never")
    second = server.wait_for(transport.UNARY, 2)[1]
    server.transport.reply([(second[1], pieces)])
    wire.socket.close()
    assert watched.are_let_go(server)
    assert server.transport.stats()["calls"] == 0


def test_late_answers_are_let_go(server: EchoServer, channel: grpc.Channel) -> None:
    """Of a call that is gone, nothing is kept."""
    call = channel.unary_unary("/test.Echo/Never").future(b"")
    (unary,) = server.wait_for(transport.UNARY)
    call.cancel()
    server.wait_for(transport.CANCELLED)
    pieces = [pattern(LARGE)]
    watched = Watched(pieces)
    server.transport.reply([(unary[1], pieces)])
    server.transport.send([(unary[1], pieces[0])])
    assert watched.are_let_go(server)


def test_close_with_answers_under_way(connect: Connect) -> None:
    """A transport that is closed keeps nothing."""
    server, wire = connect()
    wire.call(1, b"/test.Echo/Never")
    (unary,) = server.wait_for(transport.UNARY)
    pieces = [pattern(LARGE) for _ in range(4)]
    watched = Watched(pieces)
    server.transport.reply([(unary[1], pieces)])
    wire.next(DATA)
    server.transport.close()
    assert watched.are_let_go(server)


def test_large_chunks_over_http1(server: EchoServer, address: str) -> None:
    """A streamed HTTP/1.1 answer takes large chunks in a batch, too."""
    chunk = pattern(LARGE + 7)
    chunks = [chunk, chunk]
    watched = Watched(chunks)

    def answer(event: tuple[Any, ...]) -> None:
        server.transport.http_start(event[1], 200, [])
        server.transport.send([(event[1], one) for one in chunks] + [(event[1], b"small")])
        server.transport.http_finish(event[1])

    server.http = answer
    client = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    client.request("GET", "/")
    assert client.getresponse().read() == chunk + chunk + b"small"
    client.close()
    assert watched.are_let_go(server)


def test_sender_goes_on_at_once(connect: Connect) -> None:
    """Handing over hundreds of megabytes takes no longer than handing over references."""
    server, wire = connect()
    wire.call(1, b"/test.Echo/Never")
    (unary,) = server.wait_for(transport.UNARY)
    piece = pattern(1 << 20)
    copied: list[float] = []
    for _ in range(3):
        began = time.perf_counter()
        bytearray().join([piece] * 300)
        copied.append(time.perf_counter() - began)
    began = time.perf_counter()
    server.transport.reply([(unary[1], [piece] * 300)])
    assert time.perf_counter() - began < min(copied) / 2
    wire.next(DATA)


def test_what_is_no_piece_is_refused(server: EchoServer) -> None:
    """Pieces are bytes, in a sequence."""
    bad: list[Any] = [["text"], "text", [b"x", 1], bytearray(b"x"), 1, None, [[b"x"]]]
    for message in bad:
        with pytest.raises(TypeError):
            server.transport.reply([(1, message)])
