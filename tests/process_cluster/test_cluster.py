"""Members in processes of their own: elections, losses, changes, snapshots, Go etcd among them."""

from __future__ import annotations

import time
from base64 import b64encode

import pytest

from oracle.clusters import Cluster, call, until
from oracle.servers import Program, Server

pytestmark = [pytest.mark.process, pytest.mark.slow]


def put(server: Server, key: str, value: str) -> bool:
    request = {"key": b64encode(key.encode()).decode(), "value": b64encode(value.encode()).decode()}
    return bool(call(server, "kv/put", request))


def get(server: Server, key: str, *, serializable: bool = False) -> str | None:
    request = {"key": b64encode(key.encode()).decode(), "serializable": serializable}
    kvs = call(server, "kv/range", request).get("kvs")
    return kvs[0]["value"] if kvs else None


def encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


def three(cluster: Cluster, program: Program, *flags: str) -> None:
    for name in ("a", "b", "c"):
        cluster.add(program, name, *flags)
    cluster.start(["a", "b", "c"])


def test_every_member_takes_reads_and_writes(cluster: Cluster, our_program: Program) -> None:
    """A write through any of three is read, linearizably, through any other."""
    three(cluster, our_program)
    for member in cluster.members.values():
        assert put(member, "key", member.name)
        for other in cluster.members.values():
            assert get(other, "key") == encoded(member.name)


def test_a_leader_that_is_asked_to_stop_hands_over(cluster: Cluster, our_program: Program) -> None:
    """It ends within 1.5 s, and another one leads within half a second."""
    three(cluster, our_program)
    leader = cluster.leader()
    began = time.monotonic()
    assert leader.stop() == 143
    assert time.monotonic() - began < 1.5
    rest = [m for m in cluster.members.values() if m is not leader]
    assert until(lambda: put(rest[0], "key", "after"), 2)
    assert "lost leader" not in rest[0].log()


def test_the_majority_goes_on_without_a_killed_leader(
    cluster: Cluster, our_program: Program
) -> None:
    """Nothing acknowledged is lost, and the killed one catches up when it comes back."""
    three(cluster, our_program)
    leader = cluster.leader()
    rest = [m for m in cluster.members.values() if m is not leader]
    assert put(rest[0], "before", "1")
    leader.kill()
    until(lambda: put(rest[1], "after", "2"))
    assert get(rest[0], "before") == encoded("1")
    leader.start()
    assert get(leader, "after") == encoded("2")


def test_a_member_that_fell_behind_gets_a_snapshot(cluster: Cluster, our_program: Program) -> None:
    """The log has been cut short meanwhile: the state comes as a whole, and survives kill -9."""
    three(cluster, our_program, "--snapshot-count=50", "--snapshot-catchup-entries=10")
    behind = next(m for m in cluster.members.values() if m is not cluster.leader())
    behind.kill()
    others = [m for m in cluster.members.values() if m is not behind]
    for number in range(200):
        assert put(others[0], f"key{number % 30}", str(number))
    behind.start()
    assert "applied snapshot" in behind.log()
    assert get(behind, "key19") == encoded("199")
    behind.kill()
    behind.start()
    assert get(behind, "key19") == encoded("199")
    assert put(behind, "more", "1")


@pytest.mark.parametrize("first", ["ours", "go"])
def test_members_of_ours_and_of_go_make_one_cluster(
    cluster: Cluster, our_program: Program, go_program: Program, first: str
) -> None:
    """Two kinds, one log: what one writes the other reads, whoever of them leads."""
    names = {"ours": [our_program, our_program, go_program], "go": [go_program] * 2}
    programs = [*names[first], our_program][:3]
    for name, program in zip(("a", "b", "c"), programs, strict=True):
        cluster.add(program, name)
    cluster.start(["a", "b", "c"])
    for member in cluster.members.values():
        assert until(lambda member=member: put(member, "key", member.name))
        for other in cluster.members.values():
            assert get(other, "key") == encoded(member.name)
    cluster.leader().kill()
    rest = [m for m in cluster.members.values() if m.alive()]
    until(lambda: put(rest[0], "key", "again"))
    assert get(rest[1], "key") == encoded("again")


def test_a_new_member_joins_and_a_removed_one_leaves(
    cluster: Cluster, our_program: Program
) -> None:
    """The newcomer learns everything; the removed process ends by itself and does not come back."""
    first = cluster.add(our_program, "a")
    cluster.start(["a"])
    assert put(first, "key", "value")
    second = cluster.add(our_program, "b")
    added = call(first, "cluster/member/add", {"peerURLs": [second.peer_url]})
    cluster.start(["b"], state="existing")
    assert get(second, "key") == encoded("value")
    removed = until(lambda: call(first, "cluster/member/remove", {"ID": added["member"]["ID"]}))
    assert len(removed["members"]) == 1
    assert second.wait() == 0
    assert put(first, "key", "alone")
    assert "permanently removed" in second.log()
    second.spawn()
    assert second.wait() == 0
    assert "data-dir used by this member must be removed" in second.log()
