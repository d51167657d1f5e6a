"""Our client against a foreign gRPC server (grpcio) and against our own HTTP server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from corum import _transport as transport

from .conftest import EchoServer


class Handlers(grpc.GenericRpcHandler):
    """The five methods that the tests call."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.metadata: list[tuple[str, str]] = []

    def service(self, details: Any) -> Any:
        name = details.method.rsplit("/", 1)[1]
        self.metadata = list(details.invocation_metadata)
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(lambda message, _: message),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Never": grpc.unary_unary_rpc_method_handler(self.never),
            "Repeat": grpc.unary_stream_rpc_method_handler(lambda message, _: iter([message] * 3)),
            "Collect": grpc.stream_unary_rpc_method_handler(lambda it, _: b"".join(it)),
            "Chat": grpc.stream_stream_rpc_method_handler(lambda it, _: it),
        }.get(name)

    def fail(self, _: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata([("reason", "because")])
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing ü here")
        raise AssertionError("abort raises")

    def never(self, _: bytes, context: grpc.ServicerContext) -> bytes:
        context.add_callback(self.cancelled.set)
        self.cancelled.wait(10)
        return b""


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def target(handlers: Handlers) -> Iterator[str]:
    with futures.ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, handlers=[handlers], compression=grpc.Compression.Gzip)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


@pytest.fixture
def client() -> Iterator[transport.Transport]:
    with transport.Transport() as client:
        yield client


def events(client: transport.Transport, count: int) -> list[tuple[Any, ...]]:
    """The next `count` events."""
    found: list[tuple[Any, ...]] = []
    while len(found) < count:
        batch = client.poll(10_000, count - len(found))
        assert batch, found
        found += batch
    return found


def test_unary(client: transport.Transport, target: str) -> None:
    """A blocking call returns the server's message, whatever its size."""
    channel = client.connect(target)
    assert channel.state == "idle"
    for size in (0, 1, 70_000, 3_000_000):
        assert channel.unary("/test.Echo/Unary", b"x" * size) == b"x" * size
    assert channel.state == "ready"


def test_unary_from_many_threads(client: transport.Transport, target: str) -> None:
    """Threads share a channel; each gets its own answer."""
    channel = client.connect(target)
    with futures.ThreadPoolExecutor(16) as pool:
        messages = [b"%d" % i for i in range(400)]
        answers = pool.map(lambda message: channel.unary("/test.Echo/Unary", message), messages)
        assert list(answers) == messages


def test_metadata_is_sent(client: transport.Transport, target: str, handlers: Handlers) -> None:
    """Metadata of the call reaches the server."""
    client.connect(target).unary("/test.Echo/Unary", b"", [("token", "abc")])
    assert ("token", "abc") in handlers.metadata


def test_failure_is_an_rpc_error(client: transport.Transport, target: str) -> None:
    """Code, text and trailers of a failed call are in the exception."""
    with pytest.raises(transport.RpcError) as caught:
        client.connect(target).unary("/test.Echo/Fail", b"")
    assert (caught.value.code, caught.value.text) == (5, "nothing ü here")
    assert ("reason", "because") in caught.value.metadata


def test_deadline(client: transport.Transport, target: str, handlers: Handlers) -> None:
    """A call ends with DEADLINE_EXCEEDED in time, and the server hears of it."""
    with pytest.raises(transport.RpcError) as caught:
        client.connect(target).unary("/test.Echo/Never", b"", timeout_ms=50)
    assert caught.value.code == 4
    assert handlers.cancelled.wait(10)


def test_cancel(client: transport.Transport, target: str, handlers: Handlers) -> None:
    """A cancelled call makes no event, and the server hears of it."""
    channel = client.connect(target)
    channel.unary("/test.Echo/Unary", b"")
    call = channel.start_unary("/test.Echo/Never", b"")
    other = channel.start_unary("/test.Echo/Unary", b"")
    events(client, 1)
    client.cancel(call)
    assert handlers.cancelled.wait(10)
    assert client.poll(0, 10) == []
    assert other != call


def test_start_unary(client: transport.Transport, target: str) -> None:
    """An asynchronous call is answered by one event."""
    channel = client.connect(target)
    call = channel.start_unary("/test.Echo/Unary", b"hello")
    ((kind, answered, message, _),) = events(client, 1)
    assert (kind, answered, message) == (transport.RESPONSE, call, b"hello")
    call = channel.start_unary("/test.Echo/Fail", b"hello")
    ((kind, answered, code, text, _),) = events(client, 1)
    assert (kind, answered, code, text) == (transport.RESPONSE_END, call, 5, "nothing ü here")


def test_streams(client: transport.Transport, target: str) -> None:
    """Streams of all kinds: what is sent before the connection is there is not lost."""
    channel = client.connect(target)
    call = channel.start_stream("/test.Echo/Chat")
    for message in (b"a", b"b" * 200_000):
        assert client.stream_send(call, message) is False
    client.half_close(call)
    head, first, second, end = events(client, 4)
    assert head[:3] == (transport.RESPONSE_HEAD, call, 200)
    assert first == (transport.RESPONSE_MESSAGE, call, b"a")
    assert second == (transport.RESPONSE_MESSAGE, call, b"b" * 200_000)
    assert end[:4] == (transport.RESPONSE_END, call, 0, "")
    call = channel.start_stream("/test.Echo/Repeat")
    client.stream_send(call, b"r")
    client.half_close(call)
    assert [event[2] for event in events(client, 5)[1:4]] == [b"r"] * 3


def test_gzip_requests(client: transport.Transport, target: str) -> None:
    """Compressed requests and answers."""
    channel = client.connect(target, transport.ChannelSettings(gzip=True))
    assert channel.unary("/test.Echo/Unary", b"z" * 100_000) == b"z" * 100_000


def test_unreachable(client: transport.Transport) -> None:
    """Nobody there: UNAVAILABLE with grpc-go's text, and a failed channel."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        channel = client.connect(f"127.0.0.1:{port}")
        with pytest.raises(transport.RpcError) as caught:
            channel.unary("/test.Echo/Unary", b"")
    assert caught.value.code == 14
    assert caught.value.text == (
        'connection error: desc = "transport: Error while dialing: '
        f'dial tcp 127.0.0.1:{port}: connect: connection refused"'
    )
    assert channel.state == "failed"


def test_reconnects(client: transport.Transport) -> None:
    """After its server is gone and back, the same channel works again."""
    settings = transport.Settings(methods=[("/test.Echo/Unary", "unary")])
    target, rounds = "127.0.0.1:0", 2
    channel: transport.Channel | None = None
    for _ in range(rounds):
        with transport.Transport(settings) as server:
            target = server.listen(f"http://{target}").address
            channel = channel or client.connect(
                target, transport.ChannelSettings(backoff_min_ms=0, backoff_max_ms=0)
            )
            call = channel.start_unary("/test.Echo/Unary", b"x")
            ((_, incoming, *_),) = server.poll(10_000, 1)
            server.reply([(incoming, b"y")])
            assert events(client, 1)[0][:3] == (transport.RESPONSE, call, b"y")
            hanging = channel.start_unary("/test.Echo/Unary", b"x")
            assert server.poll(10_000, 1)
        ended = events(client, 1)[0]
        assert ended[:3] == (transport.RESPONSE_END, hanging, 14)


def test_closed_channel_ends_its_calls(client: transport.Transport, target: str) -> None:
    """Closing cancels what is open; later calls are refused."""
    channel = client.connect(target)
    call = channel.start_stream("/test.Echo/Chat")
    events(client, 0)
    channel.close()
    assert events(client, 1)[0][:3] == (transport.RESPONSE_END, call, 1)
    assert channel.state == "closed"


def test_http_request(client: transport.Transport, server: EchoServer, address: str) -> None:
    """HTTP requests, one connection for several in a row, HEAD without a body."""
    channel = client.connect(address)
    for number in range(3):
        call = channel.http_request("POST", f"/p{number}", [("X-A", "b")], b"body")
        head, chunk, end = events(client, 3)
        assert head[:3] == (transport.RESPONSE_HEAD, call, 200)
        assert ("x-target", f"/p{number}") in head[3]
        assert chunk == (transport.RESPONSE_CHUNK, call, b"body")
        assert end[:4] == (transport.RESPONSE_END, call, 0, "")
    call = channel.http_request("HEAD", "/head")
    head, end = events(client, 2)
    assert ("content-length", "5") in head[3]
    assert end[0] == transport.RESPONSE_END
    assert server.transport.stats()["accepted"] == 1


def test_http_streams_both_ways(client: transport.Transport, server: EchoServer) -> None:
    """A streamed request body arrives in chunks; a streamed answer is held back until consumed."""
    address = server.transport.listen("http://127.0.0.1:0", streaming=["/raft/"]).address
    total = 8 << 20

    def answer(event: tuple[Any, ...]) -> None:
        if event[0] == transport.HTTP_CHUNK:
            server.transport.consume(event[1], len(event[2]))
        if event[0] == transport.HTTP_END:
            server.transport.http_start(event[1], 200, [("X-Streamed", "yes")])
            for _ in range(total >> 20):
                server.transport.http_send(event[1], bytes(1 << 20))
            server.transport.http_finish(event[1])

    server.http = answer
    channel = client.connect(address)
    call = channel.http_request("POST", "/raft/snapshot", body=None)
    for _ in range(total >> 20):
        client.http_send(call, bytes(1 << 20))
    client.http_finish(call)
    head = events(client, 1)[0]
    while head[0] == transport.WRITABLE:
        head = events(client, 1)[0]
    assert head[0] == transport.RESPONSE_HEAD, head
    assert ("transfer-encoding", "chunked") in head[3]
    assert ("x-streamed", "yes") in head[3]
    received = unconsumed = 0
    while received < total:
        (event,) = events(client, 1)
        assert event[0] == transport.RESPONSE_CHUNK
        received += len(event[2])
        unconsumed += len(event[2])
        assert unconsumed <= 1 << 20
        if unconsumed == 1 << 20:
            client.consume(call, unconsumed)
            unconsumed = 0
    assert events(client, 1)[0][:3] == (transport.RESPONSE_END, call, 0)
    assert (
        sum(len(event[2]) for event in server.events if event[0] == transport.HTTP_CHUNK) == total
    )


def test_uploads_are_answered(client: transport.Transport, server: EchoServer) -> None:
    """A connection that stopped reading for what it had to send goes on once it is sent."""
    address = server.transport.listen("http://127.0.0.1:0", streaming=["/raft/"]).address

    def answer(event: tuple[Any, ...]) -> None:
        if event[0] == transport.HTTP_CHUNK:
            server.transport.consume(event[1], len(event[2]))
        if event[0] == transport.HTTP_END:
            server.transport.http_reply(event[1], 204, [], b"")

    server.http = answer
    channel = client.connect(address)
    for _ in range(40):
        call = channel.http_request("POST", "/raft/snapshot", body=None)
        for _ in range(4):
            client.http_send(call, bytes(1 << 20))
        client.http_finish(call)
        while (event := events(client, 1)[0])[0] != transport.RESPONSE_END:
            assert event[0] in (transport.WRITABLE, transport.RESPONSE_HEAD), event


def test_fileno_wakes_selectors(client: transport.Transport) -> None:
    """The descriptor is readable exactly while something waits."""
    import select

    fd = client.fileno()
    assert select.select([fd], [], [], 0)[0] == []
    client.post("x")
    assert select.select([fd], [], [], 10)[0] == [fd]
    client.drain_fileno()
    assert client.poll(0, 10) == [(transport.POSTED, "x")]
    assert select.select([fd], [], [], 0)[0] == []
