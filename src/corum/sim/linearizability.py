"""Are the clients' answers those of one key after the other, each at one moment of its call?

The judge beside `checkers`: it believes no header and no revision, only values and real time. An
operation on several keys is looked at key by key, so it must fit each of them: a condition that is
necessary, and quick to decide. Search after Wing and Gong (1993) with the memory of Lowe (2017): a
set of operations done and the value they leave is never tried twice. Keys with leases are left out,
since nobody knows when a lease ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

from corum.pb import rpc
from corum.sim.model import within
from corum.sim.sessions import Operation
from corum.sim.world import Violation
from corum.values import value

NEVER: Final = 1 << 62
"""The end of an operation whose outcome nobody knows."""
TRIES_MAX: Final = 200_000
"""Steps of a search; a history that needs more is left undecided."""

Value: TypeAlias = "bytes | None"


@value
class Read:
    """The key had this value; None: it was not there."""

    found: Value


@value
class Write:
    """The key has this value from now on; None: it is deleted."""

    written: Value


@value
class Existed:
    """The key was there, or was not."""

    present: bool


Effect: TypeAlias = "Read | Write | Existed"
Effects: TypeAlias = "tuple[Effect, ...]"


@value
class OnKey:
    """An operation as one key sees it: what it may have found and done, one of `ways`."""

    invoked: int
    returned: int
    ways: tuple[Effects, ...]


def check_linearizable(operations: Sequence[Operation]) -> int:
    """Raises Violation; how many keys were decided."""
    decided = 0
    for key, found in sorted(_by_key(operations).items()):
        verdict = is_linearizable(found)
        if verdict is False:
            told = [str(each) for each in operations if _touches(each.request, key)]
            raise Violation(f"the history of {key!r} is not linearizable:\n" + "\n".join(told))
        decided += verdict is True
    return decided


def is_linearizable(history: Sequence[OnKey]) -> bool | None:
    """Is there an order? None: undecided after `TRIES_MAX` steps."""
    ordered = sorted(history, key=lambda each: each.invoked)
    must = sum(1 << at for at, each in enumerate(ordered) if each.returned < NEVER)
    tried: set[tuple[int, Value]] = {(0, None)}
    stack: list[tuple[int, Value]] = [(0, None)]
    while stack:
        done, state = stack.pop()
        if done & must == must:
            return True
        if len(tried) > TRIES_MAX:
            return None
        for at, way in _next(ordered, done):
            fits, after = _carried_out(way, state)
            there = (done | 1 << at, after)
            if fits and there not in tried:
                tried.add(there)
                stack.append(there)
    return False


def _next(ordered: Sequence[OnKey], done: int) -> Iterator[tuple[int, Effects]]:
    """Operations that may come next: those that began before the first end of the others.

    The one that ends first comes last, for it is tried first.
    """
    candidates: list[tuple[int, int]] = []
    first_end = NEVER
    for at, each in enumerate(ordered):
        if each.invoked > first_end:
            break
        if not done >> at & 1:
            candidates.append((each.returned, at))
            first_end = min(first_end, each.returned)
    for _, at in sorted(candidates, reverse=True):
        if ordered[at].invoked <= first_end:
            for way in ordered[at].ways:
                yield at, way


def _carried_out(way: Effects, state: Value) -> tuple[bool, Value]:
    for effect in way:
        match effect:
            case Write():
                state = effect.written
            case Read():
                if state != effect.found:
                    return False, None
            case Existed():
                if effect.present != (state is not None):
                    return False, None
    return True, state


# ---- from requests and answers to what a key sees of them


def _by_key(operations: Sequence[Operation]) -> dict[bytes, list[OnKey]]:
    keys: set[bytes] = set()
    leased: set[bytes] = set()
    for each in operations:
        for put in _puts(each.request):
            keys.add(put.key)
            if put.lease:
                leased.add(put.key)
    found: dict[bytes, list[OnKey]] = {key: [] for key in sorted(keys - leased)}
    for each in operations:
        if not (each.succeeded or each.is_unknown):
            continue
        returned = each.returned if each.succeeded else NEVER
        for key, history in found.items():
            if not _touches(each.request, key):
                continue
            ways = _ways(each, key)
            if any(ways):
                history.append(OnKey(each.invoked, returned, tuple(ways)))
    return found


def _parts(branch: Any) -> list[Any]:
    """The requests of a transaction's branch."""
    return [getattr(one, one.WhichOneof("request")) for one in branch]


def _puts(request: Any) -> Iterator[Any]:
    if isinstance(request, rpc.PutRequest):
        yield request
    elif isinstance(request, rpc.TxnRequest):
        for part in (*_parts(request.success), *_parts(request.failure)):
            yield from _puts(part)


def _touches(request: Any, key: bytes) -> bool:
    if isinstance(request, rpc.TxnRequest):
        parts = (*_parts(request.success), *_parts(request.failure))
        return any(_touches(part, key) for part in parts)
    if isinstance(request, rpc.PutRequest):
        return request.key == key
    if isinstance(request, rpc.RangeRequest | rpc.DeleteRangeRequest):
        return within(key, request.key, request.range_end)
    return False


def _ways(operation: Operation, key: bytes) -> list[Effects]:
    """All that it may have been for this key; empty when it says nothing of it."""
    request, response = operation.request, operation.response
    if not isinstance(request, rpc.TxnRequest):
        way = tuple(_effects(request, response, key))
        return [way] if way else []
    if response is not None:
        branch = _parts(request.success if response.succeeded else request.failure)
        told = [getattr(one, one.WhichOneof("response")) for one in response.responses]
        pairs = zip(branch, told, strict=True)
        return [tuple(e for part, one in pairs for e in _effects(part, one, key))]
    return [
        way
        for branch in (request.success, request.failure)
        if (way := tuple(e for part in _parts(branch) for e in _effects(part, None, key)))
    ]


def _effects(request: Any, response: Any, key: bytes) -> Iterator[Effect]:
    """What one request found and did; without `response`, only what it may have done."""
    if not _touches(request, key):
        return
    if isinstance(request, rpc.PutRequest):
        if response is not None and request.prev_kv:
            yield Read(response.prev_kv.value if response.HasField("prev_kv") else None)
        yield Write(request.value)
    elif isinstance(request, rpc.DeleteRangeRequest):
        if response is not None and not request.range_end:
            yield Existed(bool(response.deleted))
        yield Write(None)
    elif response is not None:
        yield from _found(request, response, key)


def _found(request: Any, response: Any, key: bytes) -> Iterator[Effect]:
    """What a read of the newest state says of a key."""
    if request.serializable or request.revision or request.count_only or request.keys_only:
        return
    for kv in response.kvs:
        if kv.key == key:
            yield Read(kv.value)
            return
    if not request.limit:
        yield Read(None)
