"""Repeated records as tuples: the same values that protobuf's own decoder finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corum._transport import Records
from corum.pb import kv as kvpb
from corum.pb import rpc

PAIRS = Records(2, [(1, "bytes"), (5, "bytes"), (2, "int"), (3, "int"), (4, "int"), (6, "int")])
INT = st.integers(-(1 << 63), (1 << 63) - 1)


@st.composite
def pairs(draw: st.DrawFn) -> kvpb.KeyValue:
    return kvpb.KeyValue(
        key=draw(st.binary(max_size=200)),
        create_revision=draw(INT),
        mod_revision=draw(INT),
        version=draw(INT),
        value=draw(st.binary(max_size=200)),
        lease=draw(INT),
    )


@given(st.lists(pairs(), max_size=5), INT, st.booleans())
def test_as_protobuf(kvs: list[kvpb.KeyValue], count: int, more: bool) -> None:
    """Records in their order with all their fields; what is no record is left as it was."""
    message = rpc.RangeResponse(kvs=kvs, count=count, more=more)
    message.header.revision = 7
    found, rest = PAIRS.decode(message.SerializeToString())
    assert found == [
        (kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease) for kv in kvs
    ]
    message.ClearField("kvs")
    assert rpc.RangeResponse.FromString(rest) == message


@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    """Whatever comes is decoded, or refused with a ValueError."""
    try:
        PAIRS.decode(data)
    except ValueError:
        pass


def test_unknown_and_repeated_fields() -> None:
    """Fields of later versions are passed over, of equal ones the last counts."""
    record = b"\x0a\x01a" + b"\x39" + bytes(8) + b"\x45" + bytes(4) + b"\x0a\x01b" + b"\x52\x01x"
    found, rest = PAIRS.decode(b"\x12" + bytes([len(record)]) + record + b"\x7a\x00")
    assert found == [(b"b", b"", 0, 0, 0, 0)]
    assert rest == b"\x7a\x00"


@pytest.mark.parametrize(
    "data",
    [b"\x12", b"\x12\x05ab", b"\x12\x02\x08\x01", b"\x12\x02\x0b\x0c", b"\x08" + b"\xff" * 10],
)
def test_broken_messages(data: bytes) -> None:
    """Cut, of another type than named, with groups, with a varint of too many bytes."""
    with pytest.raises(ValueError, match="not a protobuf message"):
        PAIRS.decode(data)


def test_rules() -> None:
    """Kinds have names; records are small."""
    with pytest.raises(TypeError):
        Records(1, [(1, "text")])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="fields"):
        Records(1, [(n, "int") for n in range(1, 10)])
