"""Passwords that are asked for."""

from __future__ import annotations

import sys


def secret(prompt: str) -> str:
    """A line without echo from a terminal, with prompt on stdout; a plain line from a pipe."""
    if sys.stdin.isatty():
        from getpass import getpass

        return getpass(prompt)
    sys.stdout.write(prompt)
    sys.stdout.flush()
    line = sys.stdin.readline().rstrip("\r\n")
    sys.stdout.write("\n")
    sys.stdout.flush()
    return line
