"""A log that keeps nothing: for members in memory, whose state ends with the process."""

from __future__ import annotations

from collections.abc import Callable

from corum.raft import Entry, HardState, Snapshot


class MemoryLog:
    """Everything is durable at once, as far as this member's short life goes."""

    ready = True
    idle = True
    prompt = True
    stuck = False

    def __init__(self) -> None:
        self.full: Callable[[str | None], None] = lambda error: None
        self.slow: Callable[[int], None] = lambda took_ns: None

    def write(self, token: int, state: HardState | None, entries: list[Entry], sync: bool) -> bool:
        """Nothing to wait for."""
        return False

    def write_now(
        self, token: int, state: HardState | None, entries: list[Entry], sync: bool
    ) -> bool:
        """Nothing to do."""
        return True

    def retry(self, now_ns: int) -> None:
        """Nothing fails."""

    def synced(self, token: int, error: str | None, took_ns: int) -> bool:
        """Never called."""
        return True

    def save(self, snapshot: Snapshot) -> None:
        """Nothing to keep."""

    def record(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        """Noted."""
        done()
