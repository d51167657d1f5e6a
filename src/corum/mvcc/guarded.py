"""A put behind compares: the short way of the transaction that locks, counters and caches live on.

`If(version/create/mod/value/lease ...) Then(put) [Else(put)]`, puts without options: what `txn` and
`Write` would do in a dozen steps is done here in two. `guarded_put` recognizes such a request on
the member that got it and takes it apart; whatever it does not know goes the long way, and so does
everything on other members, which decode the entry. Both ways must come to the same state and
answer (held together by `tests/mvcc/test_guarded.py`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

from corum.mvcc.index import DEAD, RECORD
from corum.mvcc.reads import ReadView
from corum.mvcc.revision import decode_kv
from corum.mvcc.txn import (
    TARGET_CREATE,
    TARGET_LEASE,
    TARGET_MOD,
    TARGET_VALUE,
    TARGET_VERSION,
    CompareLike,
    OpLike,
    TxnLike,
)
from corum.values import value

COMPARES_MAX: Final = 16
_OPERATORS: Final[tuple[Callable[[Any, Any], bool], ...]] = (
    *(operator.eq, operator.gt, operator.lt, operator.ne),
)
"""By Compare.CompareResult: what is there, then what it is compared with."""

# Places among the unpacked fields of an index record.
_MAIN: Final = 0
_CREATE: Final = 4
_VERSION: Final = 5
_LEASE: Final = 6
_OF_VALUE: Final = -1

Check = tuple[bytes, int, Callable[[Any, Any], bool], Any]
"""Key, place of the field (`_OF_VALUE`: the value), operator, operand."""

Put = tuple[bytes, bytes]
"""Key and value."""


@value
class GuardedPut:
    """At least one of the branches has a put; None: it is empty."""

    checks: list[Check]
    success: Put | None
    failure: Put | None

    @property
    def size(self) -> int:
        """Bytes of key and value in the larger branch."""
        return max(_size(self.success), _size(self.failure))


def guarded_put(request: TxnLike) -> GuardedPut | None:
    """The request taken apart; None when it is of another kind, or not sound."""
    compares, then, otherwise = request.compare, request.success, request.failure
    if len(then) > 1 or len(otherwise) > 1 or len(compares) > COMPARES_MAX:
        return None
    success = _plain(then[0]) if then else None
    failure = _plain(otherwise[0]) if otherwise else None
    if bool(then) != (success is not None) or bool(otherwise) != (failure is not None):
        return None  # an operation that is no plain put
    if success is None and failure is None:
        return None  # nothing to write
    checks: list[Check] = []
    for compare in compares:
        check = _check(compare)
        if check is None:
            return None
        checks.append(check)
    return GuardedPut(checks, success, failure)


def _plain(op: OpLike) -> Put | None:
    if op.WhichOneof("request") != "request_put":
        return None
    put = op.request_put
    key = put.key
    if not key or put.lease or put.prev_kv or put.ignore_value or put.ignore_lease:
        return None
    return key, put.value


def _check(compare: CompareLike) -> Check | None:
    target, result, key = compare.target, compare.result, compare.key
    if not key or compare.range_end or not 0 <= result < len(_OPERATORS):
        return None
    if target == TARGET_VERSION:
        return key, _VERSION, _OPERATORS[result], compare.version
    if target == TARGET_MOD:
        return key, _MAIN, _OPERATORS[result], compare.mod_revision
    if target == TARGET_CREATE:
        return key, _CREATE, _OPERATORS[result], compare.create_revision
    if target == TARGET_VALUE:
        return key, _OF_VALUE, _OPERATORS[result], compare.value
    if target == TARGET_LEASE:
        return key, _LEASE, _OPERATORS[result], compare.lease
    return None


def _size(put: Put | None) -> int:
    return 0 if put is None else len(put[0]) + len(put[1])


def holds(reads: ReadView, checks: list[Check], seen: dict[bytes, bytes | None]) -> bool:
    """Do all compares hold now? A key that is absent has zeros, and no value that equals any.

    The records that were looked up go into `seen`: the put is often of one of these keys.
    """
    for key, field, compare, operand in checks:
        seen[key] = record = reads.index.get(key)
        if record is None or record[DEAD]:
            if field == _OF_VALUE or not compare(0, operand):
                return False
        elif field != _OF_VALUE:
            if not compare(RECORD.unpack(record)[field], operand):
                return False
        else:
            kv = reads.get(key)
            assert kv is not None, f"{key!r} is in the index, but not in the store"
            if not compare(decode_kv(kv).value, operand):
                return False
    return True
