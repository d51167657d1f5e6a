"""How etcdutl prints: simple, json, fields, table; how it words what the system or a data directory
refuses; and the flags that its commands share."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from corum.backend.backend import BackendError
from corum.backend.bbolt_format import BboltError
from corum.cli.command import EXIT_BAD_FEATURE, EXIT_ERROR, ExitError, Invocation
from corum.values import value
from corum.wal import DataDir, WalError

FORMATS: Final = ("simple", "json", "fields", "table")


@value
class Shown:
    """One thing to print: its name in each format, and its value."""

    heading: str  # of a table's column
    field: str
    key: str  # in JSON
    number_or_text: int | str
    cell: str  # in simple and table


def check_format(form: str) -> None:
    """Refuse a format that cannot be printed, before any work is done."""
    if form == "protobuf":
        raise ExitError(EXIT_BAD_FEATURE, "protobuf not supported as output format")
    if form not in FORMATS:
        raise ExitError(EXIT_BAD_FEATURE, "unsupported output format")


def render(form: str, items: Sequence[Shown]) -> str:
    """The items in a checked format, with the newline at the end."""
    if form == "json":
        found = {item.key: item.number_or_text for item in items}
        return json.dumps(found, separators=(",", ":")) + "\n"
    if form == "fields":
        return "".join(f'"{item.field}" : {item.number_or_text}\n' for item in items)
    cells = [item.cell for item in items]
    if form == "simple":
        return ", ".join(cells) + "\n"
    from corum.cli.etcdctl.printers import table_lines  # protobuf, which the others do without

    return "\n".join(table_lines([item.heading for item in items], [cells])) + "\n"


def refused(verb: str, error: OSError) -> ExitError:
    """What the system said, as Go words it: "open X: no such file or directory"."""
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    return ExitError(EXIT_ERROR, f"{verb} {error.filename}: {reason}")


def require(invocation: Invocation, *flags: str) -> None:
    """Refuse a call that lacks one of these flags; their names in ascending order."""
    missing = [f'"{flag}"' for flag in flags if flag not in invocation.values.changed]
    if missing:
        raise ExitError(EXIT_ERROR, f"required flag(s) {', '.join(missing)} not set")


def data_dir(invocation: Invocation, data: str = "data-dir", wal: str = "wal-dir") -> DataDir:
    """The directory that two flags name, the second only for a log that lies elsewhere."""
    wal_dir = invocation.values.string(wal)
    return DataDir(Path(invocation.values.string(data)), Path(wal_dir) if wal_dir else None)


@contextmanager
def told(verb: str, *more: type[Exception]) -> Generator[None]:
    """What a missing, damaged or used data directory raises inside, and `more`, ends the program
    with status 1 and its text; `verb` is what Go was doing when a file was missing."""
    try:
        yield
    except OSError as error:
        raise refused(verb, error) from None
    except (WalError, BboltError, BackendError, ValueError, *more) as error:
        raise ExitError(EXIT_ERROR, str(error)) from None
