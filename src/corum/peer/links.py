"""One other member: its addresses, the streams of the pair, and single posts while it has none."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from corum.peer.codec import AppWriter, MessageWriter, encode
from corum.peer.rules import Headers, Identity
from corum.peer.stream import APP, MESSAGE, InStream, OutStream, Patience, Wire
from corum.peer.succession import NOBODY_LISTENS
from corum.raft import Message, MessageType
from corum.server.peering import Appends, LinkStatistics
from corum.values import NS_PER_MS

POSTS_MAX: Final = 4
"""Posts under way to one member."""
POST_QUEUE_MAX: Final = 64
POST_TIMEOUT_MS: Final = 5_000
DIAL_TIMEOUT_MS: Final = 2_000


class Channel(Protocol):
    """A way to one URL."""

    def http_request(
        self,
        verb: str,
        target: str,
        headers: Headers,
        body: bytes | None,
        timeout_ms: int = 0,
    ) -> int: ...
    def close(self) -> None: ...


class Call(Protocol):
    """Who hears of a request of ours."""

    def head(self, status: int, headers: Headers, now_ns: int) -> None: ...
    def chunk(self, data: bytes, now_ns: int) -> None: ...
    def end(self, code: int, text: str, now_ns: int) -> None: ...


class Hub(Protocol):
    """All members together, as one of them needs it."""

    wire: Any
    identity: Identity
    patience: Patience
    now_ns: int
    calls: dict[int, Any]
    appends_sent: Appends
    appends_received: Appends

    @property
    def peer_urls(self) -> Sequence[str]: ...
    def connect(self, url: str) -> Channel: ...
    def received(self, messages: list[Message]) -> None: ...
    def unreachable(self, member: int) -> None: ...
    def snapshot_ended(self, member: int, ok: bool) -> None: ...
    def active(self, member: int, is_active: bool, why: str) -> None: ...
    def runs(self, member: int, headers: Mapping[str, str]) -> None: ...
    def gone(self, member: int) -> None: ...
    def we_were_removed(self) -> None: ...
    def said(self, member: int, text: str) -> None: ...


class Collected:
    """A request whose whole answer is wanted; `done` gets status 0 when there was none."""

    def __init__(self, wire: Wire, done: Callable[[int, Headers, bytes], None]) -> None:
        self.call = 0
        self._wire = wire
        self._done = done
        self._status = 0
        self._headers: Headers = []
        self._body = b""

    def head(self, status: int, headers: Headers, now_ns: int) -> None:
        """See `Call`."""
        self._status, self._headers = status, headers

    def chunk(self, data: bytes, now_ns: int) -> None:
        """See `Call`."""
        self._wire.consume(self.call, len(data))
        self._body += data

    def end(self, code: int, text: str, now_ns: int) -> None:
        """See `Call`."""
        if code:
            self._done(0, [], text.encode())
        else:
            self._done(self._status, self._headers, self._body)


class Peer:
    """See the module's docstring. Owned by the loop."""

    def __init__(self, hub: Hub, member: int, peer_urls: Sequence[str]) -> None:
        self._hub = hub
        self.id = member
        self.local = hub.identity.local
        self.peer_urls = list(peer_urls)
        self._at = 0
        self._channel: Channel | None = None
        wire, patience = hub.wire, hub.patience
        self.app = OutStream(wire, AppWriter, patience)
        self.message = OutStream(wire, MessageWriter, patience)
        self.incoming = tuple(InStream(wire, self, kind, patience) for kind in (APP, MESSAGE))
        self._counted_bytes = 0  # received with appends, and since the ones before
        self._posting = 0
        self._posts: deque[Message] = deque()
        self.active_since_ns = 0
        """0: not reachable."""
        self.changed_ns = 0
        """When something between us failed last, or they came anew."""
        self.statistics = LinkStatistics()

    # ---- addresses

    @property
    def url(self) -> str:
        """The one in use."""
        return self.peer_urls[self._at % len(self.peer_urls)]

    @property
    def channel(self) -> Channel:
        """To `url`."""
        if self._channel is None:
            self._channel = self._hub.connect(self.url)
        return self._channel

    def moved(self, peer_urls: Sequence[str]) -> None:
        """The member has other URLs now."""
        if list(peer_urls) == self.peer_urls or not peer_urls:
            return
        self.peer_urls, self._at = list(peer_urls), 0
        for stream in self.incoming:
            stream.close()
        self._drop_channel()

    def next_url(self) -> None:
        """The one in use failed: try another if there is one."""
        if len(self.peer_urls) > 1:
            self._at += 1
            self._drop_channel()

    def _drop_channel(self) -> None:
        self._channel = None  # calls under way end by themselves

    # ---- requests

    def request(
        self,
        verb: str,
        target: str,
        headers: Headers,
        body: bytes,
        timeout_ms: int,
        done: Callable[[int, Headers, bytes], None],
    ) -> None:
        """One request; `done(status, headers, body)`, status 0 when it was not answered."""
        collected = Collected(self._hub.wire, done)
        collected.call = self.channel.http_request(verb, target, headers, body, timeout_ms)
        self._hub.calls[collected.call] = collected

    def dial(self, stream: InStream) -> int:
        """Open a stream of theirs."""
        hub = self._hub
        call = self.channel.http_request(
            "GET",
            f"/raft/stream/{stream.kind}/{self.local:x}",
            hub.identity.headers(hub.peer_urls, self.id),
            b"",
        )
        hub.calls[call] = stream
        return call

    def hang_up(self, call: int) -> None:
        """End such a stream; what of it is still on its way to us is nobody's."""
        self._hub.calls.pop(call, None)
        self._hub.wire.cancel(call)

    # ---- what comes of streams

    def received(self, messages: list[Message]) -> None:
        """Messages of this member."""
        appends = sum([message.type == MessageType.APP for message in messages])
        if appends:
            hub, before = self._hub, self._counted_bytes
            self._counted_bytes = sum([stream.received_bytes for stream in self.incoming])
            hub.appends_received.count(hub.now_ns, appends, self._counted_bytes - before)
        self._hub.received(messages)

    def opened(self, stream: InStream) -> None:
        """A stream of theirs is open."""
        self._hub.runs(self.id, dict(stream.headers))
        self._activate()

    def lost(self, stream: InStream, why: str) -> None:
        """A stream of theirs ended."""
        self.deactivate(f"lost the TCP streaming connection: {why}")

    def not_dialled(self, why: str) -> None:
        """A stream of theirs could not be opened."""
        lost = not any(stream.attached for stream in self.incoming)
        if lost and NOBODY_LISTENS in why and len(self.peer_urls) == 1:
            self._hub.gone(self.id)

    def refused(self, status: int, text: str) -> None:
        """They did not open a stream to us."""
        if status == 410:
            self._hub.we_were_removed()
        elif status != 404:
            self._hub.said(self.id, text)

    def _activate(self) -> None:
        if not self.active_since_ns:
            self.active_since_ns = self._hub.now_ns or 1
            self._hub.active(self.id, True, "")

    def deactivate(self, why: str) -> None:
        """Something failed."""
        self.changed_ns = self._hub.now_ns
        if self.active_since_ns:
            self.active_since_ns = 0
            self.statistics.losses += 1
            self._hub.active(self.id, False, why)

    def attach(self, kind: str, call: int) -> None:
        """They opened a stream to hear from us."""
        stream = self.app if kind == APP else self.message
        stream.attach(call, self._hub.now_ns)
        self.changed_ns = self._hub.now_ns
        self._activate()

    def detached(self, stream: OutStream) -> None:
        """They closed it."""
        stream.closed()
        self._hub.unreachable(self.id)

    # ---- sending

    def send(self, messages: Sequence[Message]) -> None:
        """By the stream for their kind, else by the other one, else by posts."""
        if not self.message.attached:
            for message in messages:
                if message.type == MessageType.APP and self.app.attached:
                    self._send_by(self.app, (message,), 1)
                else:
                    self._post(message)
            return
        appends = [m for m in messages if m.type == MessageType.APP]
        if not self.app.attached:
            self._send_by(self.message, messages, len(appends))
            return
        if appends:
            self._send_by(self.app, appends, len(appends))
        if len(appends) < len(messages):
            self._send_by(self.message, [m for m in messages if m.type != MessageType.APP], 0)

    def _send_by(self, stream: OutStream, messages: Sequence[Message], appends: int) -> None:
        """By a stream; so many are appends."""
        hub, before = self._hub, stream.sent_bytes
        if not stream.send(messages, hub.now_ns):
            hub.unreachable(self.id)
        if appends:
            self.statistics.success += appends
            hub.appends_sent.count(hub.now_ns, appends, stream.sent_bytes - before)

    def _post(self, message: Message) -> None:
        if self._posting >= POSTS_MAX:
            if len(self._posts) < POST_QUEUE_MAX:
                self._posts.append(message)
            else:
                self._hub.unreachable(self.id)
            return
        self._posting += 1
        hub = self._hub
        headers = hub.identity.headers(hub.peer_urls)
        headers.append(("Content-Type", "application/protobuf"))
        body = encode(message)
        if message.type == MessageType.APP:
            hub.appends_sent.count(hub.now_ns, 1, len(body))
        self.request("POST", "/raft", headers, body, POST_TIMEOUT_MS, self._posted)

    def _posted(self, status: int, headers: Headers, body: bytes) -> None:
        self._posting -= 1
        if status == 204:
            self._activate()
        else:
            self._posts.clear()
            self._hub.unreachable(self.id)
            if status == 410:
                self._hub.we_were_removed()
            if status == 0:
                self.next_url()
        while self._posts and self._posting < POSTS_MAX:
            self._post(self._posts.popleft())

    def count_bytes(self) -> None:
        """Bring the statistics up to date with what the streams have carried."""
        self.statistics.sent_bytes = self.app.sent_bytes + self.message.sent_bytes
        self.statistics.received_bytes = sum(one.received_bytes for one in self.incoming)

    # ---- time

    def tick(self, now_ns: int) -> None:
        """Heartbeats of the links, dialling, readers that take nothing."""
        for stream in self.incoming:
            stream.tick(now_ns)
        for stream in (self.app, self.message):
            if stream.attached and now_ns >= stream.heartbeat_ns:
                stream.heartbeat(now_ns)
            if stream.is_stuck(now_ns):
                stream.close()
                self._hub.unreachable(self.id)

    def close(self) -> None:
        """Talk to it no more."""
        for stream in (self.app, self.message, *self.incoming):
            stream.close()
        self._drop_channel()


def connected_since(peer: Peer | None, since_ns: int) -> bool:
    """Has the member been reachable since then?"""
    return peer is not None and 0 < peer.active_since_ns <= since_ns


TICK_NS: Final = 100 * NS_PER_MS
