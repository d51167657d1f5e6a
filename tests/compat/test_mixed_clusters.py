"""Clusters that change their kind while they are written to: member by member, nothing lost."""

from __future__ import annotations

import json

import pytest

from oracle.clusters import Cluster, call, until
from oracle.moving import Load, add, id_of, members, put, remove, replace, same_hash
from oracle.servers import Program, Server

pytestmark = [pytest.mark.compat, pytest.mark.process, pytest.mark.slow, pytest.mark.long]


def three(cluster: Cluster, program: Program, *flags: str) -> list[str]:
    names = ["a", "b", "c"]
    for name in names:
        cluster.add(program, name, *flags)
    cluster.start(names)
    return names


def version(server: Server) -> str:
    """The cluster's."""
    return str(json.loads(server.http("GET", "/version")[1])["etcdcluster"])


def lead(cluster: Cluster, server: Server) -> None:
    """Have this member lead."""
    leader, wanted = cluster.leader(), id_of(server)
    if leader is not server:
        call(leader, "maintenance/transfer-leadership", {"targetID": wanted})
        until(lambda: cluster.leader() is server)


def settled(cluster: Cluster, load: Load) -> None:
    """Writes go on, all members hold the same, and everything that was acknowledged."""
    load.goes_on()
    same_hash(cluster)
    for member in cluster.members.values():
        load.check(member)


def replace_all(cluster: Cluster, load: Load, program: Program, *flags: str) -> None:
    """Every member, one after the other; whoever leads is replaced like any other."""
    for name in list(cluster.members):
        replace(cluster, name, program, *flags)
        settled(cluster, load)


def test_go_etcd_is_replaced_by_ours(
    cluster: Cluster, our_program: Program, go_program: Program
) -> None:
    """Three of Go 3.5.1 become three of ours under load; the cluster's version follows at last."""
    three(cluster, go_program)
    with Load(cluster) as load:
        settled(cluster, load)
        replace_all(cluster, load, our_program)
    first = next(iter(cluster.members.values()))
    until(lambda: version(first) == "3.7.0", 30)
    load.check(first)


def test_ours_is_replaced_by_the_newest_go_etcd(
    cluster: Cluster, our_program: Program, newest: Program
) -> None:
    """And the other way round again: to the newest, back to ours."""
    three(cluster, our_program)
    with Load(cluster) as load:
        settled(cluster, load)
        replace_all(cluster, load, newest)
        replace_all(cluster, load, our_program)


def test_ours_stands_between_old_and_new(
    cluster: Cluster, our_program: Program, go_program: Program, newest: Program
) -> None:
    """From 3.5.1, whose log 3.7 cannot read, to 3.7 by way of ours: once a snapshot has taken the
    place of the old entries, and the cluster is one of 3.7, the newest may join."""
    three(cluster, go_program)
    with Load(cluster) as load:
        flags = ["--snapshot-count=20", "--snapshot-catchup-entries=5"]
        replace_all(cluster, load, our_program, *flags)
        until(lambda: version(next(iter(cluster.members.values()))) == "3.7.0", 30)
        for member in cluster.members.values():
            until(lambda member=member: "saved snapshot" in member.log(), 60)
        load.goes_on()
        replace_all(cluster, load, newest)


@pytest.mark.parametrize("kind", ["3.5", "newest"])
def test_ours_among_go_etcd_in_every_role(
    cluster: Cluster,
    our_program: Program,
    go_program: Program,
    kind: str,
    request: pytest.FixtureRequest,
) -> None:
    """A learner, then a follower, then the leader, which loses its leadership by being killed and
    comes back; and a Go etcd that learns from ours."""
    theirs = go_program if kind == "3.5" else request.getfixturevalue("newest")
    three(cluster, theirs)
    with Load(cluster) as load:
        settled(cluster, load)
        ours = add(cluster, our_program, "ours", learner=True)
        promote(cluster, ours)
        settled(cluster, load)
        remove(cluster, "a")
        settled(cluster, load)
        lead(cluster, ours)
        settled(cluster, load)
        late = add(cluster, theirs, "late", learner=True)
        promote(cluster, late)
        settled(cluster, load)
        ours.kill()
        load.goes_on()
        ours.start()
        settled(cluster, load)
    assert put(ours, "key", "value")


def promote(cluster: Cluster, learner: Server) -> None:
    """Until it has caught up and votes."""
    other = next(m for m in cluster.members.values() if m is not learner)
    number = next(m["ID"] for m in members(other) if learner.peer_url in m["peerURLs"])
    until(lambda: call(other, "cluster/member/promote", {"ID": number}), 30)
    until(learner.healthy)
