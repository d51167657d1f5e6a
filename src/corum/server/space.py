"""Quota and alarms: when the store is full, and what the cluster says about it (rpc §4, §8).

Two checks, as in etcd: the contacted member refuses before it proposes and has the alarm raised;
a write that slipped through is applied on every member alike, and its answer becomes the error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from corum import errors
from corum.backend import schema
from corum.backend.backend import Backend
from corum.mvcc import txn
from corum.mvcc.guarded import GuardedPut
from corum.mvcc.txn import Plan, Step
from corum.pb.wire import varint
from corum.server import operations as op
from corum.values import GIB

QUOTA_DEFAULT: Final = 2 * GIB
PUT_COST: Final = 256
"""What the quota counts for a put beside its key and value (etcd's estimate)."""
GRANT_COST: Final = 64
NOSPACE: Final = 1
CORRUPT: Final = 2


def plan_cost(plan: Plan) -> int:
    """etcd's estimate of what a transaction needs: the larger of its branches; 0 without puts."""
    return max(_branch_cost(plan.success), _branch_cost(plan.failure))


def _branch_cost(steps: list[Step]) -> int:
    cost = 0
    for kind, asked in steps:
        if kind == txn.PUT:
            cost += PUT_COST + len(asked.key) + len(asked.value)
        elif kind == txn.TXN:
            cost += plan_cost(asked)
    return cost


def cost_of(operation: int, request: Any) -> int:
    """What an entry that is applied needs, by the same estimate; 0 for what frees or reads."""
    if operation == op.PUT:
        if type(request) is tuple:
            key, stored = cast("tuple[bytes, bytes]", request)
            return PUT_COST + len(key) + len(stored)
        return PUT_COST + len(request.key) + len(request.value)
    if operation == op.LEASE_GRANT:
        return GRANT_COST
    if operation != op.TXN:
        return 0
    if isinstance(request, GuardedPut):
        return PUT_COST + request.size
    try:
        return plan_cost(request if isinstance(request, Plan) else txn.plan_of(request))
    except errors.EtcdError:
        return 0


def alarm_bytes(member: int, alarm: int) -> bytes:
    """An AlarmMember message: the key of bucket `alarm`."""
    out = b"\x08" + varint(member) if member else b""
    return out + b"\x10" + varint(alarm) if alarm else out


class Alarms:
    """Active alarms of all members, as the log has raised and cleared them."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._active: set[tuple[int, int]] = set()
        self.no_space = False
        self.corrupt = False
        self.refuses_growth = False
        """Either of the two: no put, no grant."""

    def restore(self, alarms: Iterable[tuple[int, int]]) -> None:
        """Take over what the backend holds: (member, alarm)."""
        self._active = set(alarms)
        self._refresh()

    def get(self, member: int, alarm: int) -> list[tuple[int, int]]:
        """Active alarms of this kind (0 = all) of this member (0 = all), sorted."""
        return sorted(a for a in self._active if (member in (0, a[0])) and (alarm in (0, a[1])))

    def activate(self, member: int, alarm: int) -> list[tuple[int, int]]:
        """Raise; the alarm itself, also when it was active already."""
        self._active.add((member, alarm))
        self._backend.put(schema.ALARM, alarm_bytes(member, alarm), b"")
        self._refresh()
        return [(member, alarm)]

    def deactivate(self, member: int, alarm: int) -> list[tuple[int, int]]:
        """Clear; empty when it was not active."""
        if (member, alarm) not in self._active:
            return []
        self._active.remove((member, alarm))
        self._backend.delete(schema.ALARM, alarm_bytes(member, alarm))
        self._refresh()
        return [(member, alarm)]

    def _refresh(self) -> None:
        kinds = {alarm for _, alarm in self._active}
        self.no_space = NOSPACE in kinds
        self.corrupt = CORRUPT in kinds
        self.refuses_growth = self.no_space or self.corrupt

    def refusal(self) -> errors.EtcdError:
        """What is answered to a put; the worse one first."""
        return errors.CORRUPT() if self.corrupt else errors.NO_SPACE()


class Space:
    """The quota of this member's backend."""

    def __init__(self, backend: Backend, quota_bytes: int, raise_alarm: Callable[[], None]) -> None:
        """`quota_bytes`: 0 is the default of 2 GiB, negative is no limit."""
        self._backend = backend
        self.quota_bytes = QUOTA_DEFAULT if quota_bytes == 0 else max(quota_bytes, 0)
        self._raise_alarm = raise_alarm

    def admit(self, cost_bytes: int) -> None:
        """Before a proposal that grows the store; raises NO_SPACE and has the alarm raised."""
        if self.exceeded(cost_bytes):
            self._raise_alarm()
            raise errors.NO_SPACE()

    def room(self) -> int:
        """Bytes that may still be written; a huge number without a quota."""
        quota = self.quota_bytes
        return quota - self._backend.size - 1 if quota > 0 else 1 << 62

    def guarded(
        self, operations: dict[int, Callable[[Any], Any]]
    ) -> dict[int, Callable[[Any], Any]]:
        """The same operations for a store that is nearly full.

        What does not fit any more was let in while it still did: it is carried out, as on every
        other member, but answered with NO_SPACE, and the alarm is raised (as in etcd).
        """

        def guard(operation: int) -> Callable[[Any], Any]:
            carry_out = operations[operation]

            def guarded(request: Any) -> Any:
                over = self.exceeded(cost_of(operation, request))
                result = carry_out(request)
                if over and type(result) is bytes:
                    self._raise_alarm()
                    return errors.NO_SPACE()
                return result

            return guarded

        return operations | {one: guard(one) for one in (op.PUT, op.TXN, op.LEASE_GRANT)}

    def exceeded(self, cost_bytes: int) -> bool:
        """Would the store be over its quota?"""
        quota = self.quota_bytes
        return quota > 0 and self._backend.size + cost_bytes >= quota
