"""The README's examples do what they say."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import corum
from oracle.servers import plain_environment

pytestmark = pytest.mark.slow
README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
LEASE = re.compile(r"\b[0-9a-f]{12,16}\b")


def session(text: str) -> list[tuple[str, str]]:
    """(command, output below it) of every `$` line."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("    $ "):
            found.append((line[6:], ""))
        elif line.startswith("    ") and found:
            found[-1] = (found[-1][0], found[-1][1] + line[4:] + "\n")
    return found


def test_the_first_session() -> None:
    """etcdctl prints what is printed there; a lease has an id of its own."""
    section = README.split("## A first session")[1].split("Any other etcd client")[0]
    commands = session(section)
    assert len(commands) >= 3
    with corum.Member() as member:
        for command, output in commands:
            name, *words = shlex.split(command)
            assert name == ".venv/bin/etcdctl"
            ran = subprocess.run(
                [sys.executable, "-m", "corum.cli.etcdctl", *words],
                env=plain_environment({"ETCDCTL_ENDPOINTS": member.endpoint}),
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
            )
            assert ran.returncode == 0, ran.stderr
            assert LEASE.sub("<id>", ran.stdout) == LEASE.sub("<id>", output)


def test_python() -> None:
    """Each snippet runs; the first prints the value that it has put."""
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert snippets
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for snippet in snippets:
            exec(compile(snippet, "README.md", "exec"), {})
    assert "hello" in printed.getvalue()


def test_links_lead_somewhere() -> None:
    """Every file that the README names is there."""
    root = Path(__file__).resolve().parents[2]
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in link:
            assert (root / link).exists(), link
