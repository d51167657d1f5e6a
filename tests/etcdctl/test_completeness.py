"""Every command and flag that Go's etcdctl offers exists in ours."""

import re
import subprocess
from pathlib import Path

import pytest

from corum.cli import completion
from corum.cli.command import accepted, help_text, resolve
from corum.cli.etcdctl.commands import PROGRAM
from oracle import servers

pytestmark = [pytest.mark.compat]


def _help(tool: Path, *words: str) -> str:
    ran = subprocess.run(
        [str(tool), *words, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=servers.plain_environment({"ETCDCTL_API": "3"}),
    )
    return ran.stdout


def test_commands_and_flags_of_go(go_tools: Path) -> None:
    """From the help of etcdctl 3.5.1, its commands and theirs."""
    tool = go_tools / "etcdctl"
    listed = _help(tool).partition("COMMANDS:")[2].partition("OPTIONS:")[0]
    commands = [line.strip().split("\t")[0].split() for line in listed.splitlines() if line.strip()]
    assert len(commands) > 40, "the list has not been understood"
    for words in commands:
        path, rest = resolve(PROGRAM, words)
        assert rest == [], f"no command {words}"
        flags = set(re.findall(r"--([a-z0-9-]+)", _help(tool, *words)))
        missing = flags - {flag.name for flag in accepted(path)}
        # named in the text of the help, not flags of the command
        assert missing <= {"restore", "ignore-value", "ignore-lease"}, f"{words}: {missing}"


def test_root_help_lists_every_command() -> None:
    """Also those below a noun, one line each."""
    page = help_text([PROGRAM])
    for words in ("auth enable", "lease keep-alive", "put", "check perf", "downgrade cancel"):
        assert re.search(rf"^\t{words} ", page, re.M), words


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_completion_scripts_name_the_commands(shell: str) -> None:
    """A script for each shell, with commands below nouns and flags."""
    script = completion.script(PROGRAM, shell)
    assert "keep-alive" in script
    assert "print-value-only" in script


def test_bash_completes(tmp_path: Path) -> None:
    """The script in a real bash: sub-commands of a noun, flags of a command."""
    path = tmp_path / "script"
    ask = 'COMP_CWORD=2; _etcdctl_complete; echo "${COMPREPLY[@]}"\n'
    tries = f"COMP_WORDS=(etcdctl lease k); {ask}COMP_WORDS=(etcdctl get --pri); {ask}"
    path.write_text(completion.script(PROGRAM, "bash") + tries)
    ran = subprocess.run(["bash", str(path)], capture_output=True, text=True, check=True)
    assert ran.stdout == "keep-alive\n--print-value-only\n"
