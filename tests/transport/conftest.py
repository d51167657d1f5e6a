"""A small server on the transport, driven by a thread, for foreign clients to talk to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from corum import _transport as transport

METHODS = [
    ("/test.Echo/Unary", "unary"),
    ("/test.Echo/Repeat", "server_stream"),
    ("/test.Echo/Collect", "client_stream"),
    ("/test.Echo/Chat", "bidi"),
    ("/test.Echo/Never", "unary"),
    ("/test.Echo/Fail", "unary"),
]
UNARY, REPEAT, COLLECT, CHAT, NEVER, FAIL = range(6)
FAILURE = "etcdserver: 50% ü\nfailed"


class EchoServer:
    """Answers what `METHODS` promise and echoes HTTP requests; records every event."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("keepalive_min_time_ms", 0)
        self.transport = transport.Transport(
            transport.Settings(methods=METHODS, metadata_keys=["token", "x-other"], **settings)
        )
        self.events: list[tuple[Any, ...]] = []
        self.errors: list[BaseException] = []
        self.arrived = threading.Condition()
        self.collected: dict[int, list[bytes]] = {}
        self.http: Callable[[tuple[Any, ...]], None] = self.echo_http
        self.stopping = False
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        try:
            while not self.stopping:
                for event in self.transport.poll(-1, 1000):
                    if event[0] == transport.POSTED:
                        if callable(event[1]):
                            event[1]()
                        continue
                    self.handle(event)
                    with self.arrived:
                        self.events.append(event)
                        self.arrived.notify_all()
        except BaseException as error:
            self.errors.append(error)

    def handle(self, event: tuple[Any, ...]) -> None:
        match event[0]:
            case transport.UNARY:
                self.unary(*event[1:4])
            case transport.STREAM_OPEN:
                self.collected[event[1]] = [bytes([event[2]])]
            case transport.STREAM_MESSAGE:
                if self.collected[event[1]][0] == bytes([CHAT]):
                    self.transport.send([(event[1], event[2])])
                self.collected[event[1]].append(event[2])
            case transport.STREAM_END:
                kind, *messages = self.collected.pop(event[1])
                if kind == bytes([COLLECT]):
                    self.transport.send([(event[1], b"".join(messages))])
                self.transport.fail([(event[1], 0, "")])
            case transport.HTTP | transport.HTTP_OPEN | transport.HTTP_CHUNK | transport.HTTP_END:
                self.http(event)

    def unary(self, call: int, method: int, message: bytes) -> None:
        if method == UNARY:
            self.transport.reply([(call, message)])
        elif method == REPEAT:
            self.transport.send([(call, message)] * 3)
            self.transport.fail([(call, 0, "")])
        elif method == FAIL:
            self.transport.fail([(call, 5, FAILURE)])

    def echo_http(self, event: tuple[Any, ...]) -> None:
        if event[0] == transport.HTTP:
            _, call, _, verb, target, _, body, _ = event
            headers = [("X-Verb", verb), ("X-Target", target)]
            self.transport.http_reply(call, 200, headers, body or target.encode())

    def wait_for(self, kind: int, count: int = 1) -> list[tuple[Any, ...]]:
        """The first `count` events of this kind, once they are there."""

        def found() -> list[tuple[Any, ...]]:
            return [event for event in self.events if event[0] == kind]

        with self.arrived:
            assert self.arrived.wait_for(lambda: len(found()) >= count, timeout=10), self.events
            return found()[:count]

    def stop(self) -> None:
        self.stopping = True
        self.transport.post(None)
        self.thread.join()
        self.transport.close()
        assert self.errors == []


@pytest.fixture
def start_server() -> Iterator[Callable[..., EchoServer]]:
    """A function that starts servers with settings; they end with the test."""
    servers: list[EchoServer] = []

    def start(**settings: Any) -> EchoServer:
        server = EchoServer(**settings)
        servers.append(server)
        server.thread.start()
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def server(start_server: Callable[..., EchoServer]) -> EchoServer:
    return start_server()


@pytest.fixture
def address(server: EchoServer) -> str:
    return server.transport.listen("http://127.0.0.1:0").address
