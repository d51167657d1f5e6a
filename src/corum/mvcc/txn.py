"""Transactions: If (compares) Then (operations) Else (operations), nested.

Requests are etcd's TxnRequest, RequestOp, Compare, ... or anything with their field names and
`WhichOneof`; no protobuf is imported here. In this order, for one request:

1. `check_txn` before it is proposed: its form, on the member that got it; gives its `Plan`;
2. `choose` when applied: which branch every (nested) transaction takes. All compares see the state
   before the first write, nested ones too;
3. `check_apply`: whatever could fail on the way, since writes cannot be taken back;
4. `execute`.

`apply_txn` does 2 to 4. All of it is deterministic: every member comes to the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, Protocol

from corum import errors
from corum.mvcc.reads import RangeOptions, RangeResult, ReadView
from corum.mvcc.revision import KeyValue, decode_kv
from corum.mvcc.write import Write
from corum.values import value

# Compare.CompareResult
EQUAL: Final = 0
GREATER: Final = 1
LESS: Final = 2
NOT_EQUAL: Final = 3
# Compare.CompareTarget
TARGET_VERSION: Final = 0
TARGET_CREATE: Final = 1
TARGET_MOD: Final = 2
TARGET_VALUE: Final = 3
TARGET_LEASE: Final = 4

_SORT_ORDERS: Final = frozenset(range(3))
_SORT_TARGETS: Final = frozenset(range(5))


class RangeLike(Protocol):
    """RangeRequest."""

    key: bytes
    range_end: bytes
    limit: int
    revision: int
    sort_order: int
    sort_target: int
    keys_only: bool
    count_only: bool
    min_mod_revision: int
    max_mod_revision: int
    min_create_revision: int
    max_create_revision: int


class PutLike(Protocol):
    """PutRequest."""

    key: bytes
    value: bytes
    lease: int
    prev_kv: bool
    ignore_value: bool
    ignore_lease: bool


class DeleteLike(Protocol):
    """DeleteRangeRequest."""

    key: bytes
    range_end: bytes
    prev_kv: bool


class CompareLike(Protocol):
    """Compare."""

    result: int
    target: int
    key: bytes
    range_end: bytes
    version: int
    create_revision: int
    mod_revision: int
    value: bytes
    lease: int


class OpLike(Protocol):
    """RequestOp."""

    @property
    def request_range(self) -> RangeLike: ...
    @property
    def request_put(self) -> PutLike: ...
    @property
    def request_delete_range(self) -> DeleteLike: ...
    @property
    def request_txn(self) -> TxnLike: ...
    def WhichOneof(self, group: Literal["request"], /) -> str | None: ...


class TxnLike(Protocol):
    """TxnRequest."""

    @property
    def compare(self) -> Sequence[CompareLike]: ...
    @property
    def success(self) -> Sequence[OpLike]: ...
    @property
    def failure(self) -> Sequence[OpLike]: ...


@value
class PutResult:
    """`prev`: the KeyValue before, when it was asked for and there was one.

    `revision` is for the response's header.
    """

    prev: bytes | None
    revision: int


@value
class DeleteResult:
    """`prevs`: the KeyValues before, when they were asked for.

    `revision` is for the response's header: the one before, as long as the transaction has not
    written anything.
    """

    deleted: int
    prevs: list[bytes]
    revision: int


@value
class TxnResult:
    """One response for each operation of the branch that was taken.

    etcd leaves the header of a nested one empty.
    """

    succeeded: bool
    responses: list[RangeResult | PutResult | DeleteResult | TxnResult]


# ---- its form, looked at once

RANGE: Final = 0
PUT: Final = 1
DELETE: Final = 2
TXN: Final = 3
NOTHING: Final = 4
"""An operation without a request; `check_txn` refuses it."""

Step = tuple[int, Any]
"""Kind and request of one operation; a nested transaction is a Plan."""


@value
class Plan:
    """A TxnRequest taken apart, since asking a message what it holds costs more than using it."""

    compares: Sequence[CompareLike]
    success: list[Step]
    failure: list[Step]


def plan_of(request: TxnLike) -> Plan:
    """`request` taken apart, whether it is sound or not."""
    return Plan(request.compare, _steps(request.success), _steps(request.failure))


def _steps(ops: Sequence[OpLike]) -> list[Step]:
    steps: list[Step] = []
    for op in ops:
        name = op.WhichOneof("request")
        if name == "request_put":
            steps.append((PUT, op.request_put))
        elif name == "request_range":
            steps.append((RANGE, op.request_range))
        elif name == "request_delete_range":
            steps.append((DELETE, op.request_delete_range))
        elif name == "request_txn":
            steps.append((TXN, plan_of(op.request_txn)))
        else:
            steps.append((NOTHING, None))
    return steps


# ---- before it is proposed


def check_range(request: RangeLike) -> None:
    """Raises EMPTY_KEY (an empty key), INVALID_SORT_OPTION."""
    if not request.key:
        raise errors.EMPTY_KEY()
    if request.sort_order not in _SORT_ORDERS or request.sort_target not in _SORT_TARGETS:
        raise errors.INVALID_SORT_OPTION()


def check_put(request: PutLike) -> None:
    """Raises EMPTY_KEY, VALUE_PROVIDED, LEASE_PROVIDED."""
    if not request.key:
        raise errors.EMPTY_KEY()
    if request.ignore_value and request.value:
        raise errors.VALUE_PROVIDED()
    if request.ignore_lease and request.lease:
        raise errors.LEASE_PROVIDED()


def check_delete(request: DeleteLike) -> None:
    """Raises EMPTY_KEY."""
    if not request.key:
        raise errors.EMPTY_KEY()


def check_txn(request: TxnLike, ops_max: int) -> Plan:
    """The request taken apart, if it may be proposed at all; raises what etcd answers when not.

    `ops_max` (`--max-txn-ops`) bounds the longest of the three lists; what a transaction uses of
    it, those nested in it do not have any more.
    """
    plan = plan_of(request)
    _check_ops(plan, ops_max)
    _check_writes(plan.success)
    _check_writes(plan.failure)
    return plan


def _check_ops(plan: Plan, ops_max: int) -> None:
    success, failure = plan.success, plan.failure
    used = max(len(plan.compares), len(success), len(failure))
    if used > ops_max:
        raise errors.TOO_MANY_OPS()
    for compare in plan.compares:
        if not compare.key:
            raise errors.EMPTY_KEY()
    for steps in (success, failure):
        for kind, asked in steps:
            if kind == PUT:
                check_put(asked)
            elif kind == RANGE:
                check_range(asked)
            elif kind == DELETE:
                check_delete(asked)
            elif kind == TXN:
                _check_ops(asked, ops_max - used)
            else:
                raise errors.KEY_NOT_FOUND()


class _Writes:
    """Keys put and ranges deleted by a list of operations."""

    __slots__ = ("deletes", "puts")

    def __init__(self) -> None:
        self.puts: set[bytes] = set()
        self.deletes: list[tuple[bytes, bytes]] = []

    def deleted(self, key: bytes) -> bool:
        return any(low <= key < high for low, high in self.deletes)

    def add_put(self, key: bytes, *, may_repeat: bool = False) -> None:
        if (key in self.puts and not may_repeat) or (self.deletes and self.deleted(key)):
            raise errors.DUPLICATE_KEY()
        self.puts.add(key)


def _check_writes(steps: list[Step]) -> _Writes | None:
    """No key may be put twice, or put and deleted, on any way through the operations.

    The two branches of a nested transaction exclude each other, so they may put the same key.
    None when there is nothing that could collide: no nested transaction and less than two steps.
    """
    if len(steps) < 2 and (not steps or steps[0][0] == RANGE):
        return None
    writes = _Writes()
    for kind, asked in steps:
        if kind == DELETE:
            # An end of one zero byte is not taken for "to the last key" here: etcd does not either,
            # so a put into what such a delete covers is let through, and comes after it.
            writes.deletes.append((asked.key, asked.range_end or asked.key + b"\0"))
    for kind, asked in steps:
        if kind == TXN:
            then = _check_writes(asked.success) or _Writes()
            otherwise = _check_writes(asked.failure) or _Writes()
            for key in then.puts:
                writes.add_put(key)
            for key in otherwise.puts:
                writes.add_put(key, may_repeat=key in then.puts)
            writes.deletes += then.deletes
            writes.deletes += otherwise.deletes
    for kind, asked in steps:
        if kind == PUT:
            writes.add_put(asked.key)
    return writes


# ---- what a transaction is


def steps_of(plan: Plan) -> Iterator[Step]:
    """All operations of both branches and of what is nested in them, depth first."""
    for steps in (plan.success, plan.failure):
        for step in steps:
            if step[0] == TXN:
                yield from steps_of(step[1])
            else:
                yield step


def is_read_only(plan: Plan) -> bool:
    """Nothing but ranges, wherever: it needs no log entry."""
    return all(kind == RANGE for kind, _ in steps_of(plan))


def has_put(plan: Plan) -> bool:
    """It may grow the store."""
    return any(kind == PUT for kind, _ in steps_of(plan))


# ---- applied


def choose(reads: ReadView, plan: Plan) -> list[bool]:
    """Which branch is taken: of the transaction, then of those nested in it, depth first."""
    taken = True
    for compare in plan.compares:
        if not _holds(reads, compare):
            taken = False
            break
    path = [taken]
    for kind, asked in plan.success if taken else plan.failure:
        if kind == TXN:
            path += choose(reads, asked)
    return path


def _holds(reads: ReadView, compare: CompareLike) -> bool:
    if compare.range_end:
        kvs = reads.range(compare.key, compare.range_end).kvs
    else:
        kv = reads.get(compare.key)
        kvs = [] if kv is None else [kv]
    if not kvs:
        # A missing value cannot be told from an empty one on the wire, so it is never equal.
        return compare.target != TARGET_VALUE and _compared(compare, KeyValue(b""))
    return all(_compared(compare, decode_kv(kv)) for kv in kvs)


def _compared(compare: CompareLike, kv: KeyValue) -> bool:
    match compare.target:
        case 0:
            order = _order(kv.version, compare.version)
        case 1:
            order = _order(kv.create_revision, compare.create_revision)
        case 2:
            order = _order(kv.mod_revision, compare.mod_revision)
        case 3:
            order = (kv.value > compare.value) - (kv.value < compare.value)
        case 4:
            order = _order(kv.lease, compare.lease)
        case _:
            order = 0  # a target of the future: etcd takes it for equal
    match compare.result:
        case 0:
            return order == 0
        case 1:
            return order > 0
        case 2:
            return order < 0
        case 3:
            return order != 0
        case _:
            return True


def _order(left: int, right: int) -> int:
    return (left > right) - (left < right)


def check_apply(
    reads: ReadView, plan: Plan, path: Sequence[bool], lease_exists: Callable[[int], bool]
) -> None:
    """Raises what would fail on this path: KEY_NOT_FOUND, LEASE_NOT_FOUND, FUTURE_REV,
    COMPACTED; puts first, as etcd."""
    _check_puts(reads, plan, iter(path), lease_exists)
    _check_ranges(reads, plan, iter(path))


def _check_puts(
    reads: ReadView, plan: Plan, path: Iterator[bool], lease_exists: Callable[[int], bool]
) -> None:
    for kind, asked in plan.success if next(path) else plan.failure:
        if kind == PUT:
            if (asked.ignore_value or asked.ignore_lease) and reads.get(asked.key) is None:
                raise errors.KEY_NOT_FOUND()
            if asked.lease and not lease_exists(asked.lease):
                raise errors.LEASE_NOT_FOUND()
        elif kind == TXN:
            _check_puts(reads, asked, path, lease_exists)


def _check_ranges(reads: ReadView, plan: Plan, path: Iterator[bool]) -> None:
    for kind, asked in plan.success if next(path) else plan.failure:
        if kind == RANGE:
            reads.check_revision(asked.revision)
        elif kind == TXN:
            _check_ranges(reads, asked, path)


def apply_txn(
    write: Write, request: TxnLike | Plan, lease_exists: Callable[[int], bool]
) -> TxnResult:
    """Choose, check, execute; raises what `check_apply` raises, before anything is written.

    Serves read-only transactions too: then `write.end()` has no changes.
    """
    plan = request if isinstance(request, Plan) else plan_of(request)
    path = choose(write.reads, plan)
    check_apply(write.reads, plan, path, lease_exists)
    return execute(write, plan, iter(path))


def execute(write: Write, plan: Plan, path: Iterator[bool]) -> TxnResult:
    """The operations of the branches that `path` names, in order, on one revision."""
    succeeded = next(path)
    responses: list[RangeResult | PutResult | DeleteResult | TxnResult] = []
    for kind, asked in plan.success if succeeded else plan.failure:
        if kind == PUT:
            responses.append(execute_put(write, asked))
        elif kind == RANGE:
            responses.append(write.range(asked.key, asked.range_end, range_options(asked)))
        elif kind == DELETE:
            responses.append(execute_delete(write, asked))
        else:
            responses.append(execute(write, asked, path))
    return TxnResult(succeeded, responses)


def apply_put(write: Write, request: PutLike, lease_exists: Callable[[int], bool]) -> PutResult:
    """A put alone; raises LEASE_NOT_FOUND, KEY_NOT_FOUND before anything is written."""
    if request.lease and not lease_exists(request.lease):
        raise errors.LEASE_NOT_FOUND()
    if (request.ignore_value or request.ignore_lease) and write.get(request.key) is None:
        raise errors.KEY_NOT_FOUND()
    return execute_put(write, request)


def execute_put(write: Write, request: PutLike) -> PutResult:
    """A put that was checked."""
    key, data, lease = request.key, request.value, request.lease
    if request.ignore_value or request.ignore_lease:
        # The key was there when this was checked, but a delete "from here on" in the same
        # transaction may have taken it (see `_check_writes`). Go etcd panics then; we put nothing
        # in place of what is gone.
        kv = write.get(key)
        old = KeyValue(key) if kv is None else decode_kv(kv)
        data = old.value if request.ignore_value else data
        lease = old.lease if request.ignore_lease else lease
    prev = write.put(key, data, lease)
    kv = write.kv(prev) if prev is not None and request.prev_kv else None
    return PutResult(kv, write.revision)


def execute_delete(write: Write, request: DeleteLike) -> DeleteResult:
    """A delete; cannot fail."""
    deleted, prevs = write.delete_range(request.key, request.range_end)
    kvs = [write.kv(prev) for prev in prevs] if request.prev_kv else []
    return DeleteResult(deleted, kvs, write.revision)


def range_options(request: RangeLike) -> RangeOptions:
    """A RangeRequest without its key and end."""
    return RangeOptions(
        request.revision,
        request.limit,
        request.sort_order,
        request.sort_target,
        request.keys_only,
        request.count_only,
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    )
