"""Whose connection is this? The kernel knows which process holds the other end (Linux only)."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from typing import Final

TABLE: Final = "/proc/net/tcp"
Address = tuple[str, int]
GONE: Final = 0
"""No process: the socket is closed already, and whose it was cannot be told any more."""


def can_tell() -> bool:
    """Does this system have what `owner` asks?"""
    return os.path.exists(TABLE)


def owner(near: Address, far: Address, pids: Iterable[int]) -> int | None:
    """Who of `pids` has the TCP socket bound to `near` (IPv4) and connected to `far`.

    None when somebody else has, or when the kernel does not tell (no /proc).
    """
    inode = _inode(near, far)
    if inode is None:
        return None
    wanted = f"socket:[{inode}]"
    found = next((pid for pid in pids if inode and _holds(pid, wanted)), None)
    return found or (None if _inode(near, far) == inode != 0 else GONE)


def _inode(near: Address, far: Address) -> int | None:
    """0 for a closed one, None without a table."""
    ends = [_as_the_kernel_writes(near), _as_the_kernel_writes(far)]
    try:
        with open(TABLE, encoding="ascii") as table:
            for line in table:
                words = line.split()
                if words[1:3] == ends:
                    return int(words[9])
    except OSError:
        return None
    return 0


def _as_the_kernel_writes(address: Address) -> str:
    """127.0.0.1:80 is 0100007F:0050 on a little-endian machine."""
    host, port = address
    (number,) = struct.unpack("=I", socket.inet_aton(host))
    return f"{number:08X}:{port:04X}"


def _holds(pid: int, wanted: str) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        for fd in os.listdir(folder):
            try:
                if os.readlink(f"{folder}/{fd}") == wanted:
                    return True
            except OSError:
                continue  # closed meanwhile
    except OSError:
        pass  # the process is gone
    return False
