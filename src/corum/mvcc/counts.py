"""How many keys live in a range, without walking it.

An answer with a limit carries the number of all keys in its range, and clients that page through a
prefix, or count it, ask again and again. So the key space is cut into segments of about 128 index
rows with the number of live keys in each: a count is a sum over segments, and a walk over the parts
of the two at its ends. Nothing is counted before somebody asks: at first the whole key space is one
segment, and a segment is cut when a count that ends in it would walk too far. Writes keep the
numbers up to date. Memory is about 100 bytes a segment, and there are no more segments than rows
would fill (`_SPARE`).

Owned by the loop. A worker that counts is lent a copy, and what it has cut is kept (`take_back`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final

SEGMENT: Final = 128
"""Index rows (of living and of dead keys) of a segment when it is cut."""
_WALK_MAX: Final = 2 * SEGMENT  # more rows to walk, and the segment is cut
_SPARE: Final = 64  # segments that may be there however few rows
_JOURNAL_MAX: Final = 100_000  # keys; more changes while a worker counts, and its cuts are dropped

Walk = Callable[[bytes, bytes | None, int], tuple[int, bytes | None]]
"""(start, end, rows): live keys among about the next `rows` index rows, and where to go on."""


class OverBudget(Exception):
    """Not an error: more keys than the caller wanted to look at on the loop."""


class Uncounted(OverBudget):
    """The keys themselves are few; it is their count that nobody has made yet."""


class KeyCounts:
    """See the module's docstring."""

    __slots__ = ("_fences", "_has_cut", "_journal", "_journaled", "_lent", "_live")

    def __init__(self) -> None:
        self._fences: list[bytes] = [b""]  # where each segment begins
        self._live: list[int] = [0]  # not kept up to date while there is but one
        self._has_cut = False
        self._lent: KeyCounts | None = None
        self._journal: list[tuple[Sequence[bytes], int]] = []  # changes since it was lent
        self._journaled = 0

    def __bool__(self) -> bool:
        """Whether writes have to be told (`changed`)."""
        return len(self._fences) > 1 or self._lent is not None

    def changed(self, keys: Sequence[bytes], by: int) -> None:
        """These keys, in order, were created (`by` 1) or deleted (-1)."""
        if self._lent is not None:
            self._journal.append((keys, by))
            self._journaled += len(keys)
            if self._journaled > _JOURNAL_MAX:
                self._lent, self._journal, self._journaled = None, [], 0
        fences, live = self._fences, self._live
        at = 0
        while at < len(keys):
            segment = bisect_right(fences, keys[at])
            upto = bisect_left(keys, fences[segment], at) if segment < len(fences) else len(keys)
            live[segment - 1] += by * (upto - at)
            at = upto

    def count(
        self, start: bytes, end: bytes | None, walk: Walk, *, live: int, dead: int, budget: int
    ) -> int:
        """Live keys in [start, end); the whole index has `live` and `dead` ones.

        With `budget`, raises Uncounted rather than walk over more than about so many rows.
        """
        if end is not None and end <= start:
            return 0
        if len(self._fences) == 1:
            self._live[0] = live
        segments_max = _SPARE + 4 * (live + dead) // SEGMENT
        while True:
            number, too_big = self._sum(start, end, walk, segments_max)
            if too_big is None:
                return number
            if len(self._fences) > segments_max:
                self._join()
            self._cut(bisect_right(self._fences, too_big) - 1, walk, budget)

    def _sum(
        self, start: bytes, end: bytes | None, walk: Walk, segments_max: int
    ) -> tuple[int, bytes | None]:
        """The count; or where the segment begins that has to be cut before there can be one."""
        fences, live = self._fences, self._live
        low = bisect_right(fences, start) - 1
        high = len(fences) if end is None else bisect_left(fences, end)
        number = sum(live[low:high])
        if high - low > 1 and fences[low] != start:
            found, rest = walk(start, fences[low + 1], _WALK_MAX)
            if rest is not None:
                return 0, fences[low]
            number += found - live[low]
        last = high - 1
        begins = fences[last]
        ends = high == len(fences) if end is None else fences[high : high + 1] == [end]
        if start > begins or not ends:
            found, rest = walk(max(start, begins), end, _WALK_MAX)
            if rest is not None:
                return 0, begins
            number += found - live[last]
            if end is not None and start <= begins and 1 < len(fences) < segments_max:
                # Most ranges end where their prefix does: the next one finds a segment's end here.
                fences.insert(high, end)
                live.insert(high, live[last] - found)
                live[last] = found
        return number, None

    def _cut(self, segment: int, walk: Walk, budget: int) -> None:
        end = self._fences[segment + 1] if segment + 1 < len(self._fences) else None
        at: bytes | None = self._fences[segment]
        fences: list[bytes] = []
        live: list[int] = []
        while at is not None:
            if budget and len(fences) * SEGMENT > budget:
                raise Uncounted
            fences.append(at)
            found, at = walk(at, end, SEGMENT)
            live.append(found)
        known = self._live[segment]
        assert sum(live) == known, f"{sum(live)} live keys from {fences[0]!r} on, not {known}"
        self._fences[segment : segment + 1] = fences
        self._live[segment : segment + 1] = live
        self._has_cut = True

    def _join(self) -> None:
        """Make one of neighbours with few live keys: what was there has been deleted."""
        fences, live = self._fences[:1], self._live[:1]
        for fence, number in zip(self._fences[1:], self._live[1:], strict=True):
            if live[-1] + number < SEGMENT // 2:
                live[-1] += number
            else:
                fences.append(fence)
                live.append(number)
        self._fences, self._live = fences, live

    # ---- counting in a worker

    @property
    def lent(self) -> bool:
        """Is a worker counting, whose cuts others may use?"""
        return self._lent is not None

    def lend(self) -> KeyCounts:
        """A copy for a worker, on a view made now; to be brought to `take_back`."""
        copy = KeyCounts()
        copy._fences, copy._live = self._fences.copy(), self._live.copy()
        if self._lent is None:
            self._lent = copy
        return copy

    def take_back(self, copy: KeyCounts, *, failed: bool) -> None:
        """Keep what a worker has cut, with what was changed since; of several, the first lent."""
        if copy is not self._lent:
            return
        journal, self._journal, self._journaled = self._journal, [], 0
        self._lent = None
        if copy._has_cut and not failed:
            self._fences, self._live = copy._fences, copy._live
            for by in (1, -1):
                self.changed(sorted(chain(*[keys for keys, sign in journal if sign == by])), by)
