"""A disk that tells the difference between written and synced (DESIGN D3).

Segments of the log are kept as bytes with the end of each write that is not synced yet. When power
fails, every sector with unsynced bytes may be as of any of those writes: so a tail is lost, torn
in the middle of a record, or has holes. Files of snapshots appear whole or not at all; the
backend's batches likewise (`MemoryDisk`).
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from corum.backend.backend import BackendFull
from corum.backend.memory_backend import MemoryDisk
from corum.raft.messages import Snapshot
from corum.sim.world import World
from corum.wal.codec import WalSnapshot
from corum.wal.records import SECTOR_BYTES
from corum.wal.replay import SegmentName
from corum.wal.snapshot_files import decode_file, encode_file

DIRECTORY: Final = Path("wal")
NO_SPACE: Final = "No space left on device"


class Segment:
    """One file of the log."""

    __slots__ = ("data", "name", "synced", "writes")

    def __init__(self, name: SegmentName, data: bytes = b"") -> None:
        self.name = name
        self.data = bytearray(data)
        self.synced = len(data)
        """Bytes from the start that power failure leaves."""
        self.writes: list[int] = []
        """Where each write since the last sync ended."""

    def append(self, data: bytes) -> None:
        """Into the page cache."""
        self.data += data
        self.writes.append(len(self.data))

    def sync(self) -> None:
        """To the disk."""
        self.synced = len(self.data)
        self.writes.clear()

    def cut_to(self, size: int) -> None:
        """Forget what is behind `size`; synced."""
        self.data = bytearray(self.image(size)[:size])
        self.sync()

    def image(self, size: int) -> bytes:
        """As it is read: zeros behind what was written."""
        return bytes(self.data).ljust(size, b"\0")

    def power_failure(self, world: World) -> None:
        """Choose what is left of the unsynced bytes, sector by sector."""
        if not self.writes:
            return
        versions = [self.synced, *self.writes]
        in_order = world.chance(0.5)
        newest = world.between(0, len(versions) - 1)
        left = bytearray(self.data[: self.synced])
        first = self.synced - self.synced % SECTOR_BYTES
        reached = world.between(first, len(self.data))
        for start in range(first, len(self.data), SECTOR_BYTES):
            if in_order:  # the sectors up to some point are as of one write, the others old
                end = versions[newest] if start <= reached else self.synced
            else:
                end = world.dice.choice(versions)
            sector = self.data[start : max(start, min(end, start + SECTOR_BYTES))]
            left[start:] = sector.ljust(SECTOR_BYTES, b"\0")
        self.data = bytearray(bytes(left).rstrip(b"\0").ljust(self.synced, b"\0"))
        self.sync()


class Disk:
    """What one member has on its disk."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.segments: list[Segment] = []
        """Of the log, oldest first; empty: the member was never started."""
        self.held_from = 0
        """Number of the oldest segment that the running member has locked."""
        self.snapshots: dict[tuple[int, int], bytes] = {}
        """`.snap` files by (term, index)."""
        self.backend = MemoryDisk()
        self.databases: dict[int, bytes] = {}
        """Databases of leaders that were received whole, by the index of their snapshot."""
        self.received: dict[int, MemoryDisk] = {}
        """Made of them, to take the place of the backend in use."""
        self.is_full = False
        self.log_is_full = False
        """Not even the segment in use has room (it was not reserved)."""

    def fill(self, *, log: bool) -> None:
        """From now on there is no room."""
        self.is_full, self.log_is_full = True, log
        self.backend.error = BackendFull(NO_SPACE)

    def free(self) -> None:
        """There is room again."""
        self.is_full = self.log_is_full = False
        self.backend.error = None

    def check_room(self) -> None:
        """Raises OSError when there is none."""
        if self.is_full:
            raise OSError(errno.ENOSPC, NO_SPACE)

    def segment(self, sequence: int) -> Segment:
        """By its number, which also is its descriptor."""
        return next(one for one in self.segments if one.name.sequence == sequence)

    def power_failure(self) -> None:
        """Unsynced bytes are at the mercy of chance."""
        for segment in self.segments:
            segment.power_failure(self._world)

    # ---- `.snap` files

    def save(self, snapshot: Snapshot) -> None:
        """Worker thread: the file appears whole. Raises OSError."""
        self.check_room()
        self.snapshots[snapshot.term, snapshot.index] = encode_file(snapshot)

    def newest(self, known: list[WalSnapshot]) -> Snapshot | None:
        """The newest that the log knows, as `SnapshotFiles.newest`."""
        wanted = {(each.term, each.index) for each in known}
        for key in sorted(self.snapshots, reverse=True):
            if key in wanted:
                return decode_file(self.snapshots[key])
        return None

    def purge(self, snapshots_max: int, segments_max: int) -> None:
        """As `DataDir.purge`: the oldest go, but no segment that is locked."""
        for key in sorted(self.snapshots)[:-snapshots_max]:
            del self.snapshots[key]
        while len(self.segments) > segments_max:
            if self.segments[0].name.sequence >= self.held_from:
                break
            del self.segments[0]
