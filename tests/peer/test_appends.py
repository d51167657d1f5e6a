"""Counting of messages with log entries, as `/v2/stats/self` shows it."""

from corum.server.peering import RECENT_MAX, Appends
from corum.values import NS_PER_S


def test_rates_are_those_of_the_last_batches() -> None:
    """Messages and bytes per second between the oldest and the newest that are remembered."""
    appends = Appends()
    for number in range(3 * RECENT_MAX):
        appends.count(number * NS_PER_S // 100, 2, 500)
    assert appends.total == 6 * RECENT_MAX
    now_ns = (3 * RECENT_MAX - 1) * NS_PER_S // 100
    seconds = (RECENT_MAX - 1) / 100
    messages_s, bytes_s = appends.rates(now_ns)
    assert abs(messages_s - 2 * RECENT_MAX / seconds) < 0.001
    assert abs(bytes_s - 500 * RECENT_MAX / seconds) < 0.1


def test_without_two_points_there_is_no_rate() -> None:
    """Neither at first, nor for one batch, nor a second after the last one."""
    appends = Appends()
    assert appends.rates(0) == (0, 0)
    appends.count(0, 1, 10)
    assert appends.rates(0) == (0, 0)
    appends.count(1_000, 1, 10)
    assert appends.rates(2_000) != (0, 0)
    assert appends.rates(2 * NS_PER_S) == (0, 0)
    assert appends.total == 2
