"""A range of keys as it was at one revision, moved on by events. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.values import value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corum.client.results import Event, KeyValue


@value
class Change:
    """What became of a key: `old` None: it is new; `new` None: it is gone."""

    key: bytes
    old: KeyValue | None
    new: KeyValue | None


class RangeState:
    """The keys of a range, whole revisions only; `revision` is the newest one contained."""

    __slots__ = ("kvs", "revision")

    def __init__(self) -> None:
        self.kvs: dict[bytes, KeyValue] = {}
        self.revision = 0

    def load(self, kvs: Iterable[KeyValue], revision: int) -> list[Change]:
        """Everything anew, as of `revision`; what is different from before."""
        before, self.kvs = self.kvs, {kv.key: kv for kv in kvs}
        self.revision = revision
        changes = [
            Change(key, before.get(key), kv)
            for key, kv in self.kvs.items()
            if before.get(key) != kv
        ]
        changes += [Change(key, kv, None) for key, kv in before.items() if key not in self.kvs]
        return changes

    def apply(self, events: Iterable[Event]) -> list[Change]:
        """The events that follow `revision`."""
        changes: list[Change] = []
        for event in events:
            old = self.kvs.get(event.key)
            if event.deleted:
                self.kvs.pop(event.key, None)
                changes.append(Change(event.key, old, None))
            else:
                self.kvs[event.key] = event.kv
                changes.append(Change(event.key, old, event.kv))
            self.revision = max(self.revision, event.kv.mod_revision)
        return changes


class Unseen:
    """Changes that a reader has not taken: per key only the last one, so it is never more than
    there are keys. What came and went unseen is not told.
    """

    __slots__ = ("_changes",)

    def __init__(self) -> None:
        self._changes: dict[bytes, Change] = {}

    def add(self, changes: Iterable[Change]) -> None:
        for change in changes:
            before = self._changes.pop(change.key, None)
            old = change.old if before is None else before.old
            if old != change.new:
                self._changes[change.key] = Change(change.key, old, change.new)

    def take(self) -> list[Change]:
        """All of them, in the order of their last change."""
        taken, self._changes = list(self._changes.values()), {}
        return taken

    def __bool__(self) -> bool:
        return bool(self._changes)
