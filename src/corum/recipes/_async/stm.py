"""Software transactional memory: a function that reads and writes keys as if it were alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from corum.client.errors import Compacted
from corum.client.requests import get, to_bytes
from corum.client.results import RangeResult
from corum.recipes.deadline import Deadline
from corum.recipes.stm_sets import Isolation, Sets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from corum.client._async.client import AsyncClient
    from corum.client.requests import Bytes
    from corum.client.results import KeyValue, TxnResult

T = TypeVar("T")


async def atomically(
    client: AsyncClient,
    work: Callable[[AsyncTransaction], Awaitable[T]],
    *,
    isolation: Isolation = Isolation.SERIALIZABLE_SNAPSHOT,
    prefetch: Iterable[Bytes] = (),
    timeout_s: float | None = None,
) -> T:
    """Run `work` until an attempt is committed; what that attempt returned.

    Guarantees: what `work` wrote happens in one revision, and only if others have not done
    meanwhile what `isolation` forbids; else `work` is run again. Nothing blocks: of transactions
    in conflict one always gets through. An exception in `work` ends it without writing anything.
    Does not guarantee fairness; and when the answer to the commit is lost (Unavailable,
    DeadlineExceeded) it is not known whether it took place, so it is not repeated.

    `work` gets an `AsyncTransaction`, may run any number of times and should do nothing else than
    read and write with it. prefetch: keys it will read, fetched in one call. timeout_s: no attempt
    begins later, then TimeoutError.
    """
    deadline = Deadline(timeout_s)
    keys = [to_bytes(key) for key in prefetch]
    fetched = await client.txn([], [get(key) for key in keys]) if keys else None
    while True:
        transaction = AsyncTransaction(client, isolation)
        if fetched is not None:
            transaction.sets.fetch(keys, _kvs(fetched), fetched.header.revision)
        try:
            result = await work(transaction)
        except Compacted:  # it took so long that its snapshot is gone
            fetched = None
        else:
            sets = transaction.sets
            if sets.is_settled:
                return result
            done = await client.txn(sets.conditions(), sets.operations(), sets.rereads())
            if done.succeeded:
                return result
            keys, fetched = list(sets.reads), done
        if deadline.left_s() == 0:
            raise TimeoutError("others were always faster")


class AsyncTransaction:
    """The keys as one attempt sees them: its own writes, else what was read first."""

    def __init__(self, client: AsyncClient, isolation: Isolation) -> None:
        self._client = client
        self.sets = Sets(isolation)

    async def get(self, key: Bytes) -> bytes | None:
        """The value; None when there is no such key."""
        (found,) = await self.get_many(key)
        return found

    async def get_many(self, *keys: Bytes) -> tuple[bytes | None, ...]:
        """The values of several keys, those not yet known in one call."""
        wanted = [to_bytes(key) for key in keys]
        await self._fetch([key for key in wanted if key not in self.sets.writes])
        return tuple(self._value(key) for key in wanted)

    async def revision(self, key: Bytes) -> int:
        """The revision of the key's last change when it was read; 0: not there."""
        wanted = to_bytes(key)
        await self._fetch([wanted])
        found = self.sets.read(wanted)
        return found.mod_revision if found else 0

    def put(self, key: Bytes, value: Bytes = b"") -> None:
        self.sets.writes[to_bytes(key)] = to_bytes(value)

    def delete(self, key: Bytes) -> None:
        self.sets.writes[to_bytes(key)] = None

    def _value(self, key: bytes) -> bytes | None:
        if key in self.sets.writes:
            return self.sets.writes[key]
        found = self.sets.read(key)
        return found.value if found else None

    async def _fetch(self, keys: list[bytes]) -> None:
        missing = self.sets.missing(keys)
        if missing:
            at = self.sets.read_revision
            done = await self._client.txn([], [get(key, revision=at) for key in missing])
            self.sets.fetch(missing, _kvs(done), at or done.header.revision)


def _kvs(done: TxnResult) -> list[KeyValue]:
    """What the ranges of a transaction found."""
    return [kv for part in done.results if isinstance(part, RangeResult) for kv in part.kvs]
