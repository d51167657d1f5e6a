"""gRPC as a foreign client (grpcio) sees our server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from corum import _transport as transport

from .conftest import FAILURE, EchoServer


@pytest.fixture
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as channel:
        yield channel


def test_unary_call_echoes(channel: grpc.Channel) -> None:
    """Messages of any size up to the limit come back unchanged."""
    call = channel.unary_unary("/test.Echo/Unary")
    for size in (0, 1, 16_379, 16_384, 70_000, 1_500_000):
        message = bytes(i % 251 for i in range(1000)) * (size // 1000 + 1)
        assert call(message[:size], timeout=10) == message[:size]


def test_many_calls_at_once(channel: grpc.Channel) -> None:
    """A thousand calls in flight on one connection all get their own answer."""
    call = channel.unary_unary("/test.Echo/Unary")
    futures = [call.future(b"%d" % i) for i in range(1000)]
    assert [future.result() for future in futures] == [b"%d" % i for i in range(1000)]


def test_server_stream(channel: grpc.Channel) -> None:
    """A server-streaming call gets every message and then OK."""
    assert list(channel.unary_stream("/test.Echo/Repeat")(b"m")) == [b"m"] * 3


def test_client_stream(channel: grpc.Channel) -> None:
    """A client-streaming call's messages arrive in order."""
    messages = [b"%d," % i for i in range(50)]
    assert channel.stream_unary("/test.Echo/Collect")(iter(messages)) == b"".join(messages)


def test_bidi_stream(channel: grpc.Channel) -> None:
    """A bidirectional call answers while its client is still sending."""
    messages = [b"x" * size for size in (1, 100_000, 0, 17)]
    assert list(channel.stream_stream("/test.Echo/Chat")(iter(messages))) == messages


def test_large_stream_passes_the_window(server: EchoServer, channel: grpc.Channel) -> None:
    """More than any flow-control window goes through, in both directions."""
    messages = [bytes([i]) * 1_000_000 for i in range(12)]
    assert list(channel.stream_stream("/test.Echo/Chat")(iter(messages))) == messages
    assert server.transport.stats()["partial_bytes"] == 0


def test_status_with_text(channel: grpc.Channel) -> None:
    """Code and text arrive exactly, whatever characters the text has."""
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test.Echo/Fail")(b"")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == FAILURE


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/test.Echo/Nope", "unknown method Nope for service test.Echo"),
        ("/other.Service/M", "unknown service other.Service"),
    ],
)
def test_unknown_path(channel: grpc.Channel, path: str, text: str) -> None:
    """Unknown methods and services are refused with grpc-go's words."""
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == text


def test_metadata_is_interned(server: EchoServer, channel: grpc.Channel) -> None:
    """`meta` carries the chosen headers and is one object for equal values."""
    call = channel.unary_unary("/test.Echo/Unary")
    for token in ("a", "a", "b"):
        call(b"", metadata=[("token", token), ("ignored", "x")])
    first, second, third = (event[4] for event in server.wait_for(transport.UNARY, 3))
    assert first[:2] == ("a", None)
    assert first is second
    assert third[0] == "b"
    assert first[2] == third[2]
    assert first[3].address.startswith("127.0.0.1:")
    assert first[4] is None


def test_deadline_is_carried_and_kept(server: EchoServer, channel: grpc.Channel) -> None:
    """The deadline is on Python's monotonic clock; when it passes, the call ends on both sides."""
    before = time.monotonic_ns()
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test.Echo/Never")(b"", timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    (unary,) = server.wait_for(transport.UNARY)
    assert before < unary[4][-1] <= time.monotonic_ns() + 100_000_000
    (cancelled,) = server.wait_for(transport.CANCELLED)
    assert cancelled[1] == unary[1]
    server.transport.reply([(unary[1], b"too late")])
    channel.unary_unary("/test.Echo/Unary")(b"")
    assert server.transport.stats()["stale_replies"] == 1


def test_cancel(server: EchoServer, channel: grpc.Channel) -> None:
    """A client that gives up makes one CANCELLED with code 1."""
    future = channel.unary_unary("/test.Echo/Never").future(b"")
    (unary,) = server.wait_for(transport.UNARY)
    future.cancel()
    assert server.wait_for(transport.CANCELLED) == [(transport.CANCELLED, unary[1], 1)]


def test_gzip_both_ways(address: str) -> None:
    """Compressed requests are understood and answered compressed."""
    with grpc.insecure_channel(address, compression=grpc.Compression.Gzip) as channel:
        message = b"a" * 100_000
        assert channel.unary_unary("/test.Echo/Unary")(message) == message
        assert list(channel.unary_stream("/test.Echo/Repeat")(message)) == [message] * 3


def test_unknown_compression(address: str) -> None:
    """A compression that nobody has is refused by name."""
    with grpc.insecure_channel(address, compression=grpc.Compression.Deflate) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/test.Echo/Unary")(b"a" * 1000)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "deflate" in caught.value.details()


def test_message_limit(start_server: Callable[..., EchoServer]) -> None:
    """At the limit a message passes, one byte more is refused with grpc-go's text."""
    server = start_server(recv_max_bytes=1000)
    address = server.transport.listen("http://127.0.0.1:0").address
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/test.Echo/Unary")
        assert len(call(b"x" * 1000)) == 1000
        with pytest.raises(grpc.RpcError) as caught:
            call(b"x" * 1001)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        text = "grpc: received message larger than max (1001 vs. 1000)"
        assert caught.value.details() == text
        with pytest.raises(grpc.RpcError) as caught:
            call(b"x" * 5000, compression=grpc.Compression.Gzip)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_slow_reader_is_reported(server: EchoServer, channel: grpc.Channel) -> None:
    """`send` tells who is over the high-water mark, and WRITABLE when that is over."""
    stream = channel.unary_stream("/test.Echo/Never")(b"")
    (unary,) = server.wait_for(transport.UNARY)
    chunk = bytes(1 << 20)
    sent = 1
    while not server.transport.send([(unary[1], chunk)]):
        sent += 1
        assert sent < 100, "nothing holds the sender back"
    for _ in range(sent):
        assert len(next(stream)) == len(chunk)
    assert server.wait_for(transport.WRITABLE) == [(transport.WRITABLE, unary[1])]
    server.transport.fail([(unary[1], 0, "")])
    assert list(stream) == []


def test_drain_finishes_what_is_open(server: EchoServer, channel: grpc.Channel) -> None:
    """Draining lets open calls end, refuses new ones and reports when all is done."""
    future = channel.unary_unary("/test.Echo/Never").future(b"")
    (unary,) = server.wait_for(transport.UNARY)
    server.transport.drain(10_000)
    server.transport.reply([(unary[1], b"done")])
    assert future.result(timeout=5) == b"done"
    assert server.wait_for(transport.DRAINED) == [(transport.DRAINED, 0)]
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test.Echo/Unary")(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_bad_arguments_are_type_errors(server: EchoServer) -> None:
    """A batch that is not what it should be raises, and nothing breaks."""
    bad: list[Any] = [[1], [(1,)], [(1, "text")], None, [("x", b"")]]
    for batch in bad:
        with pytest.raises((TypeError, IndexError)):
            server.transport.reply(batch)
