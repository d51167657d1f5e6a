"""The v2 key space: one tree, one index, and what each operation does to them (v2-store.md §3).

Replicated: every member applies the same operations in the same order. `expire_ns` of a request is
absolute, so that nodes expire alike everywhere; `now_ns` only shows in the `ttl` of the answers.
A refused operation raises `V2Error` and changes nothing but the statistics.
"""

from __future__ import annotations

import sys
from typing import Final

from corum.v2store import errors
from corum.v2store.errors import V2Error
from corum.v2store.events import (
    COMPARE_AND_DELETE,
    COMPARE_AND_SWAP,
    CREATE,
    DELETE,
    EXPIRE,
    GET,
    SET,
    UPDATE,
    Event,
    FullView,
)
from corum.v2store.history import Waiter, WaiterHub
from corum.v2store.stats import Stats
from corum.v2store.tree import Node, Tree, clean

YEAR_2000_NS: Final = 946_684_800_000_000_000
"""An expiry before this is taken for "never" at creation."""

COMPONENTS_MAX: Final = 256
"""Of a path that a client of ours may write, as JSON readers give up beyond it; no business of the
store's: Go etcd has no such limit, and what it proposes every member has to carry out."""

_ALL_LEVELS: Final = 1 << 30
# A request line of Go's has at most 4 KiB, so 2,000 components; Python's limit of 1,000 is too low
# for a tree of these. Calls of Python's own take no room on the stack of C.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 20_000))

CLUSTER_PREFIX: Final = "/0"
MEMBERS_PREFIX: Final = f"{CLUSTER_PREFIX}/members"
REMOVED_PREFIX: Final = f"{CLUSTER_PREFIX}/removed_members"
KEYS_PREFIX: Final = "/1"


class Store:
    """One member's v2 store. Paths include the internal roots: clients' keys begin with /1."""

    def __init__(self) -> None:
        self.namespaces = (CLUSTER_PREFIX, KEYS_PREFIX)
        self.index = 0
        self.tree = Tree(self.namespaces)
        self.hub = WaiterHub()
        self.stats = Stats()
        self._read_only = frozenset((*self.namespaces, "/"))

    @property
    def has_ttl_keys(self) -> bool:
        """Something will expire: the leader proposes SYNC while this holds."""
        return len(self.tree.expiry) > 0

    # -- reading -------------------------------------------------------------------------------

    def get(self, path: str, *, recursive: bool, ordered: bool, now_ns: int) -> Event:
        """The node; of a directory its children, or with `recursive` everything below."""
        try:
            node = self.tree.find(clean(path), self.index)
        except V2Error as error:
            self.stats.failed(GET, error.code)
            raise
        self.stats.succeeded(GET)
        view = node.view(now_ns, depth=_ALL_LEVELS if recursive else 1, ordered=ordered)
        return Event(GET, view, self.index)

    def watch(self, path: str, *, recursive: bool, stream: bool, since: int) -> Waiter:
        """Wait for the first event from index `since` on (0: the next). Raises 401.

        Its events come with `take_told`; one from the history is there at once.
        """
        waiter = Waiter(
            clean(path), since or self.index + 1, self.index, recursive=recursive, stream=stream
        )
        self.hub.wait(waiter)
        return waiter

    def stats_json(self) -> str:
        """Body of /v2/stats/store."""
        self.stats.counts["watchers"] = self.hub.count
        return self.stats.to_json()

    # -- writing -------------------------------------------------------------------------------

    def set(
        self,
        path: str,
        value: str,
        *,
        directory: bool = False,
        expire_ns: int = 0,
        refresh: bool = False,
        now_ns: int,
    ) -> Event:
        """Create or replace; a replaced file counts as new. Refuses an existing directory (102).

        `refresh` keeps the value of an existing file, and wakes nobody.
        """
        path = clean(path)
        try:
            find = self.tree.find if refresh else self.tree.find_or_none
            previous = find(path, self.index)
            if refresh and previous is not None:
                value = previous.value or ""
            event = self._make(
                SET, path, None if directory else value, expire_ns, now_ns, replace=previous
            )
        except V2Error as error:
            self.stats.failed(SET, error.code)
            raise
        self.stats.succeeded(SET)
        return self._publish(event, refresh=refresh)

    def create(
        self,
        path: str,
        value: str,
        *,
        directory: bool = False,
        unique: bool = False,
        expire_ns: int = 0,
        now_ns: int,
    ) -> Event:
        """Refuses what exists (105). `unique`: a child named by the new index, in 20 digits."""
        if unique:
            path = f"{path}/{self.index + 1:020d}"
        try:
            event = self._make(
                CREATE, clean(path), None if directory else value, expire_ns, now_ns, replace=None
            )
        except V2Error as error:
            self.stats.failed(CREATE, error.code)
            raise
        self.stats.succeeded(CREATE)
        return self._publish(event)

    def update(
        self, path: str, value: str, *, expire_ns: int = 0, refresh: bool = False, now_ns: int
    ) -> Event:
        """New value and TTL of a file, or new TTL of a directory (empty value); created stays."""
        path = clean(path)
        try:
            self._refuse_roots(path)
            node = self.tree.find(path, self.index)
            if node.is_dir and value:
                raise V2Error(errors.NOT_FILE, path, self.index)
        except V2Error as error:
            self.stats.failed(UPDATE, error.code)
            raise
        self.stats.succeeded(UPDATE)
        return self._change(UPDATE, node, value, expire_ns, now_ns, refresh=refresh)

    def compare_and_swap(
        self,
        path: str,
        prev_value: str,
        prev_index: int,
        value: str,
        *,
        expire_ns: int = 0,
        refresh: bool = False,
        now_ns: int,
    ) -> Event:
        """Update a file if it is as expected; "" and 0 expect nothing. Raises 101, 102."""
        path = clean(path)
        try:
            self._refuse_roots(path)
            node = self._compare(path, prev_value, prev_index)
        except V2Error as error:
            self.stats.failed(COMPARE_AND_SWAP, error.code)
            raise
        self.stats.succeeded(COMPARE_AND_SWAP)
        return self._change(COMPARE_AND_SWAP, node, value, expire_ns, now_ns, refresh=refresh)

    def delete(self, path: str, *, directory: bool, recursive: bool, now_ns: int) -> Event:
        """Directories only if asked for (102), and with their contents only `recursive` (108)."""
        path = clean(path)
        try:
            self._refuse_roots(path)
            node = self.tree.find(path, self.index)
            if node.is_dir and not (directory or recursive):
                raise V2Error(errors.NOT_FILE, path, self.index)
            if node.children and not recursive:
                raise V2Error(errors.DIR_NOT_EMPTY, path, self.index)
        except V2Error as error:
            self.stats.failed(DELETE, error.code)
            raise
        self.stats.succeeded(DELETE)
        return self._remove(DELETE, node, now_ns)

    def compare_and_delete(
        self, path: str, prev_value: str, prev_index: int, *, now_ns: int
    ) -> Event:
        """Delete a file if it is as expected. Raises 101, 102 (also for the roots)."""
        try:
            node = self._compare(clean(path), prev_value, prev_index)
        except V2Error as error:
            self.stats.failed(COMPARE_AND_DELETE, error.code)
            raise
        self.stats.succeeded(COMPARE_AND_DELETE)
        return self._remove(COMPARE_AND_DELETE, node, now_ns)

    def delete_expired(self, cutoff_ns: int, now_ns: int) -> list[Event]:
        """SYNC: everything due at `cutoff_ns` goes, the earliest first, each with its own event."""
        events: list[Event] = []
        while (node := self.tree.expiry.due(cutoff_ns)) is not None:
            self.stats.counts["expireCount"] += 1
            events.append(self._remove(EXPIRE, node, now_ns))
        return events

    # -- inside --------------------------------------------------------------------------------

    def _refuse_roots(self, path: str) -> None:
        if path in self._read_only:
            raise V2Error(errors.ROOT_READ_ONLY, "/", self.index)

    def _compare(self, path: str, prev_value: str, prev_index: int) -> Node:
        node = self.tree.find(path, self.index)
        if node.is_dir:
            raise V2Error(errors.NOT_FILE, path, self.index)
        causes: list[str] = []
        if prev_value and prev_value != node.value:
            causes.append(f"[{prev_value} != {node.value}]")
        if prev_index and prev_index != node.modified_index:
            causes.append(f"[{prev_index} != {node.modified_index}]")
        if causes:
            raise V2Error(errors.TEST_FAILED, " ".join(causes), self.index)
        return node

    def _make(
        self,
        action: str,
        path: str,
        value: str | None,
        expire_ns: int,
        now_ns: int,
        *,
        replace: Node | None,
    ) -> Event:
        """A new node, a directory when `value` is None; all refusals come before any change."""
        self._refuse_roots(path)
        if replace is not None and replace.is_dir:
            raise V2Error(errors.NOT_FILE, path, self.index)
        previous = None
        if replace is not None:
            parent, previous = replace.parent, replace.view(now_ns)
        else:
            parent = self._make_parent(path)
        self.index += 1
        if expire_ns < YEAR_2000_NS:
            expire_ns = 0
        node = Node(path, self.index, parent, value=value, expire_ns=expire_ns)
        self.tree.add(node, replace)
        return Event(action, node.view(now_ns), self.index, previous)

    def _make_parent(self, path: str) -> Node:
        """The directory of a new node; raises 104, and 105 if the node is there already."""
        folder, _, name = path.rpartition("/")
        try:
            parent = self.tree.make_dirs(folder, self.index)
        except V2Error as error:
            self.stats.failed(SET, error.code)  # besides the action's own: etcd counts twice
            raise
        assert parent.children is not None
        if name in parent.children:
            raise V2Error(errors.NODE_EXISTS, path, self.index)
        return parent

    def _change(
        self, action: str, node: Node, value: str, expire_ns: int, now_ns: int, *, refresh: bool
    ) -> Event:
        """New value (kept on refresh) and expiry. A directory keeps its index, as in etcd."""
        previous = node.view(now_ns)
        self.index += 1
        if node.children is not None:
            self.tree.set_expiry(node, expire_ns)
            view = node.view(now_ns)
            view.modified_index = self.index
        else:
            value = node.value or "" if refresh else value
            new = Node(node.key, self.index, node.parent, value=value, expire_ns=expire_ns)
            new.created_index = node.created_index
            self.tree.add(new, node)
            view = new.view(now_ns)
        return self._publish(Event(action, view, self.index, previous), refresh=refresh)

    def _remove(self, action: str, node: Node, now_ns: int) -> Event:
        self.index += 1
        view = FullView(node.key, None, self.index, node.created_index)
        view.directory = node.is_dir
        event = Event(action, view, self.index, node.view(now_ns))
        self.tree.remove(node, lambda path: self.hub.notify_removed(event, path))
        return self._publish(event)

    def _publish(self, event: Event, *, refresh: bool = False) -> Event:
        if refresh:
            event.refresh = True
            self.hub.history.add(event)
        else:
            self.hub.notify(event)
        return event
