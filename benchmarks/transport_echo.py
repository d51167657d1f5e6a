"""CPU of the transport per unary call: an echo server in a child process under load.

The client is a few hundred bytes of prepared HTTP/2 frames on plain sockets, so that it neither
limits nor distorts; only the server's CPU time (user and system, both threads) is reported.

    python benchmarks/transport_echo.py --connections 20 --streams 10 --calls 200000
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import selectors
import socket
import struct
import time
from multiprocessing.connection import Connection

from corum import _transport

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
FRAME_HEAD = 9
HEADERS, DATA, PING, WINDOW_UPDATE = 1, 0, 6, 8
END_STREAM = 1
PAYLOAD_BYTES = 150
PATH = b"/etcdserverpb.KV/Put"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame (RFC 9113 §4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(index: int, value: bytes) -> bytes:
    """A field with incremental indexing and a static name (RFC 7541 §6.2.1)."""
    return bytes([0x40 | index, len(value)]) + value


# :method POST, :scheme http, then :path, :authority, content-type and user-agent into the table.
FIRST_BLOCK = (
    b"\x83\x86"
    + literal(4, PATH)
    + literal(1, b"127.0.0.1")
    + literal(31, b"application/grpc")
    + literal(58, b"grpc-go/1.60")
)
NEXT_BLOCK = b"\x83\x86\xc1\xc0\xbf\xbe"


def serve(ready: Connection, calls: int) -> None:
    """Echo `calls` calls, then report CPU seconds and the number of batches."""
    settings = _transport.Settings(
        methods=[(PATH.decode(), "unary")], metadata_keys=["token"], keepalive_min_time_ms=0
    )
    with _transport.Transport(settings) as transport:
        listener = transport.listen("http://127.0.0.1:0")
        ready.send(listener.address)
        answered = batches = 0
        before = os.times()
        while answered < calls:
            events = transport.poll(1000, 10_000)
            replies = [(event[1], event[3]) for event in events if event[0] == _transport.UNARY]
            transport.reply(replies)
            answered += len(replies)
            batches += 1
        ready.recv()
        after = os.times()
        ready.send((after.user - before.user, after.system - before.system, batches))


class Client:
    """One connection that keeps `streams` calls in flight."""

    def __init__(self, address: str, ping: bool) -> None:
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = 1
        self.block = FIRST_BLOCK
        self.rest = b""
        self.answered = 0
        self.body = frame(
            DATA, END_STREAM, 0, struct.pack(">BI", 0, PAYLOAD_BYTES) + b"x" * PAYLOAD_BYTES
        )
        self.ping = frame(PING, 0, 0, b"12345678") if ping else b""
        window = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", (1 << 31) - 1 - 65_535))
        self.socket.sendall(PREFACE + window)

    def call(self, count: int) -> None:
        out = []
        for _ in range(count):
            out.append(frame(HEADERS, 4, self.stream, self.block))
            out.append(self.body[:5] + struct.pack(">I", self.stream) + self.body[9:])
            self.block = NEXT_BLOCK
            self.stream += 2
        self.socket.sendall(b"".join(out) + self.ping)

    def receive(self) -> int:
        """How many calls ended."""
        data = self.rest + self.socket.recv(1 << 16)
        ended = at = 0
        while at + FRAME_HEAD <= len(data):
            size = int.from_bytes(data[at : at + 3], "big")
            if at + FRAME_HEAD + size > len(data):
                break
            ended += data[at + 3] == HEADERS and data[at + 4] & END_STREAM
            at += FRAME_HEAD + size
        self.rest = data[at:]
        return ended


def load(address: str, connections: int, streams: int, calls: int, ping: bool) -> float:
    """Seconds that `calls` calls took."""
    clients = [Client(address, ping) for _ in range(connections)]
    selector = selectors.DefaultSelector()
    left = calls
    begun = time.perf_counter()
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
        client.call(streams)
        left -= streams
    in_flight = connections * streams
    while in_flight:
        for key, _ in selector.select():
            ended = key.data.receive()
            more = min(ended, left)
            left -= more
            in_flight += more - ended
            if more:
                key.data.call(more)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--streams", type=int, default=10, help="calls in flight per connection")
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--ping", action="store_true", help="a PING with each write, as Go does")
    args = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.Process(target=serve, args=(theirs, args.calls))
    child.start()
    seconds = load(ours.recv(), args.connections, args.streams, args.calls, args.ping)
    ours.send(None)
    user, system, batches = ours.recv()
    child.join()
    cpu_us = (user + system) / args.calls * 1e6
    print(
        f"{args.connections} connections x {args.streams} calls: "
        f"{cpu_us:.2f} us CPU per call (user {user / args.calls * 1e6:.2f}, "
        f"system {system / args.calls * 1e6:.2f}), "
        f"{args.calls / batches:.1f} calls per batch, {args.calls / seconds:,.0f} calls/s"
    )


if __name__ == "__main__":
    main()
