"""Members die, freeze, are cut off under load: nothing acknowledged is lost or done twice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

import corum
from corum.cluster.process import ClusterError
from oracle.build import compare, get, put, txn
from oracle.rpc import Client, Refused
from process.load import Ledger
from process_cluster.load import ClusterWriters, check_everywhere

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(600)]
ROUNDS, ROUNDS_LONG = 3, 24
DEADLINE_S = 30.0


@dataclass
class Stage:
    """One cluster for all tests here, and everything that was written to it."""

    cluster: corum.LocalCluster
    ledgers: list[Ledger] = field(default_factory=list)
    others: int = 0

    def writers(self) -> ClusterWriters:
        return ClusterWriters(self.cluster, self.ledgers)

    def check(self) -> None:
        check_everywhere(self.cluster, self.ledgers, self.others)


@pytest.fixture(scope="module")
def whole() -> Iterator[Stage]:
    """A small --snapshot-count makes snapshots part of what is interrupted."""
    with corum.LocalCluster(3, flags=["--snapshot-count=300"]) as cluster:
        yield Stage(cluster)


@pytest.fixture
def stage(whole: Stage) -> Stage:
    """All members run and hear each other."""
    whole.cluster.heal()
    whole.cluster.start()
    return whole


def until(holds: Callable[[], object], timeout_s: float = DEADLINE_S) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def more(writers: ClusterWriters, count: int) -> None:
    """Until so many further writes were acknowledged."""
    wanted = writers.written() + count
    until(lambda: writers.written() >= wanted)


def test_kill_under_load(stage: Stage, long: bool) -> None:
    """kill -9 of the leader and of followers, at any moment; the others go on meanwhile."""
    dice = random.Random(4)
    cluster = stage.cluster
    with stage.writers() as writers:
        for number in range(ROUNDS_LONG if long else ROUNDS):
            more(writers, dice.randrange(20, 200))
            leader = cluster.leader()
            victim = leader if number % 2 == 0 else dice.choice(cluster.followers())
            cluster.kill(victim)
            more(writers, 50)
            cluster.start(victim)
    stage.check()


def test_all_die_at_once(stage: Stage, long: bool) -> None:
    """A power cut: every acknowledged write was synced by a majority."""
    cluster = stage.cluster
    with stage.writers() as writers:
        for _ in range(6 if long else 1):
            more(writers, 150)
            cluster.kill()
            cluster.start()
        more(writers, 50)
    stage.check()


def test_a_frozen_leader(stage: Stage, long: bool) -> None:
    """SIGSTOP: another one leads; the old one wakes up, believes nothing of the past, follows."""
    cluster = stage.cluster
    with stage.writers() as writers:
        for _ in range(6 if long else 1):
            more(writers, 50)
            old = cluster.leader()
            cluster.pause(old)
            until(lambda old=old: cluster.leader() != old)
            more(writers, 50)
            cluster.resume(old)
            cluster.wait_ready(old)
        assert cluster.leader() != old
    stage.check()


def test_a_leader_that_is_cut_off(stage: Stage) -> None:
    """The majority serves on; the minority refuses reads and writes, but for serializable reads."""
    cluster = stage.cluster
    with stage.writers() as writers:
        more(writers, 20)
        old = cluster.leader()
        cluster.partition([old])
        until(lambda: cluster.leader() != old)
        new = cluster.leader()
        more(writers, 20)
        with Client(cluster.members[new].endpoint) as majority:
            assert not isinstance(majority.call("KV/Put", put("side", "majority")), Refused)
        with Client(cluster.members[old].endpoint) as minority:
            assert isinstance(minority.call("KV/Range", get("side"), timeout_s=1), Refused)
            stale = minority.call("KV/Range", get("side", serializable=True), timeout_s=5)
            assert not isinstance(stale, Refused)
            assert not stale.kvs
            # It may be done after healing, late, as any write whose fate is unknown: to no effect.
            late = txn([compare("side", "version", "=", 0)], [put("side", "minority")])
            assert isinstance(minority.call("KV/Txn", late, timeout_s=1), Refused)
        cluster.heal()
        cluster.wait_ready()
        with Client(cluster.members[old].endpoint) as healed:
            (found,) = healed.call("KV/Range", get("side")).kvs
            assert found.value == b"majority"
    stage.others += 1
    stage.check()


def test_a_leader_that_speaks_but_does_not_hear(stage: Stage) -> None:
    """It steps down by itself (check quorum); somebody who can do both leads."""
    cluster = stage.cluster
    with stage.writers() as writers:
        more(writers, 20)
        old = cluster.leader()
        for name in cluster.members:
            if name != old:
                cluster.cut(name, old)
        until(lambda: cluster.leader() != old)
        more(writers, 20)
        cluster.heal()
        cluster.wait_ready()
    stage.check()


def test_no_majority_no_service(stage: Stage) -> None:
    """Everybody alone: nobody leads, nobody acknowledges; healed, all is as before."""
    cluster = stage.cluster
    with stage.writers() as writers:
        more(writers, 20)
        cluster.partition(["m1"], ["m2"], ["m3"])
        until(lambda: _has_no_leader(cluster))
        stands = writers.written()
        time.sleep(1.0)  # acknowledging is what must not happen
        assert writers.written() == stands
        cluster.heal()
        cluster.wait_ready()
        more(writers, 20)
    stage.check()


def _has_no_leader(cluster: corum.LocalCluster) -> bool:
    try:
        cluster.leader(timeout_s=0)
    except ClusterError:
        return True
    return False
