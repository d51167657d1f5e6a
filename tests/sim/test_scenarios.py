"""Directed scenarios in the simulator: each a story of a few lines with a sentence for a name."""

from __future__ import annotations

import pytest

from corum import errors
from corum.pb import rpc
from corum.sim.world import Violation
from corum.values import NS_PER_MS

from .scenes import Scene


def test_an_acknowledged_write_survives_a_power_failure_right_after_its_answer() -> None:
    scene = Scene()
    for number in range(20):
        assert scene.put(b"k", b"%d" % number).succeeded
        scene.restart(power=True)
        assert scene.get(b"k") == b"%d" % number


@pytest.mark.parametrize("effect", ["log: before the short path", "log: before a write"])
def test_a_write_that_never_reached_the_disk_is_not_there_after_a_crash(effect: str) -> None:
    scene = Scene()
    warm_up = 4 if "short" in effect else 0  # a client alone gets the short path after a while
    for number in range(warm_up):
        scene.put(b"k", b"%d" % number)
    scene.settle()
    before = scene.get(b"k")
    scene.member.crash_at[effect] = 1
    assert scene.put(b"k", b"lost").is_unknown
    scene.wait_for_leader()
    assert scene.get(b"k") == before


@pytest.mark.parametrize("seed", range(12))
def test_a_torn_write_is_cut_off_and_the_log_goes_on_behind_it(seed: int) -> None:
    scene = Scene(seed)
    for number in range(3):
        scene.put(b"k", b"%d" % number)
    scene.member.crash_at["log: written by the short path"] = 1
    scene.member.crash_at["log: written"] = 1
    scene.put(b"long", b"x" * 3_000)
    scene.wait_for_leader()
    scene.restart(power=True)
    assert scene.get(b"k") == b"2"
    assert scene.get(b"long") in (None, b"x" * 3_000)
    assert scene.put(b"k", b"after").succeeded
    scene.restart(power=True)
    assert scene.get(b"k") == b"after"


def test_a_member_has_voters_after_the_second_snapshot_since_its_configuration_changed() -> None:
    scene = Scene(snapshot_count=5, snapshot_catchup_entries=1)
    for number in range(40):
        scene.put(b"k", b"%d" % number)
        if number % 10 == 9:
            scene.settle()
            scene.restart()
    assert scene.get(b"k") == b"39"


def test_a_backend_ahead_of_the_logs_commit_index_is_committed_again_as_it_is() -> None:
    scene = Scene(batch_interval_ns=NS_PER_MS, snapshot_count=3, snapshot_catchup_entries=1)
    for number in range(30):
        scene.put(b"k", b"%d" % number)
        if number % 3 == 0:
            scene.wait(0.15)  # the backend has it, the log's commit index waits for company
            scene.restart(power=True)
            assert scene.get(b"k") == b"%d" % number


@pytest.mark.parametrize("seed", range(20))
def test_a_renewal_just_after_a_restart_does_not_call_a_living_lease_dead(seed: int) -> None:
    scene = Scene(seed)
    assert scene.grant(7, 60).succeeded
    scene.member.crash(power=True)
    renewal = scene.keep_alive(7)
    while not renewal.succeeded:
        scene.wait(0.0002)
        renewal = scene.keep_alive(7)
    assert renewal.response.TTL == 60


def test_a_lease_lives_through_restarts_and_ends_when_nobody_renews_it() -> None:
    scene = Scene()
    scene.grant(7, 4)
    scene.put(b"l", b"leased", lease=7)
    for _ in range(4):
        scene.wait(3)
        assert scene.keep_alive(7).response.TTL == 4
        scene.restart()
    assert scene.get(b"l") == b"leased"
    scene.wait(10)
    assert scene.get(b"l") is None
    assert scene.keep_alive(7).response.TTL == 0


def test_a_full_backend_refuses_writes_and_loses_nothing() -> None:
    scene = Scene(batch_interval_ns=NS_PER_MS)
    scene.put(b"k", b"before")
    scene.member.disk.fill(log=False)
    scene.put(b"k", b"meanwhile")
    scene.wait(2)
    assert scene.put(b"k", b"refused").text == errors.NO_SPACE.text
    scene.member.disk.free()
    scene.wait(2)
    alarm = scene.ask("Maintenance/Alarm", rpc.AlarmRequest()).response.alarms[0]
    disarm = rpc.AlarmRequest(action=rpc.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=1)
    assert scene.ask("Maintenance/Alarm", disarm).succeeded
    assert scene.get(b"k") == b"meanwhile"
    assert scene.put(b"k", b"after").succeeded
    scene.restart()
    assert scene.get(b"k") == b"after"


def test_a_log_without_room_stops_the_member_and_it_comes_back_with_all_it_promised() -> None:
    scene = Scene()
    scene.put(b"k", b"promised")
    scene.member.disk.fill(log=True)
    assert scene.put(b"k", b"not promised").is_unknown
    assert not scene.member.is_up
    scene.member.disk.free()
    scene.wait_for_leader()
    assert scene.get(b"k") == b"promised"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_around_a_commit_applies_nothing_twice(when: str) -> None:
    scene = Scene(batch_interval_ns=NS_PER_MS)
    for number in range(10):
        scene.member.crash_at[f"job: {when} _Batch.write"] = 2
        scene.put(b"k%d" % number, b"%d" % number)
        scene.wait_for_leader()
        scene.settle()
        scene.wait_for_leader()
    read = scene.ask("KV/Range", rpc.RangeRequest(key=b"k", range_end=b"l"))
    assert {kv.version for kv in read.response.kvs} == {1}
    scene.judge()


@pytest.mark.parametrize("step", ["before", "after"])
@pytest.mark.parametrize(
    "what", ["Snapshotting.step.save", "SimCut.run", "LogFiles.record.<lambda>"]
)
def test_a_crash_around_a_snapshot_or_a_new_segment_loses_nothing(step: str, what: str) -> None:
    scene = Scene(segment_bytes=512, snapshot_count=3, snapshot_catchup_entries=1)
    scene.member.crash_at[f"job: {step} {what}"] = 2
    for number in range(60):
        if not scene.put(b"k", b"%d" % number).succeeded:
            scene.wait_for_leader()
    assert scene.get(b"k") == b"59"
    scene.judge()


@pytest.mark.parametrize("seed", range(10))
def test_a_snapshot_that_ends_while_a_segment_is_cut_waits_for_it(seed: int) -> None:
    scene = Scene(seed, segment_bytes=256, snapshot_count=2, snapshot_catchup_entries=1)
    answers: list[object] = []
    for number in range(60):
        put = rpc.PutRequest(key=b"k", value=b"%d" % number)
        scene.client.ask("KV/Put", put)(answers.append)
        scene.wait(0.003)
    scene.settle()
    assert len(answers) == 60
    scene.restart()
    assert scene.get(b"k") is not None


def test_a_watch_goes_on_where_it_was_when_the_member_comes_back() -> None:
    scene = Scene()
    for number in range(12):
        scene.put(b"k", b"%d" % number)
        if number % 4 == 3:
            scene.restart()
    scene.settle()
    history = scene.auditor.history
    assert [one[0].value for one in history.revisions[2:]] == [b"%d" % n for n in range(12)]
    assert scene.auditor.connections >= 4


def test_a_compaction_interrupted_by_a_crash_is_finished_after_it() -> None:
    scene = Scene(compaction_rows=1, compaction_pause_ns=20 * NS_PER_MS)
    for number in range(20):
        scene.put(b"k", b"%d" % number)
    scene.ask("KV/Compact", rpc.CompactionRequest(revision=20))
    scene.wait(0.15)
    assert scene.member.node.store.compaction is not None
    scene.restart()
    scene.wait(2)
    assert scene.member.node.store.compaction is None
    assert scene.member.node.store.compacted == 20
    old = scene.ask("KV/Range", rpc.RangeRequest(key=b"k", revision=19))
    assert old.text == errors.COMPACTED.text


# ---- the judges must be able to find something


def test_a_disk_that_only_pretends_to_sync_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corum.sim.disk.Segment.sync", lambda self: None)
    scene = Scene()
    for number in range(30):
        scene.put(b"k%d" % number, b"%d" % number)
    scene.settle()

    def fail_and_go_on() -> None:
        for number in range(10):
            scene.restart(power=True)
            scene.put(b"again", b"again %d" % number)
            scene.settle()
        scene.judge()

    with pytest.raises((Violation, AssertionError)):
        fail_and_go_on()


def test_a_lease_that_ends_too_early_is_found_out() -> None:
    scene = Scene()
    scene.grant(7, 60)
    scene.member.node.lessor._leases.clear()
    scene.keep_alive(7)
    with pytest.raises(Violation, match="too early"):
        scene.judge()


def test_a_read_from_the_past_is_found_out() -> None:
    scene = Scene()
    scene.put(b"k", b"old")
    stale = scene.ask("KV/Range", rpc.RangeRequest(key=b"k"))
    scene.put(b"k", b"new")
    scene.settle()
    scene.judge()
    stale.invoked = scene.world.ticket()
    stale.returned = scene.world.ticket()
    with pytest.raises(Violation, match="stale"):
        scene.judge()


def test_an_acknowledged_write_that_nobody_can_see_is_found_out() -> None:
    scene = Scene()
    scene.put(b"k", b"seen")
    scene.settle()
    scene.operations[-1].request.value = b"other"
    with pytest.raises(Violation, match="nobody wrote"):
        scene.judge()


def test_an_event_that_comes_twice_is_found_out() -> None:
    scene = Scene()
    scene.put(b"k", b"1")
    scene.settle()
    watch = scene.auditor.watches[1]
    with pytest.raises(Violation, match="again or late"):
        watch.events([watch.received[0]], 2)
