"""The whole store as the JSON that etcd keeps in a `.snap` file (v2-store.md §13), and back.

Saving has two halves: `capture` on the loop copies what may change, `Captured.encode` may run in a
worker thread. Waiters are not saved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from json.encoder import encode_basestring
from typing import Any, Final, TypeAlias

from corum.v2store.events import Event, load_event
from corum.v2store.gojson import escape_rest, format_time, parse_time
from corum.v2store.history import EventHistory
from corum.v2store.stats import Stats
from corum.v2store.store import Store
from corum.v2store.tree import Node, Tree

CURRENT_VERSION: Final = 2
PIECE_CHARACTERS: Final = 64 * 1024
"""About so much of the JSON is a string at a time."""

_Directory: TypeAlias = tuple[str, list[Node], "dict[Node, _Directory]"]
"""JSON of its own fields, children, copies of those that are directories: files do not change."""


class Captured:
    """A store at one moment, immutable."""

    __slots__ = ("_events", "_root", "_tail")

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
        encoded = bytearray()
        for text in self._texts():  # strings for all of it at once would take many times the room
            encoded += escape_rest(text).encode()
        return bytes(encoded)

    def _texts(self) -> Iterator[str]:
        yield '{"Root":'
        yield from _node_texts(self._root)
        yield ',"WatcherHub":{"EventHistory":{"Queue":{"Events":['
        yield ",".join([_event_text(event) for event in self._events])
        yield "]" + self._tail


def capture(store: Store) -> Captured:
    """What is needed to save the store later; costs lists of what directories hold."""
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


def _copy(directory: Node) -> _Directory:
    assert directory.children is not None
    children = list(directory.children.values())
    copies = {child: _copy(child) for child in children if child.children is not None}
    return _head_text(directory), children, copies


def _node_texts(directory: _Directory) -> Iterator[str]:
    """Its JSON, in pieces that still need `escape_rest`."""
    head, children, copies = directory
    text = head + "{"
    comma = ""
    for child in sorted(children, key=_bytes_of_name):
        text += f"{comma}{encode_basestring(child.name)}:"
        comma = ","
        copy = copies.get(child)
        if copy is None:
            text += _head_text(child) + "null}"
        else:
            yield text
            yield from _node_texts(copy)
            text = ""
        if len(text) > PIECE_CHARACTERS:
            yield text
            text = ""
    yield text + "}}"


def _head_text(node: Node) -> str:
    return (
        f'{{"Path":{encode_basestring(node.key)},"CreatedIndex":{node.created_index}'
        f',"ModifiedIndex":{node.modified_index},"ExpireTime":"{format_time(node.expire_ns)}"'
        f',"Value":{encode_basestring(node.value or "")},"Children":'
    )


def _bytes_of_name(node: Node) -> bytes:
    return node.name.encode("utf-8", "surrogateescape")


def _event_text(event: Event | None) -> str:
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
