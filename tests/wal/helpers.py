"""What the log's tests share."""

import os
from collections.abc import Sequence
from pathlib import Path

from corum.raft.messages import Entry, EntryType, HardState
from corum.wal import Wal, WalSnapshot, Write
from corum.wal.replay import Replay, replay, segments_from

METADATA = b"\x08\x01\x10\x02"


def entry(index: int, term: int = 1, data: bytes = b"data") -> Entry:
    return Entry(term, index, EntryType.NORMAL, data)


def entries(first: int, last: int, term: int = 1, data: bytes = b"data") -> list[Entry]:
    return [entry(index, term, data) for index in range(first, last + 1)]


def perform(write: Write | None) -> None:
    """What the log thread does, without the sync."""
    assert write is not None
    assert os.write(write.fd, write.data) == len(write.data)


def save(wal: Wal, new: Sequence[Entry], commit: int = 0) -> None:
    """Persist entries and a hard state that commits up to `commit`."""
    term = new[-1].term if new else 1
    perform(wal.save(HardState(term, 1, commit), new, must_sync=True))


def read(directory: Path, start: WalSnapshot | None = None) -> Replay:
    """The log as a restart would find it, without locks."""
    start = start or WalSnapshot()
    return replay(segments_from(directory, start.index), start)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())
