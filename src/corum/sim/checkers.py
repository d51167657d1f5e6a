"""What must hold of a run, judged from outside: by what the clients asked and were told.

One member applies one request after the other and says in every header at which revision, so the
order is known and linearizability needs no search: each answer must be the model's at its revision,
and no request may stand behind one that began after it had ended. Unknown outcomes are writes that
may have happened at most once, at any time after they began.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from corum import errors
from corum.pb import rpc
from corum.sim.model import Event, History, Step
from corum.sim.sessions import Operation
from corum.sim.watchers import Auditor
from corum.sim.world import Violation
from corum.values import NS_PER_S

FOREVER: Final = 1 << 62
_MODELLED: Final = ("KV/Put", "KV/DeleteRange", "KV/Txn", "KV/Range")
_REVOKE: Final = "Lease/LeaseRevoke"
_LOGGED: Final = ("Lease/LeaseGrant", _REVOKE, "KV/Compact")


def check(auditor: Auditor, operations: Sequence[Operation], fastest: float = 1.0) -> None:
    """Everything below but watches and hashes; no clock runs faster than `fastest`.

    Raises Violation.
    """
    owners = Attribution(auditor, operations)
    _check_reads(auditor.history, operations, owners)
    _check_order(operations, owners)
    _check_compactions(operations)
    _check_leases(auditor, operations, owners, fastest)


class Attribution:
    """Which request made which revision: each at most one, each revision by one."""

    def __init__(self, auditor: Auditor, operations: Sequence[Operation]) -> None:
        self._auditor = auditor
        self.history = auditor.history
        self.by_revision: dict[int, Operation] = {}
        self.expired: dict[int, int] = {}
        """Revision -> the lease whose end it is, whoever ended it."""
        self._operations = operations
        self._writers = {text: each for each in operations for text in _values(each.request)}
        self._owned: set[int] = set()
        self._known_by = self._acknowledged()
        self._match(
            [
                revision
                for revision in range(2, self.history.revision + 1)
                if not (self._by_value(revision) or self._by_answer(revision))
            ]
        )

    def _acknowledged(self) -> list[int]:
        """For each revision the ticket at which somebody knew of it, or of a later one."""
        known = [FOREVER] * (self.history.revision + 2)
        for revision, (ticket, _) in self._auditor.seen.items():
            known[revision] = ticket
        for each in self._operations:
            if each.succeeded and each.revision < len(known):
                known[each.revision] = min(known[each.revision], each.returned)
        for revision in range(len(known) - 2, -1, -1):
            known[revision] = min(known[revision], known[revision + 1])
        return known

    def owns(self, operation: Operation) -> bool:
        """Did this request make a revision?"""
        return operation.invoked in self._owned

    def _own(self, revision: int, operation: Operation) -> None:
        if operation.invoked in self._owned:
            raise Violation(f"carried out twice, again at {revision}: {operation}")
        self._owned.add(operation.invoked)
        self.by_revision[revision] = operation
        operation.revision = revision

    def _by_value(self, revision: int) -> bool:
        """Values are unique: a revision with a put tells who wrote it."""
        events = self.history.revisions[revision]
        values = [event.value for event in events if event.value is not None]
        if not values:
            return False
        operation = self._writers.get(values[0])
        if operation is None:
            raise Violation(f"revision {revision} holds what nobody wrote: {events}")
        if operation.succeeded and operation.revision != revision:
            raise Violation(f"found at revision {revision}: {operation}")
        if not (operation.succeeded or operation.is_unknown):
            raise Violation(f"refused, yet at revision {revision}: {operation}")
        if operation.invoked > self._auditor.seen[revision][0]:
            raise Violation(f"revision {revision} was seen before {operation}")
        step = Step(self.history, revision - 1)
        expect_answer(operation, step)
        if step.events != events:
            raise Violation(f"revision {revision} is {events}, not {step.events}: {operation}")
        self._own(revision, operation)
        return True

    def _by_answer(self, revision: int) -> bool:
        """A revision of deletions: who was told that it was made for him? A revocation is told the
        same when its lease has no keys any more, so others come first."""
        for operation in sorted(self._operations, key=lambda each: each.name == _REVOKE):
            told = operation.succeeded and operation.revision == revision
            told = told and operation.invoked < self._known_by[revision]
            if told and not self.owns(operation) and self._deletes(operation, revision):
                self._own(revision, operation)
                return True
        return False

    def _deletes(self, operation: Operation, revision: int) -> bool:
        """Would it have made exactly this revision?"""
        events = self.history.revisions[revision]
        if operation.name == "Lease/LeaseRevoke":
            return _ends(self.history, operation.request.ID, revision, events)
        if operation.name not in ("KV/DeleteRange", "KV/Txn"):
            return False
        step = Step(self.history, revision - 1)
        expected = step.run(operation.request)
        if operation.succeeded and _without_header(operation.response) != expected:
            return False
        return step.events == events

    def _match(self, revisions: list[int]) -> None:
        """The rest: leases that ended, or requests nobody heard of again; each at most once."""
        history = self.history
        candidates: dict[int, list[tuple[int, Operation | None]]] = {}
        for revision in revisions:
            events = history.revisions[revision]
            found: list[tuple[int, Operation | None]] = [
                (each.invoked, each)
                for each in self._operations
                if each.is_unknown
                and not self.owns(each)
                and each.invoked < self._known_by[revision]
                and self._deletes(each, revision)
            ]
            lease = _lease_of(history, events[0].key, revision - 1)
            if lease and _ends(history, lease, revision, events):
                found.append((-lease, None))
            candidates[revision] = found
        taken: dict[int, int] = {}
        for revision in revisions:
            if not augment(revision, candidates, taken, set()):
                raise Violation(f"nobody made revision {revision}: {history.revisions[revision]}")
        for who, revision in taken.items():
            sole = len(candidates[revision]) == 1
            if who >= 0:
                operation = next(each for key, each in candidates[revision] if key == who)
                assert operation is not None
                self._own(revision, operation)
            elif sole:
                self.expired[revision] = -who


def augment(
    revision: int,
    candidates: Mapping[int, Sequence[tuple[int, object]]],
    taken: dict[int, int],
    tried: set[int],
) -> bool:
    """Kuhn's step: give `revision` an owner, moving others if need be; owners have numbers."""
    for who, _ in candidates[revision]:
        if who in tried:
            continue
        tried.add(who)
        if who not in taken or augment(taken[who], candidates, taken, tried):
            taken[who] = revision
            return True
    return False


def _lease_of(history: History, key: bytes, revision: int) -> int:
    kv = history.at(key, revision)
    return kv.lease if kv is not None else 0


def _ends(history: History, lease: int, revision: int, events: Sequence[Event]) -> bool:
    """Is this the revision that deletes the keys of a lease?"""
    keys = history.leased(lease, revision - 1)
    return [(each.key, each.value) for each in events] == [(key, None) for key in keys]


def _values(request: Any) -> Iterator[bytes]:
    if isinstance(request, rpc.PutRequest):
        yield request.value
    elif isinstance(request, rpc.TxnRequest):
        for one in (*request.success, *request.failure):
            if one.WhichOneof("request") == "request_put":
                yield one.request_put.value


def _without_header(response: Any) -> Any:
    bare = type(response)()
    bare.CopyFrom(response)
    bare.ClearField("header")
    return bare


def expect_answer(operation: Operation, step: Step) -> None:
    """The answer must be what the model says at this step."""
    expected = step.run(operation.request)
    if operation.succeeded and _without_header(operation.response) != expected:
        raise Violation(
            f"{operation} at {step.base}: answered\n{operation.response}\nnot\n{expected}"
        )


def _check_reads(history: History, operations: Sequence[Operation], owners: Attribution) -> None:
    """Who made no revision must have been answered from the one in his header."""
    for operation in operations:
        if not operation.succeeded or operation.name not in _MODELLED or owners.owns(operation):
            continue
        if operation.revision > history.revision:
            raise Violation(f"from a revision that never was: {operation}")
        if operation.name == "KV/Put":
            raise Violation(f"an acknowledged write is lost: {operation}")
        base = operation.revision
        if operation.name == "KV/Range":
            base = operation.request.revision or base
        step = Step(history, base)
        expect_answer(operation, step)
        if step.events:
            raise Violation(f"an acknowledged write is lost: {operation}")


def _is_serializable(operation: Operation) -> bool:
    request = operation.request
    if operation.name == "KV/Txn":
        return not (request.success or request.failure)
    return operation.name == "KV/Range" and request.serializable


def _check_order(operations: Sequence[Operation], owners: Attribution) -> None:
    """The order of revisions agrees with real time."""
    placed: list[tuple[int, Operation, int]] = []
    for operation in operations:
        wanted = operation.name in _MODELLED or operation.name in _LOGGED
        if not wanted or not (operation.succeeded or owners.owns(operation)):
            continue
        if _is_serializable(operation):
            continue
        ended = operation.returned if operation.succeeded else FOREVER
        place = 2 * operation.revision + (not owners.owns(operation))
        placed.append((place, operation, ended))
    placed.sort(key=lambda each: (each[0], each[1].invoked), reverse=True)
    first_end, first = FOREVER, None
    waiting: list[tuple[int, Operation]] = []
    place = -1
    for here, operation, ended in placed:
        if here != place:
            place = here
            for end, other in waiting:
                if end < first_end:
                    first_end, first = end, other
            waiting.clear()
        if first_end < operation.invoked:
            raise Violation(f"stale: {operation}\nbegan after the end of {first}")
        waiting.append((ended, operation))


def _check_compactions(operations: Sequence[Operation]) -> None:
    """No read below an acknowledged compaction; no refusal without one."""
    compactions = [each for each in operations if each.name == "KV/Compact"]
    for operation in operations:
        if operation.name != "KV/Range" or not operation.request.revision:
            continue
        wanted = operation.request.revision
        above = [each for each in compactions if each.request.revision > wanted]
        if operation.text == errors.COMPACTED.text:
            if not any(
                each.invoked < operation.returned
                for each in above
                if each.succeeded or each.is_unknown
            ):
                raise Violation(f"nobody has compacted that: {operation}")
        elif operation.request.serializable:
            continue
        elif operation.succeeded:
            for each in above:
                if each.succeeded and each.returned < operation.invoked:
                    raise Violation(f"reads what is compacted: {operation}, {each}")
        elif operation.text == errors.FUTURE_REV.text:
            for each in operations:
                known = each.succeeded and each.returned < operation.invoked
                if known and each.revision >= wanted:
                    raise Violation(f"not the future: {operation}, {each}")


def check_alarms(operations: Sequence[Operation], alarmed: Sequence[tuple[int, int]]) -> None:
    """While there was an alarm nobody put or granted anything. Raises Violation."""
    for operation in operations:
        if not operation.succeeded or operation.name not in ("KV/Put", "Lease/LeaseGrant"):
            continue
        if any(begin < operation.invoked and operation.returned < end for begin, end in alarmed):
            raise Violation(f"in spite of an alarm: {operation}")


# ---- leases


def _check_leases(
    auditor: Auditor, operations: Sequence[Operation], owners: Attribution, fastest: float
) -> None:
    """No lease ends before its TTL has passed since it was granted or renewed last."""
    of_lease: dict[int, list[Operation]] = {}
    for operation in operations:
        lease = _lease_named(operation)
        if lease:
            of_lease.setdefault(lease, []).append(operation)
    for lease, group in of_lease.items():
        grant = next((each for each in group if each.name == "Lease/LeaseGrant"), None)
        if grant is None or not grant.succeeded:
            continue
        ends = [(each.returned_ns, each.returned, str(each)) for each in group if _says_gone(each)]
        ends = [end for end in ends if end[1] > grant.returned]
        for revision, expired in owners.expired.items():
            if expired == lease:
                ticket, at_ns = auditor.seen[revision]
                ends.append((at_ns, ticket, f"revision {revision}"))
        _check_lease(grant, group, ends, fastest)


def _check_lease(
    grant: Operation,
    group: Sequence[Operation],
    ends: Sequence[tuple[int, int, str]],
    fastest: float,
) -> None:
    renewed = [each for each in group if each.name == "Lease/LeaseKeepAlive" and each.succeeded]
    alive = [grant, *(each for each in renewed if each.response.TTL)]
    revokes = [each.invoked for each in group if each.name == "Lease/LeaseRevoke"]
    for at_ns, ticket, what in ends:
        if any(invoked < ticket for invoked in revokes):
            continue
        last = max(alive, key=lambda each: each.invoked_ns)
        if at_ns < last.invoked_ns + grant.response.TTL * NS_PER_S / fastest:
            raise Violation(f"a lease ended too early: {what}\nafter {last}")


def _lease_named(operation: Operation) -> int:
    if operation.name.startswith("Lease/"):
        return getattr(operation.request, "ID", 0)
    return operation.request.lease if operation.name == "KV/Put" else 0


def _says_gone(operation: Operation) -> bool:
    if operation.name == "Lease/LeaseKeepAlive":
        return operation.succeeded and operation.response.TTL == 0
    if operation.name == "Lease/LeaseTimeToLive":
        return operation.succeeded and not operation.response.grantedTTL  # due ones have one
    return operation.name == "KV/Put" and operation.text == errors.LEASE_NOT_FOUND.text
