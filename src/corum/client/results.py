"""What calls give back: plain values with etcd's names. Pure.

Keys and values are bytes, as etcd stores them; `text` decodes for those who store text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.values import value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corum.pb import kv as kvpb
    from corum.pb import rpc


@value
class Header:
    """Who answered, and the store's revision then (0 where etcd gives none)."""

    cluster_id: int
    member_id: int
    revision: int
    raft_term: int


@value
class KeyValue:
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


@value
class RangeResult:
    """Keys in the order asked for; iterate it. `count` is the whole range's, whatever the limit."""

    header: Header
    kvs: tuple[KeyValue, ...]
    more: bool
    count: int

    def __iter__(self) -> Iterator[KeyValue]:
        return iter(self.kvs)

    def __len__(self) -> int:
        return len(self.kvs)

    def __bool__(self) -> bool:
        return bool(self.kvs)


@value
class PutResult:
    """`previous` only if asked for, and if there was one."""

    header: Header
    previous: KeyValue | None


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


@value
class Event:
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


def header(message: rpc.ResponseHeader) -> Header:
    return Header(message.cluster_id, message.member_id, message.revision, message.raft_term)


def key_value(message: kvpb.KeyValue) -> KeyValue:
    return KeyValue(
        message.key,
        message.value,
        message.create_revision,
        message.mod_revision,
        message.version,
        message.lease,
    )


def range_result(message: rpc.RangeResponse) -> RangeResult:
    pairs = tuple(key_value(pair) for pair in message.kvs)
    return RangeResult(header(message.header), pairs, message.more, message.count)


def put_result(message: rpc.PutResponse) -> PutResult:
    previous = key_value(message.prev_kv) if message.HasField("prev_kv") else None
    return PutResult(header(message.header), previous)


def delete_result(message: rpc.DeleteRangeResponse) -> DeleteResult:
    previous = tuple(key_value(pair) for pair in message.prev_kvs)
    return DeleteResult(header(message.header), message.deleted, previous)


def txn_result(message: rpc.TxnResponse) -> TxnResult:
    results = tuple(_op_result(item) for item in message.responses)
    return TxnResult(header(message.header), message.succeeded, results)


def _op_result(item: rpc.ResponseOp) -> RangeResult | PutResult | DeleteResult | TxnResult:
    match item.WhichOneof("response"):
        case "response_range":
            return range_result(item.response_range)
        case "response_put":
            return put_result(item.response_put)
        case "response_delete_range":
            return delete_result(item.response_delete_range)
        case _:
            return txn_result(item.response_txn)


def event(message: kvpb.Event) -> Event:
    previous = key_value(message.prev_kv) if message.HasField("prev_kv") else None
    return Event(message.type == 1, key_value(message.kv), previous)


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
