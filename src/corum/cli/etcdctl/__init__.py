"""etcdctl: every command of etcd's own client, with its words, formats and exit statuses.

`ETCDCTL_API=2` chooses the commands of the v2 API (`corum.cli.etcdctl_v2`).

Reading order: `commands` (the table of everything), `context` (global flags, connection, calls),
`printers` (formats), then one file per noun. A call imports only the file of its command.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import NoReturn

GARBAGE_MAX = 50_000  # objects between two collections; most commands never make so many


def main() -> NoReturn:
    """Run the command line of this process, and end it.

    A command lives for some 50 ms, a fifth of which would be spent on looking for garbage while it
    loads and on taking its modules apart afterwards.
    """
    gc.set_threshold(GARBAGE_MAX)
    status = command_line()
    with contextlib.suppress(OSError):  # what an interrupted command has printed
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def command_line() -> int:
    """Run the command line of this process; the exit status."""
    if os.environ.get("ETCDCTL_API") == "2":
        from corum.cli.etcdctl_v2 import main as main_v2

        return main_v2()
    from corum.cli import command
    from corum.cli.etcdctl.commands import PROGRAM

    try:
        status = command.run(PROGRAM, sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # the reader of our output has gone: not our mistake
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 141
    return status
