"""etcdctl: every command of etcd's own client, with its words, formats and exit statuses.

`ETCDCTL_API=2` chooses the commands of the v2 API (`corum.cli.etcdctl_v2`).

Reading order: `commands` (the table of everything), `context` (global flags, connection, calls),
`printers` (formats), then one file per noun. A call imports only the file of its command.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
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
