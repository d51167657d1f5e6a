"""The flag parser and the command tree: pflag's and cobra's rules and words."""

import pytest

from corum.cli import gotext
from corum.cli.command import Command, resolve, suggestions
from corum.cli.etcdctl.commands import PROGRAM
from corum.cli.etcdctl.context import _is_address
from corum.cli.flags import Flag, FlagError, boolean, duration, help_lines, integer, parse, text

FLAGS = (
    boolean("prefix", "p"),
    boolean("interactive", "i", short="i"),
    text("write-out", "simple", "w", short="w"),
    integer("limit", 0, "l"),
    duration("timeout", 5_000_000_000, "t"),
    Flag("endpoints", "strings", ("a:1",), "e"),
)


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--prefix"], "prefix", True),
        (["--prefix=true"], "prefix", True),
        (["--prefix=F"], "prefix", False),
        (["--write-out", "json"], "write-out", "json"),
        (["--write-out="], "write-out", ""),
        (["-w", "json"], "write-out", "json"),
        (["-wjson"], "write-out", "json"),
        (["-w=json"], "write-out", "json"),
        (["-iwjson"], "write-out", "json"),
        (["--limit", "-5"], "limit", -5),
        (["--limit=0x10"], "limit", 16),
        (["--timeout=1m30.5s"], "timeout", 90_500_000_000),
        (["--endpoints=b:1,c:2"], "endpoints", ("b:1", "c:2")),
        (["--endpoints=b:1", "--endpoints", "c:2"], "endpoints", ("b:1", "c:2")),
        (["--limit=1", "--limit=2"], "limit", 2),
    ],
)
def test_ways_to_give_a_flag(words: list[str], name: str, value: object) -> None:
    """Every spelling that pflag takes."""
    values, rest, _ = parse(FLAGS, words)
    assert dict(values.shown())[name] == values.flag(name).shown(value)  # type: ignore[union-attr,arg-type]
    assert rest == []
    assert name in values.changed


def test_flags_between_arguments_and_the_separator() -> None:
    """`--` ends the flags; how many arguments stood before it is told."""
    values, rest, dash = parse(FLAGS, ["a", "--limit", "1", "b", "-", "--", "--prefix", "c"])
    assert (rest, dash) == (["a", "b", "-", "--prefix", "c"], 3)
    assert not values.boolean("prefix")
    assert parse(FLAGS, ["a"])[2] == -1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--nosuch"], "unknown flag: --nosuch"),
        (["--nosuch=1"], "unknown flag: --nosuch"),
        (["-c"], "unknown shorthand flag: 'c' in -c"),
        (["-ic"], "unknown shorthand flag: 'c' in -ic"),
        (["--limit"], "flag needs an argument: --limit"),
        (["-w"], "flag needs an argument: 'w' in -w"),
        (["--=x"], "bad flag syntax: --=x"),
        (
            ["--limit=x"],
            'invalid argument "x" for "--limit" flag: strconv.ParseInt: parsing "x": '
            "invalid syntax",
        ),
        (
            ["-i=maybe"],
            'invalid argument "maybe" for "-i, --interactive" flag: strconv.ParseBool: '
            'parsing "maybe": invalid syntax',
        ),
        (
            ["--timeout=5"],
            'invalid argument "5" for "--timeout" flag: time: missing unit in duration "5"',
        ),
    ],
)
def test_complaints(words: list[str], complaint: str) -> None:
    """pflag's words."""
    with pytest.raises(FlagError) as told:
        parse(FLAGS, words)
    assert str(told.value) == complaint


def test_commands_are_found_past_flags_and_by_their_beginning() -> None:
    """Global flags and their values may stand anywhere; unambiguous beginnings are enough."""
    path, rest = resolve(PROGRAM, ["--endpoints", "lease", "-w", "json", "lease", "revok", "12"])
    assert [c.name for c in path] == ["etcdctl", "lease", "revoke"]
    assert rest == ["--endpoints", "lease", "-w", "json", "12"]
    assert [c.name for c in resolve(PROGRAM, ["compact", "5"])[0]] == ["etcdctl", "compaction"]
    assert [c.name for c in resolve(PROGRAM, ["e", "x"])[0]] == ["etcdctl"]


def test_suggestions_for_a_typing_error() -> None:
    """Names at most two edits away."""
    assert suggestions(PROGRAM, "gte") == ["get"]
    assert suggestions(PROGRAM, "xxxxxxxx") == []


def _all(command: Command, prefix: str = "") -> list[str]:
    names = [f"{prefix}{c.name}" for c in command.commands]
    return names + [n for c in command.commands for n in _all(c, f"{prefix}{c.name} ")]


def test_every_command_of_the_table_exists() -> None:
    """A module and a function stand behind each name."""
    import importlib

    def check(command: Command) -> None:
        if command.run:
            module, _, function = command.run.partition(":")
            assert callable(getattr(importlib.import_module(module), function))
        for child in command.commands:
            check(child)

    check(PROGRAM)
    assert {"lease keep-alive", "endpoint hashkv", "user passwd"} <= set(_all(PROGRAM))


def test_help_shows_every_flag() -> None:
    """One line each, texts in one column."""
    lines = help_lines(FLAGS)
    assert len(lines) == len(FLAGS)
    assert any(line.lstrip().startswith('-w, --write-out="simple"') for line in lines)


@pytest.mark.parametrize(
    ("ns", "shown"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5\u00b5s"),
        (3_456_314, "3.456314ms"),
        (1_000_000_000, "1s"),
        (60_500_000_000, "1m0.5s"),
        (3_600_000_000_000, "1h0m0s"),
        (-1_000_000, "-1ms"),
    ],
)
def test_durations_are_printed_as_go_does(ns: int, shown: str) -> None:
    """And read back."""
    assert gotext.format_duration(ns) == shown
    assert gotext.parse_duration(shown) == ns


@pytest.mark.parametrize("bad", ["", "x", "1", "1.2.3s", "1x", "-", "."])
def test_bad_durations_are_refused(bad: str) -> None:
    with pytest.raises(gotext.GoSyntaxError, match="time: "):
        gotext.parse_duration(bad)


@pytest.mark.parametrize(
    ("data", "quoted"),
    [
        (b"plain", '"plain"'),
        (b'a"b\\\n\x00\x7f', '"a\\"b\\\\\\n\\x00\\x7f"'),
        (b"\xff\xfe", '"\\xff\\xfe"'),
        ("\u00e4\u4e16".encode(), '"\u00e4\u4e16"'),
        ("\u200b".encode(), '"\\u200b"'),
    ],
)
def test_quotes_are_gos(data: bytes, quoted: str) -> None:
    """strconv.Quote and its reverse."""
    assert gotext.quote(data) == quoted
    assert gotext.unquote(quoted) == data


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0 B"),
        (9, "9 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (20_480, "20 kB"),
        (2**31, "2.1 GB"),
    ],
)
def test_sizes(number: int, shown: str) -> None:
    assert gotext.human_bytes(number) == shown


@pytest.mark.parametrize(
    ("endpoint", "right"),
    [
        ("127.0.0.1:2379", True),
        ("http://[::1]:2379/", True),
        ("unix:///run/etcd.sock", True),
        ("http://127.0.0.1:99999", False),
        ("http://127.0.0.1:x", False),
        ("localhost", False),
        ("[::1]", False),
    ],
)
def test_an_endpoint_has_a_port(endpoint: str, right: bool) -> None:
    """What nobody can dial is refused in words."""
    assert _is_address(endpoint) is right
