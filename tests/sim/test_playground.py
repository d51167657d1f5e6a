"""The simulated etcd that programs' tests can use."""

import pytest

from corum import errors
from corum.client.errors import Compacted, DeadlineExceeded
from corum.client.requests import get, put, version
from corum.sim.playground import SimulatedEtcd


def test_an_hour_passes_at_once() -> None:
    """A lease holds until its time is over and takes its keys with it then; who renews keeps it."""
    etcd = SimulatedEtcd()
    lost, kept = etcd.lease(3600), etcd.lease(3600)
    etcd.put("lost", "v", lease=lost)
    etcd.put("kept", "v", lease=kept)
    changes = etcd.watch("lost")
    etcd.advance(3500)
    assert etcd.keep_alive(kept) == 3600
    assert etcd.get("lost") is not None
    assert changes.take() == []
    etcd.advance(200)
    assert etcd.get("lost") is None
    assert [event.deleted for event in changes.take()] == [True]
    assert etcd.get("kept") is not None
    assert etcd.leases() == [kept]
    assert etcd.now_s > 3700


def test_keys_transactions_and_refusals() -> None:
    """The calls of the client, with its results and its errors."""
    etcd = SimulatedEtcd(quota_bytes=0)
    first = etcd.put("a/1", "x").header.revision
    assert etcd.put("a/2", "y", prev_kv=True).previous is None
    assert [pair.text for pair in etcd.range("a/", prefix=True)] == ["x", "y"]
    done = etcd.txn([version("a/1") == 1], [put("a/3", "z"), get("a/1")])
    assert done.succeeded
    assert etcd.delete("a/", prefix=True).deleted == 3
    etcd.compact(first + 2)
    with pytest.raises(Compacted):
        etcd.get("a/1", revision=first)
    with pytest.raises(errors.LEASE_NOT_FOUND):
        etcd.put("k", "v", lease=12345)
    lease = etcd.lease(60)
    etcd.revoke(lease)
    assert etcd.keep_alive(lease) == 0


def test_a_first_election_that_hurries() -> None:
    """Members that reach each other wait for no leader of whom they would have heard; and one that
    comes back to a cluster with a leader disturbs nobody."""
    patient = [SimulatedEtcd(seed, members=3).now_s for seed in range(1, 21)]
    hurried = [SimulatedEtcd(seed, members=3, hurries=True) for seed in range(1, 21)]
    assert sum(etcd.now_s for etcd in hurried) < sum(patient) / 2
    etcd = hurried[0]
    leader, first = etcd.leader(), etcd.put("k", "v").header.raft_term
    for _ in range(5):
        etcd.crash(etcd.followers()[0])
        etcd.advance(2)
        assert etcd.leader() == leader
    assert etcd.put("k", "v").header.raft_term == first


def test_what_was_acknowledged_survives_power_failures() -> None:
    """Ten crashes; keys and a watch go on where they were."""
    etcd = SimulatedEtcd(seed=7)
    changes = etcd.watch("n")
    for number in range(10):
        etcd.put("n", str(number))
        etcd.crash()
        found = etcd.get("n")
        assert found is not None
        assert found.text == str(number)
    etcd.advance(5)
    assert [event.value for event in changes.take()] == [b"%d" % n for n in range(10)]


def test_the_same_seed_is_the_same_run() -> None:
    """Revisions, leases and time."""

    def run() -> tuple[object, ...]:
        etcd = SimulatedEtcd(seed=3)
        lease = etcd.lease(10)
        etcd.put("k", "v", lease=lease)
        etcd.advance(30)
        return lease, etcd.get("k"), etcd.world.now_ns, etcd.world.trace_hash

    assert run() == run()


@pytest.mark.parametrize("seed", [1, 2])
def test_an_hour_passes_at_once_for_three_members(seed: int) -> None:
    """The leader stays, and what is due gets done."""
    etcd = SimulatedEtcd(seed, members=3)
    leader = etcd.leader()
    etcd.put("k", "v", lease=etcd.lease(3600))
    changes = etcd.watch("k")
    etcd.advance(3500)
    assert etcd.get("k") is not None
    assert etcd.leader() == leader
    etcd.advance(200)
    assert etcd.get("k") is None
    assert [event.deleted for event in changes.take()] == [True]


def test_another_member_leads_when_the_leader_cannot() -> None:
    """Cut off, dead, standing still: writes go on, nothing is lost, and it comes back."""
    etcd = SimulatedEtcd(seed=4, members=3)
    changes = etcd.watch("n")
    for number, (harm, repair) in enumerate(
        (
            (lambda name: etcd.partition([name]), lambda _: etcd.heal()),
            (etcd.kill, etcd.start),
            (etcd.pause, etcd.resume),
            (etcd.crash, lambda _: None),
        )
    ):
        leader = etcd.leader()
        harm(leader)
        etcd.put("n", str(number))
        if harm != etcd.crash:  # it may be back in time to be elected again
            assert etcd.leader() != leader
        repair(leader)
        etcd.advance(5)
    etcd.cut("m1", "m2")
    etcd.put("n", "4")
    etcd.heal()
    etcd.restart()
    found = etcd.get("n")
    assert found is not None
    assert found.text == "4"
    etcd.advance(10)
    assert [event.value for event in changes.take()] == [b"%d" % n for n in range(5)]


def test_a_minority_does_nothing() -> None:
    """One of three neither writes nor reads; with a second one both are possible again."""
    etcd = SimulatedEtcd(members=3)
    assert etcd.members == ["m1", "m2", "m3"]
    first, second = etcd.followers()
    etcd.kill(first, second)
    with pytest.raises(DeadlineExceeded, match="no leader"):
        etcd.put("k", "v")
    etcd.start(first)
    etcd.put("k", "v")
    with pytest.raises(ValueError, match="m4"):
        etcd.kill("m4")


def test_a_member_that_stood_still_for_long_comes_back() -> None:
    """It gives its streams up as dead while bytes of them wait to be read, and opens new ones."""
    etcd = SimulatedEtcd(members=3)
    follower = etcd.followers()[0]
    for number in range(3):
        etcd.pause(follower)
        for n in range(40):
            etcd.put("k", f"{number}.{n}")
            etcd.advance(0.2)
        etcd.resume(follower)
        etcd.advance(2)
    etcd.kill(etcd.leader())
    found = etcd.get("k")
    assert found is not None
    assert found.text == "2.39"
    etcd.put("k", "on")
