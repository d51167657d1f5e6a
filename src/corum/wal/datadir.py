"""The data directory of a member: what lies where, with which modes, locked by whom, purged when.

<data-dir>/member/wal/    segments of the log (or elsewhere: `--wal-dir`)
<data-dir>/member/snap/   *.snap, *.snap.db, db.lmdb (ours), db (bbolt: of a Go etcd)
<data-dir>/proxy/         of a v2 proxy instead
"""

from __future__ import annotations

import fcntl
import os
from enum import Enum
from pathlib import Path
from typing import Final

from corum.wal.errors import DataDirLocked
from corum.wal.locks import try_lock

DIRECTORY_MODE: Final = 0o700


class Contents(Enum):
    """What a data directory was used for so far."""

    EMPTY = "empty"
    MEMBER = "member"
    PROXY = "proxy"
    BOTH = "both"  # etcd refuses to start on it
    UNKNOWN = "unknown"  # something else lies there; etcd warns and goes on


class DataDir:
    """Paths under one data directory, and the lock on it."""

    def __init__(self, path: Path, wal_dir: Path | None = None) -> None:
        self.path = path
        self.member = path / "member"
        self.snap = self.member / "snap"
        self.wal = wal_dir if wal_dir is not None else self.member / "wal"
        self.backend = self.snap / "db.lmdb"
        self.bbolt = self.snap / "db"
        """The backend of a Go etcd whose directory this was."""
        self._lock_fd: int | None = None

    def contents(self) -> Contents:
        """What lies there. An absent directory is empty."""
        try:
            names = set(os.listdir(self.path))
        except FileNotFoundError:
            return Contents.EMPTY
        member, proxy = "member" in names, "proxy" in names
        if member and proxy:
            return Contents.BOTH
        if member:
            return Contents.MEMBER
        if proxy:
            return Contents.PROXY
        return Contents.UNKNOWN if names else Contents.EMPTY

    def has_wal(self) -> bool:
        """Whether a log exists: the member is restarted, not created."""
        try:
            return any(name.endswith(".wal") for name in os.listdir(self.wal))
        except FileNotFoundError:
            return False

    def create(self) -> None:
        """Make what is missing down to `member/snap`, mode 0700; not the log, `Wal.create` does.

        Directories that exist get the mode too. Raises OSError.
        """
        for directory in (self.path, self.member, self.snap):
            directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            os.chmod(directory, DIRECTORY_MODE)
        self.wal.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)

    def lock(self) -> None:
        """Keep other processes of ours away until `unlock`. Raises DataDirLocked.

        The log's segments carry locks that a Go etcd sees; this one also guards a directory that
        has no log yet, and the backend.
        """
        assert self._lock_fd is None, "locked twice"
        fd = os.open(self.member, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise DataDirLocked(f"data-dir {self.path} is used by another process") from None
        self._lock_fd = fd

    def unlock(self) -> None:
        """Let others in. Idempotent."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def purge(self, snapshots_max: int, wals_max: int) -> list[Path]:
        """Remove the oldest files beyond these numbers, 0 = keep all; returns what is gone.

        Segments still locked (needed after the newest snapshot) stay. Call it every 30 s, in a
        worker. Raises OSError.
        """
        removed = _purge(self.wal, ".wal", wals_max, spare_locked=True)
        removed += _purge(self.snap, ".snap", snapshots_max, spare_locked=False)
        return removed + _purge(self.snap, ".snap.db", snapshots_max, spare_locked=False)


def _purge(directory: Path, suffix: str, keep: int, *, spare_locked: bool) -> list[Path]:
    """Names sort by age. Stops at the first locked file: those behind it are younger."""
    if keep == 0:
        return []
    names = sorted(name for name in os.listdir(directory) if name.endswith(suffix))
    removed: list[Path] = []
    for name in names[:-keep]:
        path = directory / name
        if spare_locked and not _is_free(path):
            break
        path.unlink(missing_ok=True)
        removed.append(path)
    return removed


def _is_free(path: Path) -> bool:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return try_lock(fd)
    finally:
        os.close(fd)
