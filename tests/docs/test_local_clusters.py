"""The page on local clusters: its programs run, its commands are there."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from corum.cluster.commands import HELP

pytestmark = [pytest.mark.process, pytest.mark.slow]
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "local-clusters.md").read_text()


def test_programs() -> None:
    """Each runs as it stands; the first reads after the leader's death what was put before."""
    snippets = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(snippets) == 2
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for snippet in snippets:
            exec(compile(snippet, "local-clusters.md", "exec"), {})
    assert printed.getvalue().startswith("b'hello'\n127.0.0.1:")


def test_commands_and_options() -> None:
    """The page names every command that the help does, and no option that it does not."""
    known = {line.split()[0] for line in HELP.splitlines() if not line.startswith(" ")}
    named = {*re.findall(r"^    corum cluster ([a-z]+)", PAGE, re.M)}
    listed = re.search(r"lists them all: (.*)\.", PAGE)
    assert listed is not None
    named |= {*re.findall(r"`([a-z]+)`", listed[1])}
    assert named == known
    shown = subprocess.run(
        [sys.executable, "-m", "corum.cli.corum", "cluster", "--help"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    for option in re.findall(r"`(--[a-z-]+)", PAGE.split("## In a program")[0]):
        assert option in shown
