"""The files of the log: `Wal` frames what has to be written, cuts segments, and forgets old ones.

    wal = Wal.create(directory, metadata)            a new log, or
    wal = Wal.open(directory, start); wal.replay     one that exists
    write = wal.save(hard_state, entries, must_sync) what to write where; the caller does it
    if wal.cut_due: cut = wal.begin_cut(); cut.run(); wal.finish_cut(cut)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from corum.wal.codec import WalSnapshot
from corum.wal.replay import Replay

if TYPE_CHECKING:
    from corum.raft import Entry, HardState

SEGMENT_BYTES: Final = 64_000_000
"""Size at which the next segment begins, and to which a new one is preallocated (as etcd)."""


class Write(NamedTuple):
    """Bytes that belong at the current offset of `fd`, which stays open until the next cut is done.

    Writes happen in the order in which they were prepared, each wholly, before anything else is
    done with the log. One that failed for want of space is cut off again and repeated with the same
    bytes; one whose *sync* failed is never repeated, the member stops (the kernel may have dropped
    the pages).
    """

    fd: int
    data: bytes
    sync: bool


class Cut:
    """The end of one segment and the beginning of the next, as one job for a worker thread."""

    def run(self) -> OSError | None:
        """Do it: a few ms. May be repeated after an error (no space), which loses nothing."""
        raise NotImplementedError


class Wal:
    """The log of one member; owned by one thread, except `housekeep` and `Cut.run`."""

    replay: Replay | None
    """What `open` found; None after `create`. Set it to None once used: it holds every entry."""

    @classmethod
    def create(
        cls,
        directory: Path,
        metadata: bytes,
        *,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> Wal:
        """A new log in `directory` (mode 0700), durable when this returns. `directory` must not exist."""
        raise NotImplementedError

    @classmethod
    def open(
        cls,
        directory: Path,
        start: WalSnapshot,
        *,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> Wal:
        """Lock the segments from `start.index` on, read and check them, be ready to append.

        WalTorn: call `repair(directory)` and open once more. WalCorrupt, WalFilesMissing,
        SnapshotNotFound, WalLocked: as they say.
        """
        raise NotImplementedError

    def save(
        self, hard_state: HardState | None, entries: Sequence[Entry], must_sync: bool
    ) -> Write | None:
        """What has to be written to persist these, entries first; None if that is nothing."""
        raise NotImplementedError

    def save_snapshot(self, snapshot: WalSnapshot) -> Write:
        """Record that a `.snap` file for `snapshot` is on disk (it must be, synced)."""
        raise NotImplementedError

    @property
    def cut_due(self) -> bool:
        """The segment is full: cut when no write is under way."""
        raise NotImplementedError

    def begin_cut(self) -> Cut:
        """Plan the next segment. All prepared writes are done; none may be prepared until `finish_cut`."""
        raise NotImplementedError

    def finish_cut(self, cut: Cut) -> None:
        """`cut.run()` returned None: write to the new segment from now on."""
        raise NotImplementedError

    def cut(self) -> None:
        """`begin_cut`, `run`, `finish_cut` on the spot. Raises OSError; the log then stays as it was."""

    def housekeep(self) -> bool:
        """Worker thread: one slice (a few ms) of preparing disk space ahead; False = nothing left.

        Safe beside everything else, but call it from one thread at a time. Worth calling after
        `create`, `open` and every `finish_cut`, until it returns False.
        """
        raise NotImplementedError

    def release_to(self, index: int) -> None:
        """Entries up to `index` are in a snapshot: unlock segments that hold only such, for the purge."""
        raise NotImplementedError

    def close(self) -> None:
        """Give files and locks back. Prepared writes must be done. Idempotent."""
        raise NotImplementedError
