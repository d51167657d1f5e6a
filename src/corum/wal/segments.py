"""The files of the log: `Wal` frames what has to be written, cuts segments, and forgets old ones.

    wal = Wal.create(directory, metadata)             a new log, or
    wal = Wal.open(directory, start); wal.replay      one that exists
    write = wal.save(hard_state, entries, must_sync)  what to write where; the caller does it
    if wal.cut_due: cut = wal.begin_cut(); cut.run(); wal.finish_cut(cut)

`Wal` decides and keeps count; it writes nothing itself once it is open, so that a batch is written
and synced by the transport's log thread while the loop gathers the next.

A full disk. A segment is reserved when it is made, so within it a write cannot run out of space
(except where the file system cannot reserve). `create` raises OSError; `Cut.run` returns it and
leaves everything as it was: the old segment is still good, may grow beyond its size, and the cut
can be tried again. A `Write` that failed for want of space is cut off by whoever did it and is
repeated with the same bytes, or the member stops; nothing else may be written in its place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from corum.raft.messages import Entry, HardState
from corum.wal import records
from corum.wal.codec import WalSnapshot, encode_hard_state, encode_wal_snapshot
from corum.wal.locks import lock_file
from corum.wal.preallocation import FIRST_BYTES, ZeroAhead, reserve
from corum.wal.replay import Replay, SegmentName, replay, segment_path, segments_from
from corum.wal.snapshot_files import sync_directory

SEGMENT_BYTES: Final = 64_000_000
"""Size at which the next segment begins, and which a new one reserves (as etcd)."""

_NO_STATE: Final = HardState()


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


class Wal:
    """The log of one member; owned by one thread, except `housekeep` and `Cut.run`."""

    replay: Replay | None
    """What `open` found; None after `create`. Set it to None once used: it holds every entry."""

    def __init__(
        self,
        directory: Path,
        metadata: bytes,
        held: list[tuple[SegmentName, int]],
        *,
        offset: int,
        crc: int,
        segment_bytes: int,
    ) -> None:
        """For `create` and `open`."""
        self.directory = directory
        self.metadata = metadata
        self.replay = None
        self.segment_bytes = segment_bytes
        self._held = (
            held  # locked segments with their descriptors, oldest first; the last is written
        )
        self._offset = offset
        self._crc = crc
        self._hard_state = _NO_STATE
        self._last_index = 0
        self._cut: Cut | None = None
        self._ahead = ZeroAhead(held[-1][0].path, offset, segment_bytes)

    @classmethod
    def create(
        cls,
        directory: Path,
        metadata: bytes,
        *,
        hard_state: HardState = _NO_STATE,
        entries: Sequence[Entry] = (),
        snapshot: WalSnapshot | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> Wal:
        """A new log in `directory` (mode 0700), durable when this returns; it must not exist.

        It appears whole or not at all, even if the machine dies: so what a new member begins with
        (its first configuration changes, a restored snapshot's record) is given here.
        """
        building = directory.with_name(directory.name + ".tmp")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(mode=0o700, parents=True)
        content = [
            (records.METADATA, metadata),
            (records.SNAPSHOT, encode_wal_snapshot(WalSnapshot())),
            *records.batch(None if hard_state == _NO_STATE else hard_state, entries),
        ]
        if snapshot is not None:
            content.append((records.SNAPSHOT, encode_wal_snapshot(snapshot)))
        data, crc = records.encode(content, 0)
        fd = _begin_segment(
            segment_path(building, 0, 0), records.encode_crc(0) + data, segment_bytes
        )
        offset = os.lseek(fd, 0, os.SEEK_CUR)
        os.rename(building, directory)
        sync_directory(directory)
        sync_directory(directory.parent)
        first = SegmentName(0, 0, segment_path(directory, 0, 0))
        wal = cls(
            directory, metadata, [(first, fd)], offset=offset, crc=crc, segment_bytes=segment_bytes
        )
        wal._hard_state = hard_state
        wal._last_index = entries[-1].index if entries else 0
        return wal

    @classmethod
    def open(
        cls, directory: Path, start: WalSnapshot, *, segment_bytes: int = SEGMENT_BYTES
    ) -> Wal:
        """Lock the segments from `start.index` on, read and check them, be ready to append.

        WalTorn: call `repair(directory)` and open once more. WalCorrupt, WalFilesMissing,
        SnapshotNotFound, WalLocked: as they say.
        """
        segments = segments_from(directory, start.index)
        held: list[tuple[SegmentName, int]] = []
        try:
            for segment in segments:
                fd = os.open(segment.path, os.O_RDWR | os.O_CLOEXEC)
                held.append((segment, fd))
                lock_file(fd, segment.path)
            found = replay(segments, start)
            _reopen_tail(held[-1][1], found.end, segment_bytes)
        except BaseException:
            for _, fd in held:
                os.close(fd)
            raise
        for leftover in directory.glob("*.tmp"):
            leftover.unlink()
        wal = cls(
            directory,
            found.metadata,
            held,
            offset=found.end,
            crc=found.crc,
            segment_bytes=segment_bytes,
        )
        wal._hard_state = found.hard_state
        wal._last_index = found.last_index
        wal.replay = found
        return wal

    def save(
        self, hard_state: HardState | None, entries: Sequence[Entry], must_sync: bool
    ) -> Write | None:
        """What has to be written to persist these, entries first; None if that is nothing."""
        if hard_state == _NO_STATE:
            hard_state = None
        if hard_state is not None:
            self._hard_state = hard_state
        elif not entries:
            return None
        data, crc = records.encode_batch(hard_state, entries, self._crc)
        if entries:
            self._last_index = entries[-1].index
        return self._prepare(data, crc, must_sync)

    def save_snapshot(self, snapshot: WalSnapshot) -> Write:
        """Record that a `.snap` file for `snapshot` is on disk (it must be, synced)."""
        record = (records.SNAPSHOT, encode_wal_snapshot(snapshot))
        data, crc = records.encode([record], self._crc)
        # What a leader's snapshot covers was never written here; the next segment begins behind.
        self._last_index = max(self._last_index, snapshot.index)
        return self._prepare(data, crc, sync=True)

    def _prepare(self, data: bytes, crc: int, sync: bool) -> Write:
        assert self._cut is None, "a write between begin_cut and finish_cut"
        self._crc = crc
        self._offset += len(data)
        self._ahead.passed(self._offset)
        return Write(self._held[-1][1], data, sync)

    # --- segments ------------------------------------------------------------------------------

    @property
    def cut_due(self) -> bool:
        """The segment is full: cut when no write is under way."""
        return self._offset >= self.segment_bytes

    def begin_cut(self) -> Cut:
        """Plan the next segment. All prepared writes are done; no new ones until `finish_cut`."""
        assert self._cut is None, "two cuts at once"
        segment, fd = self._held[-1]
        sequence, first_index = segment.sequence + 1, self._last_index + 1
        header = [(records.METADATA, self.metadata)]
        if self._hard_state != _NO_STATE:
            header.append((records.STATE, encode_hard_state(self._hard_state)))
        data, crc = records.encode(header, self._crc)
        self._cut = Cut(
            old_fd=fd,
            old_bytes=self._offset,
            segment=SegmentName(
                sequence, first_index, segment_path(self.directory, sequence, first_index)
            ),
            header=records.encode_crc(self._crc) + data,
            crc=crc,
            segment_bytes=self.segment_bytes,
        )
        return self._cut

    def finish_cut(self, cut: Cut) -> None:
        """`cut.run()` is over. If it returned None, the new segment is written to from now on."""
        assert cut is self._cut, "not the cut that was begun"
        self._cut = None
        if cut.fd is None:
            return
        self._held.append((cut.segment, cut.fd))
        self._offset = len(cut.header)
        self._crc = cut.crc
        self._ahead.close()
        self._ahead = ZeroAhead(cut.segment.path, self._offset, self.segment_bytes)

    def cut(self) -> None:
        """`begin_cut`, `run`, `finish_cut` on the spot. Raises OSError; the log stays as it was."""
        cut = self.begin_cut()
        error = cut.run()
        self.finish_cut(cut)
        if error is not None:
            raise error

    def release_to(self, index: int) -> None:
        """Entries up to `index` are in a snapshot: unlock segments that hold only such.

        Whoever purges old segments spares locked ones.
        """
        needed = 0
        for place, (segment, _) in enumerate(self._held):
            if segment.first_index <= index:
                needed = place
        for _, fd in self._held[:needed]:
            os.close(fd)
        del self._held[:needed]

    # --- space ---------------------------------------------------------------------------------

    @property
    def housekeeping_due(self) -> bool:
        """It is worth calling `housekeep` in a worker."""
        return self._ahead.due

    def housekeep(self) -> bool:
        """Worker thread: one slice (about a ms) of preparing disk space; False = enough for now.

        Zeros are kept a few MiB ahead of the log, so ask `housekeeping_due` again after each write.
        Safe beside everything else, but from one thread at a time. Raises OSError (no space: the
        log can go on without; an I/O error: the next sync of the log will meet it too).
        """
        return self._ahead.run()

    def close(self) -> None:
        """Give files and locks back. Prepared writes must be done. Idempotent."""
        self._ahead.close()
        for _, fd in self._held:
            os.close(fd)
        self._held.clear()


class Cut:
    """The end of one segment and the beginning of the next, as one job for a worker thread."""

    fd: int | None = None
    """Descriptor of the new segment, locked; None until `run` succeeded."""

    def __init__(
        self,
        *,
        old_fd: int,
        old_bytes: int,
        segment: SegmentName,
        header: bytes,
        crc: int,
        segment_bytes: int,
    ) -> None:
        self.segment = segment
        self.header = header
        self.crc = crc
        self._old_fd = old_fd
        self._old_bytes = old_bytes
        self._segment_bytes = segment_bytes

    def run(self) -> OSError | None:
        """Do it: a few ms. May be repeated after an error (no space), which loses nothing."""
        building = self.segment.path.with_name("0.tmp")
        try:
            fd = _begin_segment(building, self.header, self._segment_bytes)
        except OSError as error:
            return error
        try:
            # Only now: a full disk must not take from the old segment the space it has reserved.
            os.ftruncate(self._old_fd, self._old_bytes)
            os.fsync(self._old_fd)
            _publish(building, self.segment.path)
        except OSError as error:
            os.close(fd)
            return error
        self.fd = fd
        return None


def _publish(building: Path, path: Path) -> None:
    """Give a new segment its name, durably. Raises OSError; then it does not have it.

    A name left behind would end the old segment, which goes on being written after an error.
    """
    os.rename(building, path)
    try:
        sync_directory(path.parent)
    except OSError:
        os.rename(path, building)
        raise


def _begin_segment(path: Path, header: bytes, segment_bytes: int) -> int:
    """A reserved, locked, synced file with this header; the descriptor stands behind it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        lock_file(fd, path)
        reserve(fd, segment_bytes)
        room = min(FIRST_BYTES, segment_bytes)
        written = os.write(fd, header.ljust(room, b"\0"))
        assert written >= len(header), f"{written} of {len(header)} bytes of a header"
        os.lseek(fd, len(header), os.SEEK_SET)
        os.fsync(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _reopen_tail(fd: int, end: int, segment_bytes: int) -> None:
    """Drop what a torn write may have left behind `end`, reserve the rest, stand at `end`."""
    os.ftruncate(fd, end)
    if end < segment_bytes:
        reserve(fd, segment_bytes)
        os.pwrite(fd, bytes(min(FIRST_BYTES, segment_bytes - end)), end)
    os.lseek(fd, end, os.SEEK_SET)
    os.fsync(fd)
