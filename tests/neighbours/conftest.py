"""Foreign packages, each test run fetched into one environment below `.build` and never committed.

Where they cannot be had (no network, no package for this Python), the tests skip and say so.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from oracle.servers import REPOSITORY, Program, plain_environment

PACKAGES = ("python-etcd==0.4.5", "patroni[etcd]", "psycopg2-binary", "pyOpenSSL", "pytest")
FOLDER = REPOSITORY / ".build" / "neighbours"
INSTALL_TIMEOUT_S = 300


class Foreign:
    """A Python with the neighbours, and with our `etcd` on its PATH."""

    def __init__(self, folder: Path, program: Program) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self._program = program

    def environment(self, **more: str) -> dict[str, str]:
        ours = str(Path(self._program.argv[0]).parent)
        path = os.pathsep.join([ours, os.environ.get("PATH", "")])
        return plain_environment({"PATH": path, **more})

    def run(self, *words: str, timeout_s: float = 60, **more: str) -> str:
        """What a Python program prints; fails the test when it fails."""
        argv = [str(self.python), *words]
        done = subprocess.run(
            argv, env=self.environment(**more), capture_output=True, text=True, timeout=timeout_s
        )
        assert done.returncode == 0, f"{done.stdout[-6_000:]}\n{done.stderr[-6_000:]}"
        return done.stdout


@pytest.fixture(scope="session")
def installed(request: pytest.FixtureRequest) -> Path:
    """The environment; made at the first `--long` run."""
    if not request.config.getoption("--long"):
        pytest.skip("foreign packages: --long")
    stamp = FOLDER / "installed"
    wanted = f"{sys.version}\n{PACKAGES}\n"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(FOLDER, ignore_errors=True)
        venv.create(FOLDER, with_pip=True)
        argv = [str(FOLDER / "bin" / "python"), "-m", "pip", "install", "-q", *PACKAGES]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pytest.skip("the neighbours' packages did not come in time")
        if done.returncode:
            pytest.skip(f"the neighbours' packages cannot be had: {done.stderr[-300:]}")
        stamp.write_text(wanted)
    return FOLDER


@pytest.fixture
def foreign(installed: Path, our_program: Program) -> Foreign:
    return Foreign(installed, our_program)
