"""The range index answers as brute force does, whatever comes and goes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from corum.mvcc.watch_ranges import RangeIndex, prefix_end

KEY = st.binary(min_size=1, max_size=3).map(lambda raw: bytes(b"\x00ab\xff"[b % 4] for b in raw))


def holds(key: bytes, end: bytes | None, probe: bytes) -> bool:
    if end is None:
        return key == probe
    return key <= probe and (end == b"" or probe < end)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    steps=st.lists(st.tuples(KEY, st.none() | st.just(b"") | KEY, st.booleans()), max_size=120),
    probes=st.lists(KEY, min_size=1, max_size=10),
)
def test_matches_brute_force(steps: list, probes: list[bytes]) -> None:
    """Every range that holds the key is found exactly once, after additions and removals."""
    index = RangeIndex()
    live: dict = {}
    for key, end, remove in steps:
        if end and key >= end:
            end = prefix_end(key)
        if remove and live:
            chosen = sorted(live, key=repr)[len(key) % len(live)]
            index.discard(live.pop(chosen))
        else:
            live[key, end] = index.group(key, end)
    assert len(index) == len(live)
    found = index.match([(2, probe, None) for probe in probes])
    for group in live.values():
        expected = [n for n, probe in enumerate(probes) if holds(group.key, group.end, probe)]
        assert found.pop(group, []) == expected
    assert not found


def test_prefix_end() -> None:
    """The end of a prefix skips trailing 0xff; all 0xff has no end."""
    assert prefix_end(b"ab") == b"ac"
    assert prefix_end(b"a\xff\xff") == b"b"
    assert prefix_end(b"\xff") == b""
