"""`corum cluster`: several members in one command, to look at and to break.

Without a further word it starts them and shows what they log, until Ctrl-C; commands can be typed
meanwhile. With one (`corum cluster stop m2`) it has the cluster that runs in the directory do it.
"""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click

from corum.cluster.cluster import LocalCluster
from corum.cluster.commands import HELP, execute
from corum.cluster.control import Control, ask
from corum.cluster.process import ClusterError

COLOURS: Final = ("cyan", "yellow", "green", "magenta", "blue", "red")
OUR_NAME: Final = "corum"
CLIENT_PORTS: Final = (2379, 22379, 32379)
PEER_PORTS: Final = (2380, 22380, 32380)
"""Where people expect three members, as in etcd's own example."""
LOOK_EVERY_S: Final = 0.2


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog="\b\nCommands, typed while it runs or sent as COMMAND:\n  " + HELP.replace("\n", "\n  "),
)
@click.argument("command", nargs=-1)
@click.option("-m", "--members", "size", default=3, show_default=True, help="how many")
@click.option("--names", help="their names, joined by commas (default m1, m2, ...)")
@click.option(
    "-d",
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("cluster.etcd"),
    show_default=True,
    help="data, logs and the control socket; a cluster that is there goes on",
)
@click.option("--free-ports", is_flag=True, help="instead of 2379, 22379, 32379 for clients")
@click.option("--client-ports", help="joined by commas, one for each member")
@click.option("--peer-ports", help="joined by commas, one for each member")
@click.option(
    "--binary", multiple=True, help="another etcd: PATH for all members, NAME=PATH for one"
)
@click.option(
    "--flag", multiple=True, help="a flag of etcd: --x=y for all members, NAME:--x=y for one"
)
def cluster(command: tuple[str, ...], directory: Path, **options: Any) -> None:
    """Run several members on this machine, or tell those that run what to do."""
    try:
        if command:
            text = ask(directory, command)
            if text:
                click.echo(text)
        else:
            _run(directory, options)
    except ClusterError as error:
        raise click.ClickException(str(error)) from None


def _run(directory: Path, options: Mapping[str, Any]) -> None:
    names: str = options["names"] or ""
    members = names.split(",") if names else [f"m{n + 1}" for n in range(options["size"])]
    binaries, everybodys = _by_name(options["binary"], "=", members)
    flags, common = _by_name(options["flag"], ":", members)
    ours = not binaries and not everybodys
    screen = Screen(members)
    made = LocalCluster(
        members,
        directory=directory,
        binary={name: [(everybodys or [""])[-1]] for name in members if everybodys}
        | {name: [paths[-1]] for name, paths in binaries.items()},
        flags=[*(["--log-format=console"] if ours else []), *common],
        member_flags=flags,
        client_ports=_ports(options, "client_ports", directory, CLIENT_PORTS, len(members)),
        peer_ports=_ports(options, "peer_ports", directory, PEER_PORTS, len(members)),
        log=screen.line,
    )
    _Session(made, screen).run()


def _by_name(
    words: tuple[str, ...], mark: str, names: list[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """Those for one member, and those for all."""
    one: dict[str, list[str]] = {}
    everybodys: list[str] = []
    for word in words:
        name, found, rest = word.partition(mark)
        if found and name in names:
            one.setdefault(name, []).append(rest)
        else:
            everybodys.append(word)
    return one, everybodys


def _ports(
    options: Mapping[str, Any], which: str, directory: Path, usual: tuple[int, ...], members: int
) -> list[int]:
    """As given; else those of the directory (none here), the usual ones, or free ones."""
    if options[which]:
        try:
            return [int(port) for port in options[which].split(",")]
        except ValueError:
            raise ClusterError(f"--{which.replace('_', '-')} wants numbers") from None
    if options["free_ports"] or (directory / "cluster.json").exists():
        return []
    return list(usual[:members])


class Screen:
    """Lines of several speakers, each with a coloured name before it."""

    def __init__(self, names: list[str]) -> None:
        self._width = max(len(name) for name in (*names, OUR_NAME))
        self._colours: dict[str, str] = {}

    def line(self, name: str, text: str) -> None:
        """One whole line; from any thread."""
        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        with contextlib.suppress(BrokenPipeError, ValueError):  # nobody reads any more
            click.echo(click.style(f"{name:{self._width}} | ", fg=colour) + text)

    def say(self, text: str) -> None:
        """Lines of our own."""
        for line in text.splitlines():
            with contextlib.suppress(BrokenPipeError, ValueError):
                click.echo(click.style(f"{OUR_NAME:{self._width}} | {line}", bold=True))


class _Session:
    """A cluster while its command runs: signals, the keyboard, the control socket."""

    def __init__(self, cluster: LocalCluster, screen: Screen) -> None:
        self._cluster = cluster
        self._screen = screen
        self._done = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._states: dict[str, str] = {}

    def run(self) -> None:
        """Until somebody wants it to end; then all stop in good order."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._end)
        control = None
        try:
            self._cluster.start(wait=False)
            control = Control(self._cluster.directory, self._obey)
            for member in self._cluster.members.values():
                self._screen.say(f"{member.name} serves clients at {member.client_url}")
            self._screen.say(f"endpoints: {','.join(self._cluster.endpoints)}")
            if sys.stdin is not None and sys.stdin.isatty():
                self._screen.say("type commands (help tells which), Ctrl-C ends")
                threading.Thread(target=self._keyboard, name="corum-keyboard", daemon=True).start()
            while not self._done.wait(LOOK_EVERY_S):
                self._tell_changes()
            with self._one_at_a_time:
                self._cluster.stop()
                self._tell_changes()
        finally:
            if control is not None:
                control.close()
            self._cluster.close()

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._done.set()

    def _tell_changes(self) -> None:
        now = {name: member.state for name, member in list(self._cluster.members.items())}
        for name, state in now.items():
            if self._states.get(name, "running") != state:
                self._screen.say(f"{name} {state}")
        self._states = now

    def _obey(self, words: list[str]) -> str:
        if words == ["quit"]:
            self._done.set()
            return ""
        with self._one_at_a_time:
            self._screen.say(shlex.join(words))
            return execute(self._cluster, words)

    def _keyboard(self) -> None:
        for line in sys.stdin:
            try:
                self._screen.say(self._obey(line.split()) if line.strip() else "")
            except ClusterError as error:
                self._screen.say(str(error))
        self._done.set()
