"""What a member finds out about the way to another one, and about its clock."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from corum.peer.prober import PROBE_NS, SAY_AFTER_FAILURE_NS, SAY_NS, Prober, unix_ns
from corum.values import NS_PER_MS, NS_PER_S

NOW_UNIX_NS = 1_700_000_000_123_456_000
MEMBER = 0xABC


class Peers:
    """One other member that answers as the test says."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.peers = [SimpleNamespace(id=MEMBER)]
        self.lines: list[tuple[str, str, dict[str, Any]]] = []
        self.trips: list[tuple[int, int]] = []
        self.asked: list[Callable[[int, bytes], None]] = []
        self.node = SimpleNamespace(
            ports=SimpleNamespace(unix_time_ns=lambda: NOW_UNIX_NS + self.now_ns),
            round_trip=lambda member, took_ns: self.trips.append((member, took_ns)),
        )
        self.prober = Prober(self)  # type: ignore[arg-type]

    def post(self, member: int, path: str, *rest: Any, verb: str) -> None:
        assert (member, path, verb) == (MEMBER, "/raft/probing", "GET")
        self.asked.append(rest[-1])

    def note(self, text: str, member: int, level: str = "info", **fields: Any) -> None:
        self.lines.append((level, text, fields))

    def pass_time(self, ns: int, answer: Callable[[], tuple[int, bytes]] | None) -> None:
        """Every answer takes 2 ms."""
        end = self.now_ns + ns
        while self.now_ns < end:
            self.now_ns += 100 * NS_PER_MS
            self.prober.tick(self.now_ns)
            asked, self.asked = self.asked, []
            for done in asked if answer else ():
                self.now_ns += 2 * NS_PER_MS
                assert answer is not None
                done(*answer())

    def clock(self, off_ns: int) -> Callable[[], tuple[int, bytes]]:
        """The member answers; its clock goes wrong by so much."""

        def answer() -> tuple[int, bytes]:
            ns = NOW_UNIX_NS + self.now_ns + off_ns
            when = datetime.fromtimestamp(ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            return 200, json.dumps({"OK": True, "Now": f"{when}.{ns % NS_PER_S:09d}Z"}).encode()

        return answer


def test_a_member_that_answers_is_measured_in_silence() -> None:
    """Every 30 s a round trip for the metric, no line."""
    peers = Peers()
    peers.pass_time(2 * SAY_NS, peers.clock(0))
    assert peers.lines == []
    assert len(peers.trips) in (2, 3)
    assert peers.trips[-1] == (MEMBER, 2 * NS_PER_MS)


@pytest.mark.parametrize("off_ns", [3 * NS_PER_S, -3 * NS_PER_S])
def test_a_clock_that_is_off_is_reported(off_ns: int) -> None:
    """More than a second, in either direction; half the way is allowed for."""
    peers = Peers()
    peers.pass_time(SAY_AFTER_FAILURE_NS + NS_PER_S, peers.clock(off_ns))
    level, text, fields = peers.lines[0]
    assert (level, text) == ("warn", "prober found high clock drift")
    assert abs(float(fields["clock-drift"].removesuffix("s")) * NS_PER_S + off_ns) < 5 * NS_PER_MS


def test_a_member_that_does_not_answer_is_reported_every_5_s() -> None:
    """With the reason; when it answers again it is silent."""
    peers = Peers()
    peers.pass_time(3 * SAY_AFTER_FAILURE_NS + NS_PER_S, lambda: (0, b"connection refused"))
    assert [(line[1], line[2]["error"]) for line in peers.lines] == [
        ("prober detected unhealthy status", "connection refused")
    ] * 3
    peers.lines.clear()
    peers.pass_time(PROBE_NS, peers.clock(0))
    peers.pass_time(SAY_NS, peers.clock(0))
    assert peers.lines == []


def test_times_as_go_writes_them() -> None:
    """Any number of decimals, any zone."""
    assert unix_ns("2023-11-14T22:13:20.123456789Z") == 1_700_000_000_123_456_000
    assert unix_ns("2023-11-14T23:13:20+01:00") == 1_700_000_000 * NS_PER_S
    with pytest.raises(ValueError, match="without zone"):
        unix_ns("2023-11-14T22:13:20")
