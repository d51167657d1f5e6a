"""Reading a log back: which segments there are, what they hold, and the repair of a torn tail."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final, NamedTuple

from corum.raft.messages import Entry, HardState
from corum.values import value
from corum.wal import records
from corum.wal.codec import (
    WalSnapshot,
    decode_entry,
    decode_hard_state,
    decode_wal_snapshot,
)
from corum.wal.errors import SnapshotNotFound, WalCorrupt, WalFilesMissing, WalTorn
from corum.wal.locks import lock_file

_NOTES: Final = (records.STATE, records.SNAPSHOT)
_NAME: Final = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")


class SegmentName(NamedTuple):
    """One segment: its number, and the first index that an entry in it may have."""

    sequence: int
    first_index: int
    path: Path


@value
class Replay:
    """What the log says, from the snapshot on that reading began at."""

    metadata: bytes  # etcdserverpb.Metadata: the ids of member and cluster
    hard_state: HardState
    entries: list[Entry]  # contiguous, the first is the snapshot's index + 1
    last_index: int  # of the last entry found, or of a later snapshot; names the next segment
    crc: int
    end: int  # bytes used of the last segment


def segment_path(directory: Path, sequence: int, first_index: int) -> Path:
    """Where etcd puts segment `sequence`."""
    return directory / f"{sequence:016x}-{first_index:016x}.wal"


def segment_names(directory: Path) -> list[SegmentName]:
    """The segments in order; other files are ignored. Raises WalFilesMissing for a gap or none."""
    try:
        matches = [_NAME.fullmatch(name) for name in sorted(os.listdir(directory))]
    except FileNotFoundError:
        matches = []
    names = [
        SegmentName(int(m[1], 16), int(m[2], 16), directory / m[0])
        for m in matches
        if m is not None
    ]
    if not names:
        raise WalFilesMissing(f"wal: file not found (no segment in {directory})")
    for before, after in pairwise(names):
        if after.sequence != before.sequence + 1:
            raise WalFilesMissing(
                f"wal: file not found (gap between {before.path} and {after.path})"
            )
    return names


def segments_from(directory: Path, index: int) -> list[SegmentName]:
    """The segments that hold what follows the snapshot at `index`."""
    names = segment_names(directory)
    for at in range(len(names) - 1, -1, -1):
        if names[at].first_index <= index:
            return names[at:]
    raise WalFilesMissing(
        f"wal: file not found (index {index} is older than {names[0].path}, the oldest segment)"
    )


def replay(
    segments: Sequence[SegmentName], start: WalSnapshot, *, forgive_torn: bool = False
) -> Replay:
    """Read and check `segments`. Raises WalTorn, WalCorrupt, SnapshotNotFound.

    `forgive_torn`: what is before a torn last write, for those who will not append to the log.
    """
    reader = _Reader(start)
    crc, end = 0, 0
    for segment in segments:
        with _image(segment.path) as image:
            found = records.decode(image, crc, is_last=segment is segments[-1])
        if found.fault is not None and not (found.fault.torn and forgive_torn):
            kind = WalTorn if found.fault.torn else WalCorrupt
            raise kind(segment.path, found.fault.offset, found.fault.reason)
        reader.read(segment.path, found.records)
        crc, end = found.crc, found.end
    if not reader.matched:
        raise SnapshotNotFound(
            f"wal: snapshot not found (index {start.index}, term {start.term}, "
            f"in {segments[0].path.parent})"
        )
    if reader.metadata is None:
        raise WalCorrupt(segments[0].path, 0, "wal: no metadata record")
    return Replay(reader.metadata, reader.hard_state, reader.entries, reader.last_index, crc, end)


class _Reader:
    """Collects what the records mean, one segment after the other."""

    def __init__(self, start: WalSnapshot) -> None:
        self.start = start
        self.matched = False
        self.metadata: bytes | None = None
        self.hard_state = HardState()
        self.entries: list[Entry] = []
        self.last_index = 0
        self._term_at_start: int | None = None
        """Of the log's own entry with the snapshot's index. A back-up has none, but entries behind
        the snapshot, and that comes last."""

    def read(self, path: Path, found: Sequence[records.Frame]) -> None:
        """Take in the records of one segment, checked already."""
        for offset, kind, _, data in found:
            try:
                if kind == records.ENTRY:
                    self._entry(path, offset, decode_entry(data))
                elif kind == records.STATE:
                    self.hard_state = decode_hard_state(data)
                elif kind == records.METADATA:
                    self._metadata(path, offset, data)
                elif kind == records.SNAPSHOT:
                    self._snapshot(path, offset, decode_wal_snapshot(data))
                elif kind != records.CRC:
                    raise WalCorrupt(path, offset, f"wal: unexpected record type {kind}")
            except ValueError as error:
                raise WalCorrupt(path, offset, f"wal: no record: {error}") from error

    def _entry(self, path: Path, offset: int, entry: Entry) -> None:
        """A later entry replaces an earlier one of the same index, and all behind that."""
        self.last_index = entry.index
        place = entry.index - self.start.index - 1
        if place < 0:
            self._term_at_start = entry.term if place == -1 else None
            self.entries.clear()
            return
        if place > len(self.entries):
            raise WalCorrupt(path, offset, f"wal: slice bounds out of range, entry {entry.index}")
        if place < len(self.entries):
            del self.entries[place:]
        self.entries.append(entry)

    def _metadata(self, path: Path, offset: int, data: bytes) -> None:
        if self.metadata not in (None, data):
            raise WalCorrupt(path, offset, "wal: conflicting metadata found")
        self.metadata = data

    def _snapshot(self, path: Path, offset: int, snapshot: WalSnapshot) -> None:
        self.last_index = max(self.last_index, snapshot.index)
        if snapshot.index != self.start.index:
            return
        if snapshot.term != self.start.term:
            raise WalCorrupt(path, offset, "wal: snapshot mismatch")
        self.matched = True
        if self._term_at_start not in (None, snapshot.term):
            self.entries.clear()  # a leader's: it replaced what was here


def valid_snapshots(directory: Path) -> list[WalSnapshot]:
    """Snapshots that the log knows and that are committed, oldest first.

    CRCs are not checked here, so that a start reads the log once; opening at one of them does. So
    what cannot be read at the end of the log may be a torn write, and opening will say if it is.
    """
    found: list[WalSnapshot] = []
    committed = 0
    segments = segment_names(directory)
    for segment in segments:
        with _image(segment.path) as image:
            for offset, kind, _, data in records.glance(image, _NOTES):
                try:
                    if kind == records.SNAPSHOT:
                        found.append(decode_wal_snapshot(data))
                    elif kind == records.STATE:
                        committed = max(committed, decode_hard_state(data).commit)
                except ValueError as error:
                    if segment is segments[-1]:
                        break
                    raise WalCorrupt(segment.path, offset, f"wal: no record: {error}") from error
    return [snapshot for snapshot in found if snapshot.index <= committed]


def repair(directory: Path) -> Path | None:
    """Cut a torn last write off the newest segment; the copy of the file as it was, or None.

    None means that nothing is torn. Raises WalCorrupt where damage is no torn write: that must not
    be cut off. Only what never was synced goes.
    """
    last = segment_names(directory)[-1]
    fd = os.open(last.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        lock_file(fd, last.path)
        with _image(last.path) as image:
            fault = records.decode(image, 0, is_last=True).fault
        if fault is None:
            return None
        if not fault.torn:
            raise WalCorrupt(last.path, fault.offset, fault.reason)
        broken = last.path.with_name(last.path.name + ".broken")
        shutil.copyfile(last.path, broken)
        os.chmod(broken, 0o600)
        os.ftruncate(fd, fault.offset)
        os.fsync(fd)
        return broken
    finally:
        os.close(fd)


@contextmanager
def _image(path: Path) -> Generator[bytes | mmap]:
    """The file's bytes; mapped, so that the unused part of a segment is not read."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield b""
            return
        with mmap(file.fileno(), 0, access=ACCESS_READ) as image:
            yield image
