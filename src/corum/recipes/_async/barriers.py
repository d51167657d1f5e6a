"""Barriers: wait until somebody opens, or until enough have come."""

from __future__ import annotations

from contextlib import aclosing
from time import time_ns
from typing import TYPE_CHECKING

from corum.client.requests import create_revision, delete, get, put, to_bytes, version
from corum.client.results import RangeResult
from corum.errors import LEASE_NOT_FOUND
from corum.recipes._async.runtime import to_the_end
from corum.recipes._async.session import steadily
from corum.recipes._async.waiting import wait_change
from corum.recipes.deadline import Deadline
from corum.recipes.errors import AlreadyThere, NotHeld, SessionExpired, TooMany

if TYPE_CHECKING:
    from corum.client._async.client import AsyncClient
    from corum.client.requests import Bytes
    from corum.client.results import KeyValue
    from corum.recipes._async.session import AsyncSession


class AsyncBarrier:
    """A gate: while it is held nobody who waits goes on.

    Guarantees: `wait` returns at the first moment at or after its call when the gate is open. The
    gate does not open when its holder dies; use a lock for that. The key is `name` itself, as of
    Go's recipes.Barrier.
    """

    def __init__(self, client: AsyncClient, name: Bytes) -> None:
        self.client = client
        self._key = to_bytes(name)

    async def hold(self) -> None:
        """Close it. Raises AlreadyThere when it is closed."""
        key = self._key
        if not await self.client.txn([version(key) == 0], [put(key)]):
            raise AlreadyThere("the barrier is held already")

    async def release(self) -> None:
        """Open it; all who wait go on."""
        await self.client.delete(self._key)

    async def wait(self, timeout_s: float | None = None) -> None:
        """Return when it is open. Raises TimeoutError."""
        deadline = Deadline(timeout_s)
        while True:
            found = await self.client.range(self._key)
            if not found.kvs:
                return
            revision = found.header.revision
            if await wait_change(self.client, self._key, revision, deadline, puts=False):
                return


class AsyncDoubleBarrier:
    """`count` participants begin together and end together.

    Guarantees: `enter` returns when `count` have entered, `leave` when all who are still alive have
    called it; who dies does not hold the others up for longer than its session's TTL. Who died
    before all had entered must be replaced, or nobody goes on.
    Keys are `<name>/waiters/...` and `<name>/ready`, as of Go's recipes.DoubleBarrier.
    """

    def __init__(self, session: AsyncSession, name: Bytes, count: int) -> None:
        if count < 1:
            raise ValueError(f"count {count} is not positive")
        self.session = session
        self.count = count
        self._waiters = to_bytes(name) + b"/waiters"
        self._ready = to_bytes(name) + b"/ready"
        self._key: bytes | None = None
        self._began = 0

    async def __aenter__(self) -> AsyncDoubleBarrier:
        await self.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def enter(self, timeout_s: float | None = None) -> None:
        """Wait until all are there. Raises TooMany, TimeoutError, SessionExpired."""
        assert self._key is None, "entered twice"
        deadline = Deadline(timeout_s)
        try:
            revision = await to_the_end(self._arrive)
            rank = len(await self._present(revision))
            if rank > self.count:
                raise TooMany(f"{self.count} have entered already")
            if rank == self.count:
                self._began = (await self.session.client.put(self._ready)).header.revision
            else:
                self._began = await self._wait(self._ready, revision, deadline, puts=True)
        except BaseException:
            await to_the_end(self._withdraw)
            raise

    async def leave(self, timeout_s: float | None = None) -> None:
        """Wait until all who are there have called it. Raises NotHeld, TimeoutError.

        After a TimeoutError it can be called again.
        """
        if self._key is None:
            raise NotHeld("left without having entered")
        deadline = Deadline(timeout_s)
        client = self.session.client
        while kvs := await self._present(self._began):  # not those who came for another round
            lowest, highest = kvs[0], kvs[-1]
            if lowest.key == self._key == highest.key:
                await client.txn([], [delete(self._ready), delete(self._key)])
                break
            if lowest.key == self._key:  # the first to come is the last to go
                await self._wait(highest.key, highest.mod_revision, deadline, puts=False)
            else:
                await client.delete(self._key)
                await self._wait(lowest.key, lowest.mod_revision, deadline, puts=False)
        self._key = None

    async def _arrive(self) -> int:
        """Make the key; its revision."""
        session = self.session
        while True:
            key = self._key = b"%b/%d" % (self._waiters, time_ns())
            make = put(key, lease=session.lease_id)
            absent = create_revision(key) == 0
            try:  # may be repeated: the key is there then, with our lease
                done = await steadily(lambda: session.client.txn([absent], [make], [get(key)]))  # noqa: B023
            except LEASE_NOT_FOUND:
                raise SessionExpired("the session has ended") from None
            if done.succeeded:
                return done.header.revision
            found = done.results[0]
            assert isinstance(found, RangeResult), "a range answers a range"
            if found.kvs[0].lease == session.lease_id:
                return found.kvs[0].create_revision

    async def _present(self, until: int) -> tuple[KeyValue, ...]:
        """Who has entered until a revision and not left, in the order of arrival."""
        found = await self.session.client.range(
            self._waiters + b"/",
            prefix=True,
            keys_only=True,
            order="ascend",
            sort_by="create",
            max_create_revision=until,
        )
        return found.kvs

    async def _wait(self, key: bytes, after: int, deadline: Deadline, *, puts: bool) -> int:
        """Until `key` is put (or deleted) after a revision; when."""
        watch = await self.session.watch(key, revision=after + 1, puts=puts, deletes=not puts)
        async with aclosing(watch):
            events = await self.session.events_of(watch, deadline)
        return events[0].kv.mod_revision

    async def _withdraw(self) -> None:
        key, self._key = self._key, None
        if key is not None and not self.session.lost:
            await steadily(lambda: self.session.client.delete(key))
