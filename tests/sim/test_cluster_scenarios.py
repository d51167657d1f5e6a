"""Directed scenarios of several members: each a story of a few lines with a sentence for a name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from corum.pb import rpc
from corum.sim.machines import Machine
from corum.sim.sessions import Client, Operation
from corum.sim.world import Violation
from corum.values import NS_PER_MS, NS_PER_S, LeaseId

from .cluster_scenes import ClusterScene


def test_a_write_acknowledged_by_one_member_is_read_on_every_other() -> None:
    scene = ClusterScene()
    for number, machine in enumerate(scene.cluster.machines * 3):
        scene.put(b"k", b"%d" % number, at=machine)
        for other in scene.cluster.machines:
            assert scene.get(b"k", at=other) == b"%d" % number


@pytest.mark.parametrize("power", [False, True])
def test_what_was_acknowledged_survives_the_leader_and_then_everybody(power: bool) -> None:
    scene = ClusterScene()
    for number in range(5):
        scene.put(b"k", b"%d" % number)
        scene.leader.crash(power=power)
        assert scene.get(b"k") == b"%d" % number
    for machine in scene.cluster.machines:
        machine.crash(power=power)
    assert scene.get(b"k") == b"4"
    scene.converge()


def test_a_leader_that_was_cut_off_serves_no_linearizable_read() -> None:
    scene = ClusterScene()
    scene.put(b"k", b"old")
    old = scene.leader
    scene.cut_off(old)
    scene.until(lambda: scene.cluster.leader not in (None, old), "no other leader")
    scene.put(b"k", b"new")
    read = scene.ask(old, "KV/Range", rpc.RangeRequest(key=b"k"))
    assert not read.succeeded
    stale = scene.ask(old, "KV/Range", rpc.RangeRequest(key=b"k", serializable=True))
    assert stale.response.kvs[0].value == b"old"
    scene.heal()
    assert scene.get(b"k", at=old) == b"new"


def test_a_leader_with_a_slow_disk_does_not_deny_a_lease_its_followers_have() -> None:
    scene = ClusterScene()
    leader = scene.leader
    leader.sync_ns = 500 * NS_PER_MS
    scene.grant(7, 60, at=scene.followers[0])
    asked = scene.ask(leader, "Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=7))
    assert asked.response.grantedTTL == 60


def test_a_leader_that_stood_still_renews_no_lease_that_its_successor_has_ended() -> None:
    scene = ClusterScene()
    scene.grant(7, 3)
    old = scene.leader
    old.pause(20 * NS_PER_S)
    renewals: list[Operation] = []
    client = Client(scene.world, old.network, "client", scene.operations)
    scene.wait(19)
    client.ask("Lease/LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=7))(renewals.append)
    scene.until(lambda: bool(renewals), "the renewal is not answered")
    assert renewals[0].response is None or renewals[0].response.TTL == 0


def test_a_lease_is_called_gone_only_when_its_revocation_is_applied() -> None:
    """Before that a new leader may find it alive, as seed 1191 told."""
    scene = ClusterScene()
    scene.grant(7, 2)
    leader = scene.leader
    for machine in scene.cluster.machines:
        machine.sync_ns = 300 * NS_PER_MS
    scene.until(lambda: leader.node.lessor.is_due(LeaseId(7), leader.clock_ns()), "it is not due")
    renewed = scene.ask(leader, "Lease/LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=7))
    assert renewed.succeeded
    assert renewed.response.TTL == 0
    assert LeaseId(7) not in leader.node.lessor


def test_a_follower_knows_a_lease_that_is_due_from_one_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time left is negative in both cases; seed 1302 told of a lease that came back."""
    scene = ClusterScene()
    monkeypatch.setattr("corum.server.leases.REVOKES_PER_CHECK", 0)
    scene.grant(7, 2)
    scene.wait(5)
    for machine in scene.cluster.machines:
        asked = scene.ask(machine, "Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=7))
        assert asked.response.TTL < 0
        assert asked.response.grantedTTL == 2
        unknown = scene.ask(machine, "Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=8))
        assert (unknown.response.TTL, unknown.response.grantedTTL) == (-1, 0)


def test_a_lease_outlives_the_leader_that_granted_it() -> None:
    scene = ClusterScene()
    scene.grant(7, 10)
    scene.put(b"k", b"v", lease=7)
    scene.wait(8)
    scene.leader.crash(power=True)
    scene.wait_for_leader()
    scene.wait(5)
    assert scene.get(b"k") == b"v"
    scene.wait(12)
    assert scene.get(b"k") is None
    scene.converge()


def test_a_learner_promoted_by_way_of_a_follower_votes_for_all() -> None:
    """The follower hears of the promotion from the leader before its log does."""
    scene = ClusterScene()
    learner = scene.add(learner=True)
    scene.until(lambda: learner.node.is_learner, "the learner does not hear of itself")
    scene.wait(1)
    follower = next(each for each in scene.followers if each is not learner)
    follower.sync_ns = 300 * NS_PER_MS
    request = rpc.MemberPromoteRequest(ID=learner.node.members.local)
    promoted = scene.ask(follower, "Cluster/MemberPromote", request)
    assert promoted.succeeded, promoted
    assert not any(each.isLearner for each in promoted.response.members)
    scene.wait(2)
    for machine in scene.cluster.machines:
        assert len(machine.node.reconfiguration.conf_state.voters) == 4
    scene.converge()


def test_a_learner_that_moved_and_was_promoted_is_a_voter_after_a_restart_too() -> None:
    """What changed its peer URLs made it a voter in the list that a replay is checked against."""
    scene = ClusterScene()
    learner = scene.add(learner=True)
    scene.until(lambda: learner.node.is_learner, "the learner does not hear of itself")
    scene.wait(1)
    member = learner.node.members.local
    update = rpc.MemberUpdateRequest(ID=member, peerURLs=[*learner.urls, "http://m4:2390"])
    assert scene.ask(scene.leader, "Cluster/MemberUpdate", update).succeeded
    promote = rpc.MemberPromoteRequest(ID=member)
    assert scene.ask(scene.leader, "Cluster/MemberPromote", promote).succeeded
    scene.converge()
    for machine in scene.cluster.machines:
        machine.crash(power=True)
    scene.until(lambda: len(scene.cluster.up) == 4, "they do not come back")
    scene.converge()
    for machine in scene.cluster.machines:
        assert len(machine.node.reconfiguration.conf_state.voters) == 4


@pytest.mark.parametrize(
    ("effect", "slow"),
    [
        ("database: kept", False),
        ("database: before it is installed", False),
        ("database: installed", False),
        ("database: installed", True),
    ],
)
def test_a_member_that_dies_while_it_gets_a_snapshot_gets_it_again(effect: str, slow: bool) -> None:
    scene = ClusterScene(snapshot_count=5, snapshot_catchup_entries=1)
    behind = scene.followers[0]
    scene.cut_off(behind)
    for number in range(30):
        scene.put(b"k", b"%d" % number)
    behind.sync_ns = 300 * NS_PER_MS if slow else 50_000
    behind.faults = type(behind.faults)(power=1.0)
    behind.crash_at[effect] = 1
    scene.heal()
    scene.until(lambda: behind.crashes == 1, "it does not die")
    scene.until(lambda: behind.is_up, "it does not come back")
    scene.converge()  # after a while: a machine without power leaves its connections open
    assert scene.get(b"k", at=behind) == b"29"


def test_a_member_without_room_for_a_database_that_it_has_to_take_over_starts_later() -> None:
    """Each start ends until there is room."""
    scene = ClusterScene(snapshot_count=5, snapshot_catchup_entries=1)
    behind = scene.followers[0]
    scene.cut_off(behind)
    for number in range(30):
        scene.put(b"k", b"%d" % number)
    behind.faults = type(behind.faults)(power=0.0)
    behind.crash_at["database: before it is installed"] = 1
    scene.heal()
    scene.until(lambda: behind.crashes == 1, "it does not die")
    behind.disk.fill(log=False)
    scene.until(lambda: behind.crashes == 4, "it starts without room")
    behind.disk.free()
    scene.converge()
    assert scene.get(b"k", at=behind) == b"29"


def test_a_member_that_works_long_on_a_snapshot_is_sent_it_once() -> None:
    """Whatever happens to the streams of the two meanwhile."""
    scene = ClusterScene(snapshot_count=5, snapshot_catchup_entries=1)
    behind, leader = scene.followers[0], scene.leader
    scene.cut_off(behind)
    for number in range(30):
        scene.put(b"k", b"%d" % number)
    begun: list[float] = []
    start = behind.jobs.start

    def slowly(run: Callable[[], object], done: Callable[[object], None]) -> None:
        if run.__qualname__.startswith("Reception._write"):
            begun.append(scene.world.now_ns)
            behind.later(30 * NS_PER_S, lambda: start(run, done))
        else:
            start(run, done)

    behind.jobs.start = slowly
    scene.heal()
    scene.until(lambda: bool(begun), "no snapshot arrives")
    scene.wait(5)
    assert leader.peers is not None
    link = leader.peers.get(behind.node.members.local)
    assert link is not None
    link.message.close()
    revision = leader.node.store.revision
    scene.until(lambda: behind.node.store.revision == revision, "it never has it", 150)
    assert scene.leader is leader
    assert len(begun) <= 2, "once for what came first, once for the rest"
    scene.converge()


def test_a_restarted_leader_that_has_nothing_but_a_snapshot_gives_it_away() -> None:
    """It can commit nothing before the other one has it, so it must count as applied."""
    scene = ClusterScene(snapshot_count=5, snapshot_catchup_entries=1)
    behind, third = scene.followers
    leader = scene.leader
    scene.cut_off(behind)
    for number in range(60):
        scene.put(b"k", b"%d" % number)
        scene.wait(0.05)
        if number > 20 and leader.node.raft_storage.snapshot().index == leader.node.committed:
            break
    third.stay_away(200 * NS_PER_S)
    third.crash(power=False)
    leader.crash(power=True)
    scene.until(lambda: leader.is_up, "it does not come back")
    assert leader.node.applied_index == leader.node.committed, "the scene is another one"
    scene.heal()
    scene.until(lambda: behind.node.store.revision >= number, "no snapshot arrives", 60)
    assert scene.get(b"k") == b"%d" % number


def test_a_restarted_member_has_applied_all_that_its_backend_holds() -> None:
    """Its log may not say yet that this was committed."""
    scene = ClusterScene(batch_interval_ns=NS_PER_MS)
    for number in range(10):
        scene.put(b"k", b"%d" % number)
    scene.wait(0.05)
    for machine in scene.cluster.machines:
        machine.crash(power=True)
    scene.until(lambda: len(scene.cluster.up) == 3, "they do not come back")
    for machine in scene.cluster.machines:
        assert machine.node.applied_index >= machine.node.consistent_index
    scene.converge()


@pytest.mark.parametrize(("power", "soon"), [(False, True), (True, False)])
def test_a_killed_leader_is_succeeded_at_once_and_a_silent_one_after_the_timeout(
    power: bool, soon: bool
) -> None:
    """Only a machine that runs refuses to be dialled (decision 6)."""
    scene = ClusterScene()
    old, began_ns = scene.leader, scene.world.now_ns
    old.stay_away(20 * NS_PER_S)
    old.crash(power=power)
    scene.wait_for_leader()
    assert (scene.world.now_ns - began_ns < 900 * NS_PER_MS) == soon
    assert bool(scene.world.counts["early successions"]) == soon
    scene.put(b"k", b"v")
    scene.until(lambda: old.is_up, "it does not come back")
    scene.converge()


def test_a_process_that_goes_on_does_what_was_due() -> None:
    scene = ClusterScene()
    victim = scene.followers[0]
    victim.pause(1_000 * NS_PER_S)
    scene.put(b"k", b"v")
    scene.wait(3)
    assert victim.node.store.revision < scene.leader.node.store.revision
    victim.go_on()
    scene.converge()


def test_clocks_of_different_speeds_elect_and_end_leases() -> None:
    scene = ClusterScene()
    for machine, pace in zip(scene.cluster.machines, (0.7, 1.0, 1.3), strict=True):
        machine.pace = pace
    scene.grant(7, 3)
    scene.put(b"k", b"v", lease=7)
    granted_ns = scene.world.now_ns
    scene.until(lambda: not len(scene.leader.node.lessor), "the lease does not end")
    assert scene.world.now_ns - granted_ns > 3 * NS_PER_S / 1.3
    scene.leader.crash(power=True)
    scene.wait_for_leader()
    scene.converge()


def _always(typical_ns: int) -> int:
    """A delay without the rare ones that are fifty times as long."""
    return typical_ns


@pytest.mark.parametrize("slow", [1, 3])
def test_a_slow_disk_costs_time_but_no_leader_and_no_write(
    slow: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Syncs of the leader, or of everybody, come to take longer than an election timeout: once they
    are slow heartbeats do not wait for them; what is acknowledged is on a majority's disks."""
    scene = ClusterScene()
    leader, term = scene.leader, scene.leader.node.term
    monkeypatch.setattr(scene.world, "delay", _always)
    for sync_ms in (50, 1_500):
        for machine in [leader, *scene.followers][:slow]:
            machine.sync_ns = sync_ms * NS_PER_MS
        scene.put(b"k", b"")
        scene.put(b"k", b"")
    for number in range(6):
        scene.put(b"k", b"%d" % number, at=scene.cluster.machines[number % 3])
    assert scene.leader is leader
    assert leader.node.term == term
    for machine in scene.cluster.machines:
        machine.crash(power=True)
    assert scene.get(b"k", at=scene.leader) == b"5"
    scene.converge()


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
def test_wall_clocks_that_jump_cost_neither_a_write_nor_a_lease_nor_a_leader(jump_s: int) -> None:
    """Elections, timeouts and leases are on clocks that do not jump; a restart with a clock that
    went back tells its requests from those of its past."""
    scene = ClusterScene()
    leader, term = scene.leader, scene.leader.node.term
    scene.grant(7, 60)
    scene.put(b"leased", b"v", lease=7)
    answers = scene.puts(scene.cluster.machines, every_ms=100, for_ms=2_000)
    for machine in scene.cluster.machines:
        scene.wait(0.5)
        machine.wall_offset_ns += jump_s * NS_PER_S
    scene.until(lambda: len(answers) == 60, "a write has no answer", 2)
    assert all(answer.succeeded for answer in answers)
    assert scene.leader is leader
    assert leader.node.term == term
    left = scene.ask(leader, "Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=7))
    assert 50 < left.response.TTL <= 60
    for machine in scene.cluster.machines:
        machine.crash(power=True)
    scene.until(lambda: len(scene.cluster.up) == 3, "they do not come back")
    for number, machine in enumerate(scene.cluster.machines):
        scene.put(b"k", b"%d" % number, at=machine)
        assert scene.get(b"k", at=machine) == b"%d" % number
    assert scene.get(b"leased") == b"v"
    scene.converge()


def test_a_removed_member_leaves_and_does_not_come_back() -> None:
    scene = ClusterScene()
    victim = scene.followers[0]
    scene.cut_off(victim)
    request = rpc.MemberRemoveRequest(ID=victim.node.members.local)
    assert scene.ask(scene.leader, "Cluster/MemberRemove", request).succeeded
    scene.wait(2)
    scene.heal()
    scene.until(lambda: victim.is_removed and not victim.is_up, "it stays")
    term = scene.leader.node.term
    scene.wait(5)
    assert scene.leader.node.term == term


@pytest.mark.parametrize("log", [True, False])
def test_a_leader_without_room_says_that_it_knows_no_leader(log: bool) -> None:
    """It keeps silent, so others lead; with room again it knows who does, and catches up."""
    scene = ClusterScene()
    old = scene.leader
    old.disk.fill(log=log)
    answers = scene.puts([old], every_ms=20, for_ms=600)
    scene.until(lambda: old.node.leader == 0, "it still names a leader", 2)
    status = scene.ask(old, "Maintenance/Status", rpc.StatusRequest()).response
    assert (status.leader, list(status.errors)) == (0, ["etcdserver: no leader"])
    scene.until(lambda: scene.cluster.leader not in (None, old), "nobody else leads", 4)
    scene.put(b"k", b"v")
    old.disk.free()
    scene.until(lambda: len(answers) == 30, "a write has no answer")
    heir = scene.leader
    scene.until(lambda: old.node.leader == heir.node.members.local, "it knows nobody")
    scene.converge()


def test_no_write_is_lost_on_its_way_to_a_leader_that_hands_over() -> None:
    """What others send it meanwhile waits there, and goes on to the next leader."""
    scene = ClusterScene()
    old, (heir, third) = scene.leader, scene.followers
    heir.sync_ns = 200 * NS_PER_MS  # so long it takes to vote for itself
    answers = scene.puts([third, old, heir], every_ms=20, for_ms=600)
    scene.wait(0.1)
    assert old.peers is not None
    old.node.handover.start(heir.node.members.local, lambda _: None)
    scene.until(lambda: len(answers) == 90, "a write has no answer", 4)
    assert scene.leader is heir
    assert all(answer.succeeded for answer in answers)
    scene.converge()


def test_no_write_is_sent_to_a_leader_that_cannot_be_reached() -> None:
    """Between its death and the next election what members are asked waits for the next leader."""
    scene = ClusterScene()
    old, followers = scene.leader, scene.followers
    scene.cluster.fabric.delay_ns = NS_PER_MS
    old.stay_away(60 * NS_PER_S)
    old.crash(power=False)
    scene.until(lambda: not _knows_a_way(followers[0], old), "its end is not noticed")
    scene.until(lambda: not _knows_a_way(followers[1], old), "its end is not noticed")
    assert all(each.node.leader == old.node.members.local for each in followers)
    answers = scene.puts(followers, every_ms=10, for_ms=200)
    scene.until(lambda: len(answers) == 40, "a write has no answer", 3)
    assert all(answer.succeeded for answer in answers)
    scene.wait_for_leader()


def _knows_a_way(machine: Machine, other: Machine) -> bool:
    return machine.node.peers.active_since(other.node.members.local) > 0


@pytest.mark.parametrize("asked", [0, 1])
def test_a_leader_that_is_removed_hands_over_before_it_goes(asked: int) -> None:
    """Whether it is asked itself or another member: nobody waits for an election."""
    scene = ClusterScene()
    old, (one, other) = scene.leader, scene.followers
    answers = scene.puts([one, other], every_ms=20, for_ms=600)
    scene.wait(0.1)
    request = rpc.MemberRemoveRequest(ID=old.node.members.local)
    assert scene.ask((old, one)[asked], "Cluster/MemberRemove", request, within_s=2).succeeded
    scene.until(lambda: len(answers) == 60, "a write has no answer", 2)
    assert all(answer.succeeded for answer in answers)
    scene.until(lambda: old.is_removed and not old.is_up, "it stays")
    scene.converge()


# ---- the judges must be able to find something


def test_a_disk_that_only_pretends_to_sync_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corum.sim.disk.Segment.sync", lambda self: None)

    def fail_and_go_on() -> None:
        for seed in range(5):
            scene = ClusterScene(seed)
            for _ in range(4):
                scene.put(b"k", b"v")
                for machine in scene.cluster.machines:
                    machine.crash(power=True)
                scene.wait(3)

    with pytest.raises((Violation, AssertionError)):
        fail_and_go_on()


def test_two_members_that_hold_different_things_are_found_out() -> None:
    scene = ClusterScene()
    scene.put(b"k", b"v")
    odd = scene.followers[0].node
    write = odd.store.begin()
    write.put(b"only here", b"", 0)
    write.end()

    def go_on() -> None:
        scene.put(b"k", b"w")
        scene.wait(1)

    with pytest.raises(Violation, match="differs from another"):
        go_on()
