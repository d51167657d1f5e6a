"""A number that many add to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.client.requests import get, mod_revision, put, to_bytes
from corum.client.results import RangeResult

if TYPE_CHECKING:
    from corum.client._async.client import AsyncClient
    from corum.client.requests import Bytes


class AsyncCounter:
    """A whole number, stored as decimal text in one key; a missing key counts as 0.

    Guarantees: no addition is lost and none takes place twice; `add` returns what the number was
    right after it, so numbers from `add(1)` are unique and grow: a source of ids. When the answer
    to an `add` is lost (Unavailable, DeadlineExceeded) it may or may not have taken place, and is
    not repeated. Nothing blocks; under contention each call takes as many tries as others overtake.
    """

    def __init__(self, client: AsyncClient, key: Bytes) -> None:
        self.client = client
        self._key = to_bytes(key)
        self._guess = (0, 0)  # value and revision as last seen; saves a read when nobody else adds

    async def value(self) -> int:
        """The number now. Raises ValueError when the key holds something else."""
        found = await self.client.get(self._key)
        return int(found.value) if found else 0

    async def add(self, amount: int = 1) -> int:
        """Add, or take away; what it makes."""
        value, revision = self._guess
        while True:
            total = value + amount
            done = await self.client.txn(
                [mod_revision(self._key) == revision],
                [put(self._key, str(total))],
                [get(self._key)],
            )
            if done.succeeded:
                self._guess = (total, done.header.revision)
                return total
            found = done.results[0]
            assert isinstance(found, RangeResult), "a range answers a range"
            kv = found.kvs[0] if found.kvs else None
            value, revision = (int(kv.value), kv.mod_revision) if kv else (0, 0)

    async def set(self, value: int) -> None:
        """Make it `value`, whatever it was."""
        await self.client.put(self._key, str(value))
