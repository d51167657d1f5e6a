"""The peer ports of all machines: HTTP exchanges over links that are slow, cut, silent or broken.

Takes the place of the transport under `corum.peer`, so the streams, frames, posts and snapshots
between members are the real ones, byte for byte. An exchange is a connection of its own: bytes of
one direction keep their order and are neither lost nor doubled, as TCP has it; what can happen is
delay, a piece cut in two, a link that lets nothing through for a while, and a connection that
breaks with part of what was sent. Loss, doubling and reordering of whole messages come on top, at
the reader (`peer_port`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from corum import _transport as events
from corum import errors
from corum.peer.succession import NOBODY_LISTENS
from corum.sim.world import World
from corum.values import NS_PER_MS, NS_PER_S

NETWORK_NS: Final = 150_000
SLOW_NS: Final = 80 * NS_PER_MS
CONNECT_NS: Final = 2 * NS_PER_S
"""After so long a connection that nobody answers is given up."""
HIGH_WATER_BYTES: Final = 64 * 1024
LOW_WATER_BYTES: Final = 16 * 1024
PIECE_BYTES: Final = 16 * 1024
"""More than this arrives in several pieces."""
LISTENER: Final = 1
FIRST_CALL: Final = 1 << 40
"""Clear of the ids of clients' calls, which share the member's tables."""
DEADLINE: Final = 4
UNREACHABLE: Final = 14

Headers = Sequence[tuple[str, str]]
Link = tuple[str, str]
"""A direction between two machines, by their names."""


class Host(Protocol):
    """A machine with a peer port."""

    name: str

    @property
    def is_up(self) -> bool: ...
    @property
    def is_powered(self) -> bool: ...
    @property
    def incarnation(self) -> int: ...
    def deliver(self, event: tuple[Any, ...]) -> None:
        """Into the inbox of the loop."""
        ...


class End:
    """One side of an exchange: a member, which must be alive to hear anything, and its call id."""

    __slots__ = ("arrived_ns", "blocked", "call", "host", "incarnation", "open", "queued_bytes")

    def __init__(self, host: Host, call: int) -> None:
        self.host = host
        self.call = call
        self.incarnation = host.incarnation
        self.open = True
        """Does anybody listen to this call?"""
        self.arrived_ns = 0
        """When the last thing on its way to this side arrives."""
        self.queued_bytes = 0
        """Sent by this side, not arrived yet."""
        self.blocked = False

    @property
    def alive(self) -> bool:
        """The process that opened it is the one that runs."""
        return self.host.is_up and self.host.incarnation == self.incarnation


class Exchange:
    """One request and its answer."""

    __slots__ = ("client", "over", "server", "streaming")

    def __init__(self, client: End, server: End, *, streaming: bool) -> None:
        self.client = client
        self.server = server
        self.streaming = streaming
        """The request's body comes in pieces."""
        self.over = False


class Fabric:
    """All links."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hosts: dict[str, Host] = {}
        """By peer URL."""
        self.cut: set[Link] = set()
        """Links that let nothing through for now; what was sent waits, as TCP sends it again."""
        self.exchanges: dict[int, Exchange] = {}
        """By each of the two call ids."""
        self._waiting: dict[tuple[str, str], deque[Callable[[], None]]] = {}
        self._calls = FIRST_CALL
        self.delay_ns = NETWORK_NS
        self.slow: set[Link] = set()
        """Links that take `SLOW_NS` for everything."""

    def call_id(self) -> int:
        """A number nobody has."""
        self._calls += 1
        return self._calls

    # ---- faults

    def cut_links(self, links: Sequence[tuple[str, str]]) -> None:
        """Let nothing through from each first to each second."""
        self.cut.update(links)

    def heal(self) -> None:
        """Every link works; what waited goes on."""
        self.cut.clear()
        waiting, self._waiting = self._waiting, {}
        for link in sorted(waiting):
            for go_on in waiting[link]:
                go_on()

    def break_between(self, one: str, other: str) -> None:
        """Every connection of two machines ends."""
        pair = {one, other}
        for exchange in self._all():
            if {exchange.client.host.name, exchange.server.host.name} == pair:
                self.break_exchange(exchange)

    def died(self, host: Host, *, silent: bool) -> None:
        """A process is gone. `silent`: the machine too, so nobody is told."""
        for exchange in self._all():
            if host not in (exchange.client.host, exchange.server.host):
                continue
            if not (silent and self.world.chance(0.7)):
                self.break_exchange(exchange)

    def _all(self) -> list[Exchange]:
        return [each for call, each in self.exchanges.items() if call == each.client.call]

    def break_exchange(self, exchange: Exchange) -> None:
        """Both sides hear of it, each in its time; what is on its way may be lost."""
        if exchange.over:
            return
        self._forget(exchange)
        client, server = exchange.client, exchange.server
        self._tell(client, (events.RESPONSE_END, client.call, UNREACHABLE, "broken", ()))
        self._tell(server, (events.CANCELLED, server.call, errors.CANCELLED))

    def _forget(self, exchange: Exchange) -> None:
        exchange.over = True
        self.exchanges.pop(exchange.client.call, None)
        self.exchanges.pop(exchange.server.call, None)

    def _tell(self, end: End, event: tuple[Any, ...]) -> None:
        """The machine's own kernel says it: no link is in the way."""
        if not end.open:
            return
        end.open = False
        self.world.after(self.world.delay(self.delay_ns), lambda: self._deliver(end, event))

    @staticmethod
    def _deliver(end: End, event: tuple[Any, ...]) -> None:
        if end.alive:
            end.host.deliver(event)

    # ---- what moves

    def move(self, exchange: Exchange, sender: End, to: End, event: tuple[Any, ...]) -> None:
        """An event for the other side, behind what was sent before it."""
        world = self.world
        link = (sender.host.name, to.host.name)
        delay_ns = SLOW_NS if link in self.slow else self.delay_ns
        to.arrived_ns = max(to.arrived_ns, world.now_ns + world.delay(delay_ns))

        def arrive() -> None:
            if link in self.cut or self._waiting.get(link):
                self._waiting.setdefault(link, deque()).append(hand_over)
            else:
                hand_over()

        def hand_over() -> None:
            kind = event[0]
            if kind in (events.HTTP_CHUNK, events.RESPONSE_CHUNK):
                self._drained(sender, len(event[2]))
            if not to.open or not to.host.is_up:
                return
            if not to.alive:
                self.break_exchange(exchange)  # another process answers: it knows no such call
                return
            if kind == events.RESPONSE_END:
                to.open = False
                self._forget(exchange)
            to.host.deliver(event)

        world.at(to.arrived_ns, arrive)

    def send_bytes(self, exchange: Exchange, sender: End, to: End, kind: int, data: bytes) -> bool:
        """True when the sender should wait for WRITABLE."""
        world, at = self.world, 0
        while at < len(data):
            size = PIECE_BYTES
            if world.chance(0.03):
                size = world.between(1, max(1, min(size, len(data) - at)))
            piece = data[at : at + size]
            at += size
            sender.queued_bytes += len(piece)
            self.move(exchange, sender, to, (kind, to.call, piece))
        sender.blocked = sender.blocked or sender.queued_bytes > HIGH_WATER_BYTES
        return sender.blocked

    def _drained(self, sender: End, size: int) -> None:
        sender.queued_bytes -= size
        if sender.blocked and sender.queued_bytes < LOW_WATER_BYTES:
            sender.blocked = False
            if sender.open:
                self._deliver(sender, (events.WRITABLE, sender.call))

    # ---- requests

    def request(
        self,
        host: Host,
        url: str,
        verb: str,
        target: str,
        headers: Headers,
        body: bytes | None,
        timeout_ms: int,
    ) -> int:
        """See `Channel.http_request`."""
        world = self.world
        client = End(host, self.call_id())
        other = self.hosts.get(url)
        if other is None:
            self._fail(client, "no such host")
            return client.call
        server = End(other, self.call_id())
        exchange = Exchange(client, server, streaming=body is None)
        self.exchanges[client.call] = self.exchanges[server.call] = exchange
        link = (host.name, other.name)
        found = [(name.lower(), text) for name, text in headers]
        about = (server.call, LISTENER, verb, target, found)

        def connect() -> None:
            back = (other.name, host.name)
            if exchange.over or not client.open:
                return
            if link in self.cut or back in self.cut or not other.is_powered:
                world.after(CONNECT_NS, lambda: self._given_up(exchange, UNREACHABLE))
            elif not other.is_up:
                world.counts["refused dials"] += 1
                self._given_up(exchange, UNREACHABLE, NOBODY_LISTENS)
            else:
                server.incarnation = other.incarnation
                if body is None:
                    other.deliver((events.HTTP_OPEN, *about, None))
                else:
                    other.deliver((events.HTTP, *about, body, None))

        server.arrived_ns = world.now_ns + world.delay(self.delay_ns)
        world.at(server.arrived_ns, connect)
        if timeout_ms:
            world.after(timeout_ms * NS_PER_MS, lambda: self._given_up(exchange, DEADLINE))
        return client.call

    def _given_up(self, exchange: Exchange, code: int, why: str = "no answer") -> None:
        """The client waits no longer."""
        if exchange.over:
            return
        client, server = exchange.client, exchange.server
        if client.open:
            client.open = False
            self._deliver(client, (events.RESPONSE_END, client.call, code, why, ()))
        self._forget(exchange)
        if server.open:
            self.move(exchange, client, server, (events.CANCELLED, server.call, errors.CANCELLED))

    def _fail(self, client: End, text: str) -> None:
        event = (events.RESPONSE_END, client.call, UNREACHABLE, text, ())
        self.world.after(self.delay_ns, lambda: self._deliver(client, event))


class PeerWire:
    """The HTTP part of one member's transport (see `_transport.pyi`)."""

    def __init__(self, fabric: Fabric, host: Host) -> None:
        self._fabric = fabric
        self._host = host

    def connect(self, url: str) -> SimChannel:
        """A way to the machine with this URL."""
        return SimChannel(self._fabric, self._host, url)

    def _find(self, call: int) -> Exchange | None:
        return self._fabric.exchanges.get(call)

    def http_reply(self, call: int, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer."""
        self.http_start(call, status, headers)
        if body:
            self.http_send(call, body)
        self.http_finish(call)

    def http_start(self, call: int, status: int, headers: Headers) -> None:
        """Status and headers of a streamed answer."""
        exchange = self._find(call)
        if exchange is not None:
            client = exchange.client
            event = (events.RESPONSE_HEAD, client.call, status, list(headers))
            self._fabric.move(exchange, exchange.server, client, event)

    def http_send(self, call: int, chunk: bytes) -> bool:
        """A piece of an answer or of a request."""
        exchange = self._find(call)
        if exchange is None:
            return False
        client, server = exchange.client, exchange.server
        if call == server.call:
            kind = events.RESPONSE_CHUNK
            return self._fabric.send_bytes(exchange, server, client, kind, chunk)
        return self._fabric.send_bytes(exchange, client, server, events.HTTP_CHUNK, chunk)

    def http_finish(self, call: int) -> None:
        """The end of an answer or of a request."""
        exchange = self._find(call)
        if exchange is None:
            return
        client, server = exchange.client, exchange.server
        if call == server.call:
            server.open = False
            event = (events.RESPONSE_END, client.call, 0, "", ())
            self._fabric.move(exchange, server, client, event)
        else:
            self._fabric.move(exchange, client, server, (events.HTTP_END, server.call, ()))

    def http_abort(self, call: int) -> None:
        """Break the connection."""
        exchange = self._find(call)
        if exchange is not None:
            (exchange.server if call == exchange.server.call else exchange.client).open = False
            self._fabric.break_exchange(exchange)

    def cancel(self, call: int) -> None:
        """A request of ours is of no interest any more."""
        exchange = self._find(call)
        if exchange is not None:
            exchange.client.open = False
            self._fabric.break_exchange(exchange)

    def consume(self, call: int, data_bytes: int) -> None:
        """Room is given back as bytes arrive: the reader is never slow here, its link is."""


class SimChannel:
    """`peer.links.Channel`."""

    def __init__(self, fabric: Fabric, host: Host, url: str) -> None:
        self._fabric = fabric
        self._host = host
        self._url = url

    def http_request(
        self,
        verb: str,
        target: str,
        headers: list[tuple[str, str]],
        body: bytes | None,
        timeout_ms: int = 0,
    ) -> int:
        """See `_transport.Channel`."""
        return self._fabric.request(self._host, self._url, verb, target, headers, body, timeout_ms)

    def close(self) -> None:
        """Requests under way end by themselves."""
