"""HTTP on the client port: status endpoints, and the JSON gateway to the gRPC handlers.

A gateway request runs the same handler as its gRPC method, under the HTTP call's id; the outbox
hands the answers to a `_Call` here, which turns them into JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final
from urllib.parse import quote

from corum import errors, process_metrics
from corum._transport import Transport
from corum.api import gateway, profiling, status
from corum.api.gauges import measure, refresh
from corum.api.http_rules import (
    BAD_ESCAPE,
    TEXT,
    Answer,
    canonical,
    clean_path,
    cors_headers,
    host_refusal,
    lines_of,
    moved,
    not_found,
    path_of,
    text_answer,
    unescaped,
)
from corum.api.router import Router
from corum.api.v2.access import Access
from corum.api.v2.admin import MEMBERS, Admin
from corum.api.v2.forms import PREFIX as KEYS
from corum.api.v2.keys import Keys
from corum.api.v2.security import PREFIX as SECURITY
from corum.api.v2.security import Security
from corum.pb.methods import Method
from corum.server.node import Node
from corum.values import value
from corum.versions import Emulated

Headers = Sequence[tuple[str, str]]


NAME_IGNORED: Final = (
    "CommonName of client sending a request against gateway will be ignored "
    "and not used as expected"
)
"""To a client whose certificate would name its user by gRPC; the gateway looks at tokens only."""

NO_STORAGE: Final = {"storage_version": False}


@value
class Rules:
    """What the flags say about HTTP."""

    cors: Sequence[str] = ("*",)
    host_whitelist: Sequence[str] = ("*",)
    gateway: bool = True
    pprof: bool = False
    v2: bool = True
    features: Mapping[str, bool] = field(default_factory=dict[str, bool])
    """State of every feature gate, for the metrics."""
    storage_version: bool = False
    """/version names the storage version as etcd from 3.6 on; many clients break on it, so only
    when a version to emulate was asked for."""


class Front:
    """Gives HTTP requests to whoever answers their path."""

    def __init__(
        self,
        node: Node,
        router: Router,
        transport: Transport,
        emulated: Emulated,
        rules: Rules,
    ) -> None:
        self._node = node
        self._router = router
        self._transport = transport
        self._emulated = emulated
        self._streams: dict[int, _Call] = {}
        self._rules = rules
        self._any_host = not rules.host_whitelist or "*" in rules.host_whitelist
        self._cors = canonical(cors_headers(rules.cors, None))
        self._cors_lines = lines_of(self._cors)
        self._named_origins = bool(rules.cors) and "*" not in rules.cors
        self._origins: dict[int, str] = {}
        self._access = Access(node, self)
        self._security = Security(node, self, self._access)
        self.keys = Keys(node, self, transport, self._access)
        self._admin = Admin(node, self)
        measure(router.metrics, node, emulated, rules.features)
        router.http = self.request
        router.http_closed = self._closed
        router.http_writable = self.keys.writable

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
        """One request on the client port (or one of its metrics-only listeners).

        What a handler raises unexpectedly costs this request, not the member.
        """
        try:
            self._route(call, verb, target, headers, body, peer)
        except Exception as error:
            self._router.bugs_total += 1
            self._node.ports.bug(target, error)
            self._node.out.converters.pop(call, None)
            self.answer(call, text_answer(500, "Internal Server Error"))

    def _route(
        self, call: int, verb: str, target: str, headers: Headers, body: bytes, peer: Any
    ) -> None:
        path, _, query = target.partition("?")
        if not path.startswith("/"):
            path = path_of(path)
        if self._named_origins and "origin" in (found := dict(headers)):
            self._origins[call] = found["origin"]
        refusal = None
        if not (self._any_host or peer.tls):
            refusal = host_refusal(self._rules.host_whitelist, dict(headers).get("host", ""))
        if refusal is not None:
            self.answer(call, refusal)
        elif verb == "OPTIONS":
            self.answer(call, Answer(200, (), b""))
        elif "%" in path and BAD_ESCAPE.search(path):
            self.answer(call, Answer(400, (TEXT,), b"400 Bad Request"))
        elif (cleaned := clean_path(decoded := unescaped(path))) != decoded:
            where = quote(cleaned, safe="/$&+,:;=@")
            self.answer(call, moved(verb, f"{where}?{query}" if query else where))
        elif path.startswith("/v2/") and self._rules.v2:
            self._v2(call, verb, path, query, headers, body, peer)
        elif gateway.is_gateway(path) and self._rules.gateway:
            self._gateway(call, verb, path, dict(headers), body, peer)
        else:
            self._status(call, verb, path, query)

    def _v2(
        self,
        call: int,
        verb: str,
        path: str,
        query: str,
        headers: Headers,
        body: bytes,
        peer: Any,
    ) -> None:
        if path == KEYS or path.startswith(KEYS + "/"):
            self.keys.request(call, verb, path, query, headers, body, peer)
        else:
            self._v2_beside_keys(call, verb, path, dict(headers), body, peer)

    def _v2_beside_keys(
        self, call: int, verb: str, path: str, headers: dict[str, str], body: bytes, peer: Any
    ) -> None:
        if path.startswith(SECURITY + "/"):
            self._security.request(call, verb, path, headers, body, peer)
        elif path.startswith(MEMBERS) and verb not in ("GET", "HEAD"):
            self._access.with_root(
                call,
                headers,
                peer,
                lambda: self._v2_admin(call, verb, path, headers, body),
            )
        else:
            self._v2_admin(call, verb, path, headers, body)

    def _v2_admin(
        self, call: int, verb: str, path: str, headers: dict[str, str], body: bytes
    ) -> None:
        if not self._admin.request(call, verb, path, headers, body):
            self.answer(call, not_found())

    def answer(self, call: int, answer: Answer) -> None:
        """A whole answer, with the headers that every one carries."""
        self.answer_with(call, answer.status, lines_of(canonical(answer.headers)), answer.body)

    def answer_with(self, call: int, status: int, lines: bytes, body: bytes) -> None:
        """The same for one whose headers are written already (see `lines_of`)."""
        lines += lines_of(self.cors(call)) if self._named_origins else self._cors_lines
        self._node.out.pages.append((call, status, lines, body))

    def cors(self, call: int) -> list[tuple[str, str]]:
        """The headers that let the page which sent this request read its answer."""
        if not self._named_origins:
            return self._cors
        return canonical(cors_headers(self._rules.cors, self._origins.pop(call, None)))

    def _status(self, call: int, verb: str, path: str, query: str) -> None:
        node, emulated = self._node, self._emulated
        if status.probe_named(path) is not None:
            status.probe(
                verb,
                path,
                query,
                facts=self._facts(),
                read=self._read,
                done=lambda answer: self.answer(call, answer),
                metrics=self._router.metrics.server,
                emulated=emulated,
            )
        elif path == "/version":
            found = node.members.version
            shape = emulated if self._rules.storage_version else replace(emulated, **NO_STORAGE)
            self.answer(call, status.version(verb, shape, found, found))
        elif path == "/metrics":
            refresh(self._router.metrics, node, self._router, self._transport.stats())
            page = status.metrics_page(self._router.metrics, process_metrics.lines)
            self.answer(call, page)
        elif path == "/debug/vars":
            self.answer(call, status.debug_vars(sys.argv, {"raft.status": self._raft_status()}))
        elif self._rules.pprof and path.startswith("/debug/pprof"):
            self.answer(call, profiling.answer(path))
        else:
            self.answer(call, not_found())

    def _facts(self) -> status.Facts:
        node = self._node
        names = {1: "NOSPACE", 2: "CORRUPT"}
        alarms = tuple(names.get(alarm, "UNKNOWN") for _, alarm in node.alarms.get(0, 0))
        return status.Facts(alarms, node.leader != 0, node.is_learner)

    def _read(self, serializable: bool, then: Callable[[str | None], None]) -> None:
        if serializable:
            then(None)
            return
        self._node.reads.add(lambda *_: then(None), _Probe(then), None)

    def _raft_status(self) -> dict[str, object]:
        found = self._node.raft.status()
        return {
            "id": f"{found.id:x}",
            "term": found.term,
            "vote": f"{found.vote:x}",
            "commit": found.commit,
            "lead": f"{found.leader:x}",
            "raftState": f"State{found.role.name.title()}",
            "applied": found.applied,
        }

    # ---- the gateway

    def _gateway(
        self, call: int, verb: str, path: str, headers: dict[str, str], body: bytes, peer: Any
    ) -> None:
        refusal = gateway.refusal(verb, path, self._emulated)
        if refusal is not None:
            self.answer(call, refusal)
            return
        node = self._node
        if node.config.client_cert_auth and node.gate.enabled and peer.common_name:
            self.answer(call, text_answer(400, NAME_IGNORED))
            return
        method = gateway.find(path)
        assert method is not None
        meta = (None, gateway.token(headers), None, None, 0, None, None)
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
        self.answer(call.call, Answer(200, gateway.SUCCESS_HEADERS, body))

    def fail(self, call: _Call, code: int, text: str) -> None:
        """The end of a call, with an error or (code 0) of a stream without one."""
        if not call.streaming:
            self.answer(call.call, gateway.failure(code, text, self._emulated))
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
        headers = canonical(gateway.SUCCESS_HEADERS) + self.cors(call.call)
        self._transport.http_start(call.call, 200, headers)

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
        self._origins.pop(call, None)
        self._node.out.converters.pop(call, None)
        self.keys.closed(call)
        self._access.closed(call)


class _Probe:
    """Stands where a read's call id stands, so that a read that fails is told to the probe."""

    __slots__ = ("then",)

    def __init__(self, then: Callable[[str | None], None]) -> None:
        self.then = then

    def fail(self, error: errors.EtcdError) -> None:
        """It could not be served."""
        self.then(error.text)


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
