"""All other members: who gets which message, and what arrives from them (http §6).

The list follows the member list as it is applied. Somebody whom we do not know yet but who dials us
(a new member that has our address from its flags) is remembered as a *remote*, so that it can be
answered before the log names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from corum import _transport as events
from corum.peer import rules
from corum.peer.codec import CodecError, decode
from corum.peer.endpoints import Endpoints
from corum.peer.links import TICK_NS, Channel, Peer
from corum.peer.prober import Prober
from corum.peer.rules import Headers, Identity
from corum.peer.snapshots import RECEIVING, Incoming, Outgoing
from corum.peer.stream import APP, MESSAGE, OutStream, Patience
from corum.peer.succession import Succession
from corum.peer.version_poll import VersionPoll
from corum.raft import Message, MessageType
from corum.server.node import Node
from corum.server.peering import Appends, LinkStatistics

STREAMS: Final = "/raft/stream/"
REMOTES_MAX: Final = 64
"""Unknown members that are remembered."""

NOWHERE = "http://127.0.0.1:0"
"""Refused at once. Clusters take URLs that nobody can dial, such as one of port 99999."""


class World(Protocol):
    """What peers need of the process around them."""

    def transition(self, level: str, message: str, **fields: Any) -> None: ...
    def removed(self) -> None: ...


class Peers:
    """See the module's docstring. Owned by the loop."""

    def __init__(
        self,
        node: Node,
        wire: Any,
        world: World,
        channels: Callable[[str], Any],
        advertised: Sequence[str],
        database: Any,
    ) -> None:
        """`channels(url)` connects; `advertised`: our peer URLs until the log names them;
        `database`: where snapshots are received (see `snapshots.Keeper`)."""
        self.node = node
        self.wire = wire
        self._channels = channels
        self._world = world
        self._advertised = advertised
        members = node.members
        self.identity = Identity(members.local, members.cluster, node.config.server_version)
        self.patience = Patience(node.config.peer_read_ns, node.config.peer_write_ns)
        self.now_ns = node.now_ns
        self.calls: dict[int, Any] = {}
        self._peers: dict[int, Peer] = {}
        self._remotes: dict[int, Peer] = {}
        self._out: dict[int, tuple[Peer, OutStream]] = {}
        self.appends_sent, self.appends_received = Appends(), Appends()
        self._next_tick_ns = 0
        self._said: dict[int, str] = {}
        self._removed = False
        self._endpoints = Endpoints(node, self)
        self.incoming = Incoming(self, database)
        self.outgoing = Outgoing(self)
        self.versions = VersionPoll(self)
        self._succession = Succession(node)
        self._prober = Prober(self)
        self._kinds: dict[int, Callable[[tuple[Any, ...]], None]] = {
            events.HTTP: self.http,
            events.HTTP_OPEN: self.incoming.open,
            events.HTTP_CHUNK: self.incoming.chunk,
            events.HTTP_END: self.incoming.end,
            events.RESPONSE_HEAD: self.head,
            events.RESPONSE_CHUNK: self.chunk,
            events.RESPONSE_END: self.end,
        }
        self.sync()

    # ---- who there is

    @property
    def peer_urls(self) -> Sequence[str]:
        """Where we are."""
        me = self.node.members.me
        return me.peer_urls if me is not None else self._advertised

    def sync(self) -> None:
        """Follow the member list."""
        members = self.node.members
        for member in members:
            if member.id == members.local:
                continue
            peer = self._peers.get(member.id)
            if peer is None:
                known = self._remotes.pop(member.id, None)
                self._peers[member.id] = known or Peer(self, member.id, member.peer_urls)
                self._say("info", "started remote peer", **{"remote-peer-id": f"{member.id:x}"})
                self._next_tick_ns = 0
            else:
                peer.moved(member.peer_urls)
        for gone in [one for one in self._peers if one not in members.by_id]:
            self._forget(self._peers, gone)
            self._say("info", "stopped remote peer", **{"remote-peer-id": f"{gone:x}"})
        for gone in [one for one in self._remotes if one in members.removed]:
            self._forget(self._remotes, gone)
        self.node.v2.guard.members_changed()

    def _forget(self, table: dict[int, Peer], member: int) -> None:
        peer = table.pop(member)
        peer.close()
        self._out = {call: one for call, one in self._out.items() if one[0] is not peer}

    def remember(self, member: int, peer_urls: Sequence[str]) -> None:
        """A member that the log does not name yet."""
        local = self.node.members.local
        known = member in self._peers or member in self._remotes or member == local
        if known or not peer_urls or len(self._remotes) >= REMOTES_MAX:
            return
        self._remotes[member] = Peer(self, member, peer_urls)

    def get(self, member: int) -> Peer | None:
        """The member, known or remote."""
        return self._peers.get(member) or self._remotes.get(member)

    @property
    def peers(self) -> list[Peer]:
        """The members of the list but this one."""
        return list(self._peers.values())

    @property
    def readers(self) -> int:
        """Streams that others hold open to hear from us."""
        every = (*self._peers.values(), *self._remotes.values())
        return sum(each.app.attached + each.message.attached for each in every)

    def active_since(self, member: int) -> int:
        """Reachable since when (ns); 0 when it is not."""
        peer = self._peers.get(member)
        return peer.active_since_ns if peer is not None else 0

    def versions_of_others(self) -> list[str] | None:
        """See `Peering`."""
        return self.versions.all()

    def statistics(self) -> dict[int, LinkStatistics]:
        """See `Peering`."""
        for peer in self._peers.values():
            peer.count_bytes()
        return {peer.id: peer.statistics for peer in self._peers.values()}

    def connect(self, url: str) -> Channel:
        """A way to another member; what is no address leads nowhere, and costs nobody else."""
        try:
            return self._channels(url)
        except ValueError:
            self._say("warn", "a peer URL is no address", url=url)
            return self._channels(NOWHERE)

    # ---- out

    def send(self, messages: list[Message]) -> None:
        """What Raft wants sent."""
        self.now_ns = self.node.now_ns
        by_member: dict[int, list[Message]] = {}
        for message in messages:
            by_member.setdefault(message.to, []).append(message)
        for member, batch in by_member.items():
            peer = self.get(member)
            if peer is None:
                continue
            snapshots = [m for m in batch if m.type == MessageType.SNAP]
            for message in snapshots:
                self.outgoing.start(peer, message)
            peer.send([m for m in batch if m.type != MessageType.SNAP] if snapshots else batch)

    def post(
        self,
        member: int,
        path: str,
        headers: Headers,
        body: bytes,
        timeout_ms: int,
        done: Callable[[int, bytes], None],
        *,
        verb: str = "POST",
    ) -> None:
        """Ask a member something; `done(status, body)`, status 0 without an answer."""
        peer = self.get(member)
        if peer is None:
            done(0, b"")
            return
        peer.request(
            verb, path, headers, body, timeout_ms, lambda status, _, found: done(status, found)
        )

    # ---- what links report

    def received(self, messages: list[Message]) -> None:
        """Messages of another member."""
        self.node.receive(messages)

    def unreachable(self, member: int) -> None:
        """A message was lost."""
        peer = self._peers.get(member)
        if peer is not None:
            peer.statistics.fail += 1
        self.node.raft.report_unreachable(member)

    def snapshot_ended(self, member: int, ok: bool) -> None:
        """A snapshot's transfer ended."""
        self.node.raft.report_snapshot(member, ok)

    def active(self, member: int, is_active: bool, why: str) -> None:
        """A member became (un)reachable."""
        fields = {"peer-id": f"{member:x}"}
        if is_active:
            self._said.pop(member, None)
            self._say("info", "peer became active", **fields)
        else:
            text = "peer became inactive (message send to peer failed)"
            self._say("warn", text, error=why, **fields)

    def runs(self, member: int, headers: Mapping[str, str]) -> None:
        """What a member says of itself at the head of what it sends."""
        version = headers.get("x-server-version")
        if version is not None:
            ours = "x-corum-version" in headers
            self.node.v2.guard.member_runs(member, version, corum=ours)

    def gone(self, member: int) -> None:
        """Nobody listens where a member was."""
        self._succession.gone(member, self.now_ns)

    def we_were_removed(self) -> None:
        """Another member says so: stop."""
        if not self._removed:
            self._removed = True
            self._world.removed()

    def said(self, member: int, text: str) -> None:
        """A member refuses to talk to us; once per reason."""
        if self._said.get(member) != text:
            self._said[member] = text
            message = rules.REFUSED.get(text.strip(), "request to remote peer refused")
            self._say("warn", message, error=text.strip(), **{"remote-peer-id": f"{member:x}"})

    def note(self, text: str, member: int, level: str = "info", **fields: Any) -> None:
        """A line about a member."""
        self._say(level, text, **{"remote-peer-id": f"{member:x}"}, **fields)

    def _say(self, level: str, text: str, **fields: Any) -> None:
        local = {"local-member-id": f"{self.node.members.local:x}"}
        self._world.transition(level, text, **local, **fields)

    # ---- time

    def turn(self) -> None:
        """Once per turn of the loop."""
        now_ns = self.now_ns = self.node.now_ns
        if now_ns < self._next_tick_ns:
            return
        self._next_tick_ns = now_ns + TICK_NS
        for peer in self._peers.values():
            peer.tick(now_ns)
        for peer in self._remotes.values():
            peer.tick(now_ns)
        self._succession.tick(now_ns)
        self.outgoing.tick(now_ns)
        self.versions.tick(now_ns)
        self._prober.tick(now_ns)

    # ---- events of the transport

    def event(self, event: tuple[Any, ...]) -> None:
        """Any event of the peer port or of a request of ours."""
        self.now_ns = self.node.now_ns
        self._kinds[event[0]](event)

    def head(self, event: tuple[Any, ...]) -> None:
        """RESPONSE_HEAD of a request of ours."""
        call = self.calls.get(event[1])
        if call is not None:
            call.head(event[2], event[3], self.node.now_ns)

    def chunk(self, event: tuple[Any, ...]) -> None:
        """RESPONSE_CHUNK of a request of ours."""
        call = self.calls.get(event[1])
        if call is not None:
            call.chunk(event[2], self.now_ns)

    def end(self, event: tuple[Any, ...]) -> None:
        """RESPONSE_END of a request of ours."""
        call = self.calls.pop(event[1], None)
        if call is not None:
            call.end(event[2], event[3], self.now_ns)

    def closed(self, call: int) -> bool:
        """CANCELLED: who read our stream is gone. False when it is no call of ours."""
        found = self._out.pop(call, None)
        if found is None:
            return self.incoming.cancelled(call)
        peer, stream = found
        if stream.call == call:
            peer.detached(stream)
        return True

    def writable(self, call: int) -> bool:
        """WRITABLE: a stream of ours has room. False when it is no call of ours."""
        found = self._out.get(call)
        if found is not None:
            found[1].writable(self.node.now_ns)
            return True
        return self.outgoing.writable(call)

    def http(self, event: tuple[Any, ...]) -> None:
        """A whole request on a peer listener."""
        _, call, _, verb, target, headers, body, _ = event
        path = target.partition("?")[0]
        found = dict(headers)
        if path.startswith(STREAMS):
            self._stream(call, verb, path, found)
        elif path == "/raft":
            self._raft(call, verb, found, body)
        elif path == RECEIVING:
            sender = rules.member_id(found.get("x-server-from", ""))
            self.reply(call, 200 if self.incoming.is_receiving(sender) else 404)
        else:
            self._endpoints.answer(call, verb, target, found, body)

    def reply(
        self, call: int, status: int, text: str = "", kind: str = "text/plain; charset=utf-8"
    ) -> None:
        """A short answer; texts of errors end with a newline."""
        headers = [("X-Etcd-Cluster-Id", f"{self.identity.cluster:x}")]
        if text:
            headers.append(("Content-Type", kind))
        self.wire.http_reply(call, status, headers, text.encode())

    def _stream(self, call: int, verb: str, path: str, headers: dict[str, str]) -> None:
        """Another member wants to hear from us."""
        kind, _, who = path.removeprefix(STREAMS).partition("/")
        members = self.node.members
        member = rules.member_id(who)
        refusal = self.identity.refusal(headers)
        if verb != "GET":
            self.reply(call, 405, "Method Not Allowed\n")
        elif refusal is not None:
            self.reply(call, refusal[0], refusal[1] + "\n")
        elif kind not in (APP, MESSAGE):
            self.reply(call, 404, "invalid path\n")
        elif not member:
            self.reply(call, 404, "invalid from\n")
        elif member in members.removed:
            self.reply(call, 410, rules.REMOVED + "\n")
        elif rules.member_id(headers.get("x-raft-to", "")) != members.local:
            self.reply(call, 412, rules.OTHER_MEMBER + "\n")
        else:
            self._attach(call, kind, member, headers)

    def _attach(self, call: int, kind: str, member: int, headers: dict[str, str]) -> None:
        peer = self.get(member)
        if peer is None:
            self.remember(member, rules.urls(headers.get("x-peerurls", "")))
            self.reply(call, 404, "error sender not found\n")
            return
        self.wire.http_start(
            call,
            200,
            [
                *self.identity.versions,
                ("X-Etcd-Cluster-Id", f"{self.identity.cluster:x}"),
            ],
        )
        self.runs(member, headers)
        stream = peer.app if kind == APP else peer.message
        self._out[call] = (peer, stream)
        peer.attach(kind, call)

    def _raft(self, call: int, verb: str, headers: dict[str, str], body: bytes) -> None:
        """One message, from somebody without a stream."""
        refusal = self.identity.refusal(headers)
        if verb != "POST":
            self.reply(call, 405, "Method Not Allowed\n")
            return
        if refusal is not None:
            self.reply(call, refusal[0], refusal[1] + "\n")
            return
        sender = rules.member_id(headers.get("x-server-from", ""))
        self.remember(sender, rules.urls(headers.get("x-peerurls", "")))
        self.runs(sender, headers)
        try:
            message = decode(body)
        except CodecError:
            self.reply(call, 400, "error unmarshalling raft message\n")
            return
        if message.sender in self.node.members.removed:
            text = '{"message":"cannot process message from removed member"}'
            self.reply(call, 403, text, "application/json")
            return
        if message.type == MessageType.APP:
            self.appends_received.count(self.now_ns, 1, len(body))
        self.node.receive([message])
        self.reply(call, 204)
