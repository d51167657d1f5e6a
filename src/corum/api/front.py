"""HTTP on the client port: status endpoints, and the JSON gateway to the gRPC handlers.

A gateway request runs the same handler as its gRPC method, under the HTTP call's id; the outbox hands
the answers to a `_Call` here, which turns them into JSON.
"""

from __future__ import annotations

from typing import Any

from corum import errors
from corum._transport import Transport
from corum.api import gateway
from corum.api.router import Router
from corum.pb.methods import Method
from corum.server.node import Node
from corum.versions import Emulated

Headers = list[tuple[str, str]]

CORS: Headers = [
    ("access-control-allow-methods", "POST, GET, OPTIONS, PUT, DELETE"),
    ("access-control-allow-origin", "*"),
    ("access-control-allow-headers", "accept, content-type, authorization"),
]
NOT_FOUND: Headers = [
    ("content-type", "text/plain; charset=utf-8"),
    ("x-content-type-options", "nosniff"),
]


class Front:
    """Gives HTTP requests to whoever answers their path."""

    def __init__(
        self, node: Node, router: Router, transport: Transport, emulated: Emulated
    ) -> None:
        self._node = node
        self._router = router
        self._transport = transport
        self._emulated = emulated
        self._streams: dict[int, _Call] = {}
        router.http = self.request
        router.http_closed = self._closed

    def request(
        self,
        call: int,
        listener: int,
        verb: str,
        target: str,
        headers: Headers,
        body: bytes,
        peer: Any,
    ) -> None:
        """One request."""
        path, _, query = target.partition("?")
        if verb == "OPTIONS":
            self._reply(call, 200, [], b"")
        elif gateway.is_gateway(path):
            self._gateway(call, verb, path, dict(headers), body, peer)
        else:
            self._reply(call, 404, NOT_FOUND, b"404 page not found\n")

    def _reply(self, call: int, status: int, headers: Any, body: bytes) -> None:
        self._transport.http_reply(call, status, [*headers, *CORS], body)

    # ---- the gateway

    def _gateway(
        self, call: int, verb: str, path: str, headers: dict[str, str], body: bytes, peer: Any
    ) -> None:
        refusal = gateway.refusal(verb, path, self._emulated)
        if refusal is not None:
            self._reply(call, refusal.status, refusal.headers, refusal.body)
            return
        method = gateway.find(path)
        assert method is not None
        meta = (None, gateway.token(headers), None, None, 0, peer, None)
        index = self._router.index[method.path]
        converter = _Call(call, method, self)
        try:
            if method.kind == "bidi":
                messages = gateway.decode_stream(method, body)
                converter.begin()
                self._streams[call] = converter
                self._node.out.converters[call] = converter
                self._router.open_stream(call, index, meta)
                for message in messages:
                    self._router.stream_message(call, message)
                converter.half_close()
            else:
                message = gateway.decode(method, body)
                self._node.out.converters[call] = converter
                if method.kind == "server_stream":
                    converter.begin()
                    self._streams[call] = converter
                self._router.call(call, index, message, meta)
        except errors.EtcdError as error:
            self._node.out.converters.pop(call, None)
            self.fail(converter, error.code, error.text)

    def reply(self, call: _Call, message: bytes) -> None:
        """The one answer of a unary call."""
        body = gateway.encode(call.method, message)
        self._reply(call.call, 200, [gateway.JSON_TYPE], body)

    def fail(self, call: _Call, code: int, text: str) -> None:
        """The end of a call, with an error or (code 0) of a stream without one."""
        if not call.streaming:
            answer = gateway.failure(code, text, self._emulated)
            self._reply(call.call, answer.status, answer.headers, answer.body)
            return
        self._streams.pop(call.call, None)
        if not call.started:
            self.start(call)
        if code:
            line = gateway.encode_failure(code, text, self._emulated)
            self._transport.http_send(call.call, line)
        self._transport.http_finish(call.call)

    def start(self, call: _Call) -> None:
        """The head of a streamed answer."""
        call.started = True
        self._transport.http_start(call.call, 200, [gateway.JSON_TYPE, *CORS])

    def send(self, call: _Call, message: bytes) -> bool:
        """A line of a streamed answer; True when the client does not keep up."""
        if not call.started:
            self.start(call)
        return self._transport.http_send(call.call, gateway.encode_result(call.method, message))

    def end(self, call: int) -> None:
        """The client of a stream has said all it had to say."""
        self._router.end_stream(call)

    def _closed(self, call: int) -> None:
        self._streams.pop(call, None)
        self._node.out.converters.pop(call, None)


class _Call:
    """One gateway call: takes what its handler answers."""

    __slots__ = ("_front", "call", "method", "started", "streaming")

    def __init__(self, call: int, method: Method, front: Front) -> None:
        self.call = call
        self.method = method
        self._front = front
        self.streaming = False
        self.started = False

    def begin(self) -> None:
        """Its answer is a stream."""
        self.streaming = True

    def half_close(self) -> None:
        """The body has been read: streams whose client only asks (keep-alive) end, watches stay."""
        if self.method.name != "Watch":
            self._front.end(self.call)

    def reply(self, message: bytes) -> None:
        """See `outbox.Converter`."""
        if self.streaming:
            self._front.send(self, message)
            self._front.fail(self, 0, "")
        else:
            self._front.reply(self, message)

    def fail(self, code: int, text: str) -> None:
        """See `outbox.Converter`."""
        self._front.fail(self, code, text)

    def send(self, message: bytes) -> bool:
        """See `outbox.Converter`."""
        return self._front.send(self, message)
