"""Workers whose jobs take as long as the dice say, and end in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import bcrypt

from corum._transport import POSTED
from corum.auth.passwords import HashPassword
from corum.sim.log import Machine

JOB_NS: Final = 2_000_000
"""How long a job takes, typically."""
SALT_LETTERS: Final = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class SimJobs:
    """`Jobs` of a node: an urgent worker with a queue, any number of others without order."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._urgent_free_ns = 0

    def start_urgent(self, run: Callable[[], object], done: Callable[[object], None]) -> None:
        """One after the other."""
        world = self._machine.world
        at_ns = max(self._urgent_free_ns, world.now_ns) + world.delay(JOB_NS)
        self._urgent_free_ns = at_ns
        self._machine.later(at_ns - world.now_ns, lambda: self._run(run, done))

    def start(self, run: Callable[[], object], done: Callable[[object], None]) -> None:
        """Beside all others."""
        self._machine.later(self._machine.world.delay(JOB_NS), lambda: self._run(run, done))

    def _run(self, run: Callable[[], object], done: Callable[[object], None]) -> None:
        machine, name = self._machine, run.__qualname__.replace(".<locals>", "")
        machine.effect(f"job: before {name}")
        try:
            result = self._hashed(run)
        except Exception as error:  # as the real workers: it is the result
            result = error
        machine.effect(f"job: after {name}")
        delay_ns = machine.world.delay(50_000)
        machine.later(delay_ns, lambda: machine.deliver((POSTED, (done, result))))

    def _hashed(self, run: Callable[[], object]) -> object:
        """What the job returns; salts of passwords come from the world's dice."""
        job = getattr(run, "__self__", None)
        if not isinstance(job, HashPassword):
            return run()
        salt = "".join(self._machine.world.dice.choices(SALT_LETTERS, k=21)) + "."
        return bcrypt.hashpw(job.password.encode(), f"$2a${job.cost:02d}${salt}".encode())
