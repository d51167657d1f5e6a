"""Stored bytes: as Go etcd writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corum.mvcc import revision
from corum.mvcc.revision import KeyValue
from corum.pb import kv as kvpb

INT64 = st.integers(1, (1 << 63) - 1)


def test_stored_keys_as_etcd_writes_them() -> None:
    """main, `_`, sub, big endian: 17 bytes (peer-wire facts, backend buckets)."""
    assert revision.stored_key(2, 0).hex() == "0000000000000002" + "5f" + "0000000000000000"
    assert revision.from_stored_key(revision.stored_key(2**40, 7) + b"t") == (2**40, 7)
    assert revision.is_tombstone(revision.stored_key(3, 1) + revision.TOMBSTONE)
    assert not revision.is_tombstone(revision.stored_key(3, 1))


def test_key_value_as_etcd_writes_it() -> None:
    """put foo bar as the first write of a store, read from Go etcd's database."""
    golden = bytes.fromhex("0a03666f6f100218022001") + b"\x2a\x03bar"
    assert revision.encode_kv(b"foo", 2, 2, 1, b"bar", 0) == golden
    assert revision.decode_kv(golden) == KeyValue(b"foo", 2, 2, 1, b"bar", 0)
    assert revision.facts_of(b"\n\x03foo") == (b"foo", 0, 0, 0), "a tombstone has the key alone"
    assert revision.encode_tombstones([b"foo", b"k" * 200]) == [
        b"\n\x03foo",
        b"\n\xc8\x01" + b"k" * 200,
    ]


@given(
    st.binary(min_size=1, max_size=300),
    INT64,
    INT64,
    INT64,
    st.binary(max_size=300),
    st.integers(-(1 << 63), (1 << 63) - 1),
)
def test_encoding_is_protobufs(
    key: bytes, create: int, mod: int, version: int, data: bytes, lease: int
) -> None:
    """Byte for byte what the protobuf library makes of the same fields, and back."""
    ours = revision.encode_kv(key, create, mod, version, data, lease)
    theirs = kvpb.KeyValue(
        key=key,
        create_revision=create,
        mod_revision=mod,
        version=version,
        value=data,
        lease=lease,
    )
    assert ours == theirs.SerializeToString(deterministic=True)
    assert revision.decode_kv(ours) == KeyValue(key, create, mod, version, data, lease)
    assert revision.key_of(ours) == key
    assert revision.facts_of(ours) == (key, create, version, lease)


@pytest.mark.parametrize("bits", range(0, 64, 7))
def test_varint_boundaries(bits: int) -> None:
    """Where one more byte is needed."""
    for number in ((1 << bits) - 1, 1 << bits, (1 << bits) + 1):
        data = revision.varint(number)
        assert revision.read_varint(data, 0) == (number, len(data))
        assert len(data) == max(1, -(-number.bit_length() // 7))
