"""What etcd's key space is, said once more and as plainly as possible: the measure for the store.

History is a list of revisions, each a list of events; a state is read from it at any revision. A
request is carried out on the state before it, which gives the response it must have and the events
it must cause. Independent of `corum.mvcc`: only the messages are shared.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

from corum.pb import kv as mvccpb
from corum.pb import rpc
from corum.values import value

Kv = Any
"""mvccpb.KeyValue."""

_FIELDS: Final[tuple[str, ...]] = ("key", "version", "create_revision", "mod_revision", "value")
"""Of a KeyValue, by RangeRequest.SortTarget."""
_TARGETS: Final[tuple[str, ...]] = ("version", "create_revision", "mod_revision", "value", "lease")
"""Fields of KeyValue and Compare, by Compare.CompareTarget."""


@value
class Event:
    """One change of a key; a deletion has no value."""

    key: bytes
    value: bytes | None
    lease: int = 0


class History:
    """Every revision so far; the first write makes revision 2."""

    def __init__(self) -> None:
        self.revisions: list[list[Event]] = [[], []]
        self._states: dict[bytes, list[tuple[int, Kv | None]]] = {}

    @property
    def revision(self) -> int:
        """The newest."""
        return len(self.revisions) - 1

    def add(self, events: Sequence[Event]) -> None:
        """The next revision."""
        revision = len(self.revisions)
        self.revisions.append(list(events))
        for event in events:
            kv = _after(self.at(event.key, revision), event, revision)
            self._states.setdefault(event.key, []).append((revision, kv))

    def at(self, key: bytes, revision: int) -> Kv | None:
        """The key as of `revision`; None when it was absent."""
        states = self._states.get(key, [])
        place = bisect_right(states, revision, key=lambda state: state[0])
        return states[place - 1][1] if place else None

    def every_key(self) -> list[bytes]:
        """Every key that ever was."""
        return sorted(self._states)

    def leased(self, lease: int, revision: int) -> list[bytes]:
        """Keys attached to `lease` as of `revision`, in order."""
        found: list[bytes] = []
        for key in self.every_key():
            kv = self.at(key, revision)
            if kv is not None and kv.lease == lease:
                found.append(key)
        return found


def _field(target: int) -> Callable[[Kv], Any]:
    return attrgetter(_FIELDS[target])


def _after(before: Kv | None, event: Event, revision: int) -> Kv | None:
    if event.value is None:
        return None
    return mvccpb.KeyValue(
        key=event.key,
        value=event.value,
        lease=event.lease,
        version=before.version + 1 if before else 1,
        create_revision=before.create_revision if before else revision,
        mod_revision=revision,
    )


class Step:
    """A request carried out on the state at `base`: what it answers, what it changes."""

    def __init__(self, history: History, base: int) -> None:
        self.history = history
        self.base = base
        self.events: list[Event] = []
        self._changed: dict[bytes, Kv | None] = {}

    @property
    def revision(self) -> int:
        """As headers inside a transaction say it."""
        return self.base + bool(self.events)

    def get(self, key: bytes) -> Kv | None:
        """The key, changes of this request included."""
        if key in self._changed:
            return self._changed[key]
        return self.history.at(key, self.base)

    def _change(self, event: Event) -> None:
        before = self.get(event.key)
        self.events.append(event)
        self._changed[event.key] = _after(before, event, self.base + 1)

    def select(self, key: bytes, end: bytes) -> list[Kv]:
        """Keys alive in a request's range, in order."""
        known = sorted({*self.history.every_key(), *self._changed})
        found = [self.get(each) for each in known if within(each, key, end)]
        return [kv for kv in found if kv is not None]

    def run(self, request: Any) -> Any:
        """The response without header."""
        return _RUN[type(request)](self, request)

    def range(self, request: Any) -> Any:
        """RangeRequest; its revision is whoever calls concern."""
        found = self.select(request.key, request.range_end)
        response = rpc.RangeResponse(count=len(found))
        if request.count_only:
            return response
        if request.min_mod_revision:
            found = [kv for kv in found if kv.mod_revision >= request.min_mod_revision]
        if request.max_mod_revision:
            found = [kv for kv in found if kv.mod_revision <= request.max_mod_revision]
        order = request.sort_order
        if not order and request.sort_target:
            order = rpc.RangeRequest.ASCEND
            if request.limit:  # etcd fetches no more than it needs before it sorts
                del found[request.limit + 1 :]
        if order:
            found.sort(key=_field(request.sort_target), reverse=order == rpc.RangeRequest.DESCEND)
        if request.limit and len(found) > request.limit:
            response.more = True
            del found[request.limit :]
        for kv in found:
            one = response.kvs.add()
            one.CopyFrom(kv)
            if request.keys_only:
                one.ClearField("value")
        return response

    def put(self, request: Any) -> Any:
        """PutRequest."""
        before = self.get(request.key)
        response = rpc.PutResponse()
        if request.prev_kv and before is not None:
            response.prev_kv.CopyFrom(before)
        lease = request.lease
        if request.ignore_lease:
            lease = before.lease if before is not None else 0
        self._change(Event(request.key, request.value, lease))
        return response

    def delete(self, request: Any) -> Any:
        """DeleteRangeRequest."""
        found = self.select(request.key, request.range_end)
        for kv in found:
            self._change(Event(kv.key, None))
        response = rpc.DeleteRangeResponse(deleted=len(found))
        if request.prev_kv:
            response.prev_kvs.extend(found)
        return response

    def txn(self, request: Any) -> Any:
        """TxnRequest: compares see the state before the first write."""
        holds = all(self._holds(compare) for compare in request.compare)
        response = rpc.TxnResponse(succeeded=holds)
        for one in request.success if holds else request.failure:
            name = one.WhichOneof("request").replace("request_", "response_")
            inner = self.run(getattr(one, name.replace("response_", "request_")))
            inner.header.revision = self.revision
            getattr(response.responses.add(), name).CopyFrom(inner)
        return response

    def _holds(self, compare: Any) -> bool:
        found = self.select(compare.key, compare.range_end)
        if not compare.range_end and not found:
            if compare.target == rpc.Compare.VALUE:
                return False
            found = [mvccpb.KeyValue()]
        return all(_compared(compare, kv) for kv in found)


def _compared(compare: Any, kv: Kv) -> bool:
    name = _TARGETS[int(compare.target)]
    left, right = getattr(kv, name), getattr(compare, name)
    return {
        rpc.Compare.EQUAL: left == right,
        rpc.Compare.NOT_EQUAL: left != right,
        rpc.Compare.GREATER: left > right,
        rpc.Compare.LESS: left < right,
    }[compare.result]


_RUN: Final[dict[Any, Callable[[Step, Any], Any]]] = {
    rpc.RangeRequest: Step.range,
    rpc.PutRequest: Step.put,
    rpc.DeleteRangeRequest: Step.delete,
    rpc.TxnRequest: Step.txn,
}


def within(key: bytes, start: bytes, end: bytes) -> bool:
    """Is `key` in the range that a request names?"""
    if not end:
        return key == start
    return start <= key and (end == b"\0" or key < end)
