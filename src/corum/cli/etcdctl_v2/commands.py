"""The table of the v2 commands, their help, and the parser with urfave/cli's rules."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from corum.cli import flags as flagging
from corum.cli.command import Command
from corum.cli.etcdctl.about import VERSION
from corum.cli.etcdctl_v2.api import (
    DEFAULT_ENDPOINTS,
    EXIT_BAD_ARGUMENTS,
    Api,
    Failure,
    Unavailable,
)
from corum.cli.flags import Flag, boolean, duration, integer, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corum.cli.flags import Values

S = 1_000_000_000
HERE = "corum.cli.etcdctl_v2"
EXIT_NO_COMMAND = 3

GLOBAL_FLAGS = (
    boolean("debug", "output cURL commands which can be used to reproduce the request"),
    boolean("no-sync", "don't synchronize cluster information before sending request"),
    text(
        "output", "simple",
        "output response in the given format (simple, `extended` or `json`)", short="o",
    ),
    text(
        "discovery-srv", "", "domain name to query for SRV records describing cluster endpoints",
        short="D",
    ),
    boolean("insecure-discovery", "accept insecure SRV records describing cluster endpoints"),
    text("peers", "", 'DEPRECATED - "--endpoints" should be used instead', short="C"),
    text("endpoint", "", 'DEPRECATED - "--endpoints" should be used instead'),
    text(
        "endpoints", DEFAULT_ENDPOINTS,
        "a comma-delimited list of machine addresses in the cluster",
    ),
    text("cert-file", "", "identify HTTPS client using this SSL certificate file"),
    text("key-file", "", "identify HTTPS client using this SSL key file"),
    text("ca-file", "", "verify certificates of HTTPS-enabled servers using this CA bundle"),
    text(
        "username", "", "provide username[:password] and prompt if password is not supplied.",
        short="u",
    ),
    duration("timeout", 2 * S, "connection timeout per request"),
    duration("total-timeout", 5 * S, "timeout for the command execution (except watch)"),
    boolean("help", "show help", short="h"),
    boolean("version", "print the version", short="v"),
)  # fmt: skip

TTL = integer("ttl", 0, "key time-to-live in seconds")
SORT = boolean("sort", "returns result in sorted order")
QUORUM = boolean("quorum", "require quorum for get request", short="q", default=True)
"""Go's default is off: a get of ours fails when no majority stands behind it."""
RECURSIVE = boolean("recursive", "watch all keys below it too", short="r")
AFTER = integer("after-index", 0, "watch after the given index")
PATH_FLAGS = (
    text("path", "", "path the permission is for"),
    boolean("read", "permission to read"),
    boolean("write", "permission to write"),
    boolean("readwrite", "permission to read and write"),
    boolean("rw", "permission to read and write"),
)
ROLES = (text("roles", "", "comma-delimited list of roles"),)


def _command(name: str, arguments: str, short: str, run: str, *flags: Flag) -> Command:
    usage = f"{name} {arguments}".strip()
    return Command(name, short, usage=usage, run=f"{HERE}.{run}", flags=flags)


COMMANDS = (
    _command(
        "backup", "", "backup an etcd directory", "keys:backup",
        text("data-dir", "", "path to the etcd data dir"),
        text("wal-dir", "", "path to the etcd wal dir"),
        text("backup-dir", "", "path to the backup dir"),
        text("backup-wal-dir", "", "path to the backup wal dir"),
        boolean("keep-cluster-id", "keep the cluster id"),
        text("node-id", "", "use this member id"),
        boolean("with-v3", "backup v3 backend data", default=True),
    ),
    _command(
        "cluster-health", "", "check the health of the etcd cluster", "members:health",
        boolean("forever", "forever check the health every 10 second until CTRL+C", short="f"),
    ),
    _command(
        "mk", "<key> <value>", "make a new key with a given value", "keys:mk",
        boolean("in-order", "create in-order key under directory <key>"), TTL,
    ),
    _command("mkdir", "<key>", "make a new directory", "keys:mkdir", TTL),
    _command(
        "rm", "<key>", "remove a key or a directory", "keys:rm",
        boolean("dir", "removes the key if it is an empty directory or a key-value pair"),
        boolean("recursive", "removes the key and all its child keys", short="r"),
        text("with-value", "", "previous value"),
        integer("with-index", 0, "previous index"),
    ),
    _command(
        "rmdir", "<key>", "removes the key if it is an empty directory or a key-value pair",
        "keys:rmdir",
    ),
    _command("get", "<key>", "retrieve the value of a key", "keys:get", SORT, QUORUM),
    _command(
        "ls", "[key]", "retrieve a directory", "keys:ls", SORT,
        boolean("recursive", "returns all key names below the directory", short="r"),
        boolean("p", "append slash (/) to directories"),
        boolean("quorum", "require quorum for get request", short="q"),
    ),
    _command(
        "set", "<key> <value>", "set the value of a key", "keys:set_value", TTL,
        text("swap-with-value", "", "previous value"),
        integer("swap-with-index", 0, "previous index"),
    ),
    _command(
        "setdir", "<key>", "create a new directory or update an existing directory TTL",
        "keys:setdir", TTL,
    ),
    _command(
        "update", "<key> <value>", "update an existing key with a given value", "keys:update", TTL
    ),
    _command("updatedir", "<key> [value]", "update an existing directory", "keys:updatedir", TTL),
    _command(
        "watch", "<key>", "watch a key for changes", "watches:watch",
        boolean("forever", "forever watch a key until CTRL+C", short="f"), AFTER, RECURSIVE,
    ),
    _command(
        "exec-watch", "<key> <command> [args...]",
        "watch a key for changes and exec an executable", "watches:exec_watch", AFTER, RECURSIVE,
    ),
    Command("member", "member add, remove and list subcommands", commands=(
        _command("list", "", "enumerate existing cluster members", "members:list_members"),
        _command("add", "<name> <peerURL>", "add a new member to the etcd cluster", "members:add"),
        _command(
            "remove", "<memberID>", "remove an existing member from the etcd cluster",
            "members:remove",
        ),
        _command(
            "update", "<memberID> <peerURLs>", "update an existing member in the etcd cluster",
            "members:update",
        ),
    )),
    Command("user", "user add, grant and revoke subcommands", commands=(
        _command("add", "<user>", "add a new user for the etcd cluster", "users:add"),
        _command("get", "<user>", "get details for a user", "users:get"),
        _command("list", "", "list all current users", "users:list_users"),
        _command("remove", "<user>", "remove a user for the etcd cluster", "users:remove"),
        _command("grant", "<user>", "grant roles to an etcd user", "users:grant", *ROLES),
        _command("revoke", "<user>", "revoke roles for an etcd user", "users:revoke", *ROLES),
        _command("passwd", "<user>", "change password for a user", "users:passwd"),
    )),
    Command("role", "role add, grant and revoke subcommands", commands=(
        _command("add", "<role>", "add a new role for the etcd cluster", "users:role_add"),
        _command("get", "<role>", "get details for a role", "users:role_get"),
        _command("list", "", "list all roles", "users:role_list"),
        _command("remove", "<role>", "remove a role from the etcd cluster", "users:role_remove"),
        _command(
            "grant", "<role>", "grant path matches to an etcd role", "users:role_grant",
            *PATH_FLAGS,
        ),
        _command(
            "revoke", "<role>", "revoke path matches for an etcd role", "users:role_revoke",
            *PATH_FLAGS,
        ),
    )),
    Command("auth", "overall auth controls", commands=(
        _command("enable", "", "enable auth access controls", "users:enable"),
        _command("disable", "", "disable auth access controls", "users:disable"),
    )),
    Command("help", "Shows a list of commands or help for one command", aliases=("h",)),
)  # fmt: skip
PROGRAM = Command("etcdctl", "A simple command line client for etcd.", commands=COMMANDS)
HELP = boolean("help", "show help", short="h")


class Run:
    """A chosen command: its flags, arguments, and the cluster."""

    def __init__(self, globals_: Values, values: Values, arguments: list[str]) -> None:
        self.globals = globals_
        self.values = values
        self.arguments = arguments
        self._api: Api | None = None

    @property
    def api(self) -> Api:
        if self._api is None:
            self._api = Api(self.globals)
        return self._api

    @property
    def output(self) -> str:
        return self.globals.string("output")


def run(words: Sequence[str]) -> int:
    """Do what the command line asks for; the exit status."""
    try:
        return _dispatch(list(words))
    except Failure as failure:
        sys.stdout.flush()
        sys.stderr.write(failure.text + "\n" if failure.text else "")
        return failure.code
    except Unavailable as problem:
        failure = problem.failure()
        sys.stderr.write(failure.text + "\n")
        return failure.code


def _dispatch(words: list[str]) -> int:
    leading = _leading(words)
    try:
        globals_, _, _ = flagging.parse(GLOBAL_FLAGS, _double(GLOBAL_FLAGS, words[:leading]))
    except flagging.FlagError as error:
        return _misused(str(error), _help(PROGRAM, "etcdctl"), ".")
    rest = words[leading:]
    if globals_.boolean("version"):
        print(f"etcdctl version: {VERSION}\nAPI version: 2")
        return 0
    if globals_.boolean("help") or not rest:
        print(_help(PROGRAM, "etcdctl"))
        return 0
    return _choose(globals_, PROGRAM, "etcdctl", rest)


def _leading(words: list[str]) -> int:
    """How many words are global flags and their values: they stand before the command."""
    kinds = {n: f for f in GLOBAL_FLAGS for n in (f.name, f.short) if n}
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] not in ("-", "--"):
        name, equals, _ = words[at].lstrip("-").partition("=")
        flag = kinds.get(name)
        at += 2 if flag is not None and flag.kind != "bool" and not equals else 1
    return min(at, len(words))


def _choose(globals_: Values, parent: Command, name: str, rest: list[str]) -> int:
    """Run the command that the first word names, or show help."""
    word = rest[0] if rest else "help"
    if word in ("help", "h", "-h", "--help"):
        return _show_help(parent, name, rest[1:])
    command = next((c for c in parent.commands if c.name == word), None)
    if command is None:
        raise Failure(EXIT_NO_COMMAND, f"No help topic for '{word}'")
    full = f"{name} {command.name}"
    if command.commands:
        return _choose(globals_, command, full, rest[1:])
    accepted = [*command.flags, HELP]
    try:
        values, arguments, _ = flagging.parse(accepted, _double(accepted, rest[1:]))
    except flagging.FlagError as error:
        return _misused(str(error), _help(command, full), ":")
    if values.boolean("help"):
        print(_help(command, full))
        return 0
    module, _, function = command.run.partition(":")
    __import__(module)
    result: int | None = getattr(sys.modules[module], function)(Run(globals_, values, arguments))
    return result or 0


def _show_help(parent: Command, name: str, topics: list[str]) -> int:
    if not topics:
        print(_help(parent, name))
        return 0
    command = next((c for c in parent.commands if c.name == topics[0]), None)
    if command is None:
        raise Failure(EXIT_NO_COMMAND, f"No help topic for '{topics[0]}'")
    print(_help(command, f"{name} {command.name}"))
    return 0


def _double(flags: Sequence[Flag], words: list[str]) -> list[str]:
    """Go's flag package knows one dash and two as the same."""
    names = {flag.name for flag in flags}
    doubled: list[str] = []
    for at, word in enumerate(words):
        if word == "--":
            return doubled + words[at:]
        single = word.startswith("-") and not word.startswith("--")
        known = word[1:].partition("=")[0] in names
        doubled.append("-" + word if single and known else word)
    return doubled


def _misused(problem: str, page: str, mark: str) -> int:
    """pflag's words for it turned into those of Go's flag package."""
    if problem.startswith(("unknown flag: --", "unknown shorthand flag: ")):
        name = problem.rpartition("--")[2] if "--" in problem else problem.rpartition("-")[2]
        problem = f"flag provided but not defined: -{name}"
    elif problem.startswith("invalid argument "):
        value = problem.split('"')[1]
        name = problem.split('"')[3].rpartition("--")[2]
        problem = f'invalid value "{value}" for flag -{name}: parse error'
    print(f"Incorrect Usage{mark} {problem}\n\n{page}")
    sys.stdout.flush()
    sys.stderr.write(problem + "\n")
    return EXIT_BAD_ARGUMENTS


def _help(command: Command, name: str) -> str:
    """The page of a command, in the form of urfave/cli."""
    root = command is PROGRAM
    title = f"{name} - {command.short}"
    lines = ["NAME:", f"   {title}", "", "USAGE:"]
    if root:
        lines.append("   etcdctl [global options] command [command options] [arguments...]")
    elif command.commands:
        lines.append(f"   {name} command [command options] [arguments...]")
    else:
        arguments = command.usage.partition(" ")[2]
        options = "[command options] " if command.flags else ""
        lines.append(f"   {name} {options}{arguments or '[arguments...]'}")
    if root:
        lines += ["", "VERSION:", f"   {VERSION}"]
    if command.commands:
        rows = [(", ".join((c.name, *c.aliases)), c.short) for c in command.commands]
        lines += ["", "COMMANDS:", *_columns(rows)]
    flags = GLOBAL_FLAGS if root else (command.flags or ((HELP,) if command.commands else ()))
    if flags:
        lines += ["", "GLOBAL OPTIONS:" if root else "OPTIONS:", *_columns(map(_row, flags))]
    return "\n".join(lines)


def _columns(rows: Iterable[tuple[str, str]]) -> list[str]:
    listed = list(rows)
    width = max(len(left) for left, _ in listed)
    return [f"   {left.ljust(width)}  {right}".rstrip() for left, right in listed]


def _row(flag: Flag) -> tuple[str, str]:
    """The flag with its value and letter, and its help with the default."""
    shown = "" if flag.kind == "bool" else " value"
    note = ""
    if flag.name == "output":
        shown = " simple"
    if flag.kind != "bool" and flag.default not in ("", ()):
        default = flag.shown(flag.default)
        note = f' (default: "{default}")' if flag.kind == "string" else f" (default: {default})"
    short = f", -{flag.short}{shown}" if flag.short else ""
    return f"--{flag.name}{shown}{short}", flag.help + note
