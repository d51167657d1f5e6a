"""The whole store as the JSON that etcd keeps in a `.snap` file (v2-store.md §13), and back.

Saving has two halves: `capture` on the loop copies what may change, `Captured.encode` may run in a
worker thread. Waiters are not saved.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeAlias

from corum.v2store.events import Event, load_event
from corum.v2store.gojson import format_time, parse_time, quote
from corum.v2store.history import EventHistory
from corum.v2store.stats import Stats
from corum.v2store.store import Store
from corum.v2store.tree import Node, Tree

CURRENT_VERSION: Final = 2

_Copy: TypeAlias = tuple[str, int, int, int, str, "list[tuple[str, _Copy]] | None"]
"""Path, created, modified, expiry, value, children."""


class Captured:
    """A store at one moment, immutable."""

    __slots__ = ("_events", "_head", "_root", "_tail")

    def __init__(self, store: Store) -> None:
        history = store.hub.history
        self._root = _copy(store.tree.root)
        self._events = list(history.events)
        self._tail = (
            f',"Size":{history.size},"Front":{history.front},"Back":{history.back}'
            f',"Capacity":{len(history.events)}}},"StartIndex":{history.start_index}'
            f',"LastIndex":{history.last_index}}}}},"CurrentIndex":{store.index}'
            f',"Stats":{store.stats.to_json()},"CurrentVersion":{CURRENT_VERSION}}}'
        )

    def encode(self) -> bytes:
        """The bytes that etcd would write."""
        parts = ['{"Root":']
        _encode_node(self._root, parts)
        parts.append(',"WatcherHub":{"EventHistory":{"Queue":{"Events":[')
        parts.append(",".join([_encode_event(event) for event in self._events]))
        parts.append("]")
        parts.append(self._tail)
        return "".join(parts).encode()


def capture(store: Store) -> Captured:
    """What is needed to save the store later; costs a copy of the tree's shape."""
    return Captured(store)


def recover(store: Store, data: bytes) -> None:
    """Replace everything in `store`. Raises ValueError when `data` is not such a snapshot.

    All waiters are removed: what happened in between is unknown, their clients start over.
    """
    try:
        saved = json.loads(data)
        history = _load_history(saved["WatcherHub"]["EventHistory"])
        tree = Tree(())
        tree.root = _load_node(saved["Root"], None, tree)
        stats = Stats(saved["Stats"])
        index = int(saved["CurrentIndex"])
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a v2 store snapshot: {error!r}") from error
    store.tree = tree
    store.index = index
    store.stats = stats
    store.hub.history = history
    store.hub.remove_all()


def _copy(node: Node) -> _Copy:
    children = None
    if node.children is not None:
        children = [(name, _copy(child)) for name, child in node.children.items()]
    return (
        node.path,
        node.created_index,
        node.modified_index,
        node.expire_ns,
        node.value,
        children,
    )


def _encode_node(node: _Copy, parts: list[str]) -> None:
    path, created, modified, expire_ns, value, children = node
    parts.append(
        f'{{"Path":{quote(path)},"CreatedIndex":{created},"ModifiedIndex":{modified}'
        f',"ExpireTime":"{format_time(expire_ns)}","Value":{quote(value)},"Children":'
    )
    if children is None:
        parts.append("null}")
        return
    comma = "{"
    for name, child in sorted(
        children, key=lambda item: item[0].encode("utf-8", "surrogateescape")
    ):
        parts.append(f"{comma}{quote(name)}:")
        _encode_node(child, parts)
        comma = ","
    parts.append("}}" if children else "{}}")


def _encode_event(event: Event | None) -> str:
    return "null" if event is None else event.to_saved_json()


def _load_node(saved: dict[str, Any], parent: Node | None, tree: Tree) -> Node:
    children = saved["Children"]
    node = Node(
        saved["Path"],
        saved["CreatedIndex"],
        parent,
        value=saved["Value"] if children is None else None,
        expire_ns=parse_time(saved["ExpireTime"]),
    )
    node.modified_index = saved["ModifiedIndex"]
    if children is not None:
        node.children = {name: _load_node(child, node, tree) for name, child in children.items()}
    tree.expiry.update(node)
    return node


def _load_history(saved: dict[str, Any]) -> EventHistory:
    queue = saved["Queue"]
    history = EventHistory(queue["Capacity"])
    history.events = [None if each is None else load_event(each) for each in queue["Events"]]
    if len(history.events) != queue["Capacity"] or queue["Size"] > queue["Capacity"]:
        raise ValueError(f"not a v2 store snapshot: {len(history.events)} events in the history")
    history.size = queue["Size"]
    history.front = queue["Front"]
    history.back = queue["Back"]
    history.start_index = saved["StartIndex"]
    history.last_index = saved["LastIndex"]
    return history
