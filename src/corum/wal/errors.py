"""What can be wrong with the log on disk. The world's faults, not ours: handled one level up."""

from __future__ import annotations

from pathlib import Path


class WalError(Exception):
    """The log cannot be read or written; the text says why, with etcd's words where it has some."""


class WalCorrupt(WalError):
    """The record at byte `offset` of `path` is not what was written; all before it is intact.

    Starting from such a log could lose acknowledged writes, so it is refused.
    """

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(f"{reason} (file {path}, offset {offset})")
        self.path = path
        self.offset = offset
        self.reason = reason


class WalTorn(WalCorrupt):
    """A crash cut the last write off at `offset`; it was never synced. `repair` removes it."""


class WalLocked(WalError):
    """Another process has these files open."""


class DataDirLocked(WalError):
    """Another process uses this data directory."""


class WalFilesMissing(WalError):
    """No segment, a gap between the segments' numbers, or none that holds the wanted index."""


class SnapshotNotFound(WalError):
    """The log does not hold the record of the snapshot it was asked to start from."""
