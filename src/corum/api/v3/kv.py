"""The KV service (rpc §4): decode, validate, authorize; writes go to the log, reads to the
store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from corum import errors
from corum.api.v3.calls import Service, decoded
from corum.mvcc.guarded import guarded_put
from corum.mvcc.txn import (
    Plan,
    check_delete,
    check_range,
    check_txn,
    is_read_only,
    steps_of,
)
from corum.pb import rpc
from corum.server.node import HAS_LEADER
from corum.server.operations import COMPACTION, DELETE_RANGE, PUT, TXN
from corum.server.space import PUT_COST, plan_cost

KEY_TAG: Final = b"\x0a"
SERIALIZABLE: Final = b"\x38\x01"
"""Field 7 of a RangeRequest."""

ONE_BYTE: Final = 0x80
TWO_BYTES: Final = 0x4000


class KvService(Service):
    """Range, RangeStream, Put, DeleteRange, Txn, Compact."""

    PATH = "/etcdserverpb.KV/"

    def unary(self) -> dict[str, Any]:
        """Handlers by method name."""
        return {
            "Range": self.range,
            "RangeStream": self.range_stream,
            "Put": self.put,
            "DeleteRange": self.delete_range,
            "Txn": self.txn,
            "Compact": self.compact,
        }

    def range(self, call: int, message: bytes, meta: Any) -> None:
        """A read: of this member's state as it is (serializable), or behind a ReadIndex round."""
        node, size = self.node, len(message)
        if message[:1] == KEY_TAG and 2 < size < ONE_BYTE:  # a short key alone is not decoded
            if message[1] == size - 2:
                node.check_open(meta)
                node.reads.add(node.ranges.serve_key, call, message[2:], meta)
                return
            if message[1] == size - 4 and message[-2:] == SERIALIZABLE and size > 4:
                key = message[2:-2]
                node.gate.read(meta, key, b"")
                node.check_local(meta)
                node.ranges.serve_key(call, key)
                return
        self._range(call, message, meta, node.ranges.serve)

    def range_stream(self, call: int, message: bytes, meta: Any) -> None:
        """The same result in chunks; header, more and count come with the last one."""
        self._range(call, message, meta, self.node.ranges.stream)

    def _range(
        self, call: int, message: bytes, meta: Any, serve: Callable[[int, Any], None]
    ) -> None:
        node = self.node
        request = decoded(rpc.RangeRequest, message)
        check_range(request)
        if request.serializable:
            node.gate.read(meta, request.key, request.range_end)
            node.check_local(meta)
            serve(call, request)
        else:
            node.check_open(meta)
            node.reads.add(serve, call, request, meta)

    def put(self, call: int, message: bytes, meta: Any) -> None:
        """One key; the client's own bytes become the entry."""
        request = decoded(rpc.PutRequest, message)
        key, value = request.key, request.value
        if not key:
            raise errors.EMPTY_KEY()
        if len(message) == plain_put_bytes(len(key), len(value)):
            self._put_plain(call, message, meta, request, key, value)
            return
        if request.ignore_value and value:
            raise errors.VALUE_PROVIDED()
        if request.ignore_lease and request.lease:
            raise errors.LEASE_PROVIDED()
        node = self.node
        node.check_writable(meta)
        node.space.admit(PUT_COST + len(key) + len(value))
        user = node.gate.put(meta, request)
        node.propose(PUT, message, request, call, prefix=user)

    def _put_plain(
        self, call: int, message: bytes, meta: Any, request: Any, key: bytes, value: bytes
    ) -> None:
        """A key and a value, nothing else: what most puts are; applied without the message."""
        node = self.node
        self._check_room(meta, PUT_COST + len(key) + len(value))
        user = node.gate.put(meta, request) if node.gate.enabled else b""
        node.proposals.add(PUT, message, (key, value), call, node.now_ns, None, user)

    def _check_room(self, meta: Any, cost: int) -> None:
        """`Node.check_writable` and `Space.admit` by what was found out once for this turn."""
        node = self.node
        if not node.writable or meta[HAS_LEADER] is not None:
            node.check_writable(meta)
        if cost > node.room_bytes:
            node.space.admit(cost)

    def delete_range(self, call: int, message: bytes, meta: Any) -> None:
        """Delete a key or a range in one revision."""
        request = decoded(rpc.DeleteRangeRequest, message)
        check_delete(request)
        node = self.node
        node.check_writable(meta)
        user = node.gate.delete(meta, request)
        node.propose(DELETE_RANGE, message, request, call, prefix=user)

    def txn(self, call: int, message: bytes, meta: Any) -> None:
        """If / then / else; one without writes is served as a read."""
        request = decoded(rpc.TxnRequest, message)
        node = self.node
        guarded = None if node.gate.enabled else guarded_put(request)
        if guarded is not None and max(1, len(guarded.checks)) <= node.config.txn_ops_max:
            self._check_room(meta, PUT_COST + guarded.size)
            node.proposals.add(TXN, message, guarded, call, node.now_ns)
            return
        plan = check_txn(request, node.config.txn_ops_max)
        cost = plan_cost(plan)
        if cost == 0 and is_read_only(plan):
            if is_serializable(plan):
                node.gate.txn(meta, plan)
                node.check_local(meta)
                node.ranges.read_txn(call, plan)
            else:
                node.check_open(meta)
                node.reads.add(node.ranges.read_txn, call, plan, meta)
            return
        node.check_writable(meta)
        user = node.gate.txn(meta, plan)
        if cost:
            node.space.admit(cost)
        node.propose(TXN, message, plan, call, prefix=user)

    def compact(self, call: int, message: bytes, meta: Any) -> None:
        """Forget history up to a revision; physical ones answer when the rows are gone."""
        request = decoded(rpc.CompactionRequest, message)
        node = self.node
        node.check_writable(meta)
        user = node.gate.admin(meta)
        answer = node.compactions.answer if request.physical else None
        node.propose(COMPACTION, message, request, call, answer=answer, prefix=user)


def is_serializable(plan: Plan) -> bool:
    """Every range of it may be served from this member's own state."""
    return all(asked.serializable for _, asked in steps_of(plan))


def plain_put_bytes(key: int, value: int) -> int:
    """Size of a PutRequest that holds a key and a value of these sizes and nothing else."""
    size = key + 2 if key < ONE_BYTE else key + 3
    if value:
        size += value + (2 if value < ONE_BYTE else 3 if value < TWO_BYTES else 4)
    return size
