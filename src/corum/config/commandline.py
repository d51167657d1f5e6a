"""Go's flag syntax: `-x`, `--x`, `--x=v`, `--x v`; booleans only `--b` and `--b=v`; the last wins.

Every text is converted at once, so the first bad word in reading order is the one reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from corum.cli.gotext import quote
from corum.config.aliases import ALIASES, IGNORED
from corum.config.errors import ConfigError, HelpWanted
from corum.config.kinds import BOOL, TEXT, BadValue, Kind
from corum.config.model import FLAGS
from corum.values import value

_COMMANDS: dict[str, Kind] = {"config-file": TEXT, "version": BOOL}


@value
class Words:
    """What a command line says, by flag name (old spellings as they are)."""

    values: dict[str, Any]
    ignored: tuple[str, ...]
    rest: tuple[str, ...]


def kind_of(name: str) -> Kind | None:
    """The kind of a flag under any of its names; None for a flag that does not exist."""
    if name in FLAGS:
        return FLAGS[name].kind
    if name in ALIASES:
        return ALIASES[name].kind
    return _COMMANDS.get(name)


def read(argv: Sequence[str]) -> Words:
    """The words after the program's name. Raises ConfigError (exit code 2) or HelpWanted."""
    values: dict[str, Any] = {}
    ignored: list[str] = []
    at = 0
    while at < len(argv):
        word = argv[at]
        if len(word) < 2 or word[0] != "-":
            break
        at += 1
        if word == "--":
            break
        name, equals, text = _split(word)
        if name in IGNORED:
            ignored.append(name)
            continue
        kind = kind_of(name)
        if kind is None:
            if name in ("h", "help"):
                raise HelpWanted
            raise ConfigError(f"flag provided but not defined: -{name}", usage=True)
        if not equals and kind.name == BOOL.name:
            text = "true"
        elif not equals:
            if at == len(argv):
                raise ConfigError(f"flag needs an argument: -{name}", usage=True)
            text = argv[at]
            at += 1
        values[name] = _convert(name, kind, text)
    return Words(values, tuple(ignored), tuple(argv[at:]))


def _split(word: str) -> tuple[str, str, str]:
    name, equals, text = word.removeprefix("-").removeprefix("-").partition("=")
    if not name or name.startswith("-"):
        raise ConfigError(f"bad flag syntax: {word}", usage=True)
    return name, equals, text


def _convert(name: str, kind: Kind, text: str) -> Any:
    try:
        return kind.parse(text)
    except BadValue as error:
        if kind.name == BOOL.name:
            what = f"invalid boolean value {quote(text)} for -{name}"
        else:
            what = f"invalid value {quote(text)} for flag -{name}"
        raise ConfigError(f"{what}: {error}", usage=True) from None
