"""The driver: what Raft is ready for becomes log writes, messages and applied entries.

One log write is under way at a time; what arrives meanwhile is proposed as one batch when it ends.
On "synced" the next write starts first, then the finished batch is applied (DESIGN §2). A lone
entry, our own or a leader's, takes the short path: written and synced by the calling thread,
answered at once. While a segment is cut writes wait, everything else goes on, heartbeats first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from corum.raft import (
    APPEND_THREAD,
    APPLY_THREAD,
    Entry,
    HardState,
    MemoryStorage,
    Message,
    MessageType,
    ProposalDropped,
    RawNode,
    ReadState,
    RoleChange,
    Snapshot,
    SoftState,
)
from corum.server.proposals import Proposals

LONE_ENTRIES_MAX: Final = 1
"""Entries in a write that the loop does itself instead of handing it to the log thread."""
LONE_STREAK: Final = 1
"""Such writes in a row before the short path is taken: the next client may be on its way."""


NOTHING: Final = Message(MessageType.STORAGE_APPEND)
WITH_THE_LAST: Final = 0
"""In place of a token: nothing to write, durable as soon as the write before it is."""


class Log(Protocol):
    """The durable log as the driver sees it: the real WAL or the simulator's disk."""

    full: Callable[[str | None], None]
    """Told when the disk is full (the error), and when it is not any more (None)."""
    slow: Callable[[int], None]
    """Told of a sync that took very long (ns)."""

    @property
    def ready(self) -> bool:
        """Would a write start now? False while a segment is cut."""
        ...

    @property
    def stuck(self) -> bool:
        """Is there no room on the disk? Then a member keeps silent, so that others may lead."""
        ...

    @property
    def idle(self) -> bool:
        """Is nothing being written, and nothing in the way?"""
        ...

    def write(self, token: int, state: HardState | None, entries: list[Entry], sync: bool) -> bool:
        """Write, at once or when the segment is cut; False when there is nothing to write.

        `token` is reported when synced."""
        ...

    def write_now(
        self, token: int, state: HardState | None, entries: list[Entry], sync: bool
    ) -> bool:
        """Write and sync at once, only while nothing is under way; False: `token` is reported."""
        ...

    def retry(self, now_ns: int) -> None:
        """Every tick: write again what the disk had no room for."""
        ...

    def synced(self, token: int, error: str | None, took_ns: int) -> bool:
        """A started write ended; False when it failed: it is repeated, or the member stops."""
        ...


class Machine(Protocol):
    """Who gets what Raft decides."""

    def apply(self, entries: list[Entry]) -> None: ...
    def keep_snapshot(self, snapshot: Snapshot) -> None:
        """A leader's snapshot is to be installed: make it durable, change nothing yet."""
        ...

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """It is durable: be it."""
        ...

    def send(self, messages: list[Message]) -> None: ...
    def soft_state_changed(self, state: SoftState) -> None: ...
    def roles_changed(self, changes: list[RoleChange]) -> None: ...
    def read_confirmed(self, state: ReadState) -> None: ...


class Driver:
    """Fulfils the RawNode's obligations; `pump()` goes on until nothing is left to do."""

    def __init__(
        self, raft: RawNode, storage: MemoryStorage, log: Log, machine: Machine, local: int
    ) -> None:
        self.raft = raft
        self.storage = storage
        self._log = log
        self._machine = machine
        self._local = local
        self._in_flight: deque[tuple[int, Message]] = deque()
        self._token = 0
        self._streak = 0
        self.halted = False
        """The state cannot be written, though the log can: keep silent, as without room for it."""
        self._unsaved: HardState | None = None
        """A commit index that travels with the next write (etcd writes it at once, unsynced)."""

    @property
    def busy(self) -> bool:
        """A log write is under way: hold back proposals, they make the next batch."""
        return bool(self._in_flight)

    @property
    def wants_turn(self) -> bool:
        """There is work that only waits for the next turn."""
        return not (self._log.stuck or self.halted) and self.raft.has_ready()

    def synced(self, token: int, error: str | None, took_ns: int) -> None:
        """The write with this token is durable: what waited for it may go on."""
        if not self._log.synced(token, error, took_ns):
            return
        if not self._in_flight or self._in_flight[0][0] != token:
            return  # a record of ours that Raft does not know of
        _, message = self._in_flight.popleft()
        self._durable(message)
        while self._in_flight and self._in_flight[0][0] == WITH_THE_LAST:
            self._durable(self._in_flight.popleft()[1])

    def flush_state(self) -> None:
        """Write the commit index that waits for company: a snapshot record must not run ahead."""
        if self._unsaved is not None:
            state, self._unsaved = self._unsaved, None
            self._token += 1
            if self._log.write(self._token, state, [], False):
                self._in_flight.append((self._token, NOTHING))

    def pump(self, proposals: Proposals) -> None:
        """Propose what is queued (unless a write is under way) and do what follows."""
        log, raft = self._log, self.raft
        if proposals.queued and not (self._in_flight or proposals.held) and log.ready:
            batch = proposals.take()
            try:
                raft.propose(batch)
            except ProposalDropped:
                proposals.queued = batch + proposals.queued  # until there is a leader, or too late
                self._streak = 0
        while raft.has_ready() and not (log.stuck or self.halted):
            if not self._turn():
                return

    def _turn(self) -> bool:
        """One Ready; False when the rest has to wait for the log."""
        ready = self.raft.ready()
        machine = self._machine
        if ready.soft_state is not None:
            machine.soft_state_changed(ready.soft_state)
        if ready.role_changes:
            machine.roles_changed(list(ready.role_changes))
        apply: list[Message] = []
        append: list[Message] = []
        away: list[Message] = []
        for message in ready.messages:
            if message.to == APPEND_THREAD:
                append.append(message)
            elif message.to == APPLY_THREAD:
                apply.append(message)
            elif message.to == self._local:
                self.raft.step(message)
            else:
                away.append(message)
        if away:
            machine.send(away)  # before our own write: the others write at the same time
        for message in append:
            self._append(message)
        for message in apply:
            machine.apply(list(message.entries))
            self._deliver(message)
        for state in ready.read_states:
            machine.read_confirmed(state)
        return True

    def _append(self, message: Message) -> None:
        """Persist what a STORAGE_APPEND holds, then deliver its responses."""
        entries = list(message.entries)
        state = hard_state_of(message) or self._unsaved
        if message.snapshot is not None:
            self._machine.keep_snapshot(message.snapshot)
        elif not entries and not message.responses:
            self._unsaved = state  # a new commit index alone: nothing depends on it
            return
        self._unsaved = None
        alone = len(entries) <= LONE_ENTRIES_MAX and not self._in_flight
        lone = alone and self._streak >= LONE_STREAK and self._log.idle
        if entries:
            self._streak = self._streak + 1 if alone else 0
        self._token += 1
        sync = bool(message.responses) or bool(entries)
        if lone:
            done = self._log.write_now(self._token, state, entries, sync)
        else:
            done = not self._log.write(self._token, state, entries, sync)
            if done and self._in_flight:  # what it promises is on its way to the disk
                self._in_flight.append((WITH_THE_LAST, message))
                return
        if done:
            self._durable(message)
        else:
            self._in_flight.append((self._token, message))

    def _durable(self, message: Message) -> None:
        if message.snapshot is not None:
            self._machine.apply_snapshot(message.snapshot)
            self.storage.apply_snapshot(message.snapshot)
        if message.entries:
            self.storage.append(list(message.entries))
        state = hard_state_of(message)
        if state is not None:
            self.storage.set_hard_state(state)
        self._deliver(message)

    def _deliver(self, message: Message) -> None:
        away = [m for m in message.responses if m.to != self._local]
        for response in message.responses:
            if response.to == self._local:
                self.raft.step(response)
        if away:
            self._machine.send(away)


def hard_state_of(message: Message) -> HardState | None:
    """The hard state a STORAGE_APPEND carries in its term, vote and commit; None when unchanged."""
    if not (message.term or message.vote or message.commit):
        return None
    return HardState(message.term, message.vote, message.commit)
