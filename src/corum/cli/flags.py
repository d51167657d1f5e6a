"""A small flag parser with the rules of Go's pflag, for etcd's own commands.

`--name value`, `--name=value`, `-n value`, `-n=value`, `-nvalue`, booleans as `--name` or
`--name=false`, flags between arguments, `--` ends them. The texts of errors are pflag's, because
people and scripts know them. What a command offers is a table of `Flag`s; what was given comes
back as `Values`.
"""

from __future__ import annotations

from corum.cli.gotext import (
    GoSyntaxError,
    format_duration,
    parse_bool,
    parse_duration,
    parse_int,
    parse_uint,
)

TYPE_CHECKING = False  # `typing` costs milliseconds that every call would pay
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Literal

    Kind = Literal["string", "bool", "int", "uint", "duration", "strings"]
    Value = str | bool | int | tuple[str, ...]


class FlagError(Exception):
    """The command line does not fit the flags; `str()` is pflag's text."""


class Flag:
    """One flag: name, kind, default, one line of help, and a letter if it has one.

    Durations are ints in nanoseconds, "strings" are comma lists and become tuples; a given list
    replaces the default, given twice it grows.
    """

    __slots__ = ("default", "help", "hidden", "kind", "name", "short")

    def __init__(
        self,
        name: str,
        kind: Kind,
        default: Value,
        help: str,
        *,
        short: str = "",
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.kind: Kind = kind
        self.default = default
        self.help = help
        self.short = short
        self.hidden = hidden

    def parse(self, text: str) -> Value:
        """The value of `text`; GoSyntaxError when it is not of this flag's kind."""
        match self.kind:
            case "bool":
                return parse_bool(text)
            case "int":
                return parse_int(text, 0)
            case "uint":
                return parse_uint(text, 0)
            case "duration":
                return parse_duration(text)
            case "strings":
                return tuple(text.split(",")) if text else ()
            case "string":
                return text

    def shown(self, value: Value) -> str:
        """The value as help and `--debug` print it."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            return format_duration(value) if self.kind == "duration" else str(value)
        return f"[{','.join(value)}]" if isinstance(value, tuple) else value


def boolean(name: str, help: str, *, default: bool = False, short: str = "") -> Flag:
    """A flag that is switched on by its name alone."""
    return Flag(name, "bool", default, help, short=short)


def text(name: str, default: str, help: str, *, short: str = "") -> Flag:
    return Flag(name, "string", default, help, short=short)


def integer(name: str, default: int, help: str) -> Flag:
    return Flag(name, "int", default, help)


def duration(name: str, default_ns: int, help: str) -> Flag:
    return Flag(name, "duration", default_ns, help)


class Values:
    """The values of all flags of a command; `changed` names those that were given."""

    __slots__ = ("_flags", "_values", "changed")

    def __init__(self, flags: Iterable[Flag]) -> None:
        self._flags = {flag.name: flag for flag in flags}
        self._values: dict[str, Value] = {f.name: f.default for f in self._flags.values()}
        self.changed: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._flags

    def flag(self, name: str) -> Flag | None:
        return self._flags.get(name)

    def set(self, name: str, value: Value) -> None:
        previous = self._values[name]
        if self._flags[name].kind == "strings" and name in self.changed:
            assert isinstance(previous, tuple), f"--{name} holds {previous!r}"
            assert isinstance(value, tuple), f"--{name} was given {value!r}"
            value = previous + value
        self._values[name] = value
        self.changed.add(name)

    def set_text(self, name: str, text: str) -> None:
        """As `set`, from text; GoSyntaxError when it does not fit."""
        self.set(name, self._flags[name].parse(text))

    def string(self, name: str) -> str:
        value = self._values[name]
        assert isinstance(value, str), f"--{name} is {self._flags[name].kind}"
        return value

    def boolean(self, name: str) -> bool:
        value = self._values[name]
        assert isinstance(value, bool), f"--{name} is {self._flags[name].kind}"
        return value

    def integer(self, name: str) -> int:
        """Also durations, in nanoseconds."""
        value = self._values[name]
        assert isinstance(value, int), f"--{name} is {self._flags[name].kind}"
        return value

    def strings(self, name: str) -> tuple[str, ...]:
        value = self._values[name]
        assert isinstance(value, tuple), f"--{name} is {self._flags[name].kind}"
        return value

    def shown(self) -> list[tuple[str, str]]:
        """(name, value as text) of all flags, sorted by name."""
        return [(n, self._flags[n].shown(v)) for n, v in sorted(self._values.items())]


def parse(flags: Iterable[Flag], words: Sequence[str]) -> tuple[Values, list[str], int]:
    """Values, the other words in order, and how many of those stood before `--` (-1: no `--`).

    Raises FlagError.
    """
    values = Values(flags)
    letters = {f.short: f for f in flags if f.short}
    arguments: list[str] = []
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        if word == "--":
            dash = len(arguments)
            return values, arguments + waiting[::-1], dash
        if word.startswith("--"):
            _parse_long(values, word, waiting)
        elif word.startswith("-") and word != "-":
            _parse_letters(values, letters, word, waiting)
        else:
            arguments.append(word)
    return values, arguments, -1


def _parse_long(values: Values, word: str, waiting: list[str]) -> None:
    name, equals, given = word[2:].partition("=")
    if not name or name[0] in "-=":
        raise FlagError(f"bad flag syntax: {word}")
    flag = values.flag(name)
    if flag is None:
        raise FlagError(f"unknown flag: --{name}")
    if not equals:
        if flag.kind == "bool":
            given = "true"
        elif waiting:
            given = waiting.pop()
        else:
            raise FlagError(f"flag needs an argument: --{name}")
    _set(values, flag, given)


def _parse_letters(
    values: Values, letters: Mapping[str, Flag], word: str, waiting: list[str]
) -> None:
    """`-i`, `-il`, `-w json`, `-wjson`, `-w=json`."""
    rest = word[1:]
    while rest:
        letter, rest = rest[0], rest[1:]
        flag = letters.get(letter)
        if flag is None:
            raise FlagError(f"unknown shorthand flag: '{letter}' in {word}")
        if rest.startswith("=") and len(rest) > 1:
            _set(values, flag, rest[1:])
            return
        if flag.kind == "bool":
            _set(values, flag, "true")
            continue
        if not rest and not waiting:
            raise FlagError(f"flag needs an argument: '{letter}' in {word}")
        _set(values, flag, rest or waiting.pop())
        return


def _set(values: Values, flag: Flag, given: str) -> None:
    try:
        values.set(flag.name, flag.parse(given))
    except GoSyntaxError as error:
        shown = f"-{flag.short}, --{flag.name}" if flag.short else f"--{flag.name}"
        raise FlagError(f'invalid argument "{given}" for "{shown}" flag: {error}') from None


def help_lines(flags: Iterable[Flag]) -> list[str]:
    """One line per flag, sorted by name, help texts in one column."""
    rows: list[tuple[str, str]] = []
    for flag in sorted(flags, key=lambda f: f.name):
        if not flag.hidden:
            left = f"-{flag.short}, --{flag.name}" if flag.short else f"    --{flag.name}"
            rows.append((left + _default_shown(flag), flag.help))
    width = max((len(left) for left, _ in rows), default=0) + 2
    return [f"  {left.ljust(width)}{right}".rstrip() for left, right in rows]


def _default_shown(flag: Flag) -> str:
    default = flag.shown(flag.default)
    if flag.kind == "bool":
        return f"[={default}]"
    return f'="{default}"' if flag.kind == "string" else f"={default}"
