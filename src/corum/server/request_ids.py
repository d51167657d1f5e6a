"""Request ids: unique in the cluster, cheap to make and already encoded (peer-wire §5).

64 bits: 2 bytes of the member id, 5 bytes of unix milliseconds at the start, 1 byte counter that
runs over into the time. Ids of one start ascend, and a restart begins later than the old one ended.
"""

from __future__ import annotations

from typing import Final

from corum.pb.wire import varint

_LOW_BITS: Final = 7
_LOW_MASK: Final = (1 << _LOW_BITS) - 1
_LOW: Final = [bytes((n | 0x80,)) for n in range(1 << _LOW_BITS)]
"""The first byte of an id's varint, with the continuation bit; the others change rarely."""

ID_AT: Final = 3
"""Where in the header its one field begins, the id."""


class RequestIds:
    """`next()` gives an id and the bytes of `InternalRaftRequest.header` that carry it."""

    def __init__(self, member: int, now_ms: int) -> None:
        self._next = ((member & 0xFFFF) << 48) | ((now_ms & 0xFFFFFFFFFF) << 8)
        self._high = -1
        self._tail = b""
        self._head = b""

    def next(self) -> tuple[int, bytes]:
        """(id, header field): `a2 06 len 08 varint(id)`."""
        self._next = request = (self._next + 1) & 0xFFFFFFFFFFFFFFFF or 1
        high = request >> _LOW_BITS
        if high != self._high:
            self._high = high
            self._tail = tail = varint(high)
            self._head = b"\xa2\x06" + bytes((2 + len(tail),)) + b"\x08"
        return request, self._head + _LOW[request & _LOW_MASK] + self._tail
