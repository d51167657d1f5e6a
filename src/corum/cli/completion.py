"""Completion scripts for shells, made from a command tree.

The scripts hold the words of every command as a table and need no call of the program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.cli.command import accepted

if TYPE_CHECKING:
    from corum.cli.command import Command

SHELLS = ("bash", "zsh", "fish")


def script(program: Command, shell: str) -> str:
    """The completion script of `program` for one of SHELLS."""
    if shell == "fish":
        return _fish(program)
    body = _bash(program)
    if shell == "zsh":
        return f"#compdef {program.name}\nautoload -U +X bashcompinit && bashcompinit\n{body}"
    return body


def _rows(path: list[Command]) -> list[tuple[str, str]]:
    """(words of a command, what may follow) for a command and all below it."""
    command = path[-1]
    follow = [c.name for c in command.commands if not c.hidden]
    follow += [f"--{flag.name}" for flag in accepted(path) if not flag.hidden]
    rows = [(" ".join(c.name for c in path), " ".join(follow))]
    for child in command.commands:
        rows += _rows([*path, child])
    return rows


def _bash(program: Command) -> str:
    name = program.name
    cases = "\n".join(
        f'        "{words}") follow="{follow}" ;;' for words, follow in _rows([program])
    )
    return f"""\
# Completion of {name}. Load it with: source <({name} completion bash)
_{name}_complete() {{
    local word path="{name}" follow="" known
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$word" in -*) continue ;; esac
        known="$(_{name}_follow "$path")"
        case " $known " in *" $word "*) path="$path $word" ;; esac
    done
    follow="$(_{name}_follow "$path")"
    COMPREPLY=($(compgen -W "$follow" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
_{name}_follow() {{
    local follow=""
    case "$1" in
{cases}
    esac
    echo "$follow"
}}
complete -o default -F _{name}_complete {name}
"""


def _fish(program: Command) -> str:
    name = program.name
    lines = [f"# Completion of {name}. Load it with: {name} completion fish | source"]
    for child in program.commands:
        lines.append(
            f"complete -c {name} -n __fish_use_subcommand -a {child.name} -d {_quoted(child.short)}"
        )
        seen = f"'__fish_seen_subcommand_from {child.name}'"
        lines += [
            f"complete -c {name} -n {seen} -a {below.name} -d {_quoted(below.short)}"
            for below in child.commands
        ]
        flags = [*child.flags, *(flag for below in child.commands for flag in below.flags)]
        lines += [
            f"complete -c {name} -n {seen} -l {flag.name} -d {_quoted(flag.help)}" for flag in flags
        ]
    lines += [f"complete -c {name} -l {f.name} -d {_quoted(f.help)}" for f in program.sticky]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
