"""A member of several whose disk is full: the others go on, and so does it when there is room."""

from __future__ import annotations

import time

import pytest

from corum.pb import rpc
from oracle.build import get, put
from oracle.clusters import Cluster, until
from oracle.rpc import Client, Refused
from oracle.servers import Program, Server
from oracle.small_disk import SmallDisk

pytestmark = [pytest.mark.process, pytest.mark.slow]

ELECTION_S = 1.0
PATIENCE_S = 0.5  # of a client; what was sent to a leader that fell silent is lost with it
VALUE = b"x" * 100_000


def hash_of(server: Server, revision: int) -> int:
    with Client(server.endpoint) as client:
        answer = client.call("Maintenance/HashKV", rpc.HashKVRequest(revision=revision))
        return 0 if isinstance(answer, Refused) else answer.hash


@pytest.mark.long
def test_a_leader_without_room_is_replaced(
    cluster: Cluster, our_program: Program, small_disk: SmallDisk
) -> None:
    """No acknowledged write is lost, no alarm stops the others, service is back within two election
    timeouts; with room again the member catches up by itself."""
    for name in ("a", "b"):
        cluster.add(our_program, name)
    small = cluster.add(our_program, "c", f"--data-dir={small_disk.folder}/data")
    small.wrapper = small_disk.wrapper()
    cluster.start(["a", "b", "c"])
    other = cluster.members["a"]
    with Client(other.endpoint) as client, Client(small.endpoint) as second:
        target = second.call("Maintenance/Status", rpc.StatusRequest()).header.member_id
        leader = cluster.leader()
        if leader is not small:
            with Client(leader.endpoint) as third:
                third.call("Maintenance/MoveLeader", rpc.MoveLeaderRequest(targetID=target))
        assert cluster.leader() is small
        acknowledged: list[str] = []
        number, last, gap_s = 0, time.monotonic(), 0.0
        while "failed to commit" not in small.log() and "no room for the log" not in small.log():
            number += 1
            answer = client.call("KV/Put", put(f"k{number:05d}", VALUE), timeout_s=PATIENCE_S)
            if not isinstance(answer, Refused):
                acknowledged.append(f"k{number:05d}")
                gap_s, last = max(gap_s, time.monotonic() - last), time.monotonic()
            assert number < 5_000

        def served() -> bool:
            return not isinstance(client.call("KV/Put", put("z"), timeout_s=PATIENCE_S), Refused)

        until(served)
        gap_s = max(gap_s, time.monotonic() - last)
        print("longest time without service:", gap_s)
        assert gap_s < 2 * ELECTION_S + 1 + PATIENCE_S, gap_s  # a second for slow machines
        assert client.call("Maintenance/Status", rpc.StatusRequest()).leader != target
        said = second.call("Maintenance/Status", rpc.StatusRequest())
        assert (said.leader, list(said.errors)) == (0, ["etcdserver: no leader"])
        assert not small.healthy()
        assert client.call("Maintenance/Alarm", rpc.AlarmRequest()).alarms == []
        found = client.call("KV/Range", get("k", "l", keys_only=True))
        assert set(acknowledged) <= {kv.key.decode() for kv in found.kvs}
        small_disk.grow(2_000)
        until(small.healthy, 60)
        revision = found.header.revision
        assert hash_of(small, revision) == hash_of(other, revision)
