"""etcdctl for the v2 API, chosen by ETCDCTL_API=2: keys and directories over plain HTTP.

Reading order: `commands` (the table, its help, the parser), `api` (requests), then `keys`,
`watches`, `members` and `users`.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process; the exit status."""
    from corum.cli.etcdctl_v2.commands import run

    try:
        status = run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 0
    return status
