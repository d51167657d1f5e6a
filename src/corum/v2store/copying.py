"""What a copy of the v2 key space into v3 keys takes along, from a tree or from the API's JSON.

Files become keys under their own path, directories nothing. A v3 key has one lease, so a file in
directories with a TTL gets the earliest end of them all. Order is that of the last changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from corum.v2store.gojson import parse_time
from corum.v2store.tree import Node
from corum.values import value

_NS: Final = 1_000_000_000


@value
class Copied:
    """One file."""

    path: str  # as clients know it
    value: str
    index: int  # of its last change
    expire_ns: int  # unix time; 0: never


def of_tree(root: Node, prefix: str) -> list[Copied]:
    """All files below `root`, hidden ones too; `prefix` is cut off their paths."""
    found: list[Copied] = []
    stack = [(root, 0)]
    while stack:
        node, limit_ns = stack.pop()
        expire_ns = _earliest(node.expire_ns, limit_ns)
        if node.children is None:
            path = node.key.removeprefix(prefix)
            found.append(Copied(path, node.value or "", node.modified_index, expire_ns))
        else:
            stack += [(child, expire_ns) for child in node.children.values()]
    return sorted(found, key=_place)


def of_json(root: Mapping[str, Any]) -> list[Copied]:
    """All files in the `node` of a recursive get; hidden ones are not in such an answer."""
    found: list[Copied] = []
    stack: list[tuple[Mapping[str, Any], int]] = [(root, 0)]
    while stack:
        node, limit_ns = stack.pop()
        expiration = node.get("expiration")
        expire_ns = _earliest(parse_time(expiration) if expiration else 0, limit_ns)
        if node.get("dir"):
            stack += [(child, expire_ns) for child in node.get("nodes", ())]
        elif "key" in node:
            text = node.get("value", "")
            found.append(Copied(node["key"], text, node["modifiedIndex"], expire_ns))
    return sorted(found, key=_place)


def leases(keys: Iterable[Copied]) -> list[int]:
    """Unix seconds at which keys end, ascending: one lease for all of a second, never too early."""
    return sorted({end_s(key) for key in keys if key.expire_ns})


def end_s(key: Copied) -> int:
    """The second at whose beginning a key's lease ends."""
    return -(-key.expire_ns // _NS)


def _earliest(one_ns: int, other_ns: int) -> int:
    return min(one_ns, other_ns) if one_ns and other_ns else one_ns or other_ns


def _place(key: Copied) -> tuple[int, str]:
    return key.index, key.path
