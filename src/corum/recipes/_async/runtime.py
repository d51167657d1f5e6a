"""What the asynchronous recipes stand on: waking who waits, and work that is not interrupted."""

from __future__ import annotations

import asyncio
from asyncio import sleep
from contextlib import nullcontext
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from corum.client._async.runtime import Background

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

P = ParamSpec("P")
T = TypeVar("T")

__all__ = ["Background", "Bell", "Guard", "me", "sleep", "to_the_end"]

Guard = nullcontext  # what a lock is for threads: between two awaits one task is alone


def me() -> int:
    """The running task, as long as it runs."""
    return id(asyncio.current_task())


class Bell:
    """Wakes everybody who waits for something to have changed.

    Read `rings` before looking at the thing and give it to `wait`: no ring between is missed.
    """

    def __init__(self) -> None:
        self.rings = 0
        self._waiters: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        self.rings += 1
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seen: int, timeout_s: float | None = None) -> None:
        """Until it has rung more than `seen` times. Raises TimeoutError."""
        while self.rings <= seen:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await asyncio.wait_for(waiter, timeout_s)
            finally:
                self._waiters.discard(waiter)


async def to_the_end(work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` gives; a cancellation is passed on when it has ended, not before.

    So whoever is cancelled knows what there is to be undone.
    """
    task = asyncio.ensure_future(work(*args, **kwargs))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen; the cancellation is what is told
        raise cancelled
    return task.result()
