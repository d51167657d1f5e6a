"""HTTP/1.1 on raw sockets, and whatever else may arrive on the port."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corum import _transport as transport

from .conftest import EchoServer


def connect(address: str) -> socket.socket:
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=10)


def exchange(address: str, *parts: bytes) -> bytes:
    """Send `parts`, then everything the server says until it closes."""
    with connect(address) as sock:
        for part in parts:
            sock.sendall(part)
        return receive_all(sock)


def receive_all(sock: socket.socket) -> bytes:
    received = b""
    while True:
        try:
            data = sock.recv(1 << 16)
        except ConnectionResetError:
            return received
        if not data:
            return received
        received += data


def receive_until(sock: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        data = sock.recv(1 << 16)
        assert data, received
        received += data
    return received


def test_simple_request(address: str) -> None:
    """Status line, headers and body, and the connection closes when asked to."""
    answer = exchange(address, b"GET /x?y=1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    head, body = answer.split(b"\r\n\r\n", 1)
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert b"X-Target: /x?y=1" in lines
    assert b"Content-Length: 6" in lines
    assert b"Connection: close" in lines
    assert any(line.startswith(b"Date: ") for line in lines)
    assert body == b"/x?y=1"


def test_keep_alive_and_pipelining(address: str) -> None:
    """Requests that arrive together are answered one after the other, in order."""
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % i for i in range(20))
    last = b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    answer = exchange(address, requests + last)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 21
    positions = [answer.index(b"X-Target: /%d\r\n" % i) for i in range(20)]
    assert positions == sorted(positions)


def test_request_cut_anywhere(address: str) -> None:
    """A request may come in any pieces."""
    request = (
        b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: t\r\n\r\n"
    )
    for size in (1, 2, 7, len(request)):
        pieces = [request[i : i + size] for i in range(0, len(request), size)]
        assert exchange(address, *pieces).endswith(b"\r\n\r\nhello world")


def test_head_has_no_body(address: str) -> None:
    """HEAD is answered with the length of what GET would send, and nothing else."""
    answer = exchange(address, b"HEAD /abc HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert b"Content-Length: 4\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_http10_closes_unless_asked(address: str) -> None:
    """HTTP/1.0: one request, unless keep-alive is asked for."""
    assert exchange(address, b"GET /a HTTP/1.0\r\n\r\n").endswith(b"/a")
    with connect(address) as sock:
        for target in (b"/one", b"/two"):
            sock.sendall(b"GET %s HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" % target)
            assert b"Connection: keep-alive\r\n" in receive_until(sock, target)


def test_expect_continue(address: str) -> None:
    """The body is asked for before it is sent."""
    with connect(address) as sock:
        sock.sendall(
            b"PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        )
        assert receive_until(sock, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"body")
        assert receive_until(sock, b"body").startswith(b"HTTP/1.1 200 OK\r\n")


def test_streamed_answer(server: EchoServer, address: str) -> None:
    """A streamed answer is chunked for HTTP/1.1 and ends with the connection for HTTP/1.0."""

    def stream(event: tuple[Any, ...]) -> None:
        server.transport.http_start(event[1], 200, [("Content-Type", "text/plain")])
        for chunk in (b"one", b"", b"three"):
            server.transport.http_send(event[1], chunk)
        server.transport.http_finish(event[1])

    server.http = stream
    answer = exchange(address, b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n")
    assert exchange(address, b"GET / HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nonethree")


def test_long_poll_disconnect(server: EchoServer, address: str) -> None:
    """Who hangs up while waiting is reported; an answer for it is stale."""
    server.http = lambda event: None
    with connect(address) as sock:
        sock.sendall(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
        (request,) = server.wait_for(transport.HTTP)
    assert server.wait_for(transport.CANCELLED) == [(transport.CANCELLED, request[1], 1)]


def test_header_lines_that_repeat(server: EchoServer, address: str) -> None:
    """Equal header lines are understood once; any difference is seen, in either direction."""
    kinds: list[object] = []

    def answer(event: tuple[Any, ...]) -> None:
        _, call, _, _, _, headers, body, _ = event
        kinds.append(headers)
        lines = b"X-Length: %s\r\n" % dict(headers).get("content-length", "none").encode()
        server.transport.http_replies([(call, 201, lines, body)])

    server.http = answer
    requests = (
        (b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n", b"ab"),
        (b"PUT /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n", b"cd"),
        (b"PUT /c HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n", b"efg"),
        (b"GET /d HTTP/1.1\r\nHost: h\r\n\r\n", b""),
        (b"PUT /e HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n", b"hi"),
        (b"GET /f HTTP/1.0\r\nHost: h\r\nContent-Length: 0\r\n\r\n", b""),
    )
    answers = exchange(address, b"".join(head + body for head, body in requests))
    assert answers.count(b"HTTP/1.1 201 Created\r\nX-Length: ") == len(requests)
    found = [part.split(b"\r\n")[0] for part in answers.split(b"X-Length: ")[1:]]
    assert found == [b"2", b"2", b"3", b"none", b"2", b"0"]
    for _, body in requests:
        assert b"\r\n\r\n" + body in answers
    assert kinds[0] is kinds[1]
    assert answers.count(b"Date: ") == answers.count(b"Content-Length: ") == len(requests)
    assert answers.count(b"Connection: close") == 1


def test_headers_cannot_be_split(server: EchoServer, address: str) -> None:
    """A line break in a header of ours does not become another header."""
    server.http = lambda event: server.transport.http_reply(
        event[1], 200, [("X-A", "a\r\nX-Evil: 1"), ("X-B", "b")], b""
    )
    answer = exchange(address, b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert b"X-Evil" not in answer
    assert b"X-B: b\r\n" in answer


def test_header_values_are_latin1_both_ways(server: EchoServer, address: str) -> None:
    """Bytes above 127 come back as they were sent; what Latin-1 lacks becomes a question mark."""

    def answer(event: tuple[Any, ...]) -> None:
        headers = [("X-Back", dict(event[5])["x-there"]), ("X-Euro", "5 €")]
        server.transport.http_reply(event[1], 200, headers, b"")

    server.http = answer
    request = b"GET / HTTP/1.1\r\nHost: h\r\nX-There: caf\xe9 \xff\r\nConnection: close\r\n\r\n"
    lines = exchange(address, request).split(b"\r\n")
    assert b"X-Back: caf\xe9 \xff" in lines
    assert b"X-Euro: 5 ?" in lines


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2001\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 5000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"".join(b"X%d: 1\r\n" % i for i in range(300)), 431),
    ],
)
def test_bad_requests(
    start_server: Callable[..., EchoServer], request_bytes: bytes, status: int
) -> None:
    """What is malformed or too large is refused, and the connection closes."""
    server = start_server(http_body_max_bytes=2000, header_max_bytes=4096)
    address = server.transport.listen("http://127.0.0.1:0").address
    answer = exchange(address, request_bytes + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1") == 1
    assert server.transport.stats()["calls"] == 0


def test_body_at_its_limit(start_server: Callable[..., EchoServer]) -> None:
    """The longest allowed body passes, chunked one byte more does not."""
    server = start_server(http_body_max_bytes=2000)
    address = server.transport.listen("http://127.0.0.1:0").address
    head = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
    answer = exchange(address, head + b"Content-Length: 2000\r\n\r\n" + b"x" * 2000)
    assert answer.endswith(b"x" * 2000)
    chunk = b"7d1\r\n" + b"x" * 2001 + b"\r\n0\r\n\r\n"
    answer = exchange(address, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_listener_without_http(server: EchoServer) -> None:
    """A listener for gRPC alone refuses other requests."""
    address = server.transport.listen("http://127.0.0.1:0", http=False).address
    answer = exchange(address, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 415 ")


def test_unix_socket(server: EchoServer, tmp_path: Any) -> None:
    """A unix socket serves the same protocols and is removed when closed."""
    path = tmp_path / "sock"
    listener = server.transport.listen(f"unix://{path}")
    assert path.stat().st_mode & 0o777 == 0o600
    with transport.Transport() as client:
        channel = client.connect(f"unix://{path}")
        assert channel.unary("/test.Echo/Unary", b"over unix") == b"over unix"
    listener.close()
    assert not path.exists()


def test_address_in_use_and_free_again(server: EchoServer) -> None:
    """A taken address raises with errno; a closed listener's address can be bound at once."""
    listener = server.transport.listen("http://127.0.0.1:0")
    with pytest.raises(transport.TransportError) as caught:
        server.transport.listen(f"http://{listener.address}")
    assert caught.value.errno is not None
    listener.close()
    server.transport.listen(f"http://{listener.address}")


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
frames = st.builds(
    lambda kind, flags, stream, payload: (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    ),
    st.integers(0, 11),
    st.integers(0, 255),
    st.one_of(st.integers(0, 9), st.integers(0, (1 << 32) - 1)),
    st.one_of(st.binary(max_size=40), st.sampled_from([b"\x83\x86\x84", b"\0\0\0\1", bytes(8)])),
)
http2 = st.lists(frames, max_size=12).map(
    lambda found: PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"".join(found)
)
http1 = st.lists(
    st.sampled_from(
        [
            b"GET / HTTP/1.1\r\n",
            b"POST /p HTTP/1.0\r\n",
            b"Host: h\r\n",
            b"Content-Length: 3\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"\r\n",
            b"3\r\n",
            b"0\r\n",
            b"abc",
            b": \r",
            b"\0",
        ]
    ),
    max_size=12,
).map(b"".join)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.one_of(st.binary(max_size=300), http1, http2, http2.map(lambda b: b[:-1])))
def test_any_bytes(server: EchoServer, address: str, data: bytes) -> None:
    """Whatever arrives, the server says something or closes, and goes on serving others."""
    with connect(address) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        receive_all(sock)
    with transport.Transport() as client:
        channel = client.connect(address)
        assert channel.unary("/test.Echo/Unary", b"alive", timeout_ms=5000) == b"alive"
    assert server.transport.stats()["partial_bytes"] == 0
