"""The examples of docs/clusters.md, from top to bottom, in one shell."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oracle.servers import free_port, go_newest, plain_environment, running

pytestmark = [pytest.mark.process, pytest.mark.slow]
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "clusters.md").read_text()
PORT = re.compile(r"\b[123]23[789][0-9]\b")


def script() -> str:
    """All blocks, on free ports; what was started is stopped at the end."""
    ports: dict[str, str] = {}
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 4
    text = PORT.sub(lambda m: ports.setdefault(m[0], str(free_port())), "\n".join(blocks))
    return f"set -eu\ntrap 'kill $(jobs -p) || true; wait' EXIT\n{text}"


@pytest.mark.long
def test_the_page_works(tmp_path: Path) -> None:
    """Three members, a fourth, one less, a backup restored, a directory handed back; the newest Go
    etcd, where it is built, starts on it."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with (tmp_path / "printed").open("w+") as printed:
        shell = subprocess.Popen(
            ["bash", "-c", script()],
            cwd=tmp_path,
            env=plain_environment({"PATH": path}),
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = shell.wait(100)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
        printed.seek(0)
        text = printed.read()
    assert status == 0, text
    assert text.count("greeting\nhello\n") == 2
    theirs = go_newest()
    if theirs is not None:
        handed = tmp_path / "go"
        handed.mkdir()
        (tmp_path / "go-e.etcd").rename(handed / "data")
        with running(theirs, handed) as server:
            answered, body = server.http("POST", "/v3/kv/range", b'{"key":"Z3JlZXRpbmc="}')
            assert (answered, b"aGVsbG8=" in body) == (200, True)
