"""File locks that keep a second process away, Go's etcd included."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from struct import Struct
from typing import Final

from corum.wal.errors import WalLocked

# Go's etcd takes "open file description" locks where the system has them (Linux) and flock
# elsewhere; the two kinds do not see each other, so we do the same.
# (etcd: client/pkg/fileutil/lock_linux.go at v3.5.1)
_OFD_SETLK: Final[int | None] = getattr(fcntl, "F_OFD_SETLK", None)
_FLOCK: Final = Struct("hhqqi4x")  # type, whence, start, length (0: all), pid


def try_lock(fd: int) -> bool:
    """Lock the file exclusively until its description is closed; False when another holds it.

    `fd` must be open for writing. Another descriptor of the same process counts as another.
    """
    try:
        if _OFD_SETLK is None:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            request = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            fcntl.fcntl(fd, _OFD_SETLK, request)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def lock_file(fd: int, path: Path) -> None:
    """`try_lock`, or WalLocked that names the file."""
    if not try_lock(fd):
        raise WalLocked(f"fileutil: file already locked ({path})")
