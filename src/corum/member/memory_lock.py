"""`--memory-mlock`: no page of the process is swapped out (mlockall(2))."""

from __future__ import annotations

import ctypes
import os
from typing import Final

_CURRENT: Final = 1
_FUTURE: Final = 2
_ON_FAULT: Final = 4
"""Once it was used: the database's address space is larger than what it holds."""


def lock_memory() -> None:
    """Raises OSError where that is not allowed (`ulimit -l`), or not known."""
    try:
        mlockall = ctypes.CDLL(None, use_errno=True).mlockall
    except AttributeError:
        raise OSError("this system cannot lock a process's memory") from None
    if mlockall(_CURRENT | _FUTURE | _ON_FAULT):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
