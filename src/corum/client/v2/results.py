"""What a v2 call gives back: a node of the tree with what happened to it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ETCD_INDEX = "x-etcd-index"
RAFT_INDEX = "x-raft-index"


class EtcdResult:
    """A key or directory. `action` says what was done ("get", "set", "expire", ...).

    `ttl` seconds are left, until `expiration` (a time as text); None: it stays. `createdIndex` and
    `modifiedIndex` count changes of the whole tree; `etcd_index` is where the tree was when the
    member answered. `prev_node`, where etcd tells it, is what was there before.
    """

    def __init__(
        self,
        action: str | None = None,
        node: Mapping[str, Any] | None = None,
        prevNode: Mapping[str, Any] | None = None,
    ) -> None:
        found = node or {}
        self.action = action
        self.key: str | None = found.get("key", "/" if found else None)  # the root has no name
        self.value: str | None = found.get("value")
        self.expiration: str | None = found.get("expiration")
        self.ttl: int | None = found.get("ttl")
        self.modifiedIndex: int | None = found.get("modifiedIndex")
        self.createdIndex: int | None = found.get("createdIndex")
        self.dir: bool = bool(found.get("dir", False))
        self.newKey: bool = False
        self.etcd_index: int = 0
        self.raft_index: int = 0
        self._nodes: list[Mapping[str, Any]] = list(found.get("nodes") or ())
        self._prev_node = EtcdResult(None, prevNode) if prevNode else None

    def parse_headers(self, status: int, headers: Mapping[str, str]) -> None:
        """Take in what the answer says beside its body; `headers` have lower-case names."""
        self.etcd_index = int(headers.get(ETCD_INDEX, 0))
        self.raft_index = int(headers.get(RAFT_INDEX, 0))
        self.newKey = status == 201

    @property
    def prev_node(self) -> EtcdResult | None:
        return self._prev_node

    @property
    def leaves(self) -> Iterator[EtcdResult]:
        """Keys and empty directories below, at any depth that was read; a key gives itself."""
        return self.get_subtree(leaves_only=True)

    @property
    def children(self) -> Iterator[EtcdResult]:
        """The older name of `leaves`."""
        return self.leaves

    def get_subtree(self, leaves_only: bool = False) -> Iterator[EtcdResult]:
        """This node and everything below it that was read, parents first."""
        if not self._nodes:
            yield self
            return
        if not leaves_only:
            yield self
        for node in self._nodes:
            yield from EtcdResult(None, node).get_subtree(leaves_only=leaves_only)

    def __len__(self) -> int:
        """Direct children; 1 for a key. So a found node is true unless it is an empty directory."""
        return len(self._nodes) if self.dir else 1

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EtcdResult):
            return NotImplemented
        mine, theirs = dict(self.__dict__), dict(other.__dict__)
        for told in ("etcd_index", "raft_index"):  # of the answer, not of the node
            del mine[told], theirs[told]
        return mine == theirs

    __hash__ = None  # type: ignore[assignment]  # it can be changed

    def __repr__(self) -> str:
        return (
            f"EtcdResult(action={self.action!r}, key={self.key!r}, value={self.value!r}, "
            f"dir={self.dir}, ttl={self.ttl}, modifiedIndex={self.modifiedIndex})"
        )
