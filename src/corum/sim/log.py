"""The real `Wal` and `LogFiles` on simulated files: framing, CRC chain, cuts and tears are real.

Only what would touch a file is replaced: opening, cutting a segment, writing and syncing.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, cast

from corum._transport import LOG_SYNCED
from corum.member import boot
from corum.membership.bootstrap import FirstList
from corum.raft.messages import HardState, Snapshot
from corum.sim.disk import DIRECTORY, NO_SPACE, Disk, Segment
from corum.sim.world import World
from corum.wal import records
from corum.wal.codec import WalSnapshot, decode_hard_state, decode_wal_snapshot, encode_wal_snapshot
from corum.wal.errors import WalCorrupt, WalTorn
from corum.wal.replay import Replay, SegmentName, _Reader, segment_path
from corum.wal.segments import Cut, Wal

_FIRST: Final = SegmentName(0, 0, segment_path(DIRECTORY, 0, 0))


class Machine(Protocol):
    """The part of the simulated machine that its log needs."""

    world: World
    disk: Disk
    sync_ns: int
    """How long an fdatasync takes, typically."""

    def effect(self, name: str) -> None:
        """Something outside is about to change, or just has; the machine may die here."""
        ...

    def later(self, delay_ns: int, action: Callable[[], None]) -> None:
        """`action`, unless the machine has died meanwhile."""
        ...

    def deliver(self, event: tuple[Any, ...]) -> None:
        """Into the inbox of the loop."""
        ...

    def stall(self, duration_ns: int) -> None:
        """The loop itself is busy for so long."""
        ...

    def sync_fails(self) -> bool:
        """Does this sync report an I/O error?"""
        ...


class _NoZeros:
    """Nothing is zeroed ahead on a simulated disk."""

    due = False

    def passed(self, offset: int) -> None: ...
    def run(self) -> bool:
        return False

    def close(self) -> None: ...


class SimWal(Wal):
    """A `Wal` whose descriptors are segment numbers of a `Disk`."""

    def __init__(
        self,
        machine: Machine,
        metadata: bytes,
        held: Sequence[Segment],
        *,
        offset: int,
        crc: int,
        segment_bytes: int,
    ) -> None:
        """As a `Wal`, on segments of the disk."""
        self.directory = DIRECTORY
        self.metadata = metadata
        self.replay = None
        self.segment_bytes = segment_bytes
        self._machine = machine
        self._held = [(one.name, one.name.sequence) for one in held]
        machine.disk.held_from = held[0].name.sequence
        self._offset = offset
        self._crc = crc
        self._hard_state = HardState()
        self._last_index = 0
        self._cut = None
        self._ahead = cast(Any, _NoZeros())

    def begin_cut(self) -> Cut:
        """As a `Wal` does, but it runs on the disk."""
        self._cut = SimCut(self._machine, super().begin_cut())
        return self._cut

    def finish_cut(self, cut: Cut) -> None:
        """The new segment, if there is one, is written from now on."""
        assert cut is self._cut, "not the cut that was begun"
        self._cut = None
        if cut.fd is not None:
            self._held.append((cut.segment, cut.fd))
            self._offset, self._crc = len(cut.header), cut.crc

    def release_to(self, index: int) -> None:
        """Unlock what holds only older entries."""
        needed = 0
        for place, (segment, _) in enumerate(self._held):
            if segment.first_index <= index:
                needed = place
        del self._held[:needed]
        self._machine.disk.held_from = self._held[0][0].sequence

    def close(self) -> None:
        """Nothing is open."""


class SimCut(Cut):
    """A cut that may be interrupted between any two of its steps."""

    def __init__(self, machine: Machine, plan: Cut) -> None:
        self.segment = plan.segment
        self.header = plan.header
        self.crc = plan.crc
        self._machine = machine
        self._old = machine.disk.segment(plan._old_fd)
        self._old_length = plan._old_bytes

    def run(self) -> OSError | None:
        """Worker: the old segment ends, the new one appears."""
        disk, effect = self._machine.disk, self._machine.effect
        try:
            disk.check_room()
        except OSError as error:
            return error
        effect("cut: new segment prepared")
        assert self._old_length == len(self._old.data), "a cut while the log was written"
        self._old.sync()
        effect("cut: old segment ended")
        disk.segments.append(Segment(self.segment, self.header))
        effect("cut: new segment named")
        self.fd = self.segment.sequence
        return None


class SimWriter:
    """The log thread: one write after the other, each as long as the dice say.

    After one that failed it refuses all others, so that nothing is ever written behind a gap.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._free_ns = 0
        self._error: str | None = None

    def submit(self, token: int, fd: int, data: bytes, sync: bool, /) -> None:
        """Write, sync, report."""
        world = self._machine.world
        start_ns = max(self._free_ns, world.now_ns) + world.delay(20_000)
        self._free_ns = start_ns + (world.delay(self._machine.sync_ns) if sync else 0)
        ends_ns = self._free_ns
        self._machine.later(
            start_ns - world.now_ns, lambda: self._write(token, fd, data, sync, ends_ns)
        )

    def _write(self, token: int, fd: int, data: bytes, sync: bool, ends_ns: int) -> None:
        machine = self._machine
        machine.effect("log: before a write")
        if machine.disk.log_is_full:
            self._error = self._error or f"{NO_SPACE} (os error 28)"
        if self._error is not None:
            machine.deliver((LOG_SYNCED, token, self._error, 0))
            return
        machine.disk.segment(fd).append(data)
        machine.effect("log: written")
        machine.later(ends_ns - machine.world.now_ns, lambda: self._sync(token, fd, sync))

    def _sync(self, token: int, fd: int, sync: bool) -> None:
        machine = self._machine
        if sync and machine.sync_fails():
            self._error = "Input/output error (os error 5)"
            machine.deliver((LOG_SYNCED, token, self._error, 0))
            return
        if sync:
            machine.disk.segment(fd).sync()
        machine.effect("log: synced")
        machine.deliver((LOG_SYNCED, token, None, machine.sync_ns))

    def write_now(self, fd: int, data: bytes, sync: bool, /) -> int:
        """The short path, on the loop. Raises OSError."""
        machine, segment = self._machine, self._machine.disk.segment(fd)
        assert self._free_ns <= machine.world.now_ns, "the short path overtook the log thread"
        machine.effect("log: before the short path")
        assert self._error is None, "the short path behind a write that failed"
        if machine.disk.log_is_full:
            self._error = f"{NO_SPACE} (os error 28)"
            raise OSError(errno.ENOSPC, NO_SPACE)
        segment.append(data)
        machine.effect("log: written by the short path")
        if sync:
            if machine.sync_fails():
                raise OSError(errno.EIO, "Input/output error")
            segment.sync()
        machine.effect("log: synced by the short path")
        took_ns = machine.world.delay(machine.sync_ns)
        if not sync:
            return 0  # the page cache has it
        machine.stall(took_ns)
        return took_ns

    def clear_error(self) -> None:
        """Take writes again."""
        self._error = None

    def close(self) -> None:
        """Nothing to join."""


# ---- booting, as `corum.wal` does it with files


def create(
    machine: Machine, first: FirstList, segment_bytes: int, *, joins: bool = False
) -> SimWal:
    """A new log, synced, whole or not there; empty for a member that `joins` a cluster."""
    state, entries = (HardState(), []) if joins else boot.first_entries(first)
    metadata = boot.metadata(first.local, first.cluster)
    content: Sequence[tuple[int, bytes]] = [
        (records.METADATA, metadata),
        (records.SNAPSHOT, encode_wal_snapshot(WalSnapshot())),
        *records.batch(None if joins else state, entries),
    ]
    data, crc = records.encode(content, 0)
    image = records.encode_crc(0) + data
    machine.effect("boot: before the log exists")
    segment = Segment(_FIRST, image)
    machine.disk.segments.append(segment)
    machine.effect("boot: the log exists")
    wal = SimWal(
        machine, metadata, [segment], offset=len(image), crc=crc, segment_bytes=segment_bytes
    )
    wal._hard_state, wal._last_index = state, entries[-1].index if entries else 0
    return wal


def open_newest(machine: Machine, segment_bytes: int) -> tuple[SimWal, Snapshot | None]:
    """As `boot.restart`: the log, repaired if its last write was torn, from the newest snapshot
    on that it knows. Raises WalCorrupt."""
    try:
        return _open(machine, segment_bytes)
    except WalTorn as torn:
        machine.effect("boot: before the repair")
        machine.disk.segments[-1].cut_to(torn.offset)
        machine.effect("boot: repaired")
        return _open(machine, segment_bytes)


def _open(machine: Machine, segment_bytes: int) -> tuple[SimWal, Snapshot | None]:
    disk = machine.disk
    snapshot = disk.newest(_known_snapshots(disk, segment_bytes))
    start = WalSnapshot(snapshot.index, snapshot.term) if snapshot else WalSnapshot()
    segments = disk.segments
    older = [one for one in segments if one.name.first_index <= start.index]
    assert older, f"the segment with index {start.index} is gone"
    held = segments[segments.index(older[-1]) :]
    found = _replay(held, start, segment_bytes)
    held[-1].cut_to(found.end)
    machine.effect("boot: log opened")
    wal = SimWal(
        machine,
        found.metadata,
        held,
        offset=found.end,
        crc=found.crc,
        segment_bytes=segment_bytes,
    )
    wal._hard_state, wal._last_index, wal.replay = found.hard_state, found.last_index, found
    return wal, snapshot


def _replay(segments: Sequence[Segment], start: WalSnapshot, segment_bytes: int) -> Replay:
    reader, crc, end = _Reader(start), 0, 0
    for segment in segments:
        is_last = segment is segments[-1]
        image = segment.image(segment_bytes if is_last else 0)
        found = records.decode(image, crc, is_last=is_last)
        if found.fault is not None:
            kind = WalTorn if found.fault.torn else WalCorrupt
            raise kind(segment.name.path, found.fault.offset, found.fault.reason)
        reader.read(segment.name.path, found.records)
        crc, end = found.crc, found.end
    assert reader.matched, f"the log does not know the snapshot at {start.index}"
    assert reader.metadata is not None, "a log without metadata"
    return Replay(reader.metadata, reader.hard_state, reader.entries, reader.last_index, crc, end)


def _known_snapshots(disk: Disk, segment_bytes: int) -> list[WalSnapshot]:
    """As `valid_snapshots`."""
    found: list[WalSnapshot] = []
    committed = 0
    for segment in disk.segments:
        image = segment.image(segment_bytes)
        for _, kind, _, data in records.glance(image, (records.STATE, records.SNAPSHOT)):
            try:
                if kind == records.SNAPSHOT:
                    found.append(decode_wal_snapshot(data))
                else:
                    committed = max(committed, decode_hard_state(data).commit)
            except ValueError:  # torn, or opening says that it is worse
                assert segment is disk.segments[-1], f"a broken record in {segment.name.path}"
                break
    return [one for one in found if one.index <= committed]
