"""The tail of the log that is not durable yet, and a snapshot that is not applied yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corum.raft.messages import Entry, Snapshot


class Unstable:
    """Entries from index `offset` on; those before `offset_in_progress` are being written.

    Invariants: `entries[i].index == offset + i`; a `snapshot` ends just before `offset`. Storage
    may hold other entries at these indexes (an earlier write): what is here is newer.
    """

    __slots__ = ("entries", "offset", "offset_in_progress", "snapshot", "snapshot_in_progress")

    def __init__(self, offset: int) -> None:
        self.entries: list[Entry] = []
        self.offset = offset
        self.offset_in_progress = offset
        self.snapshot: Snapshot | None = None
        self.snapshot_in_progress = False

    @property
    def last_index(self) -> int:
        return self.offset + len(self.entries) - 1

    def has_next(self) -> bool:
        """Anything to be written that is not being written already?"""
        if self.snapshot is not None and not self.snapshot_in_progress:
            return True
        return self.offset_in_progress <= self.last_index

    def take_entries(self) -> list[Entry]:
        """Entries to write now; from here on they are in progress."""
        taken = self.entries[self.offset_in_progress - self.offset :]
        self.offset_in_progress += len(taken)
        return taken

    def take_snapshot(self) -> Snapshot | None:
        """The snapshot to write now, if any; from here on it is in progress."""
        if self.snapshot_in_progress:
            return None
        self.snapshot_in_progress = self.snapshot is not None
        return self.snapshot

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries; they replace what is here at and after the first of them."""
        first = entries[0].index
        place = first - self.offset
        assert place <= len(self.entries), f"gap: log ends at {self.last_index}, next is {first}"
        if place == len(self.entries):
            self.entries += entries
            return
        if place <= 0:
            self.entries = list(entries)
            self.offset = first
            self.offset_in_progress = first
            return
        self.entries[place:] = entries
        self.offset_in_progress = min(self.offset_in_progress, first)

    def stable_to(self, index: int, term: int) -> None:
        """The entry `term`/`index` and those before are durable: forget them here.

        Ignored if that is not the entry here any more: it was replaced while it was written.
        """
        count = index + 1 - self.offset
        if not 0 < count <= len(self.entries) or self.entries[count - 1].term != term:
            return
        if count == len(self.entries):
            self.entries = []
        else:
            del self.entries[:count]
        self.offset = index + 1
        self.offset_in_progress = max(self.offset_in_progress, self.offset)

    def stable_snapshot_to(self, index: int) -> None:
        """The snapshot at `index` is durable and applied; a newer one stays."""
        if self.snapshot is not None and self.snapshot.index == index:
            self.snapshot = None
            self.snapshot_in_progress = False

    def restore(self, snapshot: Snapshot) -> None:
        """Nothing but this snapshot."""
        self.entries = []
        self.offset = snapshot.index + 1
        self.offset_in_progress = self.offset
        self.snapshot = snapshot
        self.snapshot_in_progress = False
