"""Recipes of the server's own (locks, elections) that wait for keys to change, and their calls.

Told of applied changes in order, at the end of each applied batch. Nothing is queued here: an ear
hears one change, and whoever wants more listens again from within.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

Change: TypeAlias = tuple[int, bytes, bytes | None]
"""(revision, key, stored KeyValue or None for a delete)."""


class LongCall(Protocol):
    """A call that stays open for longer than a proposal takes."""

    def gone(self) -> None:
        """Its client went away."""
        ...

    def leaderless(self) -> None:
        """There has been no leader for long."""
        ...

    def blocked(self) -> None:
        """Its client does not keep up with the answers."""
        ...

    def writable(self) -> None:
        """It does again."""
        ...


class Ear:
    """Waits for the first change after revision `after`."""

    __slots__ = ("after", "heard", "key", "whole")

    def __init__(
        self, key: bytes, after: int, heard: Callable[[Change], None], *, whole: bool
    ) -> None:
        self.key = key
        self.after = after
        self.heard = heard
        self.whole = whole


class Listeners:
    """Ears by the key, or by the folder (a prefix that ends with a slash), they listen to."""

    def __init__(self) -> None:
        self._keys: dict[bytes, list[Ear]] = {}
        self._folders: dict[bytes, list[Ear]] = {}
        self.waiting = False
        """Somebody listens: changes have to be told."""

    def listen(
        self, key: bytes, after: int, heard: Callable[[Change], None], *, whole: bool = True
    ) -> Ear:
        """Have the next change told: of a key, or (`whole` False) of anything in a folder."""
        ear = Ear(key, after, heard, whole=whole)
        (self._keys if whole else self._folders).setdefault(key, []).append(ear)
        self.waiting = True
        return ear

    def drop(self, ear: Ear) -> None:
        """It need not hear any more."""
        ears = self._keys if ear.whole else self._folders
        found = ears[ear.key]
        found.remove(ear)
        if not found:
            del ears[ear.key]
        self.waiting = bool(self._keys or self._folders)

    def tell(self, changes: Iterable[Change]) -> None:
        """Changes were applied."""
        for change in changes:
            for ear in self._of(change[1]):
                if change[0] > ear.after:
                    self.drop(ear)
                    ear.heard(change)

    def _of(self, key: bytes) -> list[Ear]:
        found = list(self._keys.get(key, ()))
        if self._folders:
            at = key.find(b"/")
            while at >= 0:
                found += self._folders.get(key[: at + 1], ())
                at = key.find(b"/", at + 1)
        return found
