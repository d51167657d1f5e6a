"""What takes too long leaves a line and a count."""

from typing import Any

import pytest

from corum.auth import SimpleTokens
from corum.member.log_files import SLOW_SYNC_NS, LogFiles
from corum.pb import rpc
from corum.raft import HardState
from corum.server import operations as op
from corum.server.slowness import Slowness
from corum.values import NS_PER_MS, NS_PER_S, LeaseId
from corum.wal import Wal
from server.lone import HandJobs, Lone
from server.test_log_files import Saved, Writer, fatal


def test_a_leader_whose_loop_stood_still_says_that_its_heartbeats_were_late() -> None:
    """Two intervals between two heartbeats are too many; a follower owes none."""
    member = Lone()
    member.turn(100)
    member.turn(150)
    assert member.node.slowness.late_heartbeats_total == 0
    member.turn(500)
    assert member.node.slowness.late_heartbeats_total == 1
    assert any("failed to send out heartbeat on time" in line for line in member.lines)
    follower = Lone(elect=False)
    follower.turn(100)
    follower.turn(500)
    assert follower.node.slowness.late_heartbeats_total == 0


def test_a_batch_that_takes_long_to_apply_is_counted() -> None:
    """More than 100 ms."""
    member = Lone()
    applier, took_ms = member.node.applier, 100

    def slow(request: Any) -> Any:
        member.now_ns += took_ms * NS_PER_MS
        return applier.put(request)

    applier.operations[op.PUT] = slow
    member.propose(op.PUT, rpc.PutRequest(key=b"k"))
    assert member.node.slowness.slow_applies_total == 0
    took_ms = 101
    member.propose(op.PUT, rpc.PutRequest(key=b"k"))
    assert member.node.slowness.slow_applies_total == 1
    assert "apply request took too long" in member.lines


def test_a_request_that_waits_long_is_told() -> None:
    """More than what --warning-unary-request-duration says, of those that came to this member."""
    said: list[str] = []
    slow = Slowness(1, 1, lambda level, text, **fields: said.append(text), request_ns=NS_PER_MS)
    slow.applied(3, 0, NS_PER_MS)
    assert said == []
    slow.applied(3, 0, NS_PER_MS + 1)
    assert said == ["request stats"]


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
def test_a_wall_clock_that_jumps_is_told_and_counts_for_nothing(jump_s: int) -> None:
    """Leases, tokens and durations are on a clock that does not jump."""
    member = Lone()
    applier = member.node.applier
    tokens = member.node.auth.tokens
    assert isinstance(tokens, SimpleTokens)
    token = tokens.assign("root", "secret", 1, member.now_ns)
    member.propose(op.LEASE_GRANT, rpc.LeaseGrantRequest(ID=7, TTL=60))
    member.turn(100)
    said = len(member.lines)

    def jumping(request: Any) -> Any:
        member.wall_offset_ns += jump_s * NS_PER_S
        return applier.put(request)

    applier.operations[op.PUT] = jumping
    member.propose(op.PUT, rpc.PutRequest(key=b"k"))
    for _ in range(20):
        member.turn(100)
    assert member.lines[said:] == ["the wall clock jumped"]
    assert member.node.slowness.slow_applies_total == 0
    assert LeaseId(7) in member.node.lessor
    assert tokens.identify(token, 1, member.now_ns) is not None


def test_a_long_turn_is_no_jump() -> None:
    """The time of a turn is that of its beginning."""
    member = Lone()
    member.turn(100)
    said = len(member.lines)

    def slow() -> None:
        member.now_ns += 2 * NS_PER_S

    member.turn(100, slow)
    member.turn(100)
    assert "the wall clock jumped" not in member.lines[said:]


def test_a_slow_sync_is_told(tmp_path: Any) -> None:
    """More than a second, as etcd warns."""
    wal = Wal.create(tmp_path / "wal", b"\x08\x01\x10\x02", segment_bytes=1 << 20)
    jobs, writer = HandJobs(), Writer()
    log = LogFiles(wal, Saved(), writer, jobs, fatal)
    heard: list[int] = []
    log.slow = heard.append
    for token, took_ns in ((1, SLOW_SYNC_NS), (2, SLOW_SYNC_NS + 1)):
        assert log.write(token, HardState(1, 1, token), [], True)
        log.synced(token, None, took_ns)
    assert heard == [SLOW_SYNC_NS + 1]
    jobs.run()
    log.close()
    member = Lone()
    member.log.slow(2 * SLOW_SYNC_NS)
    assert "slow fdatasync" in member.lines


def test_ranges_are_measured_by_the_batch() -> None:
    """Those of one batch share its time; each is counted once."""
    member = Lone()
    seen: list[tuple[int, int]] = []
    ranges = member.node.ranges
    ranges.observe = lambda took_ns, times: seen.append((took_ns, times))
    request = rpc.RangeRequest(key=b"k")

    def read(call: int) -> None:
        def slow(call: int, request: Any) -> None:
            member.now_ns += 10
            ranges.serve(call, request)

        member.node.reads.add(slow, call, request)

    member.turn(0, *[lambda call=call: read(call) for call in (1, 2, 3)])
    assert seen == [(10, 3)]
