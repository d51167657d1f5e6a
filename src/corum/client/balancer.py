"""Which endpoint the next call goes to. Pure: it is told the time and what happened.

A client stays with one endpoint as long as it answers, in the order the caller gave; an endpoint
that failed rests for a growing while and is then tried again. When all rest, the one whose rest
ends first is next, and the caller is told how long to wait. One that is retired rests for ever.
"""

from __future__ import annotations

REST_MIN_NS = 100_000_000
REST_MAX_NS = 1_000_000_000
RETIRED = 1 << 62  # as the end of a rest


class Balancer:
    """The health of `count` endpoints, known by their index."""

    __slots__ = ("_current", "_failures", "_rest_until_ns")

    def __init__(self, count: int) -> None:
        assert count > 0, "no endpoints"
        self._current = 0
        self._failures = [0] * count
        self._rest_until_ns = [0] * count

    def pick(self, now_ns: int) -> tuple[int, int]:
        """The endpoint to use, and the nanoseconds to wait before (0: go ahead)."""
        count = len(self._failures)
        for step in range(count):
            index = (self._current + step) % count
            if self._rest_until_ns[index] <= now_ns:
                self._current = index
                return index, 0
        index = min(range(count), key=lambda i: (self._rest_until_ns[i], i))
        return index, self._rest_until_ns[index] - now_ns

    def failed(self, index: int, now_ns: int) -> None:
        """The endpoint could not be reached or cannot serve now."""
        rest_ns = min(REST_MIN_NS << min(self._failures[index], 10), REST_MAX_NS)
        self._failures[index] += 1
        if self._rest_until_ns[index] != RETIRED:
            self._rest_until_ns[index] = now_ns + rest_ns
        self._leave(index)

    def prefer(self, index: int) -> None:
        """Go there first from now on."""
        self._current = index

    def grow(self) -> int:
        """There is one more endpoint, in place of one that is retired or behind the others."""
        if RETIRED in self._rest_until_ns:
            index = self._rest_until_ns.index(RETIRED)
            self._failures[index] = self._rest_until_ns[index] = 0
            return index
        self._failures.append(0)
        self._rest_until_ns.append(0)
        return len(self._failures) - 1

    def retire(self, index: int) -> None:
        """The endpoint is not used any more. One at least must be left."""
        self._rest_until_ns[index] = RETIRED
        self._leave(index)

    def succeeded(self, index: int) -> None:
        self._failures[index] = 0
        if self._rest_until_ns[index] != RETIRED:
            self._rest_until_ns[index] = 0

    def _leave(self, index: int) -> None:
        if index == self._current:
            self._current = (index + 1) % len(self._failures)
