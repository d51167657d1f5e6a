"""One port for everything a client sees: gRPC calls, streams, and HTTP requests to their handlers.

The router owns the method table that the transport is built with, and dispatches a batch of events.
Handlers raise EtcdError to end a call; whatever else they raise is a bug, answered as Internal and
counted, so that one request cannot stop a member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeAlias

from corum import _transport as wire
from corum import errors
from corum.api.methods import METHODS
from corum.api.v3.calls import Service
from corum.metrics import Metrics
from corum.pb import rpc
from corum.server.auth import EarlyToken
from corum.server.node import HAS_LEADER, Node

METADATA_KEYS: Final = ("token", "authorization", "hasleader", "client-api-version")
"""What handlers find in `meta`, in this order."""

PEER_KINDS: Final = (
    *(wire.HTTP_OPEN, wire.HTTP_CHUNK, wire.HTTP_END),
    *(wire.RESPONSE_HEAD, wire.RESPONSE_CHUNK, wire.RESPONSE_END),
)
"""Bodies that are streamed to us, and answers to our own requests: only members send such."""

LEARNER_RANGE: Final = "/etcdserverpb.KV/Range"
"""A learner serves it from its own state only."""
LEARNER_OTHERS: Final = ("/etcdserverpb.Maintenance/Status", "/etcdserverpb.Maintenance/Snapshot")
"""What else a learner serves (as etcd)."""

HttpHandler: TypeAlias = Callable[..., None]


class PeerEvents(Protocol):
    """Events of the peer port, and of our requests to other members (`corum.peer`)."""

    def event(self, event: tuple[Any, ...], /) -> None: ...
    def closed(self, call: int, /) -> bool: ...
    def writable(self, call: int, /) -> bool: ...


class Router:
    """Events in, calls on services out."""

    def __init__(self, node: Node, services: Iterable[Service]) -> None:
        """Methods that no service here offers are answered Unimplemented."""
        self.node = node
        self.index = {path: n for n, (path, _) in enumerate(METHODS)}
        self._unary: list[Any] = [_unimplemented(path) for path, _ in METHODS]
        self._streams: list[Any] = [(one, None, None, None) for one in self._unary]
        self._open: dict[int, tuple[int, Any]] = {}
        node.slowness.leaderless = self.no_leader
        for service in services:
            self._register(service)
        self.metrics = Metrics()
        self.grpc = self.metrics.serve_grpc(METHODS)
        self.versions: dict[str | None, int] = {}
        self.bugs_total = 0
        self.http: HttpHandler | None = None
        self.meet_peers: Callable[[], PeerEvents] = _nobody
        """Makes `peers`, at the first event that is theirs."""
        self.http_writable: Callable[[int], bool] = lambda call: False
        self.http_closed: Callable[[int], None] = lambda call: None
        self.peers: PeerEvents | None = None
        self.peer_listeners: frozenset[int] = frozenset()
        self._kinds: dict[int, Callable[[tuple[Any, ...]], None]] = {
            wire.STREAM_OPEN: self._stream_open,
            wire.STREAM_MESSAGE: self._stream_message,
            wire.STREAM_END: self._stream_end,
            wire.CANCELLED: self._cancelled,
            wire.WRITABLE: self._writable,
            wire.HTTP: self._http,
            wire.POSTED: self._posted,
            wire.LOG_SYNCED: self._synced,
            wire.DRAINED: _ignored,
        } | dict.fromkeys(PEER_KINDS, self._for_peers)

    def _register(self, service: Service) -> None:
        for name, handler in service.unary().items():
            self._unary[self.index[service.PATH + name]] = handler
        for name, handlers in service.streams().items():
            at = self.index[service.PATH + name]
            self._streams[at] = (*handlers, getattr(service, "closed", None))

    def dispatch(self, events: list[tuple[Any, ...]]) -> None:
        """Give every event to its handler, in order."""
        if not self.node.leader or self.node.is_learner:
            events = self._admitted(events)
        unary_kind, unary, started = wire.UNARY, self._unary, self.grpc.started
        versions, kinds = self.versions, self._kinds
        for event in events:
            if event[0] == unary_kind:
                _, call, method, message, meta = event
                started[method] += 1
                version = meta[3]
                versions[version] = versions.get(version, 0) + 1
                try:
                    unary[method](call, message, meta)
                except EarlyToken as early:
                    self._wait(early, event, method, call)
                except errors.EtcdError as error:
                    self.refuse(method, call, error)
                except Exception as error:
                    self._bug(method, call, error)
            else:
                kinds[event[0]](event)

    def _admitted(self, events: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Without calls that a member without leader, or a learner, refuses."""
        kept: list[tuple[Any, ...]] = []
        for event in events:
            if event[0] == wire.UNARY:
                _, call, method, message, meta = event
                error = self._refusal(method, message, meta)
                if error is not None:
                    self.grpc.started[method] += 1
                    self.refuse(method, call, error)
                    continue
            kept.append(event)
        return kept

    def _refusal(self, method: int, message: bytes, meta: Any) -> errors.EtcdError | None:
        """What every call is asked, whatever it wants; `message` is empty for a stream."""
        node = self.node
        if node.is_learner and not _learner_serves(METHODS[method][0], message):
            return errors.NOT_SUPPORTED_FOR_LEARNER()
        if not node.leader and meta[HAS_LEADER] == "true":
            return errors.NO_LEADER()
        return None

    def no_leader(self) -> None:
        """There has been none for long: streams of clients that demand one end (as in etcd)."""
        for call, (method, meta) in list(self._open.items()):
            if meta[HAS_LEADER] == "true":
                self._forget(call)
                self.refuse(method, call, errors.NO_LEADER())
        for long in list(self.node.long_calls.values()):
            long.leaderless()

    def end_streams(self) -> None:
        """The member stops: who watches or renews goes on at another one."""
        for call, (method, _) in list(self._open.items()):
            self._forget(call)
            self.refuse(method, call, errors.STOPPED())

    def call(self, call: int, method: int, message: bytes, meta: Any) -> None:
        """One unary request that did not come as gRPC."""
        self.dispatch([(wire.UNARY, call, method, message, meta)])

    def _wait(self, early: EarlyToken, event: tuple[Any, ...], method: int, call: int) -> None:
        """Take an event again when its caller's token is known; a stream's keep their order."""

        def again(error: errors.EtcdError | None) -> None:
            if error is None:
                self.dispatch([event])
            else:
                self._forget(call)
                self.refuse(method, call, error)

        self.node.auth.wait(early, again)

    def refuse(self, method: int, call: int, error: errors.EtcdError) -> None:
        """End a call with an error of the table."""
        self.grpc.handled[method][error.code] += 1
        self.node.out.failures.append((call, error.code, error.text))

    def _bug(self, method: int, call: int, error: Exception) -> None:
        self.bugs_total += 1
        self.node.ports.bug(METHODS[method][0], error)
        self.node.out.failures.append((call, errors.INTERNAL, f"{type(error).__name__}: {error}"))

    # ---- streams

    def _stream_open(self, event: tuple[Any, ...]) -> None:
        _, call, method, meta = event
        self.grpc.started[method] += 1
        self.open_stream(call, method, meta)

    def open_stream(self, call: int, method: int, meta: Any) -> None:
        """A client-streaming or bidirectional call began."""
        refusal = self._refusal(method, b"", meta)
        if refusal is not None:
            self.refuse(method, call, refusal)
            return
        try:
            self._streams[method][0](call, meta)
        except errors.EtcdError as error:
            self.refuse(method, call, error)
            return
        self._open[call] = (method, meta)

    def stream_message(self, call: int, message: bytes) -> None:
        """A message of an open stream."""
        self._stream_message((wire.STREAM_MESSAGE, call, message))

    def _stream_message(self, event: tuple[Any, ...]) -> None:
        _, call, message = event
        found = self._open.get(call)
        if found is None:
            return  # ended by us a moment ago
        method, meta = found
        self.grpc.received[method] += 1
        try:
            self._streams[method][1](call, message, meta)
        except EarlyToken as early:
            self._wait(early, event, method, call)
        except errors.EtcdError as error:
            self._forget(call)
            self.refuse(method, call, error)
        except Exception as error:
            self._forget(call)
            self._bug(method, call, error)

    def _stream_end(self, event: tuple[Any, ...]) -> None:
        self.end_stream(event[1])

    def end_stream(self, call: int) -> None:
        """The client sends no more."""
        found = self._open.get(call)
        if found is not None and not self._streams[found[0]][2](call):
            self._open.pop(call, None)

    def _forget(self, call: int) -> None:
        found = self._open.pop(call, None)
        if found is not None and self._streams[found[0]][3] is not None:
            self._streams[found[0]][3](call)

    def _cancelled(self, event: tuple[Any, ...]) -> None:
        call = event[1]
        if self.peers is not None and self.peers.closed(call):
            return
        self._forget(call)
        self.node.downloads.cancel(call)
        self.node.ranges.cancel(call)
        long = self.node.long_calls.get(call)
        if long is not None:
            long.gone()
        self.http_closed(call)

    def _writable(self, event: tuple[Any, ...]) -> None:
        call = event[1]
        if self.peers is not None and self.peers.writable(call):
            return
        if not self.http_writable(call):
            self.node.stream_writable(call)

    # ---- the rest

    def _http(self, event: tuple[Any, ...]) -> None:
        if event[2] in self.peer_listeners:
            self._for_peers(event)
            return
        assert self.http is not None
        self.http(*event[1:])

    def _for_peers(self, event: tuple[Any, ...]) -> None:
        if self.peers is None:
            self.peers = self.meet_peers()
        self.peers.event(event)

    def _posted(self, event: tuple[Any, ...]) -> None:
        done, result = event[1]
        done(result)

    def _synced(self, event: tuple[Any, ...]) -> None:
        _, token, error, took_ns = event
        self.node.driver.synced(token, error, took_ns)


def _learner_serves(path: str, message: bytes) -> bool:
    if path != LEARNER_RANGE:
        return path in LEARNER_OTHERS
    try:
        return bool(rpc.RangeRequest.FromString(message).serializable)
    except Exception:  # upb's DecodeError: its handler says so
        return True


def _ignored(event: tuple[Any, ...]) -> None:
    """Who drains the transport looks at the number of open calls himself."""


def _nobody() -> PeerEvents:
    raise AssertionError("no listener for members")


def _unimplemented(path: str) -> Callable[..., None]:
    service, _, name = path[1:].partition("/")

    def refuse(*_: Any) -> None:
        raise errors.EtcdError(errors.UNIMPLEMENTED, f"unknown method {name} for service {service}")

    return refuse
