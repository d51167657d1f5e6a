"""What the synchronous recipes stand on: waking who waits, and work that is not interrupted."""

from __future__ import annotations

from threading import Condition
from threading import Lock as Guard
from threading import get_ident as me
from time import monotonic, sleep
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from corum.client._sync.runtime import Background

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

__all__ = ["Background", "Bell", "Guard", "me", "sleep", "to_the_end"]


class Bell:
    """Wakes everybody who waits for something to have changed.

    Read `rings` before looking at the thing and give it to `wait`: no ring between is missed.
    """

    def __init__(self) -> None:
        self.rings = 0
        self._condition = Condition()

    def ring(self) -> None:
        with self._condition:
            self.rings += 1
            self._condition.notify_all()

    def wait(self, seen: int, timeout_s: float | None = None) -> None:
        """Until it has rung more than `seen` times. Raises TimeoutError."""
        end = None if timeout_s is None else monotonic() + timeout_s
        with self._condition:
            while self.rings <= seen:
                left = None if end is None else end - monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                self._condition.wait(left)


def to_the_end(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` gives: a thread is not cancelled."""
    return work(*args, **kwargs)
