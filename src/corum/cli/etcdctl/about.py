"""version, options, completion."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from corum.cli import flags as flagging
from corum.cli.command import EXIT_ERROR, print_error, usage_text

if TYPE_CHECKING:
    from corum.cli.command import Invocation

VERSION = "3.7.3"  # the etcd whose commands these are
API_VERSION = VERSION.rpartition(".")[0]


def version(invocation: Invocation) -> None:
    sys.stdout.write(f"{invocation.root.name} version: {VERSION}\nAPI version: {API_VERSION}\n")


def options(invocation: Invocation) -> None:
    lines = ["The following options can be passed to any command:", ""]
    sys.stdout.write("\n".join([*lines, *flagging.help_lines(invocation.root.sticky)]) + "\n")


def completion(invocation: Invocation) -> int:
    from corum.cli.completion import SHELLS, script

    if len(invocation.arguments) != 1 or invocation.arguments[0] not in SHELLS:
        given = len(invocation.arguments)
        text = f"accepts 1 arg(s), received {given}"
        if given == 1:
            text = f'invalid argument "{invocation.arguments[0]}" for "{invocation.name}"'
        print_error(text)
        sys.stderr.write(usage_text(invocation.path) + "\n")
        return EXIT_ERROR
    sys.stdout.write(script(invocation.root, invocation.arguments[0]))
    return 0
