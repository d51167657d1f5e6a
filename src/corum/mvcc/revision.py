"""Revisions and key-values as bytes: the keys and values of etcd's `key` bucket.

A revision is (main, sub): main counts transactions of the whole store, sub the operations inside
one. Its stored form sorts as it counts: main u64, `_`, sub u64, big endian, and `t` behind it for
a tombstone. Values are mvccpb.KeyValue, encoded here by hand since protobuf would cost three times
as much; golden tests hold the bytes to Go's. Pure functions only.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct, pack
from typing import Final

from corum.pb.varints import VARINTS, varint
from corum.values import value

REVISION_BYTES: Final = 17
TOMBSTONE: Final = b"t"

_REVISION: Final = Struct(">QcQ")
MAIN: Final = Struct(">Q")
_SUB: Final = Struct("8s")

_SIGNED: Final = 1 << 64


def stored_key(main: int, sub: int) -> bytes:
    """The `key` bucket's key of a put at (main, sub); a tombstone's has `TOMBSTONE` behind it."""
    return _REVISION.pack(main, b"_", sub)


def stored_keys(main: int, sub: int, number: int) -> list[bytes]:
    """Those of `number` puts from (main, sub) on."""
    head = MAIN.pack(main) + b"_"
    subs = pack(f">{number}Q", *range(sub, sub + number))
    return [head + one for (one,) in _SUB.iter_unpack(subs)]


def from_stored_key(stored: bytes) -> tuple[int, int]:
    """(main, sub), of a put's or a tombstone's key."""
    main, _, sub = _REVISION.unpack(stored[:REVISION_BYTES])
    return main, sub


def main_of(stored: bytes) -> int:
    return MAIN.unpack_from(stored)[0]


def is_tombstone(stored: bytes) -> bool:
    return len(stored) > REVISION_BYTES


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """(number, position behind it); numbers from 2**63 on are not folded to negative ones."""
    number = data[at]
    at += 1
    if number >= 0x80:
        number &= 0x7F
        shift = 7
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
    return number, at


@value
class KeyValue:
    """mvccpb.KeyValue."""

    key: bytes
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    value: bytes = b""
    lease: int = 0


def encode_kv(
    key: bytes, create_revision: int, mod_revision: int, version: int, data: bytes, lease: int
) -> bytes:
    """A live key's KeyValue; fields that are zero or empty are left out, as Go does."""
    size = len(key)
    mod = varint(mod_revision)
    return b"".join(
        (
            b"\n",
            VARINTS[size] if size < 16384 else varint(size),
            key,
            b"\x10",
            mod if create_revision == mod_revision else varint(create_revision),
            b"\x18",
            mod,
            b"\x20",
            VARINTS[version] if version < 16384 else varint(version),
            b"\x2a" + varint(len(data)) if data else b"",
            data,
            b"\x30" + varint(lease) if lease else b"",
        )
    )


def encode_tombstones(keys: Sequence[bytes]) -> list[bytes]:
    """The stored values of deletions: KeyValues with the key alone."""
    heads = {size: b"\n" + varint(size) for size in set(map(len, keys))}
    if len(heads) == 1:
        (head,) = heads.values()
        return [head + key for key in keys]
    return [heads[len(key)] + key for key in keys]


def key_of(kv: bytes) -> bytes:
    """The key of an encoded KeyValue, which is its first field."""
    assert kv[0] == 0x0A, f"KeyValue begins with {kv[0]:#x}, not with its key"
    size = kv[1]
    if size < 0x80:
        return kv[2 : 2 + size]
    size, at = read_varint(kv, 1)
    return kv[at : at + size]


def facts_of(kv: bytes) -> tuple[bytes, int, int, int]:
    """Key, create revision, version and lease: what the index keeps. The value, of which there may
    be a megabyte, is passed over; a tombstone has the key alone."""
    key = key_of(kv)
    create = version = lease = 0
    at, end = len(key) + 1, len(kv)
    at += len(varint(len(key)))
    while at < end:
        tag = kv[at]
        number, at = read_varint(kv, at + 1)
        if tag == 0x10:
            create = number
        elif tag == 0x20:
            version = number
        elif tag == 0x2A:
            at += number
        elif tag == 0x30:
            lease = number - _SIGNED if number >> 63 else number
        elif tag != 0x18:
            raise ValueError(f"KeyValue with the tag {tag:#x} behind its key")
    return key, create, version, lease


def decode_kv(kv: bytes) -> KeyValue:
    """The fields of an encoded KeyValue, in whatever order they come."""
    key = data = b""
    create = mod = version = lease = 0
    at, end = 0, len(kv)
    while at < end:
        tag = kv[at]
        number, at = read_varint(kv, at + 1)
        if tag == 0x0A:
            key = kv[at : at + number]
            at += number
        elif tag == 0x10:
            create = number
        elif tag == 0x18:
            mod = number
        elif tag == 0x20:
            version = number
        elif tag == 0x2A:
            data = kv[at : at + number]
            at += number
        elif tag == 0x30:
            lease = number - _SIGNED if number >> 63 else number
        else:
            raise ValueError(f"KeyValue with an unknown tag {tag:#x}")
    return KeyValue(key, create, mod, version, data, lease)
