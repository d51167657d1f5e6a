"""Virtual time, one source of chance, and the queue of everything that will happen.

Same seed, same run: nothing here or above may look at a real clock, at `hash()`, or at the order
of a set. The trace of a run is hashed, so that two runs can be compared.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Final

from corum.sim.coverage import counted

UNIX_NS: Final = 1_700_000_000_000_000_000
"""Wall time at virtual time 0."""
TRACE_LINES: Final = 80
"""Kept for whoever looks at a failure."""
STEPS_MAX: Final = 5_000_000
"""Events in one run; more means that something goes round and round."""


class Violation(AssertionError):
    """The member, or the world around it, did what must not happen."""


class World:
    """See the module's docstring."""

    def __init__(self, seed: int, say: Callable[[str], None] | None = None) -> None:
        """`say` gets every line of the trace."""
        self.seed = seed
        self.dice = Random(seed)
        self.now_ns = 0
        self.steps = 0
        self.recent: deque[str] = deque(maxlen=TRACE_LINES)
        self.counts = Counter[str]()
        """What happened how often (`coverage`)."""
        self._say = say
        self._digest = hashlib.sha256()
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._scheduled = 0
        self._tickets = 0

    # ---- time

    def at(self, when_ns: int, action: Callable[[], None]) -> None:
        """Have `action` happen at `when_ns`; what is scheduled first happens first."""
        self._scheduled += 1
        heappush(self._events, (max(when_ns, self.now_ns), self._scheduled, action))

    def after(self, delay_ns: int, action: Callable[[], None]) -> None:
        """Have `action` happen `delay_ns` from now."""
        self.at(self.now_ns + delay_ns, action)

    def step(self) -> bool:
        """The next thing happens; False when nothing is left."""
        if not self._events:
            return False
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise Violation(f"no end after {STEPS_MAX} steps")
        self.now_ns, _, action = heappop(self._events)
        action()
        return True

    def run_until(self, done: Callable[[], bool], limit_ns: int) -> bool:
        """Go on until `done()`, or for `limit_ns`; what `done` says then."""
        end_ns = self.now_ns + limit_ns
        while not done():
            if not self._events or self._events[0][0] > end_ns:
                self.now_ns = end_ns
                return done()
            self.step()
        return True

    def run_for(self, duration_ns: int) -> None:
        """Let so much time pass."""
        self.run_until(lambda: False, duration_ns)

    def jump(self, duration_ns: int) -> None:
        """Let time pass in which nothing happens: what is scheduled comes so much later."""
        self.now_ns += duration_ns
        self._events = [(when + duration_ns, n, action) for when, n, action in self._events]

    def ticket(self) -> int:
        """A number greater than all before: the order of what happens, exact where times tie."""
        self._tickets += 1
        return self._tickets

    @property
    def unix_ns(self) -> int:
        """Wall time."""
        return UNIX_NS + self.now_ns

    # ---- chance

    def chance(self, probability: float) -> bool:
        """True in so many of all cases."""
        return probability > 0 and self.dice.random() < probability

    def between(self, low: int, high: int) -> int:
        """Any whole number from `low` to `high`."""
        return low + int(self.dice.random() * (high - low + 1))

    def delay(self, typical_ns: int) -> int:
        """A delay: mostly around `typical_ns`, now and then fifty times as long."""
        random = self.dice.random
        longest = 50 * typical_ns if random() < 0.02 else 2 * typical_ns
        shortest = typical_ns // 4
        return shortest + int(random() * (longest - shortest))

    # ---- what happened

    def trace(self, line: str) -> None:
        """One line of the run's story."""
        counted(line, self.counts)
        line = f"{self.now_ns / 1e6:12.3f} {line}"
        self._digest.update(line.encode())
        self.recent.append(line)
        if self._say is not None:
            self._say(line)

    @property
    def trace_hash(self) -> str:
        """Over all lines so far: equal for two runs of a seed."""
        return self._digest.hexdigest()[:16]
