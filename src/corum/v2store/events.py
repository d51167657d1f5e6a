"""What a v2 operation answers: an action with the node before and after it, and its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from json.encoder import encode_basestring
from typing import Any, Final

from corum.v2store.gojson import escape_rest, format_time, parse_time

GET: Final = "get"
CREATE: Final = "create"
SET: Final = "set"
UPDATE: Final = "update"
DELETE: Final = "delete"
COMPARE_AND_SWAP: Final = "compareAndSwap"
COMPARE_AND_DELETE: Final = "compareAndDelete"
EXPIRE: Final = "expire"

_VALUE_LEFT_OUT: Final = frozenset((SET, CREATE, UPDATE, COMPARE_AND_SWAP))


class NodeView:
    """A permanent file as clients see it, at one moment. Not changed once it can be seen."""

    __slots__ = ("created_index", "expire_ns", "key", "modified_index", "value")

    directory = False
    ttl_s = 0
    nodes: Sequence[NodeView] = ()

    def __init__(
        self, key: str, value: str | None, modified_index: int, created_index: int
    ) -> None:
        self.key = key
        self.value = value
        self.expire_ns = 0
        self.modified_index = modified_index
        self.created_index = created_index

    def to_json_almost(self, prefix: str) -> str:
        """etcd's field order; `prefix` is cut off the keys; strings still need `escape_rest`."""
        return (
            f'{{"key":{encode_basestring(self.key.removeprefix(prefix))}'
            f',"value":{encode_basestring(self.value or "")}'
            f',"modifiedIndex":{self.modified_index},"createdIndex":{self.created_index}}}'
        )


class FullView(NodeView):
    """Any other node: a directory, one that expires, one that is gone."""

    __slots__ = ("directory", "nodes", "ttl_s")

    def __init__(
        self, key: str, value: str | None, modified_index: int, created_index: int
    ) -> None:
        """`value` None is not shown; a file's empty value is ""."""
        super().__init__(key, value, modified_index, created_index)
        self.directory = False
        self.ttl_s = 0
        self.nodes: Sequence[NodeView] = ()

    def to_json_almost(self, prefix: str) -> str:
        """The same; empty and zero fields are left out."""
        text = "{"
        key = self.key.removeprefix(prefix)
        if key:
            text += f'"key":{encode_basestring(key)},'
        if self.value is not None:
            text += f'"value":{encode_basestring(self.value)},'
        if self.directory:
            text += '"dir":true,'
        if self.expire_ns:
            text += f'"expiration":"{format_time(self.expire_ns)}",'
        if self.ttl_s:
            text += f'"ttl":{self.ttl_s},'
        if self.nodes:
            inner = ",".join([node.to_json_almost(prefix) for node in self.nodes])
            text += f'"nodes":[{inner}],'
        if self.modified_index:
            text += f'"modifiedIndex":{self.modified_index},'
        if self.created_index:
            text += f'"createdIndex":{self.created_index},'
        return text[:-1] + "}" if len(text) > 1 else "{}"


class Event:
    """One operation's outcome. `etcd_index` is for the X-Etcd-Index header."""

    __slots__ = ("action", "etcd_index", "node", "prev_node", "refresh")

    def __init__(
        self, action: str, node: NodeView, etcd_index: int, prev_node: NodeView | None = None
    ) -> None:
        self.action = action
        self.node = node
        self.prev_node = prev_node
        self.etcd_index = etcd_index
        self.refresh = False  # in the history, but no watcher sees it

    @property
    def index(self) -> int:
        return self.node.modified_index

    @property
    def created(self) -> bool:
        """The answer's status is 201."""
        return self.action == CREATE or (self.action == SET and self.prev_node is None)

    def to_json(self, prefix: str = "", *, no_value: bool = False) -> str:
        """The body for a client (etcd adds a newline). `no_value`: noValueOnSuccess=true."""
        if no_value and self.action in _VALUE_LEFT_OUT:
            return f'{{"action":"{self.action}"}}'
        node, before = self.node, self.prev_node
        text = f'{{"action":"{self.action}","node":{node.to_json_almost(prefix)}'
        if before is not None:
            text += f',"prevNode":{before.to_json_almost(prefix)}'
        return escape_rest(text + "}")

    def to_saved_json(self) -> str:
        """As it stands in a snapshot: full keys, and whether it was a refresh."""
        text = self.to_json()
        return text[:-1] + ',"refresh":true}' if self.refresh else text


def load_event(data: dict[str, Any]) -> Event:
    """The inverse of `to_saved_json`. Raises KeyError, TypeError, ValueError on other things."""
    node = _load_view(data["node"])
    event = Event(data["action"], node, node.modified_index)
    if data.get("prevNode") is not None:
        event.prev_node = _load_view(data["prevNode"])
    event.refresh = data.get("refresh", False)
    return event


def _load_view(data: dict[str, Any]) -> NodeView:
    view = FullView(
        data.get("key", ""),
        data.get("value"),
        data.get("modifiedIndex", 0),
        data.get("createdIndex", 0),
    )
    view.directory = data.get("dir", False)
    expiration = data.get("expiration")
    view.expire_ns = parse_time(expiration) if expiration else 0
    view.ttl_s = data.get("ttl", 0)
    view.nodes = [_load_view(each) for each in data.get("nodes", ())]
    return view
