"""A committed entry becomes a change of state: deterministic and total (DESIGN D1).

Every member applies every entry alike; the result of one is response bytes or an EtcdError, and
only
the member where somebody waits for it sends it. Nothing here reads a clock that matters to state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from corum import errors
from corum.backend import schema
from corum.backend.backend import Backend
from corum.lease import Lessor
from corum.mvcc.guarded import GuardedPut, holds
from corum.mvcc.reads import Change, RangeResult
from corum.mvcc.store import Store
from corum.mvcc.txn import (
    DeleteResult,
    Plan,
    PutResult,
    TxnResult,
    apply_put,
    apply_txn,
    execute_delete,
    has_put,
    plan_of,
    range_options,
)
from corum.mvcc.watch import WatchHub
from corum.mvcc.write import NOTHING_KNOWN, Write, put_alone
from corum.pb import rpc
from corum.pb.wire import BYTES, bytes_field, tag, varint
from corum.server import operations as op
from corum.server.headers import Headers, revision_only
from corum.server.listeners import Ear, Listeners
from corum.server.space import Alarms, alarm_bytes
from corum.values import NS_PER_MS, LeaseId

MANY_MESSAGES: Final = 200
"""Fewer watchers than that are told at once, always."""
READER_NS: Final = 10_000
"""What taking a message in costs its reader, about (Go's client on a machine with other work)."""
TELL_PAUSE_MAX_NS: Final = 20 * NS_PER_MS

Result = Any
"""Response bytes, or the EtcdError that came of it."""


class Applier:
    """Operations of the v3 key space, leases and alarms."""

    def __init__(
        self,
        store: Store,
        lessor: Lessor,
        backend: Backend,
        watch: WatchHub,
        headers: Headers,
        alarms: Alarms,
        say: Callable[[list[tuple[int, bytes]]], None],
    ) -> None:
        self.store = store
        self.lessor = lessor
        self.backend = backend
        self.watch = watch
        self.headers = headers
        self.alarms = alarms
        self._say = say
        self.now_ns = 0
        self.operations: dict[int, Callable[[Any], Result]] = {
            op.RANGE: self.range,
            op.PUT: self.put,
            op.DELETE_RANGE: self.delete_range,
            op.TXN: self.txn,
            op.COMPACTION: self.compaction,
            op.LEASE_GRANT: self.lease_grant,
            op.LEASE_REVOKE: self.lease_revoke,
            op.LEASE_CHECKPOINT: self.lease_checkpoint,
            op.ALARM: self.alarm,
        }
        self.listeners = Listeners()
        self._watched = False
        self._changes: list[Change] = []
        """Applied, not told to watchers yet."""
        self._heard = 0
        """So many of them were told to the listeners."""
        self.tell_at_ns = 0
        """When the watchers may be told again."""
        self.granted_total = 0
        self.granted: Callable[[float], None] = lambda ttl_s: None
        """Told of each lease."""
        self.revoked_total = 0
        self.counts = dict.fromkeys(op.NAMES, 0)
        """Entries applied, by operation; the node counts."""
        self._counted = dict(self.counts)
        self.observe: Callable[[int, int, int, int], None] = lambda op, took, times, waited: None
        """Told how long an entry of an operation took on average, and how many there were."""
        self.alarm_changed: Callable[[], None] = lambda: None
        self.before_compaction: Callable[[int], None] = lambda revision: None
        """Told the revision while everything older is still there."""

    # ---- keys

    def range(self, request: Any) -> Result:
        """A read that went through the log (historical etcd clients)."""
        try:
            result = self.store.range(request.key, request.range_end, range_options(request))
        except errors.EtcdError as error:
            return error
        return range_body(result, self.headers.at(self.store.revision))

    def put(self, request: Any) -> Result:
        """One key in a transaction of its own."""
        if self.alarms.refuses_growth:
            return self.alarms.refusal()
        if type(request) is tuple:
            return self.headers.at(self._put_alone(*cast("tuple[bytes, bytes]", request)))
        write = self.store.begin()
        try:
            result = apply_put(write, request, self._lease_exists)
        except errors.EtcdError as error:
            return error
        self._finish(write)
        header = self.headers.at(self.store.revision)
        return header if result.prev is None else header + bytes_field(2, result.prev)

    def _put_alone(
        self, key: bytes, value: bytes, known: Mapping[bytes, bytes | None] = NOTHING_KNOWN
    ) -> int:
        """A put without options; its revision."""
        change, lease = put_alone(self.store, key, value, known)
        if lease:
            self.lessor.detach(key)
        if self._watched:
            self._changes.append(change)
        return change[0]

    def delete_range(self, request: Any) -> Result:
        """Delete a key or a range; deleting nothing leaves the revision as it is."""
        if self.alarms.corrupt:
            return errors.CORRUPT()
        write = self.store.begin()
        result = execute_delete(write, request)
        self._finish(write)
        return self.headers.at(self.store.revision) + delete_body(result)

    def txn(self, request: Any) -> Result:
        """If / then / else at one revision; checked as a whole before anything is written."""
        if type(request) is GuardedPut:
            return self._guarded_put(request)
        try:
            plan = request if isinstance(request, Plan) else plan_of(request)
        except errors.EtcdError as error:  # no member of ours proposes such
            return error
        if self.alarms.corrupt or (self.alarms.no_space and has_put(plan)):
            return self.alarms.refusal()
        return self.read_txn(plan)

    def _guarded_put(self, txn: GuardedPut) -> Result:
        """The same for a compare-and-put."""
        if self.alarms.refuses_growth:
            return self.alarms.refusal()
        seen: dict[bytes, bytes | None] = {}
        succeeded = holds(self.store.reads, txn.checks, seen)
        put = txn.success if succeeded else txn.failure
        flag = b"\x10\x01" if succeeded else b""
        if put is None:
            return self.headers.at(self.store.revision) + flag
        revision = self._put_alone(*put, seen)
        return self.headers.at(revision) + flag + put_response(revision)

    def read_txn(self, request: Any) -> Result:
        """The same for one without writes, which is served like a read."""
        write = self.store.begin()
        try:
            result = apply_txn(write, request, self._lease_exists)
        except errors.EtcdError as error:
            return error
        self._finish(write)
        return self.headers.at(self.store.revision) + txn_body(result)

    def _lease_exists(self, lease: int) -> bool:
        return LeaseId(lease) in self.lessor

    def _finish(self, write: Write) -> None:
        """What follows from a transaction's writes: leases, watchers."""
        changes = write.end()
        for key, _, lease in write.lease_changes:
            if lease:
                self.lessor.attach(LeaseId(lease), key)
            else:
                self.lessor.detach(key)
        if self._watched:
            self._changes += changes

    def begin_batch(self) -> None:
        """Entries follow; who watches does not change among them, who listens may."""
        self._watched = self.listeners.waiting or not self.watch.idle

    def listen(
        self, key: bytes, after: int, heard: Callable[[Change], None], *, whole: bool = True
    ) -> Ear:
        """See `Listeners.listen`; changes of the batch under way are told, too."""
        self._watched = True
        return self.listeners.listen(key, after, heard, whole=whole)

    def measured(self, entries: int, took_ns: int, waited_ns: int) -> None:
        """A batch was applied: its time is shared evenly among its entries. `waited_ns`: since its
        first request came; 0 when it came to another member."""
        counts, counted = self.counts, self._counted
        for operation, count in counts.items():
            if count != counted[operation]:
                times = count - counted[operation]
                self.observe(operation, took_ns // entries, times, waited_ns)
                counted[operation] = count

    def end_batch(self) -> None:
        """Entries were applied: tell who waits for their changes."""
        if not self._changes:
            return
        fresh = self._changes[self._heard :]
        self._heard = len(self._changes)
        if self.watchers_due:
            self.tell_watchers()
        if self.listeners.waiting:
            self.listeners.tell(fresh)

    @property
    def has_untold(self) -> bool:
        """Watchers have to be told of something, at `tell_at_ns`."""
        return bool(self._changes)

    @property
    def watchers_due(self) -> bool:
        """Watchers have to be told of something now."""
        return bool(self._changes) and self.now_ns >= self.tell_at_ns

    def tell_watchers(self) -> None:
        """One round for all changes: it costs little more than one for the first of them.

        After a round of many messages there is a pause of about the time that their readers need:
        what changes meanwhile comes in one message each, or they would never keep up. Whoever
        changes what is watched must call this first.
        """
        if self._changes:
            changes, self._changes, self._heard = self._changes, [], 0
            told = self.watch.notify(self.store.revision, changes)
            self._say(told)
            if len(told) >= MANY_MESSAGES:
                self.tell_at_ns = self.now_ns + min(len(told) * READER_NS, TELL_PAUSE_MAX_NS)

    def compaction(self, request: Any) -> Result:
        """Reads below the revision are refused from now on; rows go in slices."""
        if self.alarms.corrupt:
            return errors.CORRUPT()
        self.tell_watchers()
        self.before_compaction(request.revision)
        try:
            self.store.compact(request.revision)
        except errors.EtcdError as error:
            return error
        return self.headers.at(self.store.revision)

    # ---- leases

    def lease_grant(self, request: Any) -> Result:
        """A lease under the id that the proposing member chose."""
        lease = LeaseId(request.ID)
        if self.alarms.refuses_growth:
            return self.alarms.refusal()
        try:
            ttl_s = self.lessor.grant(lease, request.TTL, self.now_ns)
        except errors.EtcdError as error:
            return error
        self.granted_total += 1
        self.granted(ttl_s)
        self.backend.put(schema.LEASE, *self.lessor.persist(lease))
        body = b"\x10" + varint(lease) + b"\x18" + varint(ttl_s)
        return self.headers.at(self.store.revision) + body

    def lease_revoke(self, request: Any) -> Result:
        """Forget the lease, delete its keys in one revision, in key order."""
        if self.alarms.corrupt:
            return errors.CORRUPT()
        lease = LeaseId(request.ID)
        try:
            key = self.lessor.persist(lease)[0]
            keys = self.lessor.revoke(lease)
        except errors.EtcdError as error:
            return error
        self.revoked_total += 1
        self.backend.delete(schema.LEASE, key)
        if keys:
            write = self.store.begin()
            for one in keys:
                write.delete_range(one)
            self._finish(write)
        return self.headers.at(self.store.revision)

    def lease_checkpoint(self, request: Any) -> Result:
        """Remaining TTLs as the leader saw them."""
        for checkpoint in request.checkpoints:
            lease = LeaseId(checkpoint.ID)
            if lease in self.lessor:
                changed = self.lessor.checkpoint(lease, checkpoint.remaining_TTL, self.now_ns)
                if changed:
                    self.backend.put(schema.LEASE, *self.lessor.persist(lease))
        return self.headers.at(self.store.revision)

    # ---- alarms

    def alarm(self, request: Any) -> Result:
        """Raise or clear an alarm; the answer lists the ones affected."""
        member, kind = request.memberID, request.alarm
        if request.action == rpc.AlarmRequest.GET:
            found = self.alarms.get(member, kind)
        elif request.action == rpc.AlarmRequest.ACTIVATE:
            found = self.alarms.activate(member, kind) if kind else []
            self.alarm_changed()
        else:
            found = self.alarms.deactivate(member, kind)
            self.alarm_changed()
        body = b"".join([bytes_field(2, alarm_bytes(*one)) for one in found])
        return self.headers.at(self.store.revision) + body


def kv_fields(
    kvs: Sequence[bytes], before: bytes = b"", behind: bytes = b"", *, nested: int = 0
) -> bytes:
    """`before`, the KeyValues as field 2 of a RangeResponse, `behind`; all of it a message in field
    `nested` of another, if not 0. Joined at once, since each copy of an answer of megabytes costs
    as much as finding its keys."""
    if len(kvs) == 1 and not nested:
        kv = kvs[0]
        return before + b"\x12" + varint(len(kv)) + kv + behind
    sizes = list(map(len, kvs))
    heads = {size: b"\x12" + varint(size) for size in set(sizes)}
    parts = [before] * (2 * len(kvs) + 3)
    parts[2:-1:2] = map(heads.__getitem__, sizes)
    parts[3:-1:2] = kvs
    parts[-1] = behind
    parts[0] = tag(nested, BYTES) + varint(sum(map(len, parts)) - len(before)) if nested else b""
    return b"".join(parts)


def range_body(result: RangeResult, header: bytes = b"") -> bytes:
    """RangeResponse behind its header: stored KeyValues are spliced, not decoded."""
    return kv_fields(result.kvs, header, range_tail(result))


def range_tail(result: RangeResult) -> bytes:
    """The fields of a RangeResponse behind its KeyValues."""
    tail = b"\x18\x01" if result.more else b""
    return tail + b"\x20" + varint(result.count) if result.count else tail


def delete_body(result: DeleteResult) -> bytes:
    """DeleteRangeResponse without its header."""
    body = b"\x10" + varint(result.deleted) if result.deleted else b""
    if result.prevs:
        body += b"".join([bytes_field(3, kv) for kv in result.prevs])
    return body


def put_response(revision: int) -> bytes:
    """The field of a TxnResponse that answers a put: two messages around `revision_only`."""
    header = revision_only(revision)
    size = len(header)
    return b"\x1a%c\x12%c%b" % (size + 2, size, header)


def txn_body(result: TxnResult) -> bytes:
    """TxnResponse without its header; headers inside carry the revision only."""
    parts = [b"\x10\x01"] if result.succeeded else []
    for one in result.responses:
        if type(one) is RangeResult:
            part = bytes_field(1, range_body(one, revision_only(one.revision)))
        elif type(one) is PutResult:
            prev = b"" if one.prev is None else bytes_field(2, one.prev)
            part = bytes_field(2, revision_only(one.revision) + prev)
        elif type(one) is DeleteResult:
            part = bytes_field(3, revision_only(one.revision) + delete_body(one))
        else:
            assert type(one) is TxnResult
            part = bytes_field(4, b"\x0a\x00" + txn_body(one))
        parts.append(bytes_field(3, part))
    return b"".join(parts)
