"""Any bytes on the client port: an error or a closed connection, never a crash or a leak."""

import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from corum.pb import rpc
from oracle import servers
from oracle.build import get, put
from oracle.rpc import Client, Refused

pytestmark = [pytest.mark.process, pytest.mark.slow]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GROWTH_MAX_KIB = 64 * 1024
TALK_TIMEOUT_S = 0.3


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame (RFC 9113 §4.1)."""
    head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
    return head + struct.pack(">I", stream) + payload


SETTINGS = frame(4, 0, 0, b"")
H2 = PREFACE + SETTINGS
GET_ROOT = b"\x82\x86\x84\x41\x01x"  # HPACK: GET, http, /, :authority x

TALKS: dict[str, bytes] = {
    "nothing": b"",
    "zeros": bytes(4096),
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),
    "half a preface": PREFACE[:10],
    "a preface and garbage": PREFACE + b"\xff" * 500,
    "a frame larger than allowed": H2 + frame(0, 0, 1, bytes(20_000)),
    "a frame that promises 16 MiB": H2 + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "data on a stream that is not open": H2 + frame(0, 0, 5, b"x"),
    "headers on stream zero": H2 + frame(1, 4, 0, GET_ROOT),
    "an even stream": H2 + frame(1, 4, 2, GET_ROOT),
    "headers that never end": H2 + frame(1, 0, 1, GET_ROOT) + frame(9, 0, 1, b"\x00") * 5_000,
    "broken header compression": H2 + frame(1, 5, 1, b"\xff" * 50),
    "a window that overflows": H2 + frame(8, 0, 0, b"\x7f\xff\xff\xff") * 3,
    "an empty window update": H2 + frame(8, 0, 0, bytes(4)),
    "settings of a wrong size": PREFACE + frame(4, 0, 0, b"\x00" * 5),
    "many settings": H2 + SETTINGS * 20_000,
    "many pings": H2 + frame(6, 0, 0, bytes(8)) * 20_000,
    "many resets": H2
    + b"".join(
        frame(1, 5, stream, GET_ROOT) + frame(3, 0, stream, bytes(4))
        for stream in range(1, 10_001, 2)
    ),
    "unknown frames": H2 + frame(77, 0, 0, b"x" * 100) * 100,
    "HTTP/1.1 without a host": b"GET /health HTTP/1.1\r\n\r\n",
    "HTTP/1.1 with a long line": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/1.1 with many headers": b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000 + b"\r\n",
    "HTTP/1.1 with two lengths": b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\n"
    b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "HTTP/1.1 with a negative length": b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\n"
    b"Content-Length: -1\r\n\r\n",
    "HTTP/1.1 with broken chunks": b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "HTTP/0.9": b"GET /\r\n",
}


@pytest.fixture(scope="module")
def server(
    our_program: servers.Program, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    with servers.running(our_program, tmp_path_factory.mktemp("port")) as started:
        yield started


def resident_kib(pid: int) -> int:
    (line,) = [
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    ]
    return int(line.split()[1])


def talk(server: servers.Server, words: bytes) -> None:
    """Say it, read a little, hang up."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", server.client_port), 2) as wire,
    ):
        wire.settimeout(TALK_TIMEOUT_S)
        wire.sendall(words)
        while wire.recv(65_536):
            pass


def still_well(server: servers.Server) -> None:
    assert server.alive(), server.tail()
    assert server.healthy(), server.tail()
    assert "Traceback" not in server.log(), server.tail()
    assert "panicked" not in server.log(), server.tail()


@pytest.mark.parametrize("name", TALKS)
def test_wrong_bytes(server: servers.Server, name: str) -> None:
    """The server goes on, with no trace of an exception and no more memory."""
    before = resident_kib(server.pid)
    talk(server, TALKS[name])
    still_well(server)
    assert resident_kib(server.pid) - before < GROWTH_MAX_KIB


def literal(name: str, value: str) -> bytes:
    """A header field without compression (RFC 7541 §6.2.2)."""
    parts = [name.encode(), value.encode()]
    return b"\x00" + b"".join(bytes([len(part)]) + part for part in parts)


def read_frame(wire: socket.socket) -> tuple[int, int, bytes]:
    """Type, flags and payload of the next frame."""
    head = read_exactly(wire, 9)
    return head[3], head[4], read_exactly(wire, int.from_bytes(head[:3], "big"))


def read_exactly(wire: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        piece = wire.recv(size - len(got))
        assert piece, "the server hung up"
        got += piece
    return bytes(got)


def test_pings_of_a_client_that_measures_bandwidth(server: servers.Server) -> None:
    """Go's client pings while a large answer streams in; that is not too many pings."""
    with Client(server.endpoint) as client:
        for number in range(8):
            client.call("KV/Put", put(f"large{number}", b"x" * 250_000))
    request = get("large", "largf").SerializeToString()
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/etcdserverpb.KV/Range"),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    block = b"".join(literal(name, value) for name, value in headers)
    message = b"\x00" + struct.pack(">I", len(request)) + request
    seen, waiting = 0, False  # for the answer to a ping: there is never more than one
    with socket.create_connection(("127.0.0.1", server.client_port), 2) as wire:
        wire.settimeout(5)
        wire.sendall(H2 + frame(1, 4, 1, block) + frame(0, 1, 1, message))
        while True:
            kind, flags, payload = read_frame(wire)
            assert kind != 7, f"GOAWAY {payload!r} after {seen} bytes"
            if kind == 0:
                seen += len(payload)
                more = struct.pack(">I", max(len(payload), 1))
                wire.sendall(frame(8, 0, 0, more) + frame(8, 0, 1, more))
                if not waiting:
                    wire.sendall(frame(6, 0, 0, b"bandwdth"))
                    waiting = True
            if kind == 6 and flags & 1:
                waiting = False
            if kind in (0, 1) and flags & 1:
                break
    assert seen > 2_000_000


def test_random_bytes(server: servers.Server) -> None:
    """The same for bytes nobody thought of, also behind a valid beginning."""
    dice = random.Random(1)
    before = resident_kib(server.pid)
    with contextlib.ExitStack() as wires:
        for number in range(200):
            wire = wires.enter_context(
                socket.create_connection(("127.0.0.1", server.client_port), 2)
            )
            start = (b"", H2, b"POST /v3/kv/put HTTP/1.1\r\n", PREFACE)[number % 4]
            with contextlib.suppress(OSError):
                wire.sendall(start + dice.randbytes(dice.randrange(1, 3_000)))
        still_well(server)
    still_well(server)
    assert resident_kib(server.pid) - before < GROWTH_MAX_KIB


def test_random_messages(server: servers.Server) -> None:
    """gRPC calls whose message is noise are refused or, when they decode, answered."""
    dice = random.Random(2)
    methods = ("KV/Range", "KV/Put", "KV/Txn", "KV/DeleteRange", "Lease/LeaseGrant", "KV/Compact")
    valid = put("a", "b", lease=1).SerializeToString()
    with Client(server.endpoint) as client:
        for number in range(300):
            noise = bytearray(valid if number % 2 else dice.randbytes(40))
            noise[dice.randrange(len(noise))] ^= 1 << dice.randrange(8)
            client.raw("/etcdserverpb." + methods[number % len(methods)], bytes(noise))
        assert not isinstance(client.call("KV/Put", put("after", "1")), Refused)
    still_well(server)


def test_enums_nobody_defined(server: servers.Server) -> None:
    """Go etcd 3.5.1 dies of an unknown sort target; ours answers or refuses."""
    with Client(server.endpoint) as client:
        client.call("KV/Put", put("a", "1"))
        client.call("KV/Range", get("a", "z", sort_target=9, sort_order=9))
        client.call("KV/Txn", rpc.TxnRequest(compare=[rpc.Compare(key=b"a", target=9, result=9)]))
        client.call("Maintenance/Alarm", rpc.AlarmRequest(action=9, alarm=9))
        client.raw("/etcdserverpb.Maintenance/Downgrade", b"\x08\x09")
    still_well(server)
