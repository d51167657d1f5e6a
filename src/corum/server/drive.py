"""The driver: what Raft is ready for becomes log writes, messages and applied entries.

One log write is under way at a time; what arrives meanwhile is proposed as one batch when it ends.
On "synced" the next write starts first, then the finished batch is applied (DESIGN §2). A lone
proposal takes the short path: written and synced by the calling thread, answered at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from corum.raft import LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, Entry, HardState, Message, RawNode

SHORT_PATH_ENTRIES_MAX: Final = 1
"""Entries in a write that the loop does itself instead of handing it to the log thread."""


class Log(Protocol):
    """The durable log as the driver sees it: the real WAL or the simulator's disk."""

    def write(self, token: int, state: HardState | None, entries: list[Entry], sync: bool) -> None:
        """Start writing; the runtime later reports `token` as synced."""
        ...

    def write_now(self, state: HardState | None, entries: list[Entry], sync: bool) -> None:
        """Write, sync and return; raises OSError."""
        ...


class Driver:
    """Owns the RawNode's obligations; `pump()` until nothing is left to do."""

    def __init__(
        self,
        raft: RawNode,
        log: Log,
        apply: Callable[[list[Entry]], None],
        send: Callable[[list[Message]], None],
        on_snapshot: Callable[[Any], None],
    ) -> None:
        self.raft = raft
        self._log = log
        self._apply = apply
        self._send = send
        self._on_snapshot = on_snapshot
        self._in_flight: dict[int, tuple[Message, ...]] = {}
        self._token = 0
        self._lone = 0
        self.read_states: list[Any] = []

    @property
    def busy(self) -> bool:
        """A log write is under way: hold back proposals, they make the next batch."""
        return bool(self._in_flight)

    def synced(self, token: int) -> None:
        """The write with this token is durable: what waited for it may go on."""
        responses = self._in_flight.pop(token)
        self._deliver(responses)
