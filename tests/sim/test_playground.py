"""The simulated etcd that programs' tests can use."""

import pytest

from corum import errors
from corum.client.errors import Compacted
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
