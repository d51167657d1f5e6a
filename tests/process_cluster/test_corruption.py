"""A member whose disk tells something else: found at its start, by the clock, by a compaction."""

from __future__ import annotations

import pytest

from corum.backend import schema
from corum.backend.lmdb_backend import LmdbBackend
from corum.pb import kv, rpc
from oracle.build import put
from oracle.clusters import Cluster, call, until
from oracle.rpc import Client, Refused
from oracle.servers import Program, Server

pytestmark = [pytest.mark.process, pytest.mark.slow]


def damage(server: Server) -> None:
    """Change the newest value on a stopped member's disk, behind its back."""
    backend = LmdbBackend(server.data_dir / "member" / "snap" / "db.lmdb")
    try:
        stored, row = backend.range(schema.KEY)[-1]
        pair = kv.KeyValue.FromString(row)
        pair.value = b"not what was put"
        backend.put(schema.KEY, stored, pair.SerializeToString())
        index = schema.from_u64(backend.get(schema.META, schema.CONSISTENT_INDEX))
        term = schema.from_u64(backend.get(schema.META, schema.TERM))
        batch = backend.seal(index, term)
        assert batch is not None
        assert batch.write() is None
        backend.committed(batch)
    finally:
        backend.close()


def three(cluster: Cluster, program: Program, *flags: str) -> Server:
    """A cluster with a few keys, one of its followers stopped and damaged; that follower."""
    for name in ("a", "b", "c"):
        cluster.add(program, name, *flags)
    cluster.start(["a", "b", "c"])
    leader = cluster.leader()
    with Client(leader.endpoint) as client:
        for number in range(5):
            client.call("KV/Put", put(f"k{number}", "v"))
    victim = next(m for m in cluster.members.values() if m is not leader)
    victim.stop()
    damage(victim)
    return victim


def alarms(server: Server) -> list[dict[str, str]]:
    return call(server, "maintenance/alarm", {}).get("alarms", [])


def test_a_damaged_member_does_not_start(cluster: Cluster, our_program: Program) -> None:
    """With --experimental-initial-corrupt-check: it says why, and the others go on."""
    victim = three(cluster, our_program, "--experimental-initial-corrupt-check")
    victim.spawn()
    assert victim.wait() == 1
    assert "found data inconsistency with peers" in victim.log()
    assert "found different hash values from remote peer" in victim.log()
    others = [m for m in cluster.members.values() if m is not victim]
    with Client(others[0].endpoint) as client:
        assert not isinstance(client.call("KV/Put", put("more", "1")), Refused)
    others[0].stop()
    others[0].start()
    assert "initial corruption checking passed; no corruption" in others[0].log()


@pytest.mark.parametrize("how", ["--corrupt-check-time=300ms", "--compact-hash-check-time=300ms"])
def test_a_damaged_member_is_found(cluster: Cluster, our_program: Program, how: str) -> None:
    """The alarm names it, writes are refused everywhere, reads and disarming are not."""
    gate = "--feature-gates=CompactHashCheck=true"
    flags = [how, gate] if "compact" in how else [how]
    victim = three(cluster, our_program, *flags)
    victim.start()
    leader = cluster.leader()
    member = call(victim, "maintenance/status", {})["header"]["member_id"]
    with Client(leader.endpoint) as client:
        if "compact" in how:
            client.call("KV/Compact", rpc.CompactionRequest(revision=6))
        found = until(lambda: alarms(leader))
        assert found == [{"memberID": member, "alarm": "CORRUPT"}]
        until(lambda: alarms(victim))
        for server in cluster.members.values():
            with Client(server.endpoint) as one:
                refused = one.call("KV/Put", put("k", "v"))
                assert refused == Refused("DATA_LOSS", "etcdserver: corrupt cluster")
                assert one.call("KV/Range", rpc.RangeRequest(key=b"k1")).count == 1
        assert leader.http("GET", "/health") == (
            503,
            b'{"health":"false","reason":"ALARM CORRUPT"}\n',
        )


@pytest.mark.long
def test_members_that_agree_raise_no_alarm(cluster: Cluster, our_program: Program) -> None:
    """Checked over and over while keys are written and compacted."""
    flags = ["--corrupt-check-time=100ms", "--compact-hash-check-time=100ms"]
    for name in ("a", "b", "c"):
        cluster.add(our_program, name, *flags, "--feature-gates=CompactHashCheck=true")
    cluster.start(["a", "b", "c"])
    leader = cluster.leader()
    with Client(leader.endpoint) as client:

        def checked() -> bool:
            at = client.call("KV/Put", put("k", "v")).header.revision
            if at % 50 == 0:
                client.call("KV/Compact", rpc.CompactionRequest(revision=at - 10))
            log = leader.log()
            periodic = log.count("finished peer corruption check")
            return periodic > 5 and log.count('"number-of-hashes-checked":1') > 2

        until(checked, 30)
    assert alarms(leader) == []
