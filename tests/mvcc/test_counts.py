"""Counts of ranges are those of a sorted list, whatever was cut, joined and lent in between."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corum.mvcc import counts as counts_module
from corum.mvcc.counts import KeyCounts, OverBudget

NUMBERS = st.integers(0, 60)


class Keys:
    """What is counted: keys in order, and how many rows were walked over."""

    def __init__(self, *keys: bytes) -> None:
        self.keys = sorted(keys)
        self.walked = 0

    def walk(self, start: bytes, end: bytes | None, rows: int) -> tuple[int, bytes | None]:
        low = bisect_left(self.keys, start)
        high = len(self.keys) if end is None else bisect_left(self.keys, end)
        upto = max(low, min(high, low + rows))
        self.walked += upto - low
        return upto - low, self.keys[upto - 1] + b"\0" if upto - low == rows else None

    def count(self, counts: KeyCounts, start: bytes, end: bytes | None, budget: int = 0) -> int:
        live = len(self.keys)
        return counts.count(start, end, self.walk, live=live, dead=0, budget=budget)

    def change(self, counts: KeyCounts, keys: list[bytes], by: int) -> None:
        changed = [key for key in keys if (key in self.keys) == (by < 0)]
        self.keys = sorted(set(self.keys) ^ set(changed))
        if counts:
            counts.changed(changed, by)


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "SEGMENT", 4)
    monkeypatch.setattr(counts_module, "_WALK_MAX", 8)
    monkeypatch.setattr(counts_module, "_SPARE", 2)
    monkeypatch.setattr(counts_module, "_JOURNAL_MAX", 40)


def name(number: int) -> bytes:
    return b"%02d" % number


STEPS = st.one_of(
    st.tuples(st.just("create"), st.sets(NUMBERS, min_size=1)),
    st.tuples(st.just("delete"), st.sets(NUMBERS, min_size=1)),
    st.tuples(st.just("count"), NUMBERS, NUMBERS | st.none()),
    st.tuples(st.just("lend"), NUMBERS, NUMBERS | st.none()),
    st.tuples(st.just("take back"), st.booleans()),
)


@given(st.lists(STEPS, max_size=30))
def test_counts_are_exact(steps: list[tuple]) -> None:
    """Created, deleted, counted here and by a worker: each count is that of the keys there are."""
    keys, counts = Keys(), KeyCounts()
    lent: list[KeyCounts] = []
    for step, *args in steps:
        if step in ("create", "delete"):
            chosen = sorted(map(name, args[0]))
            keys.change(counts, chosen, 1 if step == "create" else -1)
        elif step == "take back":
            if lent:
                counts.take_back(lent.pop(0), failed=args[0])
        else:
            start, end = name(args[0]), None if args[1] is None else name(args[1])
            inside = [key for key in keys.keys if start <= key and (end is None or key < end)]
            counter = counts
            if step == "lend":
                counter = counts.lend()
                lent.append(counter)
            assert keys.count(counter, start, end) == len(inside)


def test_a_count_walks_little() -> None:
    """After the first count any other looks at the rows of two segments only."""
    keys, counts = Keys(*map(name, range(90))), KeyCounts()
    assert not counts
    assert keys.count(counts, b"05", b"85") == 80
    assert counts
    keys.walked = 0
    assert keys.count(counts, b"06", b"81") == 75
    assert keys.walked <= 2 * counts_module._WALK_MAX


def test_a_budget_is_kept() -> None:
    """More rows than the budget: OverBudget, and nothing is half cut."""
    keys, counts = Keys(*map(name, range(90))), KeyCounts()
    with pytest.raises(OverBudget):
        keys.count(counts, b"05", b"85", budget=20)
    assert not counts
    assert keys.walked <= counts_module._WALK_MAX + 20 + 2 * counts_module.SEGMENT


def test_too_many_changes_drop_a_workers_cuts() -> None:
    """The journal of what changed since is bounded; without it the worker's numbers are void."""
    keys, counts = Keys(*map(name, range(50))), KeyCounts()
    copy = counts.lend()
    assert keys.count(copy, b"01", b"45") == 44
    keys.change(counts, list(map(name, range(50, 95))), 1)
    assert not counts
    counts.take_back(copy, failed=False)
    assert not counts
    assert keys.count(counts, b"01", b"60") == 59
