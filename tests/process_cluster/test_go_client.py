"""Go's own client, unchanged, on a cluster of ours whose members come and go."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import corum
from oracle.servers import REPOSITORY, plain_environment

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.compat, pytest.mark.timeout(300)]
LOADGEN = REPOSITORY / ".build" / "bin" / "loadgen"
LONG_S, SHORT_S = 60.0, 8.0


def load(cluster: corum.LocalCluster, seconds: float) -> subprocess.Popen[str]:
    """`loadgen -load rolling` on all members: it checks every answer that it gets."""
    return subprocess.Popen(
        [
            str(LOADGEN), "-load", "rolling", "-endpoint", ",".join(cluster.endpoints),
            "-clients", "12", "-connections", "4", "-seconds", str(seconds), "-prefix", "roll",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=plain_environment(),
    )  # fmt: skip


def report(client: subprocess.Popen[str]) -> dict[str, Any]:
    """What it says in the end; an answer that was not true is told here."""
    out, err = client.communicate(timeout=LONG_S + 90)
    assert client.returncode == 0, err
    return json.loads(out)


@pytest.fixture
def go_load() -> Path:
    if not LOADGEN.exists():
        pytest.skip("the Go load generator is not built (make .build/.go)")
    return LOADGEN


def rolled(cluster: corum.LocalCluster, restart: Callable[[str], None], seconds: float) -> int:
    """One member after the other, the leader too, as long as there is time; how many."""
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        for name in cluster.members:
            restart(name)
            cluster.wait_ready()
            count += 1
    return count


def test_rolling_restarts(go_load: Path, long: bool) -> None:
    """No wrong answer, no lost or repeated event, no lost lease, in a minute of restarts."""
    seconds = LONG_S if long else SHORT_S
    with corum.LocalCluster(3, relayed=False) as cluster:
        client = load(cluster, seconds)
        count = rolled(cluster, cluster.restart, seconds - 3)
        told = report(client)
        assert count >= 3
        assert told["ops"] > 20 * seconds, told
        assert told["extra"]["events"] > 5 * seconds, told


@pytest.mark.long
def test_rolling_kills(go_load: Path) -> None:
    """The same with SIGKILL."""
    with corum.LocalCluster(3, relayed=False, flags=["--snapshot-count=500"]) as cluster:

        def killed(name: str) -> None:
            cluster.kill(name)
            cluster.start(name)

        client = load(cluster, LONG_S)
        count = rolled(cluster, killed, LONG_S - 5)
        told = report(client)
        assert count >= 3
        assert told["ops"] > 20 * LONG_S, told


@pytest.mark.long
def test_parted_and_paused(go_load: Path) -> None:
    """Members are cut off and frozen in turn, and the client never reads from the past."""
    with corum.LocalCluster(3) as cluster:
        client = load(cluster, LONG_S)
        end = time.monotonic() + LONG_S - 10
        while time.monotonic() < end:
            for name in cluster.members:
                cluster.partition([name])
                time.sleep(2)
                cluster.heal()
                cluster.wait_ready()
                cluster.pause(name)
                time.sleep(2)
                cluster.resume(name)
                cluster.wait_ready()
        told = report(client)
        assert told["ops"] > 10 * LONG_S, told
