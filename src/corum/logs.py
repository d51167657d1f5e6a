"""Log records as zap writes them: one JSON object a line, or the console format.

`Logger().info("became leader", term=3)` writes one line:

    {"level":"info","ts":"2026-11-21T10:13:57.524262Z","caller":"server/drive.py:138",
     "msg":"became leader","term":3}

A message is constant; values go into fields (`_` in a field's name becomes `-`). There is one log
per process: `configure` says where it goes, before that it is stderr at level info. Writing is one
`os.write` per record and output; a disk that fails loses log lines, never requests.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from json.encoder import encode_basestring
from math import isfinite
from typing import Any, Final, cast

LEVELS: Final = {
    "debug": -1,
    "info": 0,
    "warn": 1,
    "error": 2,
    "dpanic": 3,
    "panic": 4,
    "fatal": 5,
}


class _Log:
    """The process's log: level, format, outputs."""

    __slots__ = ("console", "level", "sinks")

    def __init__(self) -> None:
        self.level = LEVELS["info"]
        self.console = False
        self.sinks: list[Sink] = [FileDescriptor(2)]


class Sink:
    """Where finished lines go."""

    def write(self, line: bytes, level: str) -> None:
        """Take one line, newline included; must not raise OSError."""
        raise NotImplementedError

    def close(self) -> None:
        """Release what the sink holds."""


class FileDescriptor(Sink):
    """Standard output or error; never closed by us."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, line: bytes, level: str) -> None:
        write_all(self._fd, line)


def write_all(fd: int, line: bytes) -> None:
    """Write the whole line; what a full disk or a closed pipe refuses is lost."""
    while line:
        try:
            line = line[os.write(fd, line) :]
        except OSError:
            return  # nobody to tell, and a log must not stop the member


def timestamp(wall_ns: int) -> str:
    """RFC 3339 with microseconds, UTC: "2026-11-21T10:13:57.524262Z"."""
    seconds, rest_ns = divmod(wall_ns, 1_000_000_000)
    moment = time.gmtime(seconds)
    clock = f"{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02}.{rest_ns // 1000:06}"
    return f"{moment.tm_year:04}-{moment.tm_mon:02}-{moment.tm_mday:02}T{clock}Z"


def _json(found: Any, comma: str = ",", colon: str = ":") -> str:
    """`found` as JSON; what JSON does not know becomes its `str`."""
    match found:
        case str():
            return encode_basestring(found)
        case bool():
            return "true" if found else "false"
        case int():
            return repr(int(found))
        case float():
            return repr(found) if isfinite(found) else f'"{found}"'
        case None:
            return "null"
        case bytes():
            return encode_basestring(found.decode("utf-8", "replace"))
        case list() | tuple():
            return f"[{comma.join(_json(item, comma, colon) for item in _items(found))}]"
        case dict():
            pairs = cast("dict[Any, Any]", found).items()
            inner = (f"{_json(str(key))}{colon}{_json(at, comma, colon)}" for key, at in pairs)
            return f"{{{comma.join(inner)}}}"
        case _:
            return encode_basestring(str(found))


def _items(found: Any) -> Iterable[Any]:
    return found


def json_line(record: Record) -> str:
    """One record as zap's JSON encoder writes it."""
    parts = [f'{{"level":"{record.level}","ts":"{timestamp(record.wall_ns)}"']
    if record.logger:
        parts.append(f'"logger":{encode_basestring(record.logger)}')
    parts.append(f'"caller":{encode_basestring(record.caller)}')
    parts.append(f'"msg":{encode_basestring(record.message)}')
    parts += [f"{encode_basestring(n)}:{_json(v)}" for n, v in record.fields.items()]
    return ",".join(parts) + "}\n"


def console_line(record: Record) -> str:
    """One record as zap's console encoder writes it: columns apart by tabs, fields as JSON."""
    columns = [timestamp(record.wall_ns), record.level]
    if record.logger:
        columns.append(record.logger)
    columns += [record.caller, record.message]
    if record.fields:
        columns.append(_json(record.fields, ", ", ": "))
    return "\t".join(columns) + "\n"


class Record:
    """What one call of a logger says."""

    __slots__ = ("caller", "fields", "level", "logger", "message", "wall_ns")

    def __init__(
        self,
        level: str,
        message: str,
        fields: dict[str, Any],
        *,
        caller: str,
        logger: str = "",
        wall_ns: int | None = None,
    ) -> None:
        self.level = level
        self.message = message
        self.fields = {name.replace("_", "-"): found for name, found in fields.items()}
        self.caller = caller
        self.logger = logger
        self.wall_ns = time.time_ns() if wall_ns is None else wall_ns


_log = _Log()


class Logger:
    """A part of the program that logs; `name`, unless empty, appears as zap's "logger"."""

    __slots__ = ("_bound", "name")

    def __init__(self, name: str = "", bound: dict[str, Any] | None = None) -> None:
        self.name = name
        self._bound = bound or {}

    def bind(self, **fields: Any) -> Logger:
        """A logger whose records all carry these fields first."""
        return Logger(self.name, {**self._bound, **fields})

    def info(self, message: str, /, **fields: Any) -> None:
        """A transition that an operator may want to see."""
        if _log.level <= 0:
            self._write("info", message, fields)

    def warn(self, message: str, /, **fields: Any) -> None:
        """Something is slow, refused or odd; we go on."""
        if _log.level <= 1:
            self._write("warn", message, fields)

    def error(self, message: str, /, **fields: Any) -> None:
        """Something failed. Nothing logs this in normal operation."""
        if _log.level <= 2:
            self._write("error", message, fields)

    def fatal(self, message: str, /, **fields: Any) -> None:
        """The last line before the process ends; ending it is the caller's."""
        self._write("fatal", message, fields)

    def log(self, level: str, message: str, fields: dict[str, Any]) -> None:
        """A record whose level and fields are data."""
        if LEVELS[level] >= _log.level:
            self._write(level, message, fields)

    def bug(self, message: str, error: BaseException, **fields: Any) -> None:
        """An exception that should not have happened, with its stack."""
        import traceback  # 2 ms that only a bug pays

        stack = "".join(traceback.format_exception(error)).rstrip()
        self._write("error", message, {"error": repr(error), **fields, "stacktrace": stack})

    def _write(self, level: str, message: str, fields: dict[str, Any]) -> None:
        frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage] # the caller of info(), ...
        code = frame.f_code
        folder, _, name = code.co_filename.rpartition("/")
        caller = f"{folder.rpartition('/')[2]}/{name}:{frame.f_lineno}"
        said = {**self._bound, **fields}
        write(Record(level, message, said, caller=caller, logger=self.name))


def write(record: Record) -> None:
    """Send one record to every output, whatever its level."""
    text = console_line(record) if _log.console else json_line(record)
    line = text.encode("utf-8", "replace")
    for sink in _log.sinks:
        sink.write(line, record.level)


def get(name: str = "") -> Logger:
    """The logger of a part; "" for most of the program."""
    return Logger(name)


def configure(
    *,
    level: str = "info",
    console: bool = False,
    outputs: tuple[str, ...] = ("default",),
    rotation: str | None = None,
) -> None:
    """Set level, format and outputs; `rotation` is lumberjack's JSON for the one file there is.

    Raises OSError for a file that cannot be opened; the log then stays what it was.
    """
    from corum import log_sinks

    sinks: list[Sink] = []
    for output in dict.fromkeys(outputs):
        if output in ("default", "stderr"):
            in_journal = output == "default" and log_sinks.stderr_is_journal()
            sinks.append(log_sinks.Journal() if in_journal else FileDescriptor(2))
        elif output == "stdout":
            sinks.append(FileDescriptor(1))
        elif output == "systemd/journal":
            sinks.append(log_sinks.Journal())
        elif rotation is not None:
            sinks.append(log_sinks.RotatingFile(output, log_sinks.read_rotation(rotation)))
        else:
            sinks.append(log_sinks.PlainFile(output))
    previous = _log.sinks
    _log.level, _log.console, _log.sinks = LEVELS[level], console, sinks
    for sink in previous:
        sink.close()
