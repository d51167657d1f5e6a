"""The tree of nodes and the order in which they expire. No events, no rules about requests."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from corum.v2store import errors
from corum.v2store.errors import V2Error
from corum.v2store.events import FullView, NodeView

_NS: Final = 1_000_000_000


def clean(path: str) -> str:
    """The absolute path without empty, `.` and `..` components (Go's path.Clean("/" + path))."""
    if path[:1] == "/" and "//" not in path and "/." not in path and path[-1] != "/":
        return path  # as nearly all are
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part and part != ".":
            parts.append(part)
    return "/" + "/".join(parts)


class Node(NodeView):
    """A file (`children` is None) or a directory. `expire_ns` 0 means permanent.

    A file never changes: another one takes its place. So who has seen it may keep it.
    """

    __slots__ = ("children", "name", "parent")

    def __init__(
        self, key: str, index: int, parent: Node | None, *, value: str | None, expire_ns: int = 0
    ) -> None:
        """A directory when `value` is None. The caller puts it among the parent's children."""
        self.key = key
        self.name = key.rpartition("/")[2]
        self.created_index = index
        self.modified_index = index
        self.parent = parent
        self.expire_ns = expire_ns
        self.value = value
        self.children: dict[str, Node] | None = {} if value is None else None

    @property
    def is_dir(self) -> bool:
        return self.children is not None

    @property
    def is_hidden(self) -> bool:
        """Not listed in directories."""
        return self.name.startswith("_")

    def ttl_s(self, now_ns: int) -> int:
        """Whole seconds left, rounded up, negative when overdue; 0 for permanent nodes."""
        return -((now_ns - self.expire_ns) // _NS) if self.expire_ns else 0

    def view(self, now_ns: int, *, depth: int = 0, ordered: bool = False) -> NodeView:
        """As clients see it; with the children of `depth` levels (hidden ones left out)."""
        if self.children is None and not self.expire_ns:
            return self
        view = FullView(self.key, self.value, self.modified_index, self.created_index)
        if self.expire_ns:
            view.expire_ns = self.expire_ns
            view.ttl_s = self.ttl_s(now_ns)
        if self.children is None:
            return view
        view.directory = True
        if depth > 0:
            nodes = [
                child.view(now_ns, depth=depth - 1, ordered=ordered)
                for child in self.children.values()
                if not child.is_hidden
            ]
            if ordered:
                nodes.sort(key=_bytewise)
            view.nodes = nodes
        return view


def _bytewise(view: NodeView) -> bytes:
    return view.key.encode("utf-8", "surrogateescape")


class Tree:
    """All nodes, and those that will expire in the order in which they do."""

    def __init__(self, namespaces: tuple[str, ...]) -> None:
        self.root = Node("/", 0, None, value=None)
        self.expiry = ExpiryQueue()
        assert self.root.children is not None
        for namespace in namespaces:
            node = Node(namespace, 0, self.root, value=None)
            self.root.children[node.name] = node

    def find(self, path: str, index: int) -> Node:
        """The node at a clean path. Raises 100 (first missing part), 104 (a file on the way).

        `index`: what the error reports as the store's index.
        """
        node = self.root
        for name in path.split("/")[1:]:
            if not name:
                break
            if node.children is None:
                raise V2Error(errors.NOT_DIR, node.key, index)
            child = node.children.get(name)
            if child is None:
                missing = f"{node.key.rstrip('/')}/{name}"
                raise V2Error(errors.KEY_NOT_FOUND, missing, index)
            node = child
        return node

    def find_or_none(self, path: str, index: int) -> Node | None:
        """The same, but None for a missing one."""
        node = self.root
        for name in path.split("/")[1:]:
            if not name:
                break
            if node.children is None:
                raise V2Error(errors.NOT_DIR, node.key, index)
            child = node.children.get(name)
            if child is None:
                return None
            node = child
        return node

    def make_dirs(self, path: str, index: int) -> Node:
        """The directory at a clean path, made with all its missing parents at `index` + 1.

        Raises 104 when a part of it is a file; nothing has been made then.
        """
        node = self.root
        for name in path.split("/")[1:]:
            if not name:
                break
            assert node.children is not None
            child = node.children.get(name)
            if child is None:
                child = Node(f"{node.key.rstrip('/')}/{name}", index + 1, node, value=None)
                node.children[name] = child
            elif child.children is None:
                raise V2Error(errors.NOT_DIR, child.key, index)
            node = child
        return node

    def add(self, node: Node, replaced: Node | None = None) -> None:
        """Put a node among its parent's children, in the place of a file or of nothing."""
        assert node.parent is not None
        children = node.parent.children
        assert children is not None
        assert children.get(node.name) is replaced
        if replaced is not None and replaced.expire_ns:
            self.expiry.forget(replaced)
        children[node.name] = node
        if node.expire_ns:
            self.expiry.update(node)

    def remove(self, node: Node, removed: Callable[[str], None] | None = None) -> None:
        """Take out a node with all below it, deepest first; `removed` hears every path."""
        if node.children is not None:
            for child in list(node.children.values()):
                self.remove(child, removed)
        if node.parent is not None:
            assert node.parent.children is not None
            assert node.parent.children[node.name] is node
            del node.parent.children[node.name]
        self.expiry.forget(node)
        if removed is not None:
            removed(node.key)

    def set_expiry(self, node: Node, expire_ns: int) -> None:
        node.expire_ns = expire_ns
        self.expiry.update(node)


class ExpiryQueue:
    """Nodes with a TTL, the earliest first and equal ones by path: the same on every member.

    Each node has at most one entry that counts; older ones are skipped and swept in time.
    """

    __slots__ = ("_count", "_heap", "_live")

    def __init__(self) -> None:
        self._heap: list[tuple[int, str, int, Node]] = []
        self._live: dict[Node, int] = {}  # node -> number of the entry that counts
        self._count = 0

    def __len__(self) -> int:
        return len(self._live)

    def update(self, node: Node) -> None:
        """`node.expire_ns` is new or has changed."""
        if not node.expire_ns:
            self._live.pop(node, None)
            return
        self._count += 1
        self._live[node] = self._count
        heappush(self._heap, (node.expire_ns, node.key, self._count, node))
        if len(self._heap) > 2 * len(self._live) + 64:
            self._heap = [each for each in self._heap if self._live.get(each[3]) == each[2]]
            heapify(self._heap)

    def forget(self, node: Node) -> None:
        self._live.pop(node, None)

    def due(self, cutoff_ns: int) -> Node | None:
        """The next node that expires at or before `cutoff_ns`; it stays until it is forgotten."""
        heap = self._heap
        while heap:
            expire_ns, _, number, node = heap[0]
            if self._live.get(node) != number:
                heappop(heap)
            elif expire_ns > cutoff_ns:
                return None
            else:
                return node
        return None
