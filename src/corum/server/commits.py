"""When the backend's pending writes become one synced transaction, off the loop.

Every 100 ms or 10,000 operations (`--backend-batch-interval`, `--backend-batch-limit`), one batch
in flight at a time. Each batch carries the applied index and its term, so a restart replays the log
from there and applies nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from corum.backend.backend import Backend, BackendError, BackendFull


class Jobs(Protocol):
    """Work off the loop: `run` in a worker thread, `done(result)` on the loop afterwards."""

    def start_urgent(self, run: Callable[[], object], done: Callable[[object], None]) -> None:
        """As `start`, on a thread that never waits behind big reads."""
        ...

    def start(self, run: Callable[[], object], done: Callable[[object], None]) -> None:
        """Queue `run`; an exception of it becomes the result given to `done`."""
        ...


class Commits:
    """The schedule; `applied` is told by the driver, everything else happens in `tick`."""

    def __init__(
        self,
        backend: Backend,
        jobs: Jobs,
        interval_ns: int,
        operations_max: int,
        failed: Callable[[BackendError], None],
    ) -> None:
        self._backend = backend
        self._jobs = jobs
        self._interval_ns = interval_ns
        self._operations_max = operations_max
        self._failed = failed
        self._next_ns = 0
        self.in_flight = False
        """A transaction is being written."""
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self.durable_index = 0
        self.paused = False
        """True while the file is being rewritten (defragment)."""

    def due(self, now_ns: int) -> bool:
        """Is it time for the next batch?"""
        if self.in_flight or self.paused:
            return False
        pending = self._backend.pending_operations
        return (
            bool(self._waiting)
            or pending >= self._operations_max
            or (pending > 0 and now_ns >= self._next_ns)
        )

    def run(self, index: int, term: int, now_ns: int) -> None:
        """Seal what is pending as of `index` and have it written."""
        batch = self._backend.seal(index, term)
        self._next_ns = now_ns + self._interval_ns
        if batch is None:
            self._settle(index)
            return
        self.in_flight = True

        def done(result: object) -> None:
            self.in_flight = False
            if isinstance(result, BackendError):
                self._failed(result)
                if isinstance(result, BackendFull):
                    self._jobs.start_urgent(batch.write, done)
                    self.in_flight = True
                return
            if isinstance(result, BaseException):
                raise result
            self._backend.committed(batch)
            self._settle(index)

        self._jobs.start_urgent(batch.write, done)

    def when_durable(self, index: int, then: Callable[[], None]) -> None:
        """Call `then` once a transaction that covers `index` is on the disk."""
        self._waiting.append((index, then))

    def _settle(self, index: int) -> None:
        self.durable_index = max(self.durable_index, index)
        ready = [then for at, then in self._waiting if at <= self.durable_index]
        self._waiting = [w for w in self._waiting if w[0] > self.durable_index]
        for then in ready:
            then()
