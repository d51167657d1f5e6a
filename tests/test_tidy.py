"""The repository is tidy, and the checks that say so find what they look for."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def tidy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tidy", ROOT / "tools/tidy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_repository_is_tidy(tidy: ModuleType) -> None:
    """No long functions, impure cores, homeless TODOs or machine paths."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert list(tidy.findings()) == []


def test_long_functions_are_found(tidy: ModuleType) -> None:
    """60 lines are fine, 61 are not; the ratchet allows what it names."""
    body = "def f():\n" + "    x = 1\n" * 59
    assert list(tidy.long_functions("a.py", body)) == []
    assert list(tidy.long_functions("a.py", body + "    x = 2\n")) == [
        "a.py:1: f has 61 lines, at most 60"
    ]
    wiring = body.replace("f()", "__init__()") + "    x = 2\n"
    assert list(tidy.long_functions("src/corum/server/node.py", wiring)) == []


@pytest.mark.parametrize("line", ["import time", "from os import path", "import socket as s"])
def test_impure_imports_are_found_in_cores_only(tidy: ModuleType, line: str) -> None:
    """The same line is fine in the shell."""
    assert list(tidy.impure_imports("src/corum/raft/log.py", line))
    assert list(tidy.impure_imports("src/corum/lease.py", line))
    assert not list(tidy.impure_imports("src/corum/member/daemon.py", line))
    for pure in ("from corum import time", "from random import Random"):
        assert not list(tidy.impure_imports("src/corum/raft/log.py", pure))


def test_bad_lines_are_found(tidy: ModuleType) -> None:
    """A TODO needs an issue; a home directory has no place in the repository."""
    assert len(list(tidy.bad_lines("a", "# TODO later\n# FIXME\n# TODO(#12): fine\n"))) == 2
    assert list(tidy.bad_lines("a", "path = '/root/x'"))
    assert not list(tidy.bad_lines("a", "x = '/tmp/x' + '/workers/y' + root + '$HOME/work/x'"))
