"""A whole member's state on its way to another one (peer-wire §3).

Out: the v2 store goes in the message, the backend after it as a bbolt file made from a view, piece
by piece. In: the file is written as it comes, and made into a backend beside the running one, at
the same time if it is one of ours; only then Raft hears of the snapshot, so that installing it is a
change of files and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from corum import v2store
from corum.backend import schema
from corum.backend.backend import Row, View
from corum.backend.bbolt import Image, Source, source_of
from corum.peer.codec import U64, CodecError, decode, encode, frame
from corum.peer.rules import Headers
from corum.raft import Message, MessageType, RaftError, Snapshot
from corum.server.reconfiguration import conf_state_json
from corum.values import NS_PER_S

if TYPE_CHECKING:
    from corum.peer.links import Peer
    from corum.peer.transport import Peers

ENVELOPE_MAX: Final = 512 * 1024 * 1024
PIECE_BYTES: Final = 1 << 20
STALLED_NS: Final = 20 * NS_PER_S
"""When a transfer does not move for so long, and a link between the two has changed meanwhile, the
member is asked whether it is still at it: a machine that lost power does not close its connections.
"""
RECEIVING: Final = "/raft/receiving"
"""Where it is asked: 200 while it receives something from who asks. A Go etcd says 404."""
ASK_MS: Final = 5_000
AHEAD_BYTES: Final = 2 << 20
"""Received and not written: beyond, no more is asked for. The next come while these are written."""
SENT_MAX: Final = 16
"""Snapshots under way from one member."""
RECEIVED_MAX: Final = 2
"""Snapshots on their way to it."""


class Keeper(Protocol):
    """Where received databases go; its methods run in a worker, and raise OSError and the like."""

    def create(self) -> Any:
        """A new temporary file; `write` takes its next pieces."""
        ...

    def discard(self, file: Any) -> None: ...

    def keep(self, file: Any, index: int) -> None:
        """Make it durable under the index's name."""
        ...

    def prepare(self, file: Any, index: int, term: int) -> None:
        """Make the kept database into a backend, beside the one in use."""
        ...


class Outgoing:
    """Snapshots to others."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._transfers: dict[int, Transfer] = {}

    def start(self, peer: Peer, message: Message) -> None:
        """Send this member's present state in place of the snapshot that Raft named."""
        node = self._peers.node
        ahead = node.consistent_index > node.applied_index  # the backend, of what we say we have
        if ahead or len(self._transfers) >= SENT_MAX:
            self._peers.snapshot_ended(peer.id, ok=False)
            return
        snapshot = Snapshot(
            node.applied_index, node.applied_term, node.reconfiguration.conf_state, b""
        )
        transfer = Transfer(
            self._peers,
            peer,
            replace(message, snapshot=snapshot),
            v2store.capture(node.v2.store),
            node.backend.view(),
            self._ended,
        )
        self._transfers[transfer.call] = transfer
        node.snapshots_in_flight += 1
        self._peers.note("sending database snapshot", peer.id, index=snapshot.index)
        transfer.work()

    def _ended(self, transfer: Transfer, ok: bool, why: str) -> None:
        node = self._peers.node
        self._transfers.pop(transfer.call, None)
        node.snapshots_in_flight -= 1
        if ok:
            transfer.peer.statistics.snapshots_sent += 1
            self._peers.note("sent database snapshot", transfer.peer.id)
        else:
            transfer.peer.statistics.snapshots_lost += 1
            self._peers.note("failed to send database snapshot", transfer.peer.id, error=why)
            self._peers.unreachable(transfer.peer.id)
        self._peers.snapshot_ended(transfer.peer.id, ok)

    def tick(self, now_ns: int) -> None:
        """Ask about transfers that may go to nobody."""
        for transfer in list(self._transfers.values()):
            changed = transfer.peer.changed_ns > transfer.started_ns
            if changed and now_ns - transfer.moved_ns > STALLED_NS:
                transfer.ask()

    def writable(self, call: int) -> bool:
        """There is room for more; False when it is no transfer."""
        transfer = self._transfers.get(call)
        if transfer is None:
            return False
        transfer.blocked = False
        transfer.work()
        return True


class Transfer:
    """One snapshot on its way out; also hears of the answer (see `links.Call`)."""

    def __init__(
        self,
        peers: Peers,
        peer: Peer,
        message: Message,
        v2: Any,
        view: View,
        ended: Callable[[Transfer, bool, str], None],
    ) -> None:
        self.peer = peer
        self.blocked = False
        self._peers = peers
        self._message = message
        self._v2 = v2
        self._view = view
        self._ended = ended
        self._pieces: Iterator[bytes] | None = None
        self._working = False
        self._sent = False
        self._over = False
        self._status = 0
        self.started_ns = self.moved_ns = peers.node.now_ns
        headers = peers.identity.headers(peers.peer_urls)
        headers.append(("Content-Type", "application/octet-stream"))
        self.call = peer.channel.http_request("POST", "/raft/snapshot", headers, None)
        peers.calls[self.call] = self

    def work(self) -> None:
        """Have the next piece made, unless the reader is slow."""
        if not (self._working or self.blocked or self._sent or self._over):
            self.moved_ns = self._peers.node.now_ns
            self._working = True
            self._peers.node.ports.jobs.start(self._produce, self._produced)

    def _produce(self) -> tuple[bytes, bool]:
        """Worker: the next bytes, and whether they are the last."""
        if self._pieces is None:
            self._pieces = self._all()
        parts: list[bytes] = []
        size = 0
        for piece in self._pieces:
            parts.append(piece)
            size += len(piece)
            if size >= PIECE_BYTES:
                return b"".join(parts), False
        return b"".join(parts), True

    def _all(self) -> Iterator[bytes]:
        snapshot = self._message.snapshot
        assert snapshot is not None
        snapshot = replace(snapshot, data=self._v2.encode())
        yield frame(encode(replace(self._message, snapshot=snapshot)))
        yield from image_at(self._view, snapshot).chunks(PIECE_BYTES)

    def _produced(self, result: Any) -> None:
        self._working = False
        if self._over:
            self._view.close()
        elif isinstance(result, BaseException):
            self.give_up(repr(result))
        else:
            data, last = result
            self.blocked = self._peers.wire.http_send(self.call, data) if data else False
            if last:
                self._sent = True
                self._peers.wire.http_finish(self.call)
            else:
                self.work()

    def ask(self) -> None:
        """Is anybody there still? A large database takes its time once it is there."""
        self.moved_ns = self._peers.node.now_ns
        headers = self._peers.identity.headers(self._peers.peer_urls)
        self.peer.request("GET", RECEIVING, headers, b"", ASK_MS, self._told)

    def _told(self, status: int, headers: Headers, body: bytes) -> None:
        if status != 200 and not self._over:
            self.give_up("the member was lost")

    def give_up(self, why: str) -> None:
        """Break it off."""
        self._peers.calls.pop(self.call, None)
        self._peers.wire.http_abort(self.call)
        self._finish(False, why)

    def head(self, status: int, headers: Headers, now_ns: int) -> None:
        """They answer."""
        self._status = status

    def chunk(self, data: bytes, now_ns: int) -> None:
        """Why they refuse."""
        self._peers.wire.consume(self.call, len(data))

    def end(self, code: int, text: str, now_ns: int) -> None:
        """The answer is over."""
        ok = code == 0 and self._status in (200, 204)
        self._finish(ok, text or f"status {self._status}")

    def _finish(self, ok: bool, why: str) -> None:
        if not self._over:
            self._over = True
            if not self._working:
                self._view.close()
            self._ended(self, ok, why)


def image_at(view: View, snapshot: Snapshot) -> Image:
    """The bbolt file of a view, its meta bucket as of `snapshot`."""
    meta = {key: value for rows in view.bucket(schema.META).scan() for key, value in rows}
    meta[schema.CONSISTENT_INDEX] = schema.u64(snapshot.index)
    meta[schema.TERM] = schema.u64(snapshot.term)
    meta[schema.CONF_STATE] = conf_state_json(snapshot.conf_state)
    rows: list[Row] = sorted(meta.items())
    sources = [source_of(view, name) for name in schema.ETCD_BUCKETS if name != schema.META]
    return Image([*sources, Source(schema.META.encode(), lambda: iter([rows]))])


class Incoming:
    """Snapshots from others."""

    def __init__(self, peers: Peers, keeper: Keeper | None) -> None:
        self._peers = peers
        self._keeper = keeper
        self._receptions: dict[int, Reception] = {}

    def open(self, event: tuple[Any, ...]) -> None:
        """HTTP_OPEN of a POST /raft/snapshot."""
        _, call, _, verb, _, headers, _ = event
        refusal = self._peers.identity.refusal(dict(headers))
        if verb != "POST":
            self._peers.reply(call, 405, "Method Not Allowed\n")
        elif refusal is not None:
            self._peers.reply(call, refusal[0], refusal[1] + "\n")
        elif self._keeper is None or len(self._receptions) >= RECEIVED_MAX:
            self._peers.reply(call, 500, "failed to save KV snapshot (busy)\n")
        else:
            self._receptions[call] = Reception(self._peers, self._keeper, call, self._over)

    def is_receiving(self, member: int) -> bool:
        """Is something of this member on its way in?"""
        return any(each.sender == member for each in self._receptions.values())

    def _over(self, call: int) -> None:
        self._receptions.pop(call, None)

    def chunk(self, event: tuple[Any, ...]) -> None:
        """HTTP_CHUNK."""
        found = self._receptions.get(event[1])
        if found is not None:
            found.chunk(event[2])

    def end(self, event: tuple[Any, ...]) -> None:
        """HTTP_END."""
        found = self._receptions.get(event[1])
        if found is not None:
            found.end()

    def cancelled(self, call: int) -> bool:
        """The sender is gone; False when it was none of these."""
        found = self._receptions.get(call)
        if found is None:
            return False
        found.cancelled()
        return True


class Reception:
    """One snapshot on its way in."""

    def __init__(
        self, peers: Peers, keeper: Keeper, call: int, over: Callable[[int], None]
    ) -> None:
        self._peers = peers
        self._keeper = keeper
        self._call = call
        self._over = over
        self._head = b""
        self._message: Message | None = None
        self._file: Any = None
        self._waiting: list[bytes] = []
        self._ahead = 0
        """Bytes taken from the transport and not written."""
        self._owed = 0
        """Of these, what the transport has not been told of."""
        self._writing = False
        self._whole = False
        self._gone = False

    @property
    def sender(self) -> int:
        """Whose it is; 0 while not even its head is there."""
        return self._message.sender if self._message is not None else 0

    def chunk(self, data: bytes) -> None:
        """Bytes of the body: first the message, then the database."""
        if self._gone:
            return
        if self._message is None:
            self._peers.wire.consume(self._call, len(data))
            self._head += data
            try:
                self._read_head()
            except CodecError as error:
                self._refuse(400, f"failed to decode raft message ({error})")
        else:
            self._waiting.append(data)
            self._ahead += len(data)
            self._owed += len(data)
            self._give_room()
        self._write()

    def _give_room(self) -> None:
        if self._owed and self._ahead <= AHEAD_BYTES:
            self._peers.wire.consume(self._call, self._owed)
            self._owed = 0

    def _read_head(self) -> None:
        head = self._head
        if len(head) < U64.size:
            return
        (length,) = U64.unpack_from(head)
        if length > ENVELOPE_MAX:
            raise CodecError(f"a message of {length} bytes")
        end = U64.size + length
        if len(head) < end:
            return
        message = decode(head[U64.size : end])
        if message.type != MessageType.SNAP or message.snapshot is None:
            self._refuse(400, "wrong raft message type")
            return
        self._message = message
        self._head = b""
        index = message.snapshot.index
        self._peers.note("receiving database snapshot", message.sender, index=index)
        if len(head) > end:
            self._waiting.append(head[end:])
            self._ahead = len(head) - end

    def end(self) -> None:
        """The body is whole."""
        self._whole = True
        if self._message is None and not self._gone:
            self._refuse(400, "failed to decode raft message (unexpected EOF)")
        self._write()

    def cancelled(self) -> None:
        """The sender is gone."""
        self._gone = True
        self._count(ok=False)
        self._over(self._call)
        if not self._writing:
            self._discard()

    def _count(self, *, ok: bool) -> None:
        found = self._peers.statistics().get(self.sender)
        if found is not None:
            found.snapshots_received += ok
            found.snapshots_refused += not ok

    def _discard(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._peers.node.ports.jobs.start(lambda: self._keeper.discard(file), _nothing)

    def _refuse(self, status: int, text: str) -> None:
        self._peers.reply(self._call, status, text + "\n")
        self.cancelled()

    def _write(self) -> None:
        if self._writing or self._gone or self._message is None:
            return
        if not self._waiting and not self._whole:
            return
        waiting, self._waiting = self._waiting, []
        size, whole, keeper = sum(map(len, waiting)), self._whole, self._keeper
        snapshot = self._message.snapshot
        assert snapshot is not None
        self._writing = True

        def write() -> None:
            if self._file is None:
                self._file = keeper.create()
            self._file.write(*waiting)
            if whole:
                keeper.keep(self._file, snapshot.index)
                keeper.prepare(self._file, snapshot.index, snapshot.term)

        self._peers.node.ports.jobs.start(write, lambda result: self._written(result, size, whole))

    def _written(self, result: Any, size: int, whole: bool) -> None:
        self._writing = False
        if self._gone:
            self._discard()
        elif isinstance(result, BaseException):
            self._refuse(500, f"failed to save KV snapshot ({result})")
        elif not whole:
            self._ahead -= size
            self._give_room()
            self._write()
        else:
            self._file = None
            message = self._message
            assert message is not None
            self._peers.node.installation.offer(message, self._stepped)

    def _stepped(self, error: RaftError | None) -> None:
        if self._gone:
            return
        self._gone = True
        self._count(ok=error is None)
        self._over(self._call)
        if error is None:
            self._peers.reply(self._call, 204)
        else:
            self._peers.reply(self._call, 500, f"failed to process raft message ({error})\n")


def _nothing(_: object) -> None:
    """Nobody waits."""
