"""Linearizable reads wait for a round of Raft and for everything that was committed then."""

import pytest

from corum import errors
from corum.server.reads import RETRY_NS, WAITING_MAX, Reads

TIMEOUT_NS = 7_000_000_000


def serve(call: int, request: object) -> None:
    """Never called here: serving is the gate's."""
    raise AssertionError


def gathered(*calls: int) -> Reads:
    reads = Reads(TIMEOUT_NS)
    for call in calls:
        reads.add(serve, call, None)
    return reads


def calls_of(found: list[tuple[object, ...]]) -> list[object]:
    return [read[1] for read in found]


def test_all_reads_of_a_turn_share_a_round() -> None:
    """One context for all of them, none when nobody reads, and a new one for the next turn."""
    reads = gathered(1, 2, 3)
    first = reads.begin_round(0)
    assert first is not None
    assert reads.begin_round(0) is None
    reads.add(serve, 4, None)
    second = reads.begin_round(0)
    assert second not in (None, first)
    reads.confirmed(first, 10)
    assert calls_of(reads.ready(10)) == [1, 2, 3]


def test_a_read_waits_for_what_was_committed_before_it() -> None:
    """Confirmed at index 10 is not served at 9; what was confirmed once is served once."""
    reads = gathered(1)
    context = reads.begin_round(0)
    assert context is not None
    assert reads.ready(1_000) == []  # not confirmed: this member may have been deposed
    reads.confirmed(context, 10)
    assert reads.ready(9) == []
    assert calls_of(reads.ready(10)) == [1]
    assert reads.ready(10) == []


def test_rounds_are_served_in_order() -> None:
    """Only those whose index is applied."""
    reads = Reads(TIMEOUT_NS)
    for call, index in ((1, 5), (2, 5), (3, 6)):
        reads.add(serve, call, None)
        context = reads.begin_round(0)
        assert context is not None
        reads.confirmed(context, index)
    assert calls_of(reads.ready(5)) == [1, 2]
    assert calls_of(reads.ready(6)) == [3]


def test_an_unknown_confirmation_is_nobodys() -> None:
    """A round that is over may be confirmed late, or twice."""
    reads = gathered(1)
    context = reads.begin_round(0)
    assert context is not None
    reads.confirmed(context, 1)
    reads.confirmed(context, 1)
    reads.confirmed(b"another", 1)
    assert calls_of(reads.ready(1)) == [1]


def test_a_lost_round_is_asked_again() -> None:
    """Every half second while no answer comes, not after it."""
    reads = gathered(1)
    context = reads.begin_round(100)
    assert context is not None
    assert reads.retry(100 + RETRY_NS - 1) == []
    assert reads.retry(100 + RETRY_NS) == [context]
    assert reads.retry(100 + RETRY_NS) == []
    assert reads.retry(100 + 2 * RETRY_NS) == [context]
    reads.confirmed(context, 1)
    assert reads.retry(100 + 3 * RETRY_NS) == []


def test_a_read_fails_after_the_request_timeout() -> None:
    """At its deadline, once; a late confirmation finds nobody."""
    reads = gathered(1)
    context = reads.begin_round(0)
    assert context is not None
    assert reads.overdue(TIMEOUT_NS - 1) == []
    assert calls_of(reads.overdue(TIMEOUT_NS)) == [1]
    reads.confirmed(context, 1)
    assert reads.ready(1) == []
    assert reads.failed_total == 1


def test_a_new_leader_is_asked_anew() -> None:
    """Rounds of the old one are lost; their reads come first in the next round, those that are
    confirmed already stay so."""
    reads = gathered(1)
    confirmed = reads.begin_round(0)
    assert confirmed is not None
    reads.confirmed(confirmed, 3)
    reads.add(serve, 2, None)
    lost = reads.begin_round(0)
    assert lost is not None
    reads.add(serve, 3, None)
    reads.leader_changed()
    again = reads.begin_round(0)
    assert again is not None
    reads.confirmed(lost, 1)
    reads.confirmed(again, 4)
    assert calls_of(reads.ready(4)) == [1, 2, 3]


def test_the_last_read_and_one_more() -> None:
    """The bound counts whoever waits; who was served makes room."""
    reads = gathered(*range(WAITING_MAX))
    with pytest.raises(errors.TOO_MANY_REQUESTS):
        reads.add(serve, -1, None)
    context = reads.begin_round(0)
    assert context is not None
    reads.confirmed(context, 1)
    assert len(reads.ready(1)) == WAITING_MAX
    reads.add(serve, -1, None)
