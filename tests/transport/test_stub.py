"""The typed page of the boundary agrees with the binary."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_stub_matches_the_binary() -> None:
    """mypy's stubtest finds no name, signature or default that differs."""
    command = [sys.executable, "-m", "mypy.stubtest", "corum._transport"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
