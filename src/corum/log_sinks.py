"""Outputs of the log beyond stdout and stderr: files, rotated files, systemd's journal."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import time
from typing import Any, Final, cast

from corum.logs import Sink, write_all
from corum.values import MIB, value

_JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"
_PRIORITIES: Final = {
    "debug": 7,
    "info": 6,
    "warn": 4,
    "error": 3,
    "dpanic": 2,
    "panic": 2,
    "fatal": 0,
}
_DAY_S: Final = 86_400


class RotationError(ValueError):
    """The rotation settings are no JSON object of the right shape."""


@value
class Rotation:
    """lumberjack's settings."""

    size_bytes_max: int
    age_days_max: int  # 0: any
    backups_max: int  # 0: all
    local_time: bool
    compress: bool


def read_rotation(text: str) -> Rotation:
    """The JSON of --log-rotation-config-json; raises RotationError."""
    try:
        loaded: Any = json.loads(text)
    except ValueError as error:
        raise RotationError(_go_words(text, error)) from None
    if not isinstance(loaded, dict):
        raise RotationError("json: cannot unmarshal it into a Go value of type embed.logRotation")
    given = cast("dict[str, Any]", loaded)
    for name, kind in (("maxsize", int), ("maxage", int), ("maxbackups", int)):
        if not isinstance(given.get(name, 0), kind):
            raise RotationError(f"json: cannot unmarshal {name}: a number is needed")
    return Rotation(
        (given.get("maxsize", 0) or 100) * MIB,
        given.get("maxage", 0),
        given.get("maxbackups", 0),
        bool(given.get("localtime", False)),
        bool(given.get("compress", False)),
    )


def _go_words(text: str, error: ValueError) -> str:
    if not text.strip():
        return "unexpected end of JSON input"
    at = getattr(error, "pos", 0)
    if at >= len(text):
        return "unexpected end of JSON input"
    where = "looking for beginning of value" if at == 0 else "in the settings"
    return f"invalid character '{text[at]}' {where}"


class PlainFile(Sink):
    """A file that lines are appended to."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, line: bytes, level: str) -> None:
        write_all(self._fd, line)

    def close(self) -> None:
        os.close(self._fd)


class RotatingFile(PlainFile):
    """A file that is set aside when it has grown: `etcd-2026-11-21T10-13-57.524.log`."""

    def __init__(self, path: str, rotation: Rotation) -> None:
        os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
        super().__init__(path)
        self._rotation = rotation
        self._size_bytes = os.fstat(self._fd).st_size

    def write(self, line: bytes, level: str) -> None:
        if self._size_bytes and self._size_bytes + len(line) > self._rotation.size_bytes_max:
            try:
                self._rotate()
            except OSError:
                pass  # go on with the file there is
        super().write(line, level)
        self._size_bytes += len(line)

    def _rotate(self) -> None:
        aside = self._backup_name()
        os.rename(self.path, aside)
        os.close(self._fd)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._size_bytes = 0
        if self._rotation.compress:
            with open(aside, "rb") as full, gzip.open(aside + ".gz", "wb") as packed:
                shutil.copyfileobj(full, packed)
            os.unlink(aside)
        self._remove_old()

    def _backup_name(self) -> str:
        now_ns = time.time_ns()
        split = time.localtime if self._rotation.local_time else time.gmtime
        moment = time.strftime("%Y-%m-%dT%H-%M-%S", split(now_ns // 1_000_000_000))
        stem, dot = os.path.splitext(self.path)
        return f"{stem}-{moment}.{now_ns // 1_000_000 % 1000:03}{dot}"

    def _remove_old(self) -> None:
        stem, dot = os.path.splitext(os.path.basename(self.path))
        folder = os.path.dirname(self.path) or "."
        backups = sorted(
            (
                name
                for name in os.listdir(folder)
                if name.startswith(f"{stem}-") and name.removesuffix(".gz").endswith(dot)
            ),
            reverse=True,  # newest first: the names hold the time
        )
        kept = self._rotation.backups_max or len(backups)
        oldest_s = time.time() - self._rotation.age_days_max * _DAY_S
        for place, name in enumerate(backups):
            path = os.path.join(folder, name)
            old = self._rotation.age_days_max and os.stat(path).st_mtime < oldest_s
            if place >= kept or old:
                os.unlink(path)


class Journal(Sink):
    """systemd's journal by its native protocol; lines go to stderr where there is none."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def write(self, line: bytes, level: str) -> None:
        message = line.rstrip(b"\n")
        entry = b"PRIORITY=%d\nSYSLOG_IDENTIFIER=etcd\nMESSAGE=%b\n" % (_PRIORITIES[level], message)
        try:
            self._socket.sendto(entry, _JOURNAL_SOCKET)
        except OSError:
            write_all(2, line)

    def close(self) -> None:
        self._socket.close()


def stderr_is_journal() -> bool:
    """Does systemd say ($JOURNAL_STREAM) that our stderr is the journal anyway?"""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    if not (device.isdigit() and inode.isdigit()):
        return False
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (int(device), int(inode))
