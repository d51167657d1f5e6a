"""A tree of commands with cobra's rules: finding one by its words, help, and running it.

A program is one `Command` with sub-commands; what a command does is named as text
("package.module:function") and imported when it is chosen, so that a call pays only for itself.
The words of a command may be cut short as long as they stay unambiguous (`lease revok`).
"""

from __future__ import annotations

import sys

from corum.cli import flags as flagging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corum.cli.flags import Flag, Values

EXIT_SUCCESS = 0
EXIT_ERROR = 1
EXIT_BAD_CONNECTION = 2
EXIT_INVALID_INPUT = 3  # for txn and watch
EXIT_BAD_FEATURE = 4  # a valid flag with a value nobody supports
EXIT_INTERRUPTED = 5
EXIT_BAD_ARGUMENTS = 128


class ExitError(Exception):
    """End the program: "Error: <text>" on stderr (nothing when empty) and this exit status."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def bad_arguments(text: str) -> ExitError:
    return ExitError(EXIT_BAD_ARGUMENTS, text)


class Command:
    """One word of the command line, and what may follow it.

    usage: the line after the program's name ("get [options] <key> [range_end]").
    run: "package.module:function", called with an `Invocation`; its int is the exit status.
    sticky: flags of this command that its sub-commands take too.
    """

    __slots__ = (
        "aliases", "commands", "flags", "hidden", "long", "name", "run", "short",
        "sticky", "usage",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        short: str,
        *,
        usage: str = "",
        long: str = "",
        run: str = "",
        flags: Sequence[Flag] = (),
        sticky: Sequence[Flag] = (),
        commands: Sequence[Command] = (),
        aliases: Sequence[str] = (),
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.short = short
        self.usage = usage or name
        self.long = long
        self.run = run
        self.flags = flags
        self.sticky = sticky
        self.commands = commands
        self.aliases = aliases
        self.hidden = hidden

    def find(self, word: str) -> Command | None:
        """The sub-command `word` names: in full, by an alias, or by an unambiguous beginning."""
        for command in self.commands:
            if word == command.name or word in command.aliases:
                return command
        fits = [c for c in self.commands if word and c.name.startswith(word)]
        return fits[0] if len(fits) == 1 else None


class Invocation:
    """A parsed command line: `path` from the program to the command, its flags and arguments.

    `dash` is the number of arguments before `--`, -1 without one.
    """

    __slots__ = ("arguments", "dash", "path", "values")

    def __init__(
        self, path: Sequence[Command], values: Values, arguments: Sequence[str], dash: int
    ) -> None:
        self.path = path
        self.values = values
        self.arguments = arguments
        self.dash = dash

    @property
    def root(self) -> Command:
        return self.path[0]

    @property
    def command(self) -> Command:
        return self.path[-1]

    @property
    def name(self) -> str:
        return " ".join(c.name for c in self.path)


HELP = flagging.boolean("help", "show this help", short="h")


def run(program: Command, words: Sequence[str]) -> int:
    """Do what `words` (without the program's name) ask for; the exit status."""
    try:
        return _dispatch(program, words)
    except ExitError as error:
        if error.text:
            print_error(error.text)
        return error.code


def print_error(text: str) -> None:
    """ "Error: <text>" on stderr, bytes that are not UTF-8 as they were given."""
    sys.stdout.flush()
    sys.stderr.flush()
    sys.stderr.buffer.write(b"Error: " + text.encode("utf-8", "surrogateescape") + b"\n")
    sys.stderr.flush()


def _dispatch(program: Command, words: Sequence[str]) -> int:
    path, rest = resolve(program, words)
    command = path[-1]
    try:
        values, arguments, dash = flagging.parse(accepted(path), rest)
    except flagging.FlagError as error:
        print_error(str(error))
        sys.stderr.write(usage_text(path) + "\n")
        return EXIT_ERROR
    if values.boolean("help"):
        sys.stdout.write(help_text(path))
        return EXIT_SUCCESS
    if command.run:
        module, _, function = command.run.partition(":")
        __import__(module)
        result = getattr(sys.modules[module], function)(Invocation(path, values, arguments, dash))
        return result or EXIT_SUCCESS
    if command is program and arguments:
        return _unknown(program, arguments[0])
    sys.stdout.write(help_text(path))
    return EXIT_SUCCESS


def resolve(program: Command, words: Sequence[str]) -> tuple[list[Command], list[str]]:
    """The commands that the leading words name, and all other words in their order."""
    path, rest = [program], list(words)
    while path[-1].commands:
        at = _first_word(accepted(path), rest)
        found = path[-1].find(rest[at]) if at is not None else None
        if at is None or found is None:
            break
        del rest[at]
        path.append(found)
    return path, rest


def _first_word(flags: Sequence[Flag], words: Sequence[str]) -> int | None:
    """Where the first word stands that is neither a flag nor a flag's value."""
    switches = {f"--{f.name}" for f in flags if f.kind == "bool"}
    switches |= {f"-{f.short}" for f in flags if f.kind == "bool" and f.short}
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            return None
        if not word.startswith("-") or word == "-":
            return at
        takes_next = "=" not in word and word not in switches
        if takes_next and not word.startswith("--") and len(word) > 2:
            takes_next = False
        at += 2 if takes_next else 1
    return None


def accepted(path: Sequence[Command]) -> list[Flag]:
    """The flags that may stand with the last command of `path`."""
    own = list(path[-1].flags)
    for command in path:
        own += command.sticky
    return [*own, HELP]


def show_help(invocation: Invocation) -> int:
    """What the command `help` does: the page of the command that its arguments name."""
    path, rest = resolve(invocation.root, invocation.arguments)
    if rest:
        words = " ".join(f"`{word}`" for word in invocation.arguments)
        sys.stderr.write(f"Unknown help topic [{words}]\n")
        path = [invocation.root]
    sys.stdout.write(help_text(path))
    return EXIT_SUCCESS


HELP_COMMAND = Command(
    "help", "shows the help of a command", usage="help [command]", run=f"{__name__}:show_help"
)


def _unknown(program: Command, word: str) -> int:
    lines = [f'unknown command "{word}" for "{program.name}"']
    near = suggestions(program, word)
    if near:
        lines += ["", "Did you mean this?", *(f"\t{name}" for name in near), ""]
    print_error("\n".join(lines))
    sys.stderr.write(f"Run '{program.name} --help' for usage.\n")
    return EXIT_ERROR


def suggestions(program: Command, word: str) -> list[str]:
    """Commands that begin with `word` or are at most two edits away from it."""
    return [
        c.name
        for c in program.commands
        if not c.hidden
        and (c.name.startswith(word.lower()) or _edits(word.lower(), c.name.lower()) <= 2)
    ]


def _edits(a: str, b: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            cost = min(row[j] + 1, row[j - 1] + 1, above + (left != right))
            above, row[j] = row[j], cost
    return row[-1]


def usage_text(path: Sequence[Command]) -> str:
    """The usage line and the command's own flags, for the end of a complaint."""
    lines = ["Usage:", f"  {usage_line(path)}"]
    own = flagging.help_lines([*path[-1].flags, HELP])
    return "\n".join([*lines, "", "Flags:", *own, ""])


def usage_line(path: Sequence[Command]) -> str:
    parents = " ".join(c.name for c in path[:-1])
    return f"{parents} {path[-1].usage} [flags]".strip()


def help_text(path: Sequence[Command]) -> str:
    """The page that `-h` shows."""
    command = path[-1]
    blocks = [
        ["NAME:", f"\t{command.name} - {command.short}"],
        ["USAGE:", f"\t{usage_line(path)}"],
    ]
    if command.long:
        blocks.append(["DESCRIPTION:", *(f"\t{line}" for line in command.long.split("\n"))])
    if command.commands:
        blocks.append(["COMMANDS:", *_command_lines(command)])
    root_page = len(path) == 1
    own = [*command.flags, *(command.sticky if root_page else ()), HELP]
    blocks.append(["OPTIONS:", *flagging.help_lines(own)])
    above = [flag for c in path[:-1] for flag in c.sticky]
    if above:
        blocks.append(["GLOBAL OPTIONS:", *flagging.help_lines(above)])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _command_lines(command: Command) -> list[str]:
    rows = sorted(_leaves(command, ""))
    width = max(len(name) for name, _ in rows) + 2
    return [f"\t{name.ljust(width)}{short}" for name, short in rows]


def _leaves(command: Command, prefix: str) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for child in command.commands:
        if child.hidden:
            continue
        name = f"{prefix}{child.name}"
        rows += _leaves(child, f"{name} ") if child.commands else [(name, child.short)]
    return rows
