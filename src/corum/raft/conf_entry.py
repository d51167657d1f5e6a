"""Configuration changes as the data of an entry: the bytes of raftpb.ConfChange and ConfChangeV2.

The one place in this room that knows an encoding: a leader must look into such entries before it
appends them, also when a follower forwarded the bytes. Written as etcd writes them (every scalar
of ConfChange is present, even 0; ConfChangeV2 writes `transition` first), read leniently: unknown
fields are skipped, missing ones are 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corum.raft.messages import (
    ConfChange,
    ConfChangeCorrupt,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    EntryType,
    Transition,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARINT: Final = 0
_BYTES: Final = 2
_FIXED_SIZE: Final = {1: 8, 5: 4}


def encode(change: ConfChange | ConfChangeV2) -> tuple[EntryType, bytes]:
    """Entry type and data for `change`. An empty V2 change (leave joint) has empty data."""
    if isinstance(change, ConfChange):
        data = _uint(1, change.id) + _uint(2, change.type) + _uint(3, change.node_id)
        if change.context:
            data += _bytes(4, change.context)
        return EntryType.CONF_CHANGE, data
    if change == ConfChangeV2():
        return EntryType.CONF_CHANGE_V2, b""
    data = _uint(1, change.transition)
    for single in change.changes:
        data += _bytes(2, _uint(1, single.type) + _uint(2, single.node_id))
    if change.context:
        data += _bytes(3, change.context)
    return EntryType.CONF_CHANGE_V2, data


def decode(entry: Entry) -> ConfChange | ConfChangeV2:
    """The change in a configuration entry. Raises ConfChangeCorrupt."""
    try:
        if entry.type == EntryType.CONF_CHANGE:
            return _decode_v1(entry.data)
        assert entry.type == EntryType.CONF_CHANGE_V2, f"{entry!r} holds no configuration change"
        return _decode_v2(entry.data)
    except (IndexError, ValueError, TypeError) as error:
        raise ConfChangeCorrupt(f"entry {entry.term}/{entry.index}: {error}") from error


def as_v2(change: ConfChange | ConfChangeV2) -> ConfChangeV2:
    """A change of one member in the general form: a simple change."""
    if isinstance(change, ConfChangeV2):
        return change
    return ConfChangeV2(
        changes=(ConfChangeSingle(change.type, change.node_id),), context=change.context
    )


def _decode_v1(data: bytes) -> ConfChange:
    change = ConfChange(ConfChangeType.ADD_NODE, 0)
    fields: dict[int, int | bytes] = dict(_fields(data))
    return ConfChange(
        type=ConfChangeType(_as_int(fields.get(2, change.type))),
        node_id=_as_int(fields.get(3, 0)),
        context=_as_bytes(fields.get(4, b"")),
        id=_as_int(fields.get(1, 0)),
    )


def _decode_v2(data: bytes) -> ConfChangeV2:
    changes: list[ConfChangeSingle] = []
    transition = Transition.AUTO
    context = b""
    for number, value in _fields(data):
        if number == 1:
            transition = Transition(_as_int(value))
        elif number == 2:
            single = dict(_fields(_as_bytes(value)))
            kind = ConfChangeType(_as_int(single.get(1, 0)))
            changes.append(ConfChangeSingle(kind, _as_int(single.get(2, 0))))
        elif number == 3:
            context = _as_bytes(value)
    return ConfChangeV2(tuple(changes), transition, context)


def _uint(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
        shift += 7
        if shift > 63:
            raise ValueError("varint longer than ten bytes")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _read_varint(data, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, at = _read_varint(data, at)
        elif kind in _FIXED_SIZE:
            size = _FIXED_SIZE[kind]
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(data):
            raise ValueError("field longer than the data")
        if kind == _BYTES:
            yield key >> 3, data[at : at + size]
        at += size


def _as_int(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise TypeError("bytes where a number belongs")
    return value


def _as_bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("a number where bytes belong")
    return value
