"""`corum.LocalCluster`, as a user's test would use it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import corum
from corum.client.errors import ClientError
from corum.cluster.commands import execute
from corum.cluster.process import ClusterError
from oracle.servers import Program

pytestmark = [pytest.mark.process, pytest.mark.slow]
DEADLINE_S = 30


@pytest.fixture(scope="module")
def cluster() -> Iterator[corum.LocalCluster]:
    with corum.LocalCluster(3, flags=["--heartbeat-interval=50"]) as made:
        yield made


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def put(cluster: corum.LocalCluster, name: str, value: str) -> None:
    with corum.Client(cluster.members[name].endpoint) as client:
        client.put("key", value, timeout_s=DEADLINE_S)


def get(cluster: corum.LocalCluster, name: str) -> bytes:
    with corum.Client(cluster.members[name].endpoint) as client:
        found = client.get("key")
        assert found is not None
        return found.value


def test_three_members_make_one_cluster(cluster: corum.LocalCluster) -> None:
    """What one takes, the others give; exactly one of them leads."""
    assert list(cluster.members) == ["m1", "m2", "m3"]
    put(cluster, "m1", "one")
    assert {get(cluster, name) for name in cluster.members} == {b"one"}
    assert sorted([cluster.leader(), *cluster.followers()]) == ["m1", "m2", "m3"]
    assert "--heartbeat-interval=50" in cluster.members["m2"].argv()


def test_a_member_that_is_cut_off_is_replaced_as_leader(cluster: corum.LocalCluster) -> None:
    """The others elect; it reads nothing; healed, it follows and knows what it missed."""
    old = cluster.leader()
    cluster.partition([old])
    until(lambda: cluster.leader() != old)
    put(cluster, cluster.leader(), "without it")
    with corum.Client(cluster.members[old].endpoint) as client, pytest.raises(ClientError):
        client.get("key", timeout_s=1)
    cluster.heal()
    cluster.wait_ready(old)
    assert get(cluster, old) == b"without it"
    assert not cluster.links_cut


def test_one_direction_is_enough_to_lose_a_follower(cluster: corum.LocalCluster) -> None:
    """It hears nothing of the leader, and says so; everybody else goes on."""
    leader = cluster.leader()
    deaf = next(name for name in cluster.members if name != leader)
    for other in cluster.members:
        if other != deaf:
            cluster.cut(other, deaf)
    until(lambda: not cluster.members[deaf].is_healthy())
    put(cluster, cluster.leader(), "on")
    cluster.heal()
    until(lambda: cluster.members[deaf].is_healthy())


def test_kill_start_pause_resume_restart(cluster: corum.LocalCluster) -> None:
    """By name, and the state is told."""
    cluster.kill("m1")
    assert not cluster.members["m1"].is_running
    assert cluster.members["m1"].state == "ended with -9"
    put(cluster, cluster.leader(), "two of three")
    cluster.start("m1")
    cluster.pause("m2")
    assert cluster.status("m2") is None
    until(lambda: cluster.leader() != "m2")
    put(cluster, cluster.leader(), "still two")
    cluster.resume("m2")
    cluster.restart("m3")
    cluster.wait_ready()
    assert {get(cluster, name) for name in cluster.members} == {b"still two"}
    with pytest.raises(ClusterError, match="m1 runs already"):
        cluster.members["m1"].spawn()


def test_typed_commands_do_the_same(cluster: corum.LocalCluster) -> None:
    """Words of the prompt: names, groups, and nonsense that is told as such."""
    execute(cluster, ["partition", "m1", "m2,m3"])
    assert cluster.links_cut == {("m1", "m2"), ("m1", "m3"), ("m2", "m1"), ("m3", "m1")}
    assert "m3 -> m1" in execute(cluster, ["status"])
    execute(cluster, ["heal"])
    execute(cluster, ["cut", "m1", "m3"])
    assert cluster.links_cut == {("m1", "m3")}
    execute(cluster, ["heal"])
    execute(cluster, ["stop", "m2"])
    assert "stopped" in execute(cluster, ["status"])
    execute(cluster, ["start", "all"])
    cluster.wait_ready()
    assert execute(cluster, ["leader"]) == cluster.leader()
    for nonsense in (["stop"], ["stop", "m9"], ["dance"], ["cut", "m1"], ["add", "a", "b"]):
        with pytest.raises(ClusterError):
            execute(cluster, nonsense)


def test_a_cluster_grows_and_shrinks(cluster: corum.LocalCluster) -> None:
    """A new member learns everything; one that is removed ends."""
    put(cluster, "m1", "known")
    member = cluster.add("m4")
    assert get(cluster, "m4") == b"known"
    cluster.remove("m4")
    assert list(cluster.members) == ["m1", "m2", "m3"]
    assert not member.is_running
    with pytest.raises(ClusterError, match="already"):
        cluster.add("m1")


def test_a_cluster_goes_on_in_its_directory(tmp_path: Path) -> None:
    """Data and ports are kept; other members than those that are there are refused."""
    with corum.LocalCluster(["a", "b"], directory=tmp_path, relayed=False) as first:
        put(first, "a", "kept")
        endpoints = first.endpoints
        with pytest.raises(ClusterError, match="talk directly"):
            first.partition(["a"])
        first.stop()
    with pytest.raises(ClusterError, match="holds a cluster of a, b"):
        corum.LocalCluster(3, directory=tmp_path)
    heard: list[tuple[str, str]] = []
    with corum.LocalCluster(
        ["a", "b"], directory=tmp_path, log=lambda name, line: heard.append((name, line))
    ) as second:
        assert second.endpoints == endpoints
        assert get(second, "b") == b"kept"
        until(lambda: any(name == "b" and "Running" in line for name, line in heard))
        assert json.loads(heard[0][1])["msg"]
        assert "Running" in second.members["a"].log()


def test_go_etcd_is_a_member(go_program: Program) -> None:
    """Another binary for one of them."""
    with corum.LocalCluster(3, binary={"m2": go_program.argv}) as cluster:
        put(cluster, "m2", "mixed")
        assert {get(cluster, name) for name in cluster.members} == {b"mixed"}
        cluster.partition(["m2"])
        until(lambda: not cluster.members["m2"].is_healthy())
        cluster.heal()
        cluster.wait_ready()


def test_what_does_not_start_is_told() -> None:
    """A program that is not there, one that ends with its last words, a port in use."""
    with pytest.raises(ClusterError, match="no-such-etcd"):
        corum.LocalCluster(1, binary="./no-such-etcd").start()
    with pytest.raises(ClusterError, match=r"m1 ended with 2[\s\S]*not-a-flag"):
        corum.LocalCluster(1, flags=["--not-a-flag"]).__enter__()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ClusterError, match=f"port {port}"):
            corum.LocalCluster(1, client_ports=[port])


def test_nothing_is_left_behind() -> None:
    """A temporary directory is gone with the cluster, and so are the processes, even paused."""
    with corum.LocalCluster(1) as cluster:
        member = cluster.members["m1"]
        assert member.data_dir.is_dir()
        cluster.pause("m1")
    assert not member.is_running
    assert not cluster.directory.exists()
