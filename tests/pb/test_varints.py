"""Varints by table against varints by arithmetic."""

from hypothesis import given
from hypothesis import strategies as st

from corum.pb import varints, wire

EDGES = [edge + by for bits in range(0, 64, 7) for edge in (1 << bits,) for by in (-1, 0, 1)]


def test_the_edges() -> None:
    """Where a byte more is needed, and the numbers that only just fit."""
    for number in (*EDGES, -1, -(1 << 63), (1 << 64) - 1):
        assert varints.varint(number) == wire.varint(number), number


@given(st.integers(-(1 << 63), (1 << 64) - 1))
def test_any_number(number: int) -> None:
    """Negative ones are the 64-bit two's complement."""
    encoded = varints.varint(number)
    assert encoded == wire.varint(number)
    assert wire.read_varint(encoded, 0) == (number % (1 << 64), len(encoded))
