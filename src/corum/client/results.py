"""What calls give back: plain values with etcd's names. Pure.

Keys and values are bytes, as etcd stores them; `text` decodes for those who store text. What comes
by the thousand (`KeyValue`, `Event`) is decoded by the extension into plain tuples, without
protobuf's objects in between, and made a named tuple when somebody looks: 0.3 µs a key in all.
"""

from __future__ import annotations

from itertools import chain, repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from corum._transport import Records
from corum.pb.wire import varint
from corum.values import value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from corum.pb import kv as kvpb
    from corum.pb import rpc

Fields: TypeAlias = "tuple[Any, ...]"  # of a KeyValue
RawEvent: TypeAlias = "tuple[int, bytes, bytes]"  # type, kv and prev_kv of an Event (mvccpb)


class Header(NamedTuple):
    """Who answered, and the store's revision then (0 where etcd gives none)."""

    cluster_id: int
    member_id: int
    revision: int
    raft_term: int


class KeyValue(NamedTuple):
    """A key as it was at some revision. `version` counts its changes since it was created."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int

    @property
    def text(self) -> str:
        """The value as UTF-8."""
        return self.value.decode()


class RangeResult:
    """Keys in the order asked for; iterate it. `count` is the whole range's, whatever the limit."""

    __slots__ = ("_found", "_kvs", "count", "header", "more")

    def __init__(self, header: Header, found: Sequence[Fields], more: bool, count: int) -> None:
        self.header = header
        self.more = more
        self.count = count
        self._found = found
        self._kvs: tuple[KeyValue, ...] | None = None

    @property
    def kvs(self) -> tuple[KeyValue, ...]:
        if self._kvs is None:
            self._kvs = tuple(key_values(self._found))
        return self._kvs

    def __iter__(self) -> Iterator[KeyValue]:
        return key_values(self._found) if self._kvs is None else iter(self._kvs)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return f"RangeResult({self.header}, {self.kvs}, more={self.more}, count={self.count})"


class PutResult:
    """`previous` only if asked for, and if there was one. Decoded when it is looked at."""

    __slots__ = ("_answer",)

    def __init__(self, answer: bytes | rpc.PutResponse) -> None:
        self._answer = answer

    @property
    def header(self) -> Header:
        return header(self._message().header)

    @property
    def previous(self) -> KeyValue | None:
        message = self._message()
        return key_value(message.prev_kv) if message.HasField("prev_kv") else None

    def __repr__(self) -> str:
        return f"PutResult(header={self.header}, previous={self.previous})"

    def _message(self) -> rpc.PutResponse:
        answer = self._answer
        if isinstance(answer, bytes):
            from corum.pb import rpc

            answer = self._answer = rpc.PutResponse.FromString(answer)
        return answer


@value
class DeleteResult:
    """How many keys are gone; `previous` only if asked for."""

    header: Header
    deleted: int
    previous: tuple[KeyValue, ...]


@value
class TxnResult:
    """`succeeded` tells which list of operations ran; `results` are theirs, in order."""

    header: Header
    succeeded: bool
    results: tuple[RangeResult | PutResult | DeleteResult | TxnResult, ...]

    def __bool__(self) -> bool:
        return self.succeeded


class Event(NamedTuple):
    """One change of a key. Of a deletion, `kv` holds the key and the revision only."""

    deleted: bool
    kv: KeyValue
    previous: KeyValue | None

    @property
    def key(self) -> bytes:
        return self.kv.key

    @property
    def value(self) -> bytes:
        return self.kv.value


@value
class TimeToLive:
    """A lease's seconds: `left` is -1 when it is gone. `keys` only if asked for."""

    lease: int
    left_s: int
    granted_s: int
    keys: tuple[bytes, ...]


@value
class Member:
    """A member of the cluster; one that has not started yet has no name and no client URLs."""

    member_id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool


@value
class Status:
    """One member's view of itself. Sizes in bytes; `leader` is 0 when it knows none."""

    header: Header
    version: str
    db_size: int
    db_size_in_use: int
    leader: int
    raft_index: int
    raft_term: int
    raft_applied_index: int
    errors: tuple[str, ...]
    is_learner: bool


# KeyValue's fields (mvccpb), in the order of the named tuple.
_PAIRS = Records(
    2, [(1, "bytes"), (5, "bytes"), (2, "int"), (3, "int"), (4, "int"), (6, "int")]
)  # of a RangeResponse
_EVENTS = Records(11, [(1, "int"), (2, "bytes"), (3, "bytes")])  # of a WatchResponse
_DELETE = 1
_header_fields = attrgetter("cluster_id", "member_id", "revision", "raft_term")
_pair_fields = attrgetter("key", "value", "create_revision", "mod_revision", "version", "lease")
# A named tuple's own constructor is Python; this one is not.
_new = cast("Callable[..., Any]", tuple.__new__)  # pyright: ignore[reportUnknownMemberType]


def header(message: rpc.ResponseHeader) -> Header:
    return Header(*_header_fields(message))


def key_value(message: kvpb.KeyValue) -> KeyValue:
    return _new(KeyValue, _pair_fields(message))


def key_values(found: Iterable[Fields]) -> Iterator[KeyValue]:
    """A KeyValue of each tuple of its fields."""
    return map(_new, repeat(KeyValue), found)


def decoded_pair(answer: bytes) -> KeyValue | None:
    """The first key in the bytes of a RangeResponse, None without one. Raises ValueError."""
    pairs, _ = _PAIRS.decode(answer)
    return _new(KeyValue, pairs[0]) if pairs else None


def decoded_range(answer: bytes) -> RangeResult:
    """The result in the bytes of a RangeResponse. Raises ValueError."""
    pairs, rest = _PAIRS.decode(answer)
    from corum.pb import rpc

    message = rpc.RangeResponse.FromString(rest)
    return RangeResult(header(message.header), pairs, message.more, message.count)


def range_result(message: rpc.RangeResponse) -> RangeResult:
    found = list(map(_pair_fields, message.kvs))
    return RangeResult(header(message.header), found, message.more, message.count)


def delete_result(message: rpc.DeleteRangeResponse) -> DeleteResult:
    previous = tuple(map(key_value, message.prev_kvs))
    return DeleteResult(header(message.header), message.deleted, previous)


def txn_result(message: rpc.TxnResponse) -> TxnResult:
    results = tuple(_op_result(item) for item in message.responses)
    return TxnResult(header(message.header), message.succeeded, results)


def _op_result(item: rpc.ResponseOp) -> RangeResult | PutResult | DeleteResult | TxnResult:
    match item.WhichOneof("response"):
        case "response_range":
            return range_result(item.response_range)
        case "response_put":
            return PutResult(item.response_put)
        case "response_delete_range":
            return delete_result(item.response_delete_range)
        case _:
            return txn_result(item.response_txn)


class _Tags(dict[int, bytes]):
    """What stands before a key of so many bytes in a RangeResponse: its tag and its length."""

    def __missing__(self, size: int) -> bytes:
        tag = b"\x12" + varint(size)
        if size < 4_096:
            self[size] = tag
        return tag


_tag = _Tags().__getitem__


def split_events(message: bytes) -> tuple[list[RawEvent], bytes]:
    """The events of a WatchResponse, not taken apart, and what else it says. Raises ValueError."""
    events, rest = _EVENTS.decode(message)
    return cast("list[RawEvent]", events), rest


class Events:
    """The events of a watch response in their order; iterate it."""

    __slots__ = ("_deleted", "_found", "_previous")

    def __init__(self, raw: Sequence[RawEvent]) -> None:
        """Raises ValueError for what is no Event."""
        # The decoder takes apart what repeats, so the keys are put down as in a RangeResponse.
        kvs = [kv for _, kv, _ in raw]
        pairs = chain.from_iterable(zip(map(_tag, map(len, kvs)), kvs, strict=True))
        self._found, _ = _PAIRS.decode(b"".join(pairs))
        self._deleted = [kind == _DELETE for kind, _, _ in raw]
        self._previous = [decoded_pair(_tag(len(kv)) + kv) if kv else None for _, _, kv in raw]

    @property
    def revision(self) -> int:
        """Of the last event; 0 without one."""
        return self._found[-1][3] if self._found else 0

    def __iter__(self) -> Iterator[Event]:
        pairs = key_values(self._found)
        events = zip(self._deleted, pairs, self._previous, strict=True)
        return map(_new, repeat(Event), events)

    def __len__(self) -> int:
        return len(self._found)


def member(message: rpc.Member) -> Member:
    return Member(
        message.ID,
        message.name,
        tuple(message.peerURLs),
        tuple(message.clientURLs),
        message.isLearner,
    )


def status(message: rpc.StatusResponse) -> Status:
    return Status(
        header(message.header),
        message.version,
        message.dbSize,
        message.dbSizeInUse,
        message.leader,
        message.raftIndex,
        message.raftTerm,
        message.raftAppliedIndex,
        tuple(message.errors),
        message.isLearner,
    )
