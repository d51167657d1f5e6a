"""The algebra of key ranges: what a user's permissions cover taken together.

Ranges are etcd's: end b"" = the key alone, b"\\0" = all keys from it on, else [key, end).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from corum.values import value

READ: Final = 0
WRITE: Final = 1
READWRITE: Final = 2

FROM_KEY: Final = b"\0"


@value
class Permission:
    """authpb.Permission: one grant of a role."""

    kind: int
    key: bytes
    range_end: bytes = b""

    @property
    def bounds(self) -> tuple[bytes, bytes]:
        return self.key, self.range_end

    @property
    def is_valid(self) -> bool:
        """Not an empty range (3.5.1 takes those, newer etcd refuses them)."""
        if not self.key:
            return False
        return self.range_end in (b"", FROM_KEY) or self.key < self.range_end


class KeyRanges:
    """A union of ranges as disjoint intervals in order; neighbours that touch are one."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[tuple[bytes, bytes]]) -> None:
        """Empty ranges cover nothing."""
        self._starts: list[bytes] = []
        self._ends: list[bytes | None] = []  # exclusive; None: no end
        for start, end in sorted(map(_interval, ranges), key=lambda pair: pair[0]):
            if end is not None and start >= end:
                continue
            if self._ends:
                last = self._ends[-1]
                if last is None:
                    break
                if start <= last:
                    self._ends[-1] = None if end is None else max(last, end)
                    continue
            self._starts.append(start)
            self._ends.append(end)

    def covers(self, key: bytes, range_end: bytes = b"") -> bool:
        """Every key of the range is covered.

        An empty range needs its key to be covered; one whose end is before its key needs an
        open-ended grant that holds both (measured on etcd 3.5.1).
        """
        if range_end and key > range_end != FROM_KEY:
            end = self._end_after(range_end)
            return end is None
        end = self._end_after(key)
        if end is None:
            return True
        return range_end != FROM_KEY and range_end <= end and end != b""

    def _end_after(self, key: bytes) -> bytes | None:
        """End of the interval that holds `key`; b"" when there is no such interval."""
        at = bisect_right(self._starts, key) - 1
        if at < 0:
            return b""
        end = self._ends[at]
        return end if end is None or key < end else b""


def _interval(bounds: tuple[bytes, bytes]) -> tuple[bytes, bytes | None]:
    key, range_end = bounds
    if range_end == FROM_KEY:
        return key, None
    return key, range_end or key + b"\0"


class Access:
    """What one user may read and write, all roles taken together."""

    __slots__ = ("read", "write")

    def __init__(self, permissions: Iterable[Permission]) -> None:
        granted = list(permissions)
        self.read = KeyRanges(
            (each.key, each.range_end) for each in granted if each.kind in (READ, READWRITE)
        )
        self.write = KeyRanges(
            (each.key, each.range_end) for each in granted if each.kind in (WRITE, READWRITE)
        )
