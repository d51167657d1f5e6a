"""When waiting is over."""

from __future__ import annotations

from time import monotonic_ns

NS_PER_S = 1_000_000_000


class Deadline:
    """A moment `timeout_s` seconds after it was made; None: never."""

    __slots__ = ("_end_ns",)

    def __init__(self, timeout_s: float | None) -> None:
        self._end_ns = None if timeout_s is None else monotonic_ns() + int(timeout_s * NS_PER_S)

    def left_s(self) -> float | None:
        """Seconds left, 0 when it is past; None: no end."""
        if self._end_ns is None:
            return None
        return max(self._end_ns - monotonic_ns(), 0) / NS_PER_S
