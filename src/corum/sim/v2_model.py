"""The second state machine: what the v2 stores of all members did, by index, and what follows.

`V2Record` hears of every change from every member and compares them: the same index must be the
same change everywhere, after a restart from a `.snap` too. `V2Tree` is the key space that follows
from these changes, written anew from etcd's documentation of its v2 API.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from corum.sim.world import Violation, World
from corum.v2store import Event
from corum.v2store.events import NodeView
from corum.values import value

if TYPE_CHECKING:
    from corum.server.node import Node

ROOT: Final = "/1"
REMOVALS: Final = frozenset(("delete", "expire", "compareAndDelete"))
KEY_NOT_FOUND, TEST_FAILED, NOT_FILE, NOT_DIR, NODE_EXISTS = 100, 101, 102, 104, 105
DIR_NOT_EMPTY: Final = 108


@value
class Content:
    """A node; `text` is None when it is not shown or a directory."""

    text: str | None
    created: int
    modified: int
    expire_ns: int = 0
    directory: bool = False


@value
class Change:
    """What happened at one index."""

    action: str
    path: str
    node: Content
    before: Content | None
    refresh: bool


def content_of(view: NodeView) -> Content:
    """What of it all members share: not the seconds left, which each counts by its own clock."""
    text = None if view.directory else view.value
    return Content(text, view.created_index, view.modified_index, view.expire_ns, view.directory)


def change_of(event: Event) -> Change:
    """An event without what each member sees by its own clock."""
    before = None if event.prev_node is None else content_of(event.prev_node)
    return Change(event.action, event.node.key, content_of(event.node), before, event.refresh)


class V2Record:
    """Every change of the v2 store, by index."""

    def __init__(self, world: World, latest_unix_ns: Callable[[], int]) -> None:
        self._world = world
        self._latest_unix_ns = latest_unix_ns
        self.changes: dict[int, Change] = {}
        self.seen: dict[int, tuple[int, int]] = {}
        """Index -> (ticket, the latest wall time that any machine had told) when first seen."""
        self._known: dict[int, tuple[object, int]] = {}
        """Member -> its store, and the index up to which it was looked at."""

    @property
    def index(self) -> int:
        """The newest that any member has."""
        return max(self.changes, default=0)

    def turned(self, node: Node) -> None:
        """A member has ended a turn. Raises Violation."""
        store, member = node.v2.store, node.members.local
        known, last = self._known.get(member, (None, 0))
        if known is not store:
            last = 0
        if store.index == last:
            return
        history = store.hub.history
        if history.last_index != store.index:
            raise Violation(f"{member:x}: v2 history ends at {history.last_index}: {store.index}")
        for index in range(max(last + 1, history.start_index), store.index + 1):
            at = history.front + index - history.start_index
            event = history.events[at % len(history.events)]
            assert event is not None
            self._happened(member, index, change_of(event))
        self._known[member] = (store, store.index)

    def _happened(self, member: int, index: int, change: Change) -> None:
        known = self.changes.setdefault(index, change)
        if known != change:
            raise Violation(f"v2 index {index} is {change} on {member:x}, {known} on another")
        if index not in self.seen:
            self.seen[index] = (self._world.ticket(), self._latest_unix_ns())


@value
class V2Request:
    """A request to /v2/keys; `key` as clients write it."""

    verb: str
    key: str
    text: str = ""
    ttl: str = ""
    directory: bool = False
    prev_value: str = ""
    prev_index: int = 0
    prev_exist: bool | None = None
    refresh: bool = False
    recursive: bool = False
    ordered: bool = False
    quorum: bool = False
    wait: bool = False
    stream: bool = False
    since: int = 0

    @property
    def path(self) -> str:
        """As the store knows it."""
        return ROOT + self.key.rstrip("/")

    def form(self) -> str:
        """As parameters."""
        named: dict[str, object] = {
            "value": self.text,
            "ttl": self.ttl,
            "dir": self.directory,
            "prevValue": self.prev_value,
            "prevIndex": self.prev_index,
            "refresh": self.refresh,
            "recursive": self.recursive,
            "sorted": self.ordered,
            "quorum": self.quorum,
            "wait": self.wait,
            "stream": self.stream,
            "waitIndex": self.since,
        }
        found = {name: str(each).lower() for name, each in named.items() if each}
        if self.prev_exist is not None:
            found["prevExist"] = str(self.prev_exist).lower()
        return urlencode(found)


class V2Tree:
    """The key space below `ROOT` at one index."""

    def __init__(self) -> None:
        self.nodes: dict[str, Content] = {ROOT: Content(None, 0, 0, directory=True)}

    def apply(self, index: int, change: Change) -> None:
        """The next change. Raises Violation when it does not follow from what there is."""
        path, nodes = change.path, self.nodes
        if not path.startswith(ROOT + "/"):
            return
        known = nodes.get(path)
        if change.before != known:
            raise Violation(f"v2 index {index}: {change} came upon {known}")
        if change.node.modified != index:
            raise Violation(f"v2 index {index}: {change}")
        if change.action in REMOVALS:
            for each in [each for each in nodes if is_below(each, path)]:
                del nodes[each]
        elif known is not None and known.directory:
            nodes[path] = replace(known, expire_ns=change.node.expire_ns)
        else:
            keeps = known is not None and change.action not in ("set", "create")
            created = known.created if known is not None and keeps else index
            if change.node.created != created:
                raise Violation(f"v2 index {index}: created at {created}: {change}")
            self._make_parents(path, index)
            nodes[path] = change.node

    def _make_parents(self, path: str, index: int) -> None:
        parent = path.rpartition("/")[0]
        if parent not in self.nodes:
            self._make_parents(parent, index)
            self.nodes[parent] = Content(None, index, index, directory=True)

    def decide(self, ask: V2Request) -> str | int:
        """What becomes of a request now: its action, or the code with which it is refused."""
        found = self._find(ask.path)
        match ask.verb:
            case "GET":
                return found if isinstance(found, int) else "get"
            case "DELETE":
                return self._delete(ask, found)
            case "POST":
                blocked = found == NOT_DIR or (isinstance(found, Content) and not found.directory)
                return NOT_DIR if blocked else "create"
            case _:
                return self._put(ask, found)

    def _find(self, path: str) -> Content | int:
        parts = path.split("/")[2:]
        at = ROOT
        for part in parts:
            if not self.nodes[at].directory:
                return NOT_DIR
            at = f"{at}/{part}"
            if at not in self.nodes:
                return KEY_NOT_FOUND
        return self.nodes[at]

    def _delete(self, ask: V2Request, found: Content | int) -> str | int:
        if isinstance(found, int):
            return found
        if ask.prev_value or ask.prev_index:
            return _compared(ask, found) or "compareAndDelete"
        if not found.directory:
            return "delete"
        if not (ask.directory or ask.recursive):
            return NOT_FILE
        has_children = any(each != ask.path and is_below(each, ask.path) for each in self.nodes)
        return DIR_NOT_EMPTY if has_children and not ask.recursive else "delete"

    @staticmethod
    def _put(ask: V2Request, found: Content | int) -> str | int:
        if ask.prev_exist is False:
            if isinstance(found, Content):
                return NODE_EXISTS
            return NOT_DIR if found == NOT_DIR else "create"
        if isinstance(found, int):
            compares = ask.prev_value or ask.prev_index or ask.prev_exist or ask.refresh
            return found if compares or found == NOT_DIR else "set"
        if ask.prev_value or ask.prev_index:
            return _compared(ask, found) or "compareAndSwap"
        if ask.prev_exist:
            return NOT_FILE if found.directory and ask.text else "update"
        return NOT_FILE if found.directory else "set"

    def shown(self, ask: V2Request) -> dict[str, Content]:
        """What a get shows: the node and its children, or everything below."""
        path = ask.path
        return {
            each: node
            for each, node in self.nodes.items()
            if is_below(each, path) and (ask.recursive or "/" not in each[len(path) + 1 :])
        }


def is_below(path: str, top: str) -> bool:
    """Is it this node, or below?"""
    return path == top or path.startswith(top + "/")


def _compared(ask: V2Request, found: Content) -> int:
    """0 if it is as expected."""
    if found.directory:
        return NOT_FILE
    as_expected = ask.prev_value in ("", found.text) and ask.prev_index in (0, found.modified)
    return 0 if as_expected else TEST_FAILED
