"""The log as Raft sees it: stored entries, the unstable tail, and three marks in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.raft.messages import (
    ENTRY_OVERHEAD_BYTES,
    NO_LIMIT,
    Entry,
    Snapshot,
    payload_bytes,
)
from corum.raft.storage import Compacted, fitting
from corum.raft.unstable import Unstable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corum.raft.storage import LogStorage


class Log:
    """applied <= applying <= committed <= last_index.

    `committed`: stored by a quorum. `applying`: given to the application. `applied`: the
    application says so. What is given and not yet applied is kept below `applying_bytes_max`
    (with one entry more, since an entry is never split).
    """

    __slots__ = (
        "_applying_bytes",
        "_applying_bytes_max",
        "_applying_paused",
        "applied",
        "applying",
        "committed",
        "storage",
        "unstable",
    )

    def __init__(self, storage: LogStorage, applying_bytes_max: int) -> None:
        """Everything before the first stored index counts as committed and applied."""
        self.storage = storage
        self.unstable = Unstable(storage.last_index() + 1)
        before = storage.first_index() - 1
        self.committed = before
        self.applying = before
        self.applied = before
        self._applying_bytes = 0
        self._applying_bytes_max = applying_bytes_max
        self._applying_paused = False

    def __str__(self) -> str:
        return (
            f"committed={self.committed}, applied={self.applied}, applying={self.applying}, "
            f"unstable.offset={self.unstable.offset}, last={self.last_index}"
        )

    # Reading

    @property
    def last_index(self) -> int:
        return self.unstable.last_index

    def first_index(self) -> int:
        """First index whose entry is here; the term of the one before is known too."""
        snapshot = self.unstable.snapshot
        return self.storage.first_index() if snapshot is None else snapshot.index + 1

    def last_term(self) -> int:
        term = self.term(self.last_index)
        assert term is not None, f"no term for the last index {self.last_index}"
        return term

    def term(self, index: int) -> int | None:
        """Term of the entry at `index`; None if it was compacted or is not there yet."""
        unstable = self.unstable
        place = index - unstable.offset
        if place >= 0:
            return unstable.entries[place].term if place < len(unstable.entries) else None
        if unstable.snapshot is not None:
            return unstable.snapshot.term if place == -1 else None
        if index < self.storage.first_index() - 1:
            return None
        return self.storage.term(index)

    def slice(self, lo: int, hi: int, bytes_max: int = NO_LIMIT) -> list[Entry]:
        """Entries lo <= index < hi that fit `bytes_max`, but at least one. Raises Compacted."""
        assert lo <= hi <= self.last_index + 1, f"slice {lo}..{hi} of a log with {self}"
        if lo < self.first_index():
            raise Compacted(f"index {lo} is before the first one, {self.first_index()}")
        if lo == hi:
            return []
        unstable = self.unstable
        offset = unstable.offset
        if lo >= offset:
            return fitting(unstable.entries, lo - offset, hi - offset, bytes_max)
        if hi <= offset:
            return self.storage.entries(lo, hi, bytes_max)
        stored = self.storage.entries(lo, offset, bytes_max)
        if len(stored) < offset - lo:
            return stored
        room = bytes_max - entries_bytes(stored)
        tail = fitting(unstable.entries, 0, hi - offset, room)
        if len(tail) == 1 and entries_bytes(tail) > room:
            return stored
        return stored + tail

    def matches(self, index: int, term: int) -> bool:
        """Is the entry at `index` of `term`?"""
        return self.term(index) == term

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Is a log that ends with `term`/`index` at least as complete as this one (Raft §5.4.1)?"""
        last = self.last_term()
        return term > last or (term == last and index >= self.last_index)

    def conflict_hint(self, index: int, term: int) -> tuple[int, int]:
        """Where a log with `term` at `index` may agree with this one: largest index not after
        `index` whose term is not above `term`, with its term (0 if it is not known).

        Both sides skip whole terms this way, so that a probe costs one round per term and not
        one per entry (diss. §3.5 suggests one such step; etcd takes it on both sides).
        """
        while index > 0:
            ours = self.term(index)
            if ours is None:
                return index, 0
            if ours <= term:
                return index, ours
            index -= 1
        return 0, 0

    # Writing

    def append(self, entries: Sequence[Entry]) -> int:
        """Put entries at their index, dropping what was there and after. Returns the last index."""
        assert entries[0].index > self.committed, (
            f"entry {entries[0].index} would replace a committed one ({self.committed})"
        )
        self.unstable.append(entries)
        return self.unstable.last_index

    def accept(
        self, prev_index: int, prev_term: int, entries: Sequence[Entry], commit: int
    ) -> int | None:
        """Take a leader's entries after `prev_term`/`prev_index` (Raft §5.3, AppendEntries).

        Returns the last index that is now known to agree with the leader, or None if the entry
        before is not ours. Entries that we have already are left alone, so that a late message
        does not shorten the log.
        """
        if not self.matches(prev_index, prev_term):
            return None
        last = prev_index + len(entries)
        for place, entry in enumerate(entries):
            if not self.matches(entry.index, entry.term):
                self.append(entries[place:] if place else entries)
                break
        self.commit_to(min(commit, last))
        return last

    def commit_to(self, index: int) -> None:
        """Everything up to `index` is committed; never goes back."""
        if index > self.committed:
            assert index <= self.last_index, (
                f"commit {index} is after the last index {self.last_index}: "
                "was the log corrupted, truncated or lost?"
            )
            self.committed = index

    def restore(self, snapshot: Snapshot) -> None:
        """Replace everything by a snapshot."""
        self.committed = snapshot.index
        self.unstable.restore(snapshot)

    # Applying

    def has_next_committed(self, allow_unstable: bool) -> bool:
        return (
            not self._applying_paused
            and self.unstable.snapshot is None
            and self.applying < self._appliable(allow_unstable)
        )

    def take_committed(self, allow_unstable: bool) -> Sequence[Entry]:
        """Entries to apply now; from here on they are being applied.

        `allow_unstable`: also those that are not durable here yet (they will be, before they are
        applied). A snapshot that waits to be applied holds everything back.
        """
        if not self.has_next_committed(allow_unstable):
            return ()
        appliable = self._appliable(allow_unstable)
        room = self._applying_bytes_max - self._applying_bytes
        assert room > 0, f"applying {self._applying_bytes} bytes and not paused"
        entries = self.slice(self.applying + 1, appliable + 1, room)
        self.applying = entries[-1].index
        if self._applying_bytes_max < NO_LIMIT:
            self._applying_bytes += entries_bytes(entries)
            self._applying_paused = (
                self._applying_bytes >= self._applying_bytes_max or self.applying < appliable
            )
        return entries

    def applied_to(self, index: int, size: int) -> None:
        """The application has applied up to `index`; `size` bytes of what it was given."""
        assert self.applied <= index <= self.committed, f"applied {index}, {self}"
        self.applied = index
        self.applying = max(self.applying, index)
        self._applying_bytes = max(0, self._applying_bytes - size)
        self._applying_paused = self._applying_bytes >= self._applying_bytes_max

    def _appliable(self, allow_unstable: bool) -> int:
        if allow_unstable:
            return self.committed
        return min(self.committed, self.unstable.offset - 1)


def entries_bytes(entries: Sequence[Entry]) -> int:
    """Size for the limits of messages and of what is being applied."""
    return payload_bytes(entries) + ENTRY_OVERHEAD_BYTES * len(entries)
