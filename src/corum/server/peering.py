"""What the node needs of the other members, beside Raft's messages; and a node without any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Headers = list[tuple[str, str]]


class Peering(Protocol):
    """The rooms that talk to other members (`corum.peer`)."""

    def post(
        self,
        member: int,
        path: str,
        headers: Headers,
        body: bytes,
        timeout_ms: int,
        done: Callable[[int, bytes], None],
    ) -> None:
        """POST to a member's peer port; `done(status, body)`, status 0 without an answer."""
        ...

    def active_since(self, member: int) -> int:
        """Since when a member is reachable, in monotonic ns; 0 when it is not."""
        ...

    def versions_of_others(self) -> list[str] | None:
        """The server version of every other member; None while one is not known."""
        ...


class NoPeers:
    """There is nobody else."""

    def post(
        self,
        member: int,
        path: str,
        headers: Headers,
        body: bytes,
        timeout_ms: int,
        done: Callable[[int, bytes], None],
    ) -> None:
        """Nobody answers."""
        done(0, b"")

    def active_since(self, member: int) -> int:
        """Nobody is there."""
        return 0

    def versions_of_others(self) -> list[str] | None:
        """There are none."""
        return []
