"""When the leader compacts by itself, and up to where."""

from corum.server.auto_compaction import HOUR_NS, REVISION_INTERVAL_NS, ByRevision, Periodic
from corum.values import NS_PER_S

MINUTE_NS = 60 * NS_PER_S


def compactions(policy: Periodic | ByRevision, minutes: int, start: int = 0) -> dict[int, int]:
    """Minute -> revision compacted, where revision m+1 becomes current with minute m."""
    found: dict[int, int] = {}
    for minute in range(start, minutes + 1):
        revision = policy.due(minute * MINUTE_NS, minute + 1)
        if revision:
            found[minute] = revision
    return found


def test_short_retention_compacts_once_per_retention() -> None:
    """10 minutes: what was current ten minutes ago, every ten minutes."""
    assert compactions(Periodic(10 * MINUTE_NS), 35) == {10: 1, 20: 11, 30: 21}


def test_long_retention_compacts_hourly() -> None:
    """5 hours: nothing for five hours, then hourly what is five hours old."""
    found = compactions(Periodic(5 * HOUR_NS), 8 * 60)
    assert found == {300: 1, 360: 61, 420: 121, 480: 181}


def test_an_idle_store_is_not_compacted_twice() -> None:
    """The same revision again is no work."""
    policy = Periodic(10 * MINUTE_NS)
    due = [policy.due(minute * MINUTE_NS, 7) for minute in range(61)]
    assert [revision for revision in due if revision] == [7]


def test_a_deposed_leader_forgets_its_notes() -> None:
    """When it leads again, history is kept for the whole retention from then on."""
    policy = Periodic(10 * MINUTE_NS)
    assert compactions(policy, 8) == {}
    policy.paused()
    assert compactions(policy, 29, start=9) == {19: 10, 29: 20}


def test_by_revision_keeps_the_newest() -> None:
    """Every five minutes all but the newest 3 revisions; nothing while there are no more."""
    assert compactions(ByRevision(3), 15) == {5: 3, 10: 8, 15: 13}
    assert compactions(ByRevision(100), 15) == {}


def test_by_revision_needs_something_new() -> None:
    """The same target again is no work."""
    policy = ByRevision(3)
    due = [policy.due(turn * REVISION_INTERVAL_NS, 10) for turn in range(5)]
    assert due == [0, 7, 0, 0, 0]
    policy.paused()
    assert policy.due(5 * REVISION_INTERVAL_NS, 20) == 0  # it waits its five minutes again
    assert policy.due(6 * REVISION_INTERVAL_NS, 20) == 17
