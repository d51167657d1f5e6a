"""The base that everything stands on: clocks, and who we say we are."""

import re

import pytest

from corum.clock import ManualClock, SystemClock
from corum.versions import EMULATED, version_text


def test_a_manual_clock_moves_when_told() -> None:
    """Both times advance together; a jump moves the wall clock only."""
    clock = ManualClock(now_ns=5, wall_ns=1_000)
    clock.advance(10)
    assert (clock.now_ns(), clock.wall_ns()) == (15, 1_010)
    clock.jump(-500)
    assert (clock.now_ns(), clock.wall_ns()) == (15, 510)
    with pytest.raises(AssertionError, match="back"):
        clock.advance(-1)


def test_the_system_clock_has_both_times() -> None:
    """Monotonic time does not run backwards; wall time is after 2023."""
    clock = SystemClock()
    assert clock.now_ns() <= clock.now_ns()
    assert clock.wall_ns() > 1_700_000_000 * 1_000_000_000


@pytest.mark.parametrize("minor", sorted(EMULATED))
def test_version_text(minor: str) -> None:
    """Four lines of one word each after the label, as scripts cut them."""
    text = version_text(EMULATED[minor])
    words = r"etcd Version: (\d+\.\d+)\.\d+\nGit SHA: \S+\nGo Version: \S+\nGo OS/Arch: \w+/\w+\n"
    match = re.fullmatch(words, text)
    assert match
    assert match[1] == minor
    assert EMULATED[minor].cluster == f"{minor}.0"
