"""What must hold of the v2 API, judged by what clients asked and were told.

Every answer names the store's index at which it was given, and `V2Record` has compared what
happened at each index on all members: so each answer must be the model's at its index, each change
must have been made by one request or by a TTL that was over, and indexes must agree with real time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from corum.sim.checkers import augment
from corum.sim.v2_clients import Heard, V2Operation, V2Stream, V2Watcher
from corum.sim.v2_model import ROOT, Change, Content, V2Record, V2Request, V2Tree
from corum.sim.v2_workload import concerns
from corum.sim.world import Violation
from corum.v2store.gojson import parse_time

TIMED: Final = "expire"


def check_v2(record: V2Record, operations: Sequence[V2Operation]) -> None:
    """Everything but waits. Raises Violation."""
    asked = [each for each in operations if not each.request.wait]
    makers = _Makers(record, asked)
    at: defaultdict[int, list[V2Operation]] = defaultdict(list)
    for each in asked:
        if each.returned and not each.text and makers.by_index.get(each.index) is not each:
            at[each.index].append(each)
    tree = V2Tree()
    for index in range(record.index + 1):
        if index:
            change = record.changes.get(index)
            if change is None:
                raise Violation(f"v2 index {index} is missing, {record.index} is the last")
            makers.check(index, change, tree)
            tree.apply(index, change)
        for each in at.pop(index, ()):
            _check_answer(each, tree)
    if at:
        raise Violation(f"from v2 indexes that never were: {[str(e) for e in at.popitem()[1]]}")
    makers.match_rest()
    _check_order(asked, makers)


class _Makers:
    """Which request made which change: each at most one, each change by one or by a TTL."""

    def __init__(self, record: V2Record, operations: Sequence[V2Operation]) -> None:
        self._record = record
        self.by_index: dict[int, V2Operation] = {}
        self._lost = [each for each in operations if each.is_unknown and each.request.verb != "GET"]
        texts = {each.request.text: each for each in operations if each.request.text}
        for each in operations:
            if each.succeeded and each.request.verb != "GET":
                self._own(int(each.body["node"]["modifiedIndex"]), each)
        for index, change in record.changes.items():
            maker = texts.get(change.node.text or "")
            if maker is None or change.action == TIMED or change.refresh:
                continue
            if index not in self.by_index and maker.is_unknown:
                self._own(index, maker)
            elif self.by_index.get(index) is not maker:
                raise Violation(f"v2 index {index}, {change}, was not to be: {maker}")
        self.candidates: dict[int, list[tuple[int, V2Operation]]] = {}

    def _own(self, index: int, operation: V2Operation) -> None:
        other = self.by_index.setdefault(index, operation)
        if other is not operation:
            raise Violation(f"v2 index {index} was made by two: {other}\n{operation}")

    def check(self, index: int, change: Change, tree: V2Tree) -> None:
        """A change, before it is in the `tree`. Raises Violation."""
        if not change.path.startswith(ROOT + "/"):
            return
        if change.action == TIMED:
            due_ns = change.before.expire_ns if change.before else 0
            if not 0 < due_ns <= self._record.seen[index][1]:
                raise Violation(f"v2 index {index}: too early: {change}")
            return
        maker = self.by_index.get(index)
        if maker is None:
            self.candidates[index] = [
                (each.invoked, each)
                for each in self._lost
                if each not in self.by_index.values()
                and each.invoked < self._record.seen[index][0]
                and _would(each.request, index, change, tree)
            ]
        elif not _would(maker.request, index, change, tree):
            decided = tree.decide(maker.request)
            raise Violation(f"v2 index {index} is {change}, not {decided!r}: {maker}")
        elif maker.succeeded:
            _check_told(maker, change)
        elif maker.invoked > self._record.seen[index][0]:
            raise Violation(f"v2 index {index} was seen before {maker}")

    def match_rest(self) -> None:
        """Changes for which nobody was answered, and that no value names. Raises Violation."""
        taken: dict[int, int] = {}
        for index in self.candidates:
            if not augment(index, self.candidates, taken, set()):
                raise Violation(f"nobody made v2 index {index}: {self._record.changes[index]}")


def _would(ask: V2Request, index: int, change: Change, tree: V2Tree) -> bool:
    """Is this change what the request would have done?"""
    path = f"{ask.path}/{index:020d}" if ask.verb == "POST" else ask.path
    if (tree.decide(ask), path) != (change.action, change.path):
        return False
    if ask.verb == "DELETE":
        return True
    node = change.node
    return (
        ask.refresh == change.refresh
        and bool(ask.ttl) == bool(node.expire_ns)
        and (node.directory or ask.refresh or node.text == ask.text)
    )


def _check_told(maker: V2Operation, change: Change) -> None:
    """Was the maker of a change told what it was?"""
    body = maker.body
    told = (body["action"], path_of(body["node"]), _told(body["node"]))
    before = _told(body["prevNode"]) if "prevNode" in body else None
    # Both texts of a removed node are its predecessor's, and it has none itself.
    if (*told, before) != (change.action, change.path, change.node, change.before):
        raise Violation(f"v2: {change}: told otherwise: {maker}")


def path_of(node: dict[str, Any]) -> str:
    """As the store knows it."""
    return ROOT + node.get("key", "")


def _told(node: dict[str, Any]) -> Content:
    is_dir = bool(node.get("dir"))
    return Content(
        None if is_dir else node.get("value"),
        node.get("createdIndex", 0),
        node.get("modifiedIndex", 0),
        parse_time(node["expiration"]) if "expiration" in node else 0,
        is_dir,
    )


def _check_answer(operation: V2Operation, tree: V2Tree) -> None:
    """Who changed nothing was answered from the tree at its index."""
    ask = operation.request
    decided = tree.decide(ask)
    if not operation.succeeded:
        if decided != operation.code:
            raise Violation(f"v2: should be {decided!r}: {operation}")
        return
    if ask.verb != "GET":
        raise Violation(f"v2: an acknowledged write is lost: {operation}")
    if decided != "get":
        raise Violation(f"v2: should be {decided!r}: {operation}")
    found = list(_all_nodes(operation.body["node"]))
    shown = dict(found)
    wanted = tree.shown(ask)
    if shown != wanted or len(found) != len(shown):
        odd = [f"{p}: {shown.get(p)} / {wanted.get(p)}" for p in sorted({*shown, *wanted})]
        raise Violation(f"v2: {operation}\n" + "\n".join(odd))
    if ask.ordered:
        _check_sorted(operation, operation.body["node"])


def _check_sorted(operation: V2Operation, node: dict[str, Any]) -> None:
    keys = [each["key"] for each in node.get("nodes", ())]
    if keys != sorted(keys):
        raise Violation(f"v2: not sorted: {operation}")


def _all_nodes(node: dict[str, Any]) -> Iterable[tuple[str, Content]]:
    yield path_of(node), _told(node)
    for child in node.get("nodes", ()):
        yield from _all_nodes(child)


def _check_order(operations: Sequence[V2Operation], makers: _Makers) -> None:
    """Who began after another had ended is not before it."""
    moments: list[tuple[int, bool, V2Operation, int, bool]] = []
    made = {id(each): index for index, each in makers.by_index.items()}
    for each in operations:
        told = each.returned and not each.text
        if each.request.verb == "GET" and not (told and each.request.quorum):
            continue
        index = made.get(id(each), each.index if told else 0)
        if not index:
            continue
        moments.append((each.invoked, True, each, index, id(each) in made))
        if told:
            moments.append((each.returned, False, each, index, True))
    high, last = 0, None
    for _, begins, each, index, makes in sorted(moments, key=lambda one: one[0]):
        if begins and index < high + makes:
            raise Violation(f"v2: stale: {each}\nbegan after the end of {last}")
        if not begins and index > high:
            high, last = index, each


# ---- waits


def check_waits(
    record: V2Record, watchers: Sequence[V2Watcher], streams: Sequence[V2Stream]
) -> None:
    """Every event once and in order. Raises Violation."""
    for watcher in watchers:
        for heard in watcher.heard:
            _check_heard(record, watcher.client.name, watcher.request, heard)
    for stream in streams:
        for heard in stream.heard:
            _check_heard(record, stream.client.name, stream.request, heard)


def _check_heard(record: V2Record, name: str, request: V2Request, heard: Heard) -> None:
    expected = [
        index
        for index in range(heard.begin, record.index + 1)
        if concerns(record, request, index)
        and not any(start <= index < end for start, end in heard.gaps)
    ]
    told = [int(each["node"]["modifiedIndex"]) for each in heard.events]
    if told != (expected[: len(told)] if heard.over else expected):
        raise Violation(f"{name} from {heard.begin}: {told}, not {expected}; over: {heard.over}")
    for each in heard.events:
        change = record.changes[int(each["node"]["modifiedIndex"])]
        if (each["action"], path_of(each["node"])) != (change.action, change.path):
            raise Violation(f"{name}: {each} is {change}")
        if _told(each["node"]) != change.node:
            raise Violation(f"{name}: {each} is {change}")
