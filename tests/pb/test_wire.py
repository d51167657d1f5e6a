"""Hand-written wire format: equal to protobuf's, and strict about broken bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corum.pb import kv, wire

INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)


@given(number=INT64)
def test_varints_round_trip(number: int) -> None:
    """Every int64 comes back, from as many bytes as protobuf takes."""
    encoded = wire.varint(number)
    found, end = wire.read_varint(encoded, 0)
    assert end == len(encoded)
    assert wire.to_int64(found) == number


@pytest.mark.parametrize("number", [0, 1, 127, 128, 2047, 2048, 16383, 16384, 2**21 - 1, 2**21])
def test_varints_at_the_edges_of_the_table(number: int) -> None:
    """Table, shortcut and loop agree where they meet."""
    assert wire.varint(number) == wire._encode(number)


@given(key=st.binary(max_size=300), version=INT64, value=st.binary(max_size=300))
def test_spliced_messages_equal_protobufs(key: bytes, version: int, value: bytes) -> None:
    """A KeyValue written by hand is the KeyValue that protobuf writes."""
    expected = kv.KeyValue(key=key, version=version, value=value).SerializeToString()
    spliced = b"".join(
        (
            wire.bytes_field(1, key) if key else b"",
            wire.int_field(4, version),
            wire.bytes_field(5, value) if value else b"",
        )
    )
    assert spliced == expected


@given(key=st.binary(min_size=1, max_size=40), lease=INT64.filter(bool))
def test_fields_finds_every_record(key: bytes, lease: int) -> None:
    """Field numbers, wire types and the extent of each value."""
    data = kv.KeyValue(key=key, lease=lease).SerializeToString()
    (first, second) = wire.fields(data)
    assert first[:2] == (1, wire.BYTES)
    assert data[first[2] : first[3]] == key
    assert second[:2] == (6, wire.VARINT)
    assert wire.to_int64(wire.read_varint(data, second[2])[0]) == lease


@pytest.mark.parametrize(
    "broken",
    [b"\x80", b"\x0a\x05ab", b"\x09\x01", b"\x0b", b"\x00\x01", b"\x08" + b"\xff" * 11],
    ids=["cut varint", "cut bytes", "cut fixed64", "group", "field 0", "endless varint"],
)
def test_broken_bytes_are_refused(broken: bytes) -> None:
    """What is no message raises ValueError."""
    with pytest.raises(ValueError, match=r"varint|field|wire type"):
        wire.fields(broken)
