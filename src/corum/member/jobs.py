"""Work off the loop: a few threads that run closures on immutable data and report by the inbox."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final, Protocol

WORKERS: Final = 3
"""One for commits, which must never wait behind a big read; two for everything else."""


class Poster(Protocol):
    """The part of the transport that takes results."""

    def post(self, obj: object, /) -> None: ...


class Jobs:
    """`start(run, done)`: `run()` in a worker, then `done(result)` on the loop.

    The loop gets a `POSTED` event with `(done, result)` and makes the call. An exception of `run`
    is the result. Work is bounded by those who start it: one commit, one snapshot, `JOBS_MAX`
    ranges.
    """

    def __init__(self, transport: Poster, name: str) -> None:
        self._transport = transport
        self._queue: SimpleQueue[tuple[Callable[[], object], Callable[[object], None]] | None] = (
            SimpleQueue()
        )
        self._urgent: SimpleQueue[tuple[Callable[[], object], Callable[[object], None]] | None] = (
            SimpleQueue()
        )
        self._threads = [
            threading.Thread(target=self._work, args=(queue,), name=f"{name}-{n}", daemon=True)
            for n, queue in enumerate([self._urgent] + [self._queue] * (WORKERS - 1))
        ]
        for thread in self._threads:
            thread.start()

    def start(self, run: Callable[[], object], done: Callable[[object], None]) -> None:
        """Queue `run` behind other work of its kind."""
        self._queue.put((run, done))

    def start_urgent(self, run: Callable[[], object], done: Callable[[object], None]) -> None:
        """Queue `run` on the thread kept for commits and log files."""
        self._urgent.put((run, done))

    def _work(
        self, queue: SimpleQueue[tuple[Callable[[], object], Callable[[object], None]] | None]
    ) -> None:
        while (job := queue.get()) is not None:
            run, done = job
            try:
                result = run()
            except BaseException as error:  # the loop decides what it means
                result = error
            self._transport.post((done, result))

    def close(self) -> None:
        """Finish what runs and what is urgent, drop the rest, join the threads. Idempotent."""
        with suppress(Empty):
            while True:
                self._queue.get_nowait()
        self._urgent.put(None)
        for _ in range(WORKERS - 1):
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
