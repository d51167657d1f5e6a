"""Which watched ranges hold a key: exact keys, prefixes, open ends and everything else.

Watchers of the same range share one `Group`, so the index holds distinct ranges only. A lookup
costs one dict access for exact keys, one per *distinct prefix length* for prefixes (so a million
prefixes of three lengths cost three accesses), and a logarithmic search for other intervals.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from corum.mvcc.watch_streams import Watcher

Change: TypeAlias = tuple[int, bytes, bytes | None]
"""One write: main revision, key, stored KeyValue bytes (None: the key was deleted)."""

LEAF_MAX: Final = 16
"""Intervals that are scanned one by one before they become a tree."""


def prefix_end(prefix: bytes) -> bytes:
    """First key after all keys that begin with `prefix`; b"" when there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else b""


def prefix_of(key: bytes, end: bytes) -> bool:
    """[key, end) is exactly the set of keys that begin with `key`."""
    return end == prefix_end(key)


class Group:
    """The watchers of one range. `plain` ones want every event as it is, `special` ones do not."""

    __slots__ = ("end", "key", "plain", "special")

    def __init__(self, key: bytes, end: bytes | None) -> None:
        self.key = key
        self.end = end
        self.plain: list[Watcher] = []
        self.special: list[Watcher] | None = None

    def add(self, watcher: Watcher) -> None:
        if watcher.bits:
            if self.special is None:
                self.special = []
            members = self.special
        else:
            members = self.plain
        watcher.group = self
        watcher.place = len(members)
        members.append(watcher)

    def remove(self, watcher: Watcher) -> bool:
        """Take `watcher` out in constant time; True when the group is empty now."""
        members = self.special if watcher.bits else self.plain
        assert members is not None
        assert members[watcher.place] is watcher
        last = members.pop()
        if last is not watcher:
            members[watcher.place] = last
            last.place = watcher.place
        watcher.group = None
        return not self.plain and not self.special


class RangeIndex:
    """Ranges as etcd writes them: end None = the key alone, b"" = all keys from it on."""

    __slots__ = ("_exact", "_from", "_from_starts", "_intervals", "_lengths", "_prefix", "_spans")

    def __init__(self) -> None:
        self._exact: dict[bytes, Group] = {}
        self._prefix: dict[bytes, Group] = {}
        self._lengths: dict[int, int] = {}  # prefix length -> how many; kept in ascending order
        self._from: dict[bytes, Group] = {}
        self._from_starts: list[bytes] = []
        self._spans: dict[tuple[bytes, bytes], Group] = {}
        self._intervals = Intervals()

    def __len__(self) -> int:
        return len(self._exact) + len(self._prefix) + len(self._from) + len(self._spans)

    def group(self, key: bytes, end: bytes | None) -> Group:
        """The group of [key, end), made when it is the first of its kind."""
        if end is None:
            found = self._exact.get(key)
            if found is None:
                found = self._exact[key] = Group(key, None)
            return found
        if end == b"":
            found = self._from.get(key)
            if found is None:
                found = self._from[key] = Group(key, b"")
                insort(self._from_starts, key)
            return found
        if prefix_of(key, end):
            found = self._prefix.get(key)
            if found is None:
                found = self._prefix[key] = Group(key, end)
                self._count_length(len(key), 1)
            return found
        found = self._spans.get((key, end))
        if found is None:
            found = self._spans[key, end] = Group(key, end)
            self._intervals.add(found)
        return found

    def discard(self, group: Group) -> None:
        """Forget a group that has no watchers left."""
        key, end = group.key, group.end
        if end is None:
            del self._exact[key]
        elif end == b"":
            del self._from[key]
            del self._from_starts[bisect_right(self._from_starts, key) - 1]
        elif prefix_of(key, end):
            del self._prefix[key]
            self._count_length(len(key), -1)
        else:
            del self._spans[key, end]
            self._intervals.remove(group)

    def match(self, changes: Sequence[Change]) -> dict[Group, list[int]]:
        """For each group that is concerned: positions in `changes`, ascending."""
        if len(self) == 1:
            return self._match_only(changes)
        hits: dict[Group, list[int]] = {}
        exact = self._exact
        wide = len(exact) < len(self)
        for position, change in enumerate(changes):
            key = change[1]
            group = exact.get(key)
            if group is not None:
                hits.setdefault(group, []).append(position)
            if wide:
                for group in self.covering(key):
                    hits.setdefault(group, []).append(position)
        return hits

    def _match_only(self, changes: Sequence[Change]) -> dict[Group, list[int]]:
        """`match` with a single group: the usual case of a lone watcher that catches up."""
        for table in (self._exact, self._prefix, self._from, self._spans):
            for group in table.values():
                low, end = group.key, group.end
                if end is None:
                    found = [at for at, change in enumerate(changes) if change[1] == low]
                elif end:
                    found = [at for at, change in enumerate(changes) if low <= change[1] < end]
                else:
                    found = [at for at, change in enumerate(changes) if low <= change[1]]
                return {group: found} if found else {}
        return {}

    def covering(self, key: bytes) -> list[Group]:
        """Groups of ranges (not of single keys) that hold `key`."""
        found: list[Group] = []
        if self._prefix:
            size = len(key)
            get = self._prefix.get
            for length in self._lengths:
                if length > size:
                    break
                group = get(key[:length])
                if group is not None:
                    found.append(group)
        if self._from:
            starts = self._from_starts
            found += [self._from[start] for start in starts[: bisect_right(starts, key)]]
        if self._spans:
            self._intervals.stab(key, found)
        return found

    def _count_length(self, length: int, by: int) -> None:
        lengths = self._lengths
        count = lengths.get(length, 0) + by
        if count == by:
            lengths[length] = count
            self._lengths = dict(sorted(lengths.items()))
        elif count:
            lengths[length] = count
        else:
            del lengths[length]


class Intervals:
    """Stabbing queries over half-open intervals that come and go.

    A short list of static trees, each more than twice as large as the next (Bentley and Saxe's
    logarithmic method): an insertion merges the small ones, so it costs O(log n) amortized, a
    query O(log² n + hits). Removed intervals stay until half of all are dead.
    """

    __slots__ = ("_dead", "_fresh", "_total", "_trees")

    def __init__(self) -> None:
        self._trees: list[_Tree] = []
        self._fresh: list[Group] = []
        self._dead: set[Group] = set()
        self._total = 0

    def add(self, group: Group) -> None:
        self._total += 1
        self._fresh.append(group)
        if len(self._fresh) > LEAF_MAX:
            self._merge(all_trees=False)

    def remove(self, group: Group) -> None:
        self._dead.add(group)
        if len(self._dead) * 2 > self._total:
            self._merge(all_trees=True)

    def stab(self, key: bytes, found: list[Group]) -> None:
        """Append the groups whose interval holds `key`."""
        dead = self._dead
        hits = [group for group in self._fresh if group.key <= key < _end(group)]
        for tree in self._trees:
            if tree.lowest <= key < tree.highest:
                hits += tree.stab(key)
        found += [group for group in hits if group not in dead] if dead else hits

    def _merge(self, *, all_trees: bool) -> None:
        groups = self._fresh
        self._fresh = []
        while self._trees and (all_trees or len(self._trees[-1].groups) <= 2 * len(groups)):
            groups = groups + self._trees.pop().groups
        if self._dead:
            living = [group for group in groups if group not in self._dead]
            self._dead.difference_update(groups)
            self._total -= len(groups) - len(living)
            groups = living
        if groups:
            self._trees.append(_Tree(groups))


def _end(group: Group) -> bytes:
    assert group.end is not None
    return group.end


class _Tree:
    """Intervals sorted by start, read as a balanced tree whose nodes know their largest end."""

    __slots__ = ("_furthest", "_starts", "groups", "highest", "lowest")

    def __init__(self, groups: list[Group]) -> None:
        self.groups = sorted(groups, key=lambda group: (group.key, _end(group)))
        self._starts = [group.key for group in self.groups]
        self._furthest = [_end(group) for group in self.groups]
        self.lowest = self._starts[0]
        self.highest = self._fill(0, len(self.groups))

    def _fill(self, low: int, high: int) -> bytes:
        """Largest end in [low, high), stored at its middle; b"" when empty. Depth is log2 n."""
        if low >= high:
            return b""
        middle = (low + high) // 2
        furthest = max(
            self._furthest[middle], self._fill(low, middle), self._fill(middle + 1, high)
        )
        self._furthest[middle] = furthest
        return furthest

    def stab(self, key: bytes) -> list[Group]:
        found: list[Group] = []
        begun = bisect_right(self._starts, key)  # those after it start beyond `key`
        pending = [(0, len(self.groups))]  # the same bounds as in `_fill`
        while pending:
            low, high = pending.pop()
            if low >= high or low >= begun:
                continue
            middle = (low + high) // 2
            if self._furthest[middle] <= key:
                continue
            if middle < begun:
                group = self.groups[middle]
                if _end(group) > key:
                    found.append(group)
                pending.append((middle + 1, high))
            pending.append((low, middle))
        return found
