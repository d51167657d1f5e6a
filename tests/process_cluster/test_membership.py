"""Members come and go while the cluster is written to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from oracle.clusters import Cluster, call, until
from oracle.moving import Load, add, get, id_of, members, put, remove, replace, same_hash
from oracle.servers import Program, Server

pytestmark = [pytest.mark.process, pytest.mark.slow]

ETCDUTL = Path(sys.executable).with_name("etcdutl")
ETCDCTL = Path(sys.executable).with_name("etcdctl")


def start(cluster: Cluster, program: Program, names: str, *flags: str) -> list[Server]:
    for name in names:
        cluster.add(program, name, *flags)
    cluster.start(list(names))
    return list(cluster.members.values())


def settled(cluster: Cluster, load: Load) -> None:
    """Writes go on, all members hold the same, and everything that was acknowledged."""
    load.goes_on()
    same_hash(cluster)
    for member in cluster.members.values():
        load.check(member)


def refusal(server: Server, path: str, request: dict[str, Any]) -> str:
    """What the gateway says against it."""
    status, body = server.http("POST", f"/v3/{path}", json.dumps(request).encode())
    assert status != 200, body
    return str(json.loads(body)["message"])


def tool(path: Path, *words: str, **environment: str) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        [str(path), *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def voters(server: Server) -> set[str]:
    return {m.get("name", "") for m in members(server) if not m.get("isLearner")}


def test_a_learner_becomes_a_voter(cluster: Cluster, our_program: Program) -> None:
    """It gets everything, serves nobody, counts for no majority; one at a time unless told
    otherwise."""
    first, *_ = start(cluster, our_program, "a")
    assert put(first, "key", "value")
    learner = add(cluster, our_program, "b", learner=True)
    (told,) = (m for m in members(first) if m.get("isLearner"))
    request = {"peerURLs": ["http://127.0.0.1:1"], "isLearner": True}
    assert refusal(first, "cluster/member/add", request).endswith(
        "too many learner members in cluster"
    )
    assert refusal(learner, "kv/put", {"key": "aw=="}).endswith("rpc not supported for learner")
    until(lambda: call(first, "cluster/member/promote", {"ID": told["ID"]}))
    until(learner.healthy)
    assert voters(learner) == {"a", "b"}
    assert get(learner, "key") == "value"
    again = refusal(first, "cluster/member/promote", {"ID": told["ID"]})
    assert again.endswith("can only promote a learner member")


def test_more_learners_when_told(cluster: Cluster, our_program: Program) -> None:
    """--max-learners, on every member."""
    first, *_ = start(cluster, our_program, "a", "--max-learners=2")
    for port in (1, 2):
        request = {"peerURLs": [f"http://127.0.0.1:{port}"], "isLearner": True}
        until(lambda request=request: call(first, "cluster/member/add", request))
    request = {"peerURLs": ["http://127.0.0.1:3"], "isLearner": True}
    assert "too many learner" in refusal(first, "cluster/member/add", request)


def test_a_dead_member_is_replaced(cluster: Cluster, our_program: Program) -> None:
    """Its successor gets everything; while it is dead, the cluster does not grow, but it may lose
    the dead one; the dead one is not taken back."""
    first, _, third = start(cluster, our_program, "abc")
    with Load(cluster, 1) as load:
        load.goes_on()
        third.kill()
        request = {"peerURLs": ["http://127.0.0.1:1"]}
        until(lambda: "unhealthy" in refusal(first, "cluster/member/add", request))
        late = replace(cluster, "c", our_program)
        settled(cluster, load)
        third.spawn()
        assert third.wait() == 0
        assert "permanently removed" in third.log()
        assert voters(late) == {"a", "b", "c2"}


def test_the_last_one_goes_on_alone(cluster: Cluster, our_program: Program, long: bool) -> None:
    """--force-new-cluster after a majority is lost: the same cluster, one member, which grows
    again."""
    first, second, third = start(cluster, our_program, "abc")
    assert put(first, "key", "value")
    cluster_id = call(first, "maintenance/status", {})["header"]["cluster_id"]
    for member in (first, second, third):
        member.kill()
    del cluster.members["b"], cluster.members["c"]
    first.flags = [*first.flags, "--force-new-cluster"]
    first.start()
    assert [m["name"] for m in members(first)] == ["a"]
    assert get(first, "key") == "value"
    assert call(first, "maintenance/status", {})["header"]["cluster_id"] == cluster_id
    if long:
        first.stop()
        first.flags = first.flags[:-1]
        first.start()
        assert get(add(cluster, our_program, "d"), "key") == "value"


def test_a_backup_becomes_a_new_cluster(cluster: Cluster, our_program: Program) -> None:
    """Three members from one snapshot, with revisions that no client of the old cluster has seen
    and everything older compacted; members of the old cluster do not know it."""
    first, *_ = start(cluster, our_program, "a")
    for number in range(5):
        assert put(first, "key", str(number))
    file = cluster.folder / "backup.db"
    tool(ETCDCTL, f"--endpoints={first.endpoint}", "snapshot", "save", str(file))
    revision = int(call(first, "kv/range", {"key": "aw=="})["header"]["revision"])
    assert put(first, "key", "lost")
    first.stop()
    cluster.members.clear()
    new = [cluster.add(our_program, name) for name in ("x", "y", "z")]
    everybody = ",".join(f"{m.name}={m.peer_url}" for m in new)
    for member in new:
        tool(
            ETCDUTL, "snapshot", "restore", str(file), f"--data-dir={member.data_dir}",
            f"--name={member.name}", f"--initial-cluster={everybody}",
            f"--initial-advertise-peer-urls={member.peer_url}", "--initial-cluster-token=new",
            "--bump-revision=1000000", "--mark-compacted",
        )  # fmt: skip
    cluster.start(["x", "y", "z"])
    assert all(get(member, "key") == "4" for member in new)
    header = call(new[0], "kv/range", {"key": "aw=="})["header"]
    assert int(header["revision"]) >= revision + 1_000_000
    old = {"key": "a2V5", "revision": str(revision)}
    assert "compacted" in refusal(new[0], "kv/range", old)
    assert put(new[1], "key", "5")
    same_hash(cluster)


@pytest.mark.long
def test_a_downgrade_is_prepared(cluster: Cluster, our_program: Program) -> None:
    """Cluster and storage go down by one; members that say they are older take part; when all of
    them do, the job is over; what is older than the cluster does not start."""
    first, *_ = start(cluster, our_program, "a")
    ctl = [f"--endpoints={first.endpoint}", "downgrade"]
    until(lambda: b'"etcdcluster":"3.7.0"' in first.http("GET", "/version")[1])
    assert tool(ETCDCTL, *ctl, "validate", "3.6.0").endswith("cluster version 3.7\n")
    assert tool(ETCDCTL, *ctl, "enable", "3.6.0").startswith("Downgrade enable success")
    until(lambda: b'"etcdcluster":"3.6.0"' in first.http("GET", "/version")[1])
    assert call(first, "maintenance/status", {})["downgradeInfo"]["targetVersion"] == "3.6.0"
    first.stop()
    first.flags = [*first.flags, "--emulate-version=3.6"]
    first.start()
    until(lambda: not call(first, "maintenance/status", {}).get("downgradeInfo"))
    assert call(first, "maintenance/status", {})["storageVersion"] == "3.6.0"
    first.stop()
    first.flags = [*first.flags[:-1], "--emulate-version=3.5"]
    first.spawn()
    assert first.wait() == 1
    assert "server version is lower than determined cluster version" in first.log()


@pytest.mark.long
def test_a_cluster_grows_and_shrinks(cluster: Cluster, our_program: Program) -> None:
    """One to three to five and back to one, under load."""
    start(cluster, our_program, "a")
    with Load(cluster) as load:
        for name in "bcde":
            add(cluster, our_program, name)
            settled(cluster, load)
        assert voters(cluster.members["a"]) == set("abcde")
        for name in "abcd":
            remove(cluster, name)
            settled(cluster, load)
    (last,) = cluster.members.values()
    assert voters(last) == {"e"}


@pytest.mark.long
def test_every_member_moves(cluster: Cluster, our_program: Program) -> None:
    """To new machines without a stop: each with its data to another address, by an update of its
    peer URLs; then each by a successor that starts empty."""
    start(cluster, our_program, "abc")
    with Load(cluster) as load:
        settled(cluster, load)
        for name in "abc":
            move(cluster, name, our_program)
            settled(cluster, load)
        for name in "abc":
            replace(cluster, name, our_program)
            settled(cluster, load)


def move(cluster: Cluster, name: str, program: Program) -> None:
    """A member with its data elsewhere: the cluster is told, then the data is carried over."""
    here = cluster.members[name]
    number = id_of(here)
    there = Server(program, cluster.folder / f"{name}-moved", name=name)
    other = next(m for m in cluster.members.values() if m is not here)
    here.stop()
    request = {"ID": number, "peerURLs": [there.peer_url]}
    until(lambda: call(other, "cluster/member/update", request))
    here.data_dir.rename(there.data_dir)
    cluster.members[name] = there
    there.start()
    assert id_of(there) == number


@pytest.mark.long
def test_clients_survive_rolling_restarts(cluster: Cluster, our_program: Program) -> None:
    """Every member in turn, for a minute: nothing that was acknowledged is lost."""
    start(cluster, our_program, "abc")
    end = time.monotonic() + 60
    with Load(cluster) as load:
        while time.monotonic() < end:
            for member in list(cluster.members.values()):
                member.stop()
                member.start()
                load.goes_on()
        settled(cluster, load)
