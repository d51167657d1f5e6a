"""When the backend's pending writes become one synced transaction, off the loop.

Every 100 ms or 10,000 operations (`--backend-batch-interval`, `--backend-batch-limit`), one batch
in flight at a time. Each batch carries the applied index and its term, so a restart replays the log
from there and applies nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from corum.backend.backend import Backend, BackendFull, Batch
from corum.values import NS_PER_S

RETRY_NS: Final = NS_PER_S
IDLE_NS: Final = NS_PER_S
"""After so long without writes the index rows that were left pending are committed, too: who reads
then need not look through them."""


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
        failed: Callable[[BaseException], None],
    ) -> None:
        self._backend = backend
        self._jobs = jobs
        self._interval_ns = interval_ns
        self._operations_max = operations_max
        self._failed = failed
        self._next_ns = 0
        self.in_flight = False
        """A transaction is being written."""
        self.observe: Callable[[int], None] = lambda took_ns: None
        """Told how long each transaction took."""
        self.paused = False
        """True while the file is being rewritten (defragment)."""
        self._waiting: list[Callable[[], None]] = []
        self._stuck: Batch | None = None
        """A batch that the disk had no room for; written again every second."""
        self._stuck_waiting: list[Callable[[], None]] = []

    @property
    def resting(self) -> bool:
        """Is no batch on its way to the disk, not even one that waits for room?"""
        return not self.in_flight and self._stuck is None

    def due(self, now_ns: int) -> bool:
        """Is it time for the next batch?"""
        if self.in_flight or self.paused:
            return False
        if self._stuck is not None:
            return now_ns >= self._next_ns
        pending = self._backend.pending_operations
        if not pending and now_ns >= self._next_ns + IDLE_NS and self._backend.own_pending:
            self._backend.flush_own()
            return True
        return (
            bool(self._waiting)
            or pending >= self._operations_max
            or (pending > 0 and now_ns >= self._next_ns)
        )

    def run(self, index: int, term: int, now_ns: int) -> None:
        """Seal what is pending as of `index` and have it written."""
        self._next_ns = now_ns + self._interval_ns
        if self._stuck is not None:
            self._write(self._stuck, self._stuck_waiting, now_ns)
            return
        waiting, self._waiting = self._waiting, []
        batch = self._backend.seal(index, term)
        if batch is None:
            _call(waiting)
        else:
            self._write(batch, waiting, now_ns)

    def _write(self, batch: Batch, waiting: list[Callable[[], None]], now_ns: int) -> None:
        self.in_flight = True
        self._stuck = None

        def done(result: object) -> None:
            self.in_flight = False
            if isinstance(result, BackendFull):
                self._stuck, self._stuck_waiting = batch, waiting
                self._next_ns = now_ns + RETRY_NS
                self._failed(result)
            elif isinstance(result, BaseException):
                self._failed(result)
            else:
                self._backend.committed(batch)
                self.observe(self._backend.commit_ns)
                _call(waiting)

        self._jobs.start_urgent(batch.write, done)

    def when_durable(self, then: Callable[[], None]) -> None:
        """Call `then` once everything written so far is on the disk."""
        self._waiting.append(then)


def _call(waiting: list[Callable[[], None]]) -> None:
    for then in waiting:
        then()
