"""Who may do what, as far as those can know who were told of the changes.

A fact (a user has a role, a role may write a key, authentication is off) is made true or false by
requests. Whoever asks whether it held at some moment of a time gets "it may have": one that made it
true had begun by then, and none that had made it false since was over before. A request without an
answer makes nothing false for certain, and may make something true at any time after it began.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, TypeAlias

from corum.sim.sessions import Operation

Fact: TypeAlias = tuple[str, ...]

OFF: Final[Fact] = ("off",)
ALL: Final = ("p", "q")
"""A range that covers all of `KEYS`, beside each alone."""
KEYS: Final = ("p0", "p1", "p2", "p3")
READ, WRITE = "read", "write"


class Facts:
    """What was said to become true and false."""

    def __init__(self) -> None:
        self._made: defaultdict[Fact, list[Operation]] = defaultdict(list)
        self._ended: defaultdict[Fact, list[Operation]] = defaultdict(list)
        self.always: set[Fact] = {OFF}
        """What held before anybody asked for anything; until it is ended."""

    def makes(self, fact: Fact, by: Operation) -> None:
        """Once `by` is carried out, it holds."""
        self._made[fact].append(by)

    def ends(self, fact: Fact, by: Operation) -> None:
        """Once `by` is carried out, it does not."""
        self._ended[fact].append(by)

    def known(self, head: Fact) -> list[Fact]:
        """All facts that begin so and were ever made."""
        return [fact for fact in self._made if fact[: len(head)] == head]

    def may_hold(self, fact: Fact, begin: int, end: int) -> bool:
        """Can it have held at any moment from ticket `begin` to `end`?"""
        ended = [each for each in self._ended[fact] if each.succeeded and each.returned < begin]
        if fact in self.always and not ended:
            return True
        for made in self._made[fact]:
            if made.invoked > end or not (made.succeeded or made.is_unknown):
                continue
            if made.is_unknown or not any(each.invoked > made.returned for each in ended):
                return True
        return False

    def ended_between(self, fact: Fact, begin: int, end: int) -> bool:
        """Was it ended for certain, by a request that began and was over in this time?"""
        return any(
            each.succeeded and begin < each.invoked and each.returned < end
            for each in self._ended[fact]
        )

    def may_do(self, user: str, kind: str, keys: tuple[str, str], begin: int, end: int) -> bool:
        """May the user have had the right to `kind` on a key, (key, ""), or on `ALL`?"""
        if self.may_hold(OFF, begin, end):
            return True
        return any(
            self.may_hold(("role", user, role), begin, end)
            and any(
                self.may_hold(("right", role, kind, *bounds), begin, end) for bounds in {keys, ALL}
            )
            for role in {fact[2] for fact in self.known(("role", user))}
        )
