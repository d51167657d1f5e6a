"""Raft messages as etcd writes them, and the frames of the two streams (peer-wire §2). Pure.

etcd's messages are proto2 whose scalars are always written, zero or not; so are ours, byte for byte
those of etcd 3.5. Append messages are spliced by hand, since they carry the load.

`msgapp` streams have three frames: a heartbeat of the link, entries that go on where the last
message ended (without repeating its terms), and a whole message. `message` streams hold whole
messages only; a heartbeat of the link is one that says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any, Final

from corum.pb import raftpb
from corum.pb.wire import varint
from corum.raft import ConfState, Entry, EntryType, Message, MessageType, Snapshot
from corum.values import MIB

FRAME_BYTES_MAX: Final = 512 * MIB
"""The longest message of a stream (as etcd)."""
ENTRIES_MAX: Final = 1 << 20
"""The most entries of one frame that are believed; etcd sends at most a message of 1 MiB."""

U64: Final = Struct(">Q")
_LINK_HEARTBEAT: Final = 0
_APP_ENTRIES: Final = 1
_APP: Final = 2
_NO_SNAPSHOT: Final = b"\x4a\x0a\x12\x08\x0a\x02\x28\x00\x10\x00\x18\x00"
_ENTRY_TYPES: Final[tuple[EntryType, ...]] = tuple(EntryType)


class CodecError(Exception):
    """Bytes that no member of ours or etcd's sends; the connection ends."""


def encode_entry(entry: Entry) -> bytes:
    """raftpb.Entry; its data is left out when empty, as etcd's no-op has none."""
    head = b"\x08%b\x10%b\x18%b" % (varint(entry.type), varint(entry.term), varint(entry.index))
    data = entry.data
    return head + b'"' + varint(len(data)) + data if data else head


def encode(message: Message) -> bytes:
    """raftpb.Message as etcd 3.5 writes it."""
    parts = [
        b"\x08%b\x10%b\x18%b\x20%b\x28%b\x30%b"
        % (
            varint(message.type),
            varint(message.to),
            varint(message.sender),
            varint(message.term),
            varint(message.log_term),
            varint(message.index),
        )
    ]
    for entry in message.entries:
        body = encode_entry(entry)
        parts += (b":", varint(len(body)), body)
    parts += (b"\x40", varint(message.commit))
    snapshot = message.snapshot
    if snapshot is None:
        parts.append(_NO_SNAPSHOT)
    else:
        body = _encode_snapshot(snapshot)
        parts += (b"\x4a", varint(len(body)), body)
    parts.append(b"\x50\x01\x58" if message.reject else b"\x50\x00\x58")
    parts.append(varint(message.reject_hint))
    if message.context:
        parts += (b"\x62", varint(len(message.context)), message.context)
    return b"".join(parts)


def _encode_snapshot(snapshot: Snapshot) -> bytes:
    state = snapshot.conf_state
    groups = ((1, state.voters), (2, state.learners), (3, state.voters_outgoing))
    conf = b"".join(
        bytes((field << 3,)) + varint(member)
        for field, members in (*groups, (4, state.learners_next))
        for member in members
    )
    conf += b"\x28\x01" if state.auto_leave else b"\x28\x00"
    about = b"\x0a%b%b\x10%b\x18%b" % (
        varint(len(conf)),
        conf,
        varint(snapshot.index),
        varint(snapshot.term),
    )
    data = b"\x0a" + varint(len(snapshot.data)) + snapshot.data if snapshot.data else b""
    return b"%b\x12%b%b" % (data, varint(len(about)), about)


def decode(data: bytes) -> Message:
    """The message that `data` holds. Raises CodecError."""
    try:
        found = raftpb.Message.FromString(data)
        return Message(
            MessageType(found.type),
            to=found.to,
            sender=getattr(found, "from"),
            term=found.term,
            log_term=found.logTerm,
            index=found.index,
            entries=[_entry(one) for one in found.entries],
            commit=found.commit,
            snapshot=_snapshot(found),
            reject=found.reject,
            reject_hint=found.rejectHint,
            context=found.context,
        )
    except Exception as error:  # upb's DecodeError, or a number that no enumeration has
        raise CodecError(f"no raft message: {error}") from None


def _entry(found: Any) -> Entry:
    kind: int = found.Type
    return Entry(found.Term, found.Index, _ENTRY_TYPES[kind], found.Data)


def _snapshot(found: Any) -> Snapshot | None:
    if found.type != MessageType.SNAP:
        return None
    about = found.snapshot.metadata
    state = about.conf_state
    return Snapshot(
        about.index,
        about.term,
        ConfState(
            tuple(state.voters),
            tuple(state.learners),
            tuple(state.voters_outgoing),
            tuple(state.learners_next),
            state.auto_leave,
        ),
        found.snapshot.data,
    )


# ---- writing


class MessageWriter:
    """Frames of a `message` stream."""

    heartbeat: bytes

    def __init__(self) -> None:
        self.heartbeat = frame(encode(Message(MessageType.HEARTBEAT)))

    def encode(self, messages: Sequence[Message]) -> bytes:
        """All of them, to be sent at once."""
        return b"".join([frame(encode(message)) for message in messages])


def frame(body: bytes) -> bytes:
    """A length and what it measures."""
    return U64.pack(len(body)) + body


class AppWriter:
    """Frames of a `msgapp` stream; remembers where the last one ended, as its reader does."""

    heartbeat = bytes((_LINK_HEARTBEAT,))

    def __init__(self) -> None:
        self._term: int = 0
        self._index: int = 0

    def encode(self, messages: Sequence[Message]) -> bytes:
        """Append messages, to be sent at once."""
        parts: list[bytes] = []
        for message in messages:
            entries = message.entries
            if message.index == self._index and message.log_term == self._term == message.term:
                parts.append(b"\x01" + U64.pack(len(entries)))
                for entry in entries:
                    body = encode_entry(entry)
                    parts += (U64.pack(len(body)), body)
                parts.append(U64.pack(message.commit))
                self._index += len(entries)
            else:
                body = encode(message)
                parts += (b"\x02", U64.pack(len(body)), body)
                self._term = message.term
                self._index = entries[-1].index if entries else message.index
        return b"".join(parts)


# ---- reading


class _Gathered:
    """Pieces of a frame that is not complete. Joined once it may be: a frame of 100 MB comes in
    thousands of pieces, and copying all of them for each would cost minutes."""

    __slots__ = ("_missing", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._missing = 0

    def add(self, data: bytes) -> bytes:
        """Everything that waits, with `data`; nothing while it cannot be a whole frame."""
        if not self._parts:
            return data
        self._parts.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return b""
        whole = b"".join(self._parts)
        self._parts.clear()
        return whole

    def keep(self, rest: bytes, missing: int) -> None:
        """The beginning of a frame that lacks at least so many bytes."""
        if rest:
            self._parts.append(rest)
            self._missing = missing


class MessageReader:
    """A `message` stream's bytes in, messages out; heartbeats of the link are dropped."""

    def __init__(self) -> None:
        self._gathered = _Gathered()

    def feed(self, data: bytes) -> list[Message]:
        """What is complete with `data`. Raises CodecError."""
        data = self._gathered.add(data)
        at, end, missing = 0, len(data), 1
        messages: list[Message] = []
        while end - at >= 8:
            start = at + 8
            stop = start + _length(data, at)
            if stop > end:
                missing = stop - end
                break
            message = decode(data[start:stop])
            if message.type != MessageType.HEARTBEAT or message.sender or message.to:
                messages.append(message)
            at = stop
        self._gathered.keep(data[at:], missing)
        return messages


class AppReader:
    """A `msgapp` stream's bytes in, append messages out."""

    def __init__(self, local: int, remote: int) -> None:
        self._local = local
        self._remote = remote
        self._term = 0
        self._index = 0
        self._gathered = _Gathered()

    def feed(self, data: bytes) -> list[Message]:
        """What is complete with `data`. Raises CodecError."""
        data = self._gathered.add(data)
        at, end, missing = 0, len(data), 1
        messages: list[Message] = []
        while at < end:
            kind = data[at]
            if kind == _LINK_HEARTBEAT:
                at += 1
                continue
            if kind == _APP_ENTRIES:
                stop = self._entries(data, at + 1, messages)
            elif kind == _APP:
                stop = self._whole(data, at + 1, messages)
            else:
                raise CodecError(f"a frame of unknown type {kind}")
            if stop <= 0:
                missing = -stop
                break
            at = stop
        self._gathered.keep(data[at:], missing)
        return messages

    def _entries(self, data: bytes, at: int, messages: list[Message]) -> int:
        """The end of the frame; while it is incomplete, minus the bytes that it lacks at least."""
        end = len(data)
        if end - at < 8:
            return end - at - 8
        (count,) = U64.unpack_from(data, at)
        if count > ENTRIES_MAX:
            raise CodecError(f"a frame of {count} entries")
        at += 8
        places: list[tuple[int, int]] = []
        for _ in range(count):
            if end - at < 8:
                return end - at - 8
            start = at + 8
            at = start + _length(data, at)
            if at > end:
                return end - at
            places.append((start, at))
        if end - at < 8:
            return end - at - 8
        parse = raftpb.Entry.FromString
        try:
            entries = [_entry(parse(data[start:stop])) for start, stop in places]
        except Exception as error:  # upb's DecodeError
            raise CodecError(f"no entry: {error}") from None
        messages.append(
            Message(
                MessageType.APP,
                to=self._local,
                sender=self._remote,
                term=self._term,
                log_term=self._term,
                index=self._index,
                entries=entries,
                commit=U64.unpack_from(data, at)[0],
            )
        )
        self._index += count
        return at + 8

    def _whole(self, data: bytes, at: int, messages: list[Message]) -> int:
        if len(data) - at < 8:
            return len(data) - at - 8
        start = at + 8
        stop = start + _length(data, at)
        if stop > len(data):
            return len(data) - stop
        message = decode(data[start:stop])
        self._term = message.term
        self._index = message.entries[-1].index if message.entries else message.index
        messages.append(message)
        return stop


def _length(data: bytes, at: int) -> int:
    (length,) = U64.unpack_from(data, at)
    if length > FRAME_BYTES_MAX:
        raise CodecError(f"a frame of {length} bytes")
    return length
