"""corum: commands of our own, beside etcd's."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from corum.cli.cluster import cluster
from corum.cli.v2_world import copy_v2, discovery


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def program() -> None:
    """Etcd in Python: what etcd's own commands do not have."""


program.add_command(cluster)
program.add_command(copy_v2)
program.add_command(discovery)


@program.command()
def version() -> None:
    """Print what is installed, and which etcd it stands for."""
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    from corum.versions import CORUM_VERSION, DEFAULT, EMULATED

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("corum", CORUM_VERSION)
    table.add_row("etcd", EMULATED[DEFAULT].server)
    table.add_row("Python", platform.python_version())
    for package in ("lmdb", "protobuf"):
        try:
            table.add_row(package, installed(package))
        except PackageNotFoundError:
            table.add_row(package, "missing")
    Console().print(table)


def main() -> int:
    """Run the command line of this process; the exit status."""
    program(prog_name="corum")
    return 0


if __name__ == "__main__":
    main()
