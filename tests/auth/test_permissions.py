"""Granted ranges, taken together, cover exactly what brute force says."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corum.auth.permissions import READ, READWRITE, WRITE, Access, KeyRanges, Permission

LETTERS = b"\x00ab\xff"
KEYS = sorted(bytes(each) for size in (1, 2, 3) for each in product(LETTERS, repeat=size))
KEY = st.sampled_from(KEYS)
END = st.one_of(st.just(b""), st.just(b"\0"), KEY)


def holds(start: bytes, end: bytes, key: bytes) -> bool:
    if not end:
        return key == start
    return start <= key and (end == b"\0" or key < end)


@given(granted=st.lists(st.tuples(KEY, END), max_size=6), key=KEY, end=END)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_coverage_is_that_of_the_union(granted: list, key: bytes, end: bytes) -> None:
    """A request is covered when every key in it is in some grant."""
    ranges = KeyRanges(granted)
    wanted = [each for each in KEYS if holds(key, end, each)]
    if not wanted:
        return  # empty requests have a test of their own
    assert all(any(holds(*grant, each) for grant in granted) for each in wanted) or (
        not ranges.covers(key, end)
    )
    if ranges.covers(key, end):
        return
    # Keys longer than ours may be missing; a gap is shown by the first key that is not covered.
    gaps = [key] if not end else [key, *[g + b"\0" for g, e in granted if not e]]
    gaps += [e for _, e in granted if e not in (b"", b"\0")] + [KEYS[-1] + b"\xff" * 9]
    assert any(
        holds(key, end, gap) and not any(holds(*grant, gap) for grant in granted) for gap in gaps
    )


@pytest.mark.parametrize(
    ("key", "end", "covered"),
    [
        (b"b", b"f", True),
        (b"b", b"g", False),
        (b"a", b"c", False),
        (b"d", b"b", False),
        (b"g", b"a", False),
        (b"e", b"e", True),
        (b"g", b"g", False),
        (b"m", b"", True),
        (b"m", b"m", True),
        (b"m", b"n", False),
        (b"e", b"", True),
        (b"f", b"", False),
        (b"b", b"\0", False),
        (b"z", b"\0", True),
        (b"zz", b"z", True),
        (b"y", b"\0", False),
        (b"z", b"zz", True),
    ],
)
def test_as_measured_on_go_etcd(key: bytes, end: bytes, covered: bool) -> None:
    """Touching grants join; empty and reversed requests have etcd's answers."""
    ranges = KeyRanges([(b"b", b"d"), (b"d", b"f"), (b"m", b""), (b"z", b"\0"), (b"x", b"w")])
    assert ranges.covers(key, end) == covered


def test_kinds() -> None:
    """READWRITE is both."""
    access = Access([Permission(READ, b"r"), Permission(WRITE, b"w"), Permission(READWRITE, b"x")])
    assert [access.read.covers(key) for key in (b"r", b"w", b"x")] == [True, False, True]
    assert [access.write.covers(key) for key in (b"r", b"w", b"x")] == [False, True, True]
