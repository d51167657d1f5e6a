"""Text tests: a command, `----`, what it prints. Reading, comparing and rewriting of files.

# a comment
command argument key=value key=(a, b)
input, if any
----
expected text up to a blank line (or between doubled `----` where it holds blank lines)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_ARGUMENT = re.compile(r"([^\s=()]+)(?:=(\([^)]*\)|\S*))?")
_LOG_LINE = re.compile(r"\s*(?:DEBUG|INFO|WARN|ERROR) ")
_RULE = "----"


@dataclass
class Command:
    """One command of a script, with where it is and what it shall print."""

    path: Path
    line: int
    text: str
    name: str = ""
    arguments: list[tuple[str, list[str] | None]] = field(default_factory=list)
    input: list[str] = field(default_factory=list)
    expected: str = ""

    def positional(self) -> list[str]:
        """Arguments without a value, in order."""
        return [key for key, values in self.arguments if values is None]

    def option(self, key: str) -> list[str] | None:
        """Values of `key=value` or `key=(a, b)`, or None if it is not given."""
        return next((values for name, values in self.arguments if name == key and values), None)

    def value(self, key: str, default: str = "") -> str:
        values = self.option(key)
        return default if values is None else values[0]

    def flag(self, key: str) -> bool:
        return self.value(key) == "true"


Handler = Callable[[Command], str]


@dataclass
class _Block:
    """A piece of a file: lines kept as they are, then perhaps a command."""

    kept: list[str]
    command: Command | None


def run(path: Path, handler: Handler) -> None:
    """Run a script. Raises AssertionError at the first command that prints something else."""
    for block in _parse(path):
        command = block.command
        if command is None:
            continue
        printed = _comparable(handler(command))
        expected = _comparable(command.expected)
        where = f"{path.name}:{command.line}: {command.text}"
        assert printed == expected, f"{where}\n--- printed\n{printed}\n--- expected\n{expected}"


def rewrite(path: Path, handler: Handler) -> None:
    """Run a script and write what its commands print into it."""
    lines: list[str] = []
    for block in _parse(path):
        lines += block.kept
        command = block.command
        if command is None:
            continue
        printed = handler(command).rstrip("\n")
        rules = [_RULE, _RULE] if "\n\n" in printed else [_RULE]
        closing = [*rules, ""] if len(rules) == 2 else [""]
        lines += [command.text, *command.input, *rules, *printed.split("\n"), *closing]
    path.write_text("\n".join(lines).rstrip("\n") + "\n")


def _comparable(text: str) -> str:
    """Without the log lines of the other implementation; all of them away is `ok`."""
    lines = [line for line in text.split("\n") if not _LOG_LINE.match(line)]
    return "\n".join(lines).strip("\n") or "ok"


def _parse(path: Path) -> list[_Block]:
    lines = path.read_text().split("\n")
    blocks: list[_Block] = []
    kept: list[str] = []
    at = 0
    while at < len(lines):
        text = lines[at]
        if not text.strip() or text.startswith("#"):
            kept.append(text)
            at += 1
            continue
        command = Command(path, at + 1, text)
        words = [match.groups() for match in _ARGUMENT.finditer(text)]
        command.name = words[0][0]
        command.arguments = [(key, _values(value)) for key, value in words[1:]]
        at += 1
        while lines[at] != _RULE:
            command.input.append(lines[at])
            at += 1
        command.expected, at = _expected(lines, at + 1)
        blocks.append(_Block(kept, command))
        kept = []
    blocks.append(_Block(kept, None))
    return blocks


def _expected(lines: list[str], at: int) -> tuple[str, int]:
    """The expected text that starts at line `at`, and the line after it."""
    start = at
    if lines[at : at + 1] == [_RULE]:
        end = start + 1
        while lines[end : end + 2] != [_RULE, _RULE]:
            end += 1
        after = end + 2
        return "\n".join(lines[start + 1 : end]), after + (lines[after : after + 1] == [""])
    while at < len(lines) and lines[at].strip():
        at += 1
    return "\n".join(lines[start:at]), at + 1


def _values(text: str | None) -> list[str] | None:
    if text is None:
        return None
    if text.startswith("("):
        return [value for value in re.split(r"[,\s]+", text[1:-1].strip()) if value]
    return [text]
