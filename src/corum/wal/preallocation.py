"""Disk space for a segment before it is needed.

Syncing a write into pages that were written before takes about 30 % less time than into pages that
are only reserved (230 against 330 µs for 8 kB, ext4), because the file's extents do not change. But
writing 64 MB of zeros at start-up takes longer than the whole start-up may. So a segment is
reserved at once and zeroed a few MiB ahead of the log, in slices, by a worker.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from threading import Lock
from typing import Final

from corum.values import KIB, MIB

FIRST_BYTES: Final = 256 * KIB
"""Zeroed at once, so that the first writes find them."""

AHEAD_BYTES: Final = 8 * MIB
"""How far ahead of the log zeros are written."""

SLICE_BYTES: Final = 256 * KIB
"""Written and synced at a time: what a sync of the log may have to wait for."""

_ZEROS: Final = bytes(SLICE_BYTES)

sync_data = os.fdatasync if hasattr(os, "fdatasync") else os.fsync  # macOS has only the latter


def reserve(fd: int, size: int) -> None:
    """Make the file `size` bytes long, reserved where the file system can. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
    if os.fstat(fd).st_size < size:
        os.ftruncate(fd, size)


class ZeroAhead:
    """Zeroes a file from `start` towards `end`, never where the log already writes.

    The log's owner calls `passed` before it hands out bytes to write; a worker calls `run`. The
    lock makes a write wait for the slice that is in its way; then the rest begins behind it.

    The file is opened once more for it: the kernel reports a failed write-back once per opening,
    and it is the log's own sync that must not miss it.
    """

    def __init__(self, path: Path, start: int, end: int) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self._end = end
        self._position = start
        self._log = start
        self._lock = Lock()
        self._closed = False

    @property
    def due(self) -> bool:
        """Half of the way ahead is used up."""
        return (
            self._position < self._end
            and self._position - self._log < AHEAD_BYTES // 2
            and not self._closed
        )

    def passed(self, offset: int) -> None:
        """The log is about to write up to `offset`."""
        self._log = offset
        # `_position` only grows, so a stale look at it costs a lock, never a byte.
        if offset > self._position:
            with self._lock:
                self._position = max(self._position, offset)

    def run(self) -> bool:
        """Zero and sync one slice; False when all is done for now. Raises OSError (ENOSPC, EIO)."""
        with self._lock:
            wanted = min(self._end, self._log + AHEAD_BYTES) - self._position
            size = min(SLICE_BYTES, wanted)
            if size <= 0 or self._closed:
                return False
            os.pwrite(self._fd, _ZEROS[:size], self._position)
            self._position += size
            sync_data(self._fd)
        return True

    def close(self) -> None:
        """Touch the file no more; waits for a slice that is being written."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._fd)
