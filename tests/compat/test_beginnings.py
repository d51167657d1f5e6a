"""Flags that make no cluster: the last words of both daemons are the same.

(Not where the newest etcd leaves out v2 discovery, which it has no more.)
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oracle.servers import Program, Server, free_port, go_newest

pytestmark = [pytest.mark.compat, pytest.mark.process, pytest.mark.slow]

OTHER = f"http://127.0.0.1:{free_port()}"
"""Nobody is there."""


def words(program: Program, folder: Path, flags: list[str], ports: Server) -> tuple[int, str]:
    """Exit code, and the error of the last line that tells one."""
    server = Server(program, folder, name="a")
    server.client_port, server.peer_port = ports.client_port, ports.peer_port
    server.flags = flags
    server.spawn()
    code = server.wait(30)
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    found = [line for line in lines if line["level"] in ("fatal", "warn") and "error" in line]
    return code, str(found[-1]["error"])


CASES = {
    "one URL twice": ["--initial-cluster=a={me},b={me}"],
    "somebody else": ["--initial-cluster=b={me}"],
    "nobody": ["--initial-cluster="],
    "another address": ["--initial-cluster=a={other}"],
    "another name": ["--initial-cluster=a=http://localhost:{port}"],
    "one more advertised": [
        "--initial-cluster=a={me}",
        "--initial-advertise-peer-urls={me},{other}",
    ],
    "one more in the list": ["--initial-cluster=a={me},a={other}"],
    "more of both": ["--initial-cluster=a={me},a={other},b=http://127.0.0.1:1"],
    "no URL": ["--initial-cluster=a="],
    "no scheme": ["--initial-cluster=a=127.0.0.1:{port}"],
    "no equals sign": ["--initial-cluster={me}"],
    "a path": ["--initial-cluster=a={me}/x"],
    "nobody to join": ["--initial-cluster=a={me},b={other}", "--initial-cluster-state=existing"],
    "joining oneself": ["--initial-cluster=a={me}", "--initial-cluster-state=existing"],
    "half of v3 discovery": ["--discovery-token=t", "--initial-cluster="],
    "an empty endpoint": [
        "--discovery-token=t",
        "--discovery-endpoints=,http://127.0.0.1:1",
        "--initial-cluster=",
    ],
}


@pytest.mark.parametrize("case", CASES)
def test_last_words(our_program: Program, tmp_path: Path, case: str, long: bool) -> None:
    """Against the newest etcd, exit code and text."""
    theirs = go_newest()
    if not long or theirs is None:
        pytest.skip("with --long, where the newest Go etcd is built")
    ports = Server(our_program, tmp_path / "ports", name="a")
    named = {"me": ports.peer_url, "other": OTHER, "port": ports.peer_port}
    flags = [flag.format(**named) for flag in CASES[case]]
    ours = words(our_program, tmp_path / "ours", flags, ports)
    assert ours == words(theirs, tmp_path / "theirs", flags, ports)
