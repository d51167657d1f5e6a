"""The commonest log entry, read from its bytes by hand: a put of a key and a value. Pure.

A follower opens every entry. What is mostly a key and a value need not be taken apart as a message
in a message (measured: 0.4 of the time), and is applied the short way, as on the leader.
"""

from __future__ import annotations

from typing import Any, Final

from corum.pb import raft_internal

_PUT: Final = 0x22  # InternalRaftRequest.put, RequestHeader's field after it
_HEADER: Final = b"\xa2\x06"
_KEY: Final = 0x0A  # PutRequest.key and value
_VALUE: Final = 0x12
_header: Final[Any] = raft_internal.RequestHeader.FromString


def plain_put(data: bytes) -> tuple[int, tuple[bytes, bytes]] | None:
    """(request id, (key, value)) of an entry that puts a key of less than 128 bytes and a value of
    1 to 16,000 or so, without options, and has a header last, as ours and Go etcd's have.

    None for any other entry, which has to be decoded as a whole.
    """
    try:
        if data[0] != _PUT:
            return None
        size, at = data[1], 2
        if size > 127:
            size, at = size & 127 | data[2] << 7, 3
            if data[2] > 127:
                return None
        end = at + size
        middle = at + 2 + data[at + 1]
        if data[at] != _KEY or not 0 < data[at + 1] < 128 or data[middle] != _VALUE:
            return None
        length, value = data[middle + 1], middle + 2
        if length > 127:
            length, value = length & 127 | data[value] << 7, value + 1
            if data[value - 1] > 127:
                return None
        if not length or value + length != end or data[end : end + 2] != _HEADER:
            return None
        if data[end + 2] > 127 or end + 3 + data[end + 2] != len(data):
            return None
    except IndexError:
        return None
    try:
        request_id: int = _header(data[end + 3 :]).ID
    except Exception:  # upb's DecodeError: the one who decodes it as a whole says so
        return None
    return (request_id, (data[at + 2 : middle], data[value:end])) if request_id else None
