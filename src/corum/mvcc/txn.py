"""Transactions: If (compares) Then (operations) Else (operations), nested.

Requests are etcd's TxnRequest, RequestOp, Compare, ... or anything with their field names and
`WhichOneof`; no protobuf is imported here. In this order, for one request:

1. `check_txn` before it is proposed: its form, on the member that got it;
2. `choose` when applied: which branch every (nested) transaction takes. All compares see the state
   before the first write, nested ones too;
3. `check_apply`: whatever could fail on the way, since writes cannot be taken back;
4. `execute`.

`apply_txn` does 2 to 4. All of it is deterministic: every member comes to the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, Protocol

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


def check_txn(request: TxnLike, ops_max: int) -> None:
    """Whether the request may be proposed at all; raises what etcd answers when not.

    `ops_max` (`--max-txn-ops`) bounds the longest of the three lists; what a transaction uses of
    it, those nested in it do not have any more.
    """
    _check_ops(request, ops_max)
    _check_writes(request.success)
    _check_writes(request.failure)


def _check_ops(request: TxnLike, ops_max: int) -> None:
    used = max(len(request.compare), len(request.success), len(request.failure))
    if used > ops_max:
        raise errors.TOO_MANY_OPS()
    for compare in request.compare:
        if not compare.key:
            raise errors.EMPTY_KEY()
    for ops in (request.success, request.failure):
        for op in ops:
            match op.WhichOneof("request"):
                case "request_range":
                    check_range(op.request_range)
                case "request_put":
                    check_put(op.request_put)
                case "request_delete_range":
                    check_delete(op.request_delete_range)
                case "request_txn":
                    _check_ops(op.request_txn, ops_max - used)
                case _:
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
        if (key in self.puts and not may_repeat) or self.deleted(key):
            raise errors.DUPLICATE_KEY()
        self.puts.add(key)


def _check_writes(ops: Sequence[OpLike]) -> _Writes:
    """No key may be put twice, or put and deleted, on any way through the operations.

    The two branches of a nested transaction exclude each other, so they may put the same key.
    """
    writes = _Writes()
    kinds = [(op.WhichOneof("request"), op) for op in ops]
    for kind, op in kinds:
        if kind == "request_delete_range":
            request = op.request_delete_range
            # An end of one zero byte is not taken for "to the last key" here: etcd does not either,
            # so a put into what such a delete covers is let through, and comes after it.
            writes.deletes.append((request.key, request.range_end or request.key + b"\0"))
    for kind, op in kinds:
        if kind == "request_txn":
            then = _check_writes(op.request_txn.success)
            otherwise = _check_writes(op.request_txn.failure)
            for key in then.puts:
                writes.add_put(key)
            for key in otherwise.puts:
                writes.add_put(key, may_repeat=key in then.puts)
            writes.deletes += then.deletes
            writes.deletes += otherwise.deletes
    for kind, op in kinds:
        if kind == "request_put":
            writes.add_put(op.request_put.key)
    return writes


# ---- what a transaction is


def operations(request: TxnLike) -> Iterator[OpLike]:
    """All operations of both branches and of what is nested in them, depth first."""
    for ops in (request.success, request.failure):
        for op in ops:
            yield op
            if op.WhichOneof("request") == "request_txn":
                yield from operations(op.request_txn)


def is_read_only(request: TxnLike) -> bool:
    """Nothing but ranges, wherever: it needs no log entry."""
    reads = ("request_range", "request_txn")
    return all(op.WhichOneof("request") in reads for op in operations(request))


# ---- applied


def choose(reads: ReadView, request: TxnLike) -> list[bool]:
    """Which branch is taken: of the transaction, then of those nested in it, depth first."""
    taken = all(_holds(reads, compare) for compare in request.compare)
    path = [taken]
    for op in request.success if taken else request.failure:
        if op.WhichOneof("request") == "request_txn":
            path += choose(reads, op.request_txn)
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


def _taken(request: TxnLike, path: Iterator[bool]) -> Sequence[OpLike]:
    return request.success if next(path) else request.failure


def check_apply(
    reads: ReadView, request: TxnLike, path: Sequence[bool], lease_exists: Callable[[int], bool]
) -> None:
    """Raises what would fail on this path: KEY_NOT_FOUND, LEASE_NOT_FOUND, FUTURE_REV,
    COMPACTED; puts first, as etcd."""
    _check_puts(reads, request, iter(path), lease_exists)
    _check_ranges(reads, request, iter(path))


def _check_puts(
    reads: ReadView, request: TxnLike, path: Iterator[bool], lease_exists: Callable[[int], bool]
) -> None:
    for op in _taken(request, path):
        match op.WhichOneof("request"):
            case "request_put":
                put = op.request_put
                if (put.ignore_value or put.ignore_lease) and reads.get(put.key) is None:
                    raise errors.KEY_NOT_FOUND()
                if put.lease and not lease_exists(put.lease):
                    raise errors.LEASE_NOT_FOUND()
            case "request_txn":
                _check_puts(reads, op.request_txn, path, lease_exists)
            case _:
                pass


def _check_ranges(reads: ReadView, request: TxnLike, path: Iterator[bool]) -> None:
    for op in _taken(request, path):
        match op.WhichOneof("request"):
            case "request_range":
                reads.check_revision(op.request_range.revision)
            case "request_txn":
                _check_ranges(reads, op.request_txn, path)
            case _:
                pass


def apply_txn(write: Write, request: TxnLike, lease_exists: Callable[[int], bool]) -> TxnResult:
    """Choose, check, execute; raises what `check_apply` raises, before anything is written.

    Serves read-only transactions too: then `write.end()` has no changes.
    """
    path = choose(write.reads, request)
    check_apply(write.reads, request, path, lease_exists)
    return execute(write, request, iter(path))


def execute(write: Write, request: TxnLike, path: Iterator[bool]) -> TxnResult:
    """The operations of the branches that `path` names, in order, on one revision."""
    succeeded = next(path)
    responses: list[RangeResult | PutResult | DeleteResult | TxnResult] = []
    for op in request.success if succeeded else request.failure:
        match op.WhichOneof("request"):
            case "request_range":
                asked = op.request_range
                responses.append(write.range(asked.key, asked.range_end, range_options(asked)))
            case "request_put":
                responses.append(execute_put(write, op.request_put))
            case "request_delete_range":
                responses.append(execute_delete(write, op.request_delete_range))
            case "request_txn":
                responses.append(execute(write, op.request_txn, path))
            case other:
                raise AssertionError(f"operation {other} was not refused")
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
