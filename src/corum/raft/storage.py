"""What Raft reads of the durable log, and the in-memory log that members use in production.

The WAL holds the bytes; `MemoryStorage` holds the same entries after the last compaction for
Raft to read. The driver writes to it (`append`, `apply_snapshot`, `set_hard_state`) once the WAL
has the data, and compacts it after a snapshot.
"""

from __future__ import annotations

from typing import Final, Protocol

from corum.raft.messages import (
    ENTRY_OVERHEAD_BYTES,
    NO_LIMIT,
    ConfState,
    Entry,
    HardState,
    RaftError,
    Snapshot,
    payload_bytes,
)

_CHUNK: Final = 512
"""Entries measured at once when a slice must fit a number of bytes."""


class StorageError(RaftError):
    """The log cannot give what was asked for."""


class Compacted(StorageError):
    """The index is before the first one kept: a follower that needs it gets a snapshot."""


class Unavailable(StorageError):
    """The index is after the last one."""


class SnapshotOutOfDate(StorageError):
    """A snapshot at the same or a later index is already there."""


class SnapshotTemporarilyUnavailable(StorageError):
    """The application is still preparing a snapshot: Raft asks again later."""


class LogStorage(Protocol):
    """The durable part of the log. Raft only reads it, between two calls of the driver."""

    def initial_state(self) -> tuple[HardState, ConfState]:
        """As of the last start: the hard state and the configuration at the snapshot."""
        ...

    def entries(self, lo: int, hi: int, bytes_max: int = NO_LIMIT) -> list[Entry]:
        """Entries lo <= index < hi that fit `bytes_max`, at least one. Raises Compacted."""
        ...

    def term(self, index: int) -> int:
        """Term of `index`, also of the one before the first. Raises Compacted, Unavailable."""
        ...

    def first_index(self) -> int: ...

    def last_index(self) -> int: ...

    def snapshot(self) -> Snapshot:
        """The newest one, to be sent. Raises SnapshotTemporarilyUnavailable.

        A driver may put a newer one into the SNAP message. It must: a member that was added since
        would ignore, again and again, a snapshot whose configuration does not name it.
        """
        ...


class MemoryStorage:
    """A LogStorage in a list. Entries go in and come out by identity.

    Invariant: `_entries[i].index == _before + 1 + i`; `_before` is the last compacted index (0 in
    a new log), `_before_term` its term.
    """

    __slots__ = ("_before", "_before_term", "_entries", "_hard_state", "_snapshot")

    def __init__(self) -> None:
        self._before = 0
        self._before_term = 0
        self._entries: list[Entry] = []
        self._hard_state = HardState()
        self._snapshot = Snapshot()

    def initial_state(self) -> tuple[HardState, ConfState]:
        return self._hard_state, self._snapshot.conf_state

    def set_hard_state(self, hard_state: HardState) -> None:
        """Remember what the WAL has; read again only by a new RawNode."""
        self._hard_state = hard_state

    def first_index(self) -> int:
        return self._before + 1

    def last_index(self) -> int:
        return self._before + len(self._entries)

    def term(self, index: int) -> int:
        place = index - self._before - 1
        if place < 0:
            if place == -1:
                return self._before_term
            raise Compacted(f"index {index} is before the first one, {self._before + 1}")
        if place >= len(self._entries):
            raise Unavailable(f"index {index} is after the last one, {self.last_index()}")
        return self._entries[place].term

    def entries(self, lo: int, hi: int, bytes_max: int = NO_LIMIT) -> list[Entry]:
        start = lo - self._before - 1
        if start < 0:
            raise Compacted(f"index {lo} is before the first one, {self._before + 1}")
        stop = hi - self._before - 1
        assert stop <= len(self._entries), f"entries up to {hi} asked, last {self.last_index()}"
        return fitting(self._entries, start, stop, bytes_max)

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def append(self, entries: list[Entry]) -> None:
        """Put `entries` (consecutive) into the log; they replace what is at and after the first.

        Entries at compacted indexes are skipped: they are in the snapshot.
        """
        if not entries:
            return
        place = entries[0].index - self._before - 1
        if place == len(self._entries):
            self._entries += entries
            return
        assert place < len(self._entries), (
            f"gap: log ends at {self.last_index()}, entries start at {entries[0].index}"
        )
        if place < 0:
            entries = entries[-place:]
            place = 0
            if not entries:
                return
        self._entries[place:] = entries

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Replace the whole log by a snapshot from the leader. Raises SnapshotOutOfDate."""
        if snapshot.index <= self._snapshot.index:
            raise SnapshotOutOfDate(f"have {self._snapshot.index}, offered {snapshot.index}")
        self._snapshot = snapshot
        self._before = snapshot.index
        self._before_term = snapshot.term
        self._entries = []

    def create_snapshot(
        self, index: int, conf_state: ConfState | None, data: bytes = b""
    ) -> Snapshot:
        """Remember the application's state at `index` as the snapshot; the log stays as it is.

        `conf_state` None keeps the configuration of the snapshot before. Raises SnapshotOutOfDate.
        """
        if index <= self._snapshot.index:
            raise SnapshotOutOfDate(f"have {self._snapshot.index}, offered {index}")
        assert index <= self.last_index(), f"snapshot at {index}, log ends at {self.last_index()}"
        self._snapshot = Snapshot(
            index=index,
            term=self.term(index),
            conf_state=self._snapshot.conf_state if conf_state is None else conf_state,
            data=data,
        )
        return self._snapshot

    def compact(self, index: int) -> None:
        """Forget entries up to and including `index`; at most what is applied. Raises Compacted.

        One memmove of what stays (8 bytes an entry) and the release of what goes.
        """
        if index <= self._before:
            raise Compacted(f"already compacted to {self._before}, asked for {index}")
        assert index <= self.last_index(), f"compact to {index}, log ends at {self.last_index()}"
        self._before_term = self.term(index)
        del self._entries[: index - self._before]
        self._before = index


def fitting(entries: list[Entry], start: int, stop: int, bytes_max: int) -> list[Entry]:
    """The longest run of `entries[start:stop]` within `bytes_max`, but at least one entry.

    Measures only what it returns (and at most a chunk more): a follower that is far behind must
    not cost the leader a walk over the whole log for each message.
    """
    if bytes_max >= NO_LIMIT:
        return entries[start:stop]
    room = bytes_max
    place = start
    while place < stop:
        chunk = entries[place : min(place + _CHUNK, stop)]
        size = payload_bytes(chunk) + ENTRY_OVERHEAD_BYTES * len(chunk)
        if size > room:
            for entry in chunk:
                room -= len(entry.data) + ENTRY_OVERHEAD_BYTES
                if room < 0:
                    return entries[start : max(place, start + 1)]
                place += 1
        room -= size
        if place == start and len(chunk) == stop - start:
            return chunk
        place += len(chunk)
    return entries[start:stop]
