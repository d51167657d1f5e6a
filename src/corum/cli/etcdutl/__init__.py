"""etcdutl: what can be done with etcd's files while no member runs on them.

Reading order: `commands` (the table of everything), `snapshot` (status, restore as commands),
`restore` (what a restore does), `upkeep` (defrag, hashkv, version), `stopped` (what a directory
says), `rewriting` (a few rows changed in it), `backup`, `migrate`, `check`, `export`, `output`
(formats).
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process; the exit status."""
    from corum.cli import command
    from corum.cli.etcdutl.commands import PROGRAM

    return command.run(PROGRAM, sys.argv[1:])
