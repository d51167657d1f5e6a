"""The driver: what Raft is ready for becomes log writes, messages and applied entries.

One log write is under way at a time. What arrives meanwhile is one batch when it ends: requests of
our own clients, those that other members forward to a leader, entries that a leader sends. On
"synced" the next write starts first, then the finished batch is applied (DESIGN §2). A lone
entry, our own or a leader's, takes the short path: written and synced by the calling thread,
answered at once. While a segment is cut writes wait, everything else goes on, heartbeats first.
Messages leave once per turn, before anything that takes time.
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
    ProposalDropped,
    RaftError,
    RawNode,
    ReadState,
    RoleChange,
    Snapshot,
    SoftState,
    merged,
)
from corum.server.proposals import Proposals

LONE_ENTRIES_MAX: Final = 1
"""Entries in a write that the loop does itself instead of handing it to the log thread."""
LONE_STREAK: Final = 1
"""Such writes in a row before the short path is taken: the next client may be on its way."""


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

    @property
    def prompt(self) -> bool:
        """Idle, and so quick lately that the loop may wait for it? A slow disk must not hold up
        heartbeats."""
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
        self._in_flight: deque[tuple[int, list[Message]]] = deque()
        """What is being written, by token: the work that each write fulfils, in order."""
        self._waiting: list[Message] = []
        """The next write: STORAGE_APPENDs that came while one was under way. Raft bounds them by
        what it sends unacknowledged, and by what it keeps unapplied."""
        self._outgoing: list[Message] = []
        """Leaves with the next `_flush`."""
        self._token = 0
        self._streak = 0
        self.halted = False
        """The state cannot be written, though the log can: keep silent, as without room for it."""
        known = storage.initial_state()[0]
        self._promised = (known.term, known.vote)
        """Term and vote as last written."""
        self._unsaved: HardState | None = None
        """The newest state, if it is not written: a commit index travels with the next write
        (etcd writes it at once, unsynced)."""

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
        self._done(self._in_flight.popleft()[1])
        while self._in_flight and self._in_flight[0][0] == WITH_THE_LAST:
            self._done(self._in_flight.popleft()[1])
        if not self._in_flight:
            self._write_waiting()

    def flush_state(self) -> None:
        """Write the commit index that waits for company: a snapshot record must not run ahead."""
        self._write_waiting()
        if self._unsaved is not None:
            self._write([])

    def pump(self, proposals: Proposals) -> None:
        """Propose what is queued (unless a write is under way) and do what follows."""
        log, raft = self._log, self.raft
        if (
            (proposals.queued or proposals.forwarded)
            and not self._in_flight
            and log.ready
            and raft.takes_proposals
        ):
            self._propose(proposals)
        while raft.has_ready() and not (log.stuck or self.halted):
            self._turn()
        self._flush()
        if self._unsaved is not None and not self._in_flight and raft.raft.peers:
            self._note_commit()

    def _propose(self, proposals: Proposals) -> None:
        """All that waits, as one batch; what Raft does not take waits on: it is in no log."""
        own = [] if proposals.held else proposals.take()
        forwarded = proposals.take_forwarded()
        if forwarded and self.raft.is_leader:
            batch = [Entry(type=e.type, data=e.data) for _, m in forwarded for e in m.entries]
            try:
                self.raft.propose(own + batch)
            except ProposalDropped:
                pass  # too much together perhaps: one by one
            else:
                return
        if own:
            try:
                self.raft.propose(own)
            except ProposalDropped:
                proposals.queued = own + proposals.queued  # until there is a leader, or too late
                self._streak = 0
        for waits in forwarded:
            try:
                self.raft.step(waits[1])
            except ProposalDropped:
                proposals.put_back(waits)
            except RaftError:
                proposals.refused_total += 1  # who sent it waits in vain, as with etcd

    def _turn(self) -> None:
        """One Ready."""
        ready = self.raft.ready()
        machine = self._machine
        if ready.soft_state is not None:
            machine.soft_state_changed(ready.soft_state)
        if ready.role_changes:
            machine.roles_changed(list(ready.role_changes))
        apply: list[Message] = []
        append: list[Message] = []
        outgoing = self._outgoing
        for message in ready.messages:
            if message.to == APPEND_THREAD:
                append.append(message)
            elif message.to == APPLY_THREAD:
                apply.append(message)
            elif message.to == self._local:
                self.raft.step(message)
            else:
                outgoing.append(message)
        self._flush()  # before our own write: the others write at the same time
        for message in append:
            self._append(message)
        if apply:
            self._flush()
        for message in apply:
            machine.apply(list(message.entries))
            self._deliver(message)
        for state in ready.read_states:
            machine.read_confirmed(state)

    def _append(self, message: Message) -> None:
        """Persist what a STORAGE_APPEND holds, then deliver its responses."""
        if message.snapshot is not None:
            self._write_waiting()  # in the log they stand before its record, and its state behind
        state = hard_state_of(message)
        if state is not None:
            self._unsaved = state
        if message.snapshot is not None:
            assert state is not None, "a snapshot is committed, which its state has to say"
            self._machine.keep_snapshot(message.snapshot)
            self._write([message])
        elif not message.entries and not message.responses:
            return  # nothing depends on it
        elif self._waiting:
            self._waiting.append(message)
        elif message.entries or self._promises:
            if self._in_flight:
                self._waiting.append(message)
            else:
                alone = len(message.entries) <= LONE_ENTRIES_MAX
                here = alone and self._streak >= LONE_STREAK and self._log.prompt
                if message.entries:
                    self._streak = self._streak + 1 if alone else 0
                self._write([message], here=here)
        elif self._in_flight:
            self._in_flight.append((WITH_THE_LAST, [message]))
        else:
            self._durable(message)

    @property
    def _promises(self) -> bool:
        """Is there a term or a vote that is not written?"""
        state = self._unsaved
        return state is not None and (state.term, state.vote) != self._promised

    def _note_commit(self) -> None:
        """The log has nothing else to do: a new commit index goes to the page cache, before anybody
        hears of what was committed. Alone, the last member of a cluster knows it by no other way
        (`--force-new-cluster`)."""
        if self._log.idle and not (self._promises or self._log.stuck or self.halted):
            self._write([], here=True)

    def _write_waiting(self) -> None:
        if self._waiting:
            group, self._waiting = self._waiting, []
            self._streak = 0
            self._write(group)

    def _write(self, group: list[Message], *, here: bool = False) -> None:
        """One write for all of `group`, with the newest state; `here`: by this thread, now."""
        entries = [entry for message in group for entry in message.entries]
        sync = bool(group) or self._promises
        state, self._unsaved = self._unsaved, None
        if state is not None:
            self._promised = (state.term, state.vote)
        self._token += 1
        if here:
            done = self._log.write_now(self._token, state, entries, sync)
        else:
            done = not self._log.write(self._token, state, entries, sync)
        if not done:
            self._in_flight.append((self._token, group))
        elif self._in_flight:  # nothing to write: what it promises is on its way to the disk
            self._in_flight.append((WITH_THE_LAST, group))
        else:
            self._done(group)

    def _done(self, group: list[Message]) -> None:
        for message in group:
            self._durable(message)

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
        for response in message.responses:
            if response.to == self._local:
                self.raft.step(response)
            else:
                self._outgoing.append(response)

    def _flush(self) -> None:
        if self._outgoing:
            self._machine.send(merged(self._outgoing))
            self._outgoing.clear()


def hard_state_of(message: Message) -> HardState | None:
    """The hard state a STORAGE_APPEND carries in its term, vote and commit; None when unchanged."""
    if not (message.term or message.vote or message.commit):
        return None
    return HardState(message.term, message.vote, message.commit)
