"""Tasks for a group of workers: each is done, even if a worker dies; who asked waits for it."""

from __future__ import annotations

from contextlib import aclosing
from time import time_ns
from typing import TYPE_CHECKING

from corum.client.requests import (
    create_revision,
    delete,
    get,
    put,
    to_bytes,
    value,
    version,
)
from corum.client.results import RangeResult
from corum.errors import LEASE_NOT_FOUND
from corum.recipes._async.runtime import to_the_end
from corum.recipes._async.session import steadily
from corum.recipes._async.waiting import wait_change
from corum.recipes.deadline import Deadline
from corum.recipes.errors import NotHeld, SessionExpired

if TYPE_CHECKING:
    from corum.client._async.client import AsyncClient
    from corum.client.requests import Bytes, Condition
    from corum.client.results import Event, KeyValue
    from corum.recipes._async.session import AsyncSession

AHEAD_KEYS = 100  # oldest tasks looked at, at once


class AsyncTasks:
    """Tasks under a name: `<name>/todo/<id>`, `<name>/claims/<id>`, `<name>/done/<id>`.

    Guarantees: a task is stored until it has a result. It is worked at by one live worker at a
    time; when that one's session ends, another one gets it (at least once), so work should be such
    that beginning it twice does no harm. It has exactly one result: who has lost his claim cannot
    `finish`. Tasks are begun in the order of their submission.
    The result stays until `forget`.
    """

    def __init__(self, client: AsyncClient, name: Bytes) -> None:
        self.client = client
        self._todo = to_bytes(name) + b"/todo/"
        self._claims = to_bytes(name) + b"/claims/"
        self._done = to_bytes(name) + b"/done/"
        self._all = to_bytes(name) + b"/"

    async def submit(self, content: Bytes, task_id: str) -> bool:
        """Ask for it to be done; False when a task of this id was submitted before.

        The id is the caller's, so that after a lost answer it can be submitted again.
        """
        ident = task_id.encode()
        absent = [version(self._todo + ident) == 0, version(self._done + ident) == 0]
        make = put(self._todo + ident, content)
        return (await self.client.txn(absent, [make])).succeeded

    async def wait(self, task_id: str, timeout_s: float | None = None) -> bytes:
        """The result of a task, when it is there. Raises TimeoutError."""
        deadline = Deadline(timeout_s)
        key = self._done + task_id.encode()
        while True:
            found = await self.client.range(key)
            if found.kvs:
                return found.kvs[0].value
            events = await wait_change(
                self.client, key, found.header.revision, deadline, deletes=False
            )
            if events:
                return events[0].value

    async def forget(self, task_id: str) -> None:
        """Delete a result; the id may then be used again."""
        await self.client.delete(self._done + task_id.encode())

    async def take(self, session: AsyncSession, timeout_s: float | None = None) -> AsyncTask:
        """The oldest task that nobody works at, waiting for one. Raises TimeoutError.

        Use it as a context manager: left without `finish`, it is given back.
        """
        deadline = Deadline(timeout_s)
        while True:
            session.check()
            task, revision = await self._try_take(session)
            if task is not None:
                return task
            watch = await session.watch(self._all, prefix=True, revision=revision + 1)
            async with aclosing(watch):
                while True:
                    events = await session.events_of(watch, deadline)
                    if any(self._may_free(event) for event in events):
                        break

    def _may_free(self, event: Event) -> bool:
        """Whether there may be a task for who waits: a new one, or a claim has ended."""
        return event.key.startswith(self._claims if event.deleted else self._todo)

    async def size(self) -> tuple[int, int]:
        """How many tasks wait or are worked at, and how many of these are worked at."""
        todo = await self.client.range(self._todo, prefix=True, count_only=True)
        claimed = await self.client.range(self._claims, prefix=True, count_only=True)
        return todo.count, claimed.count

    async def _try_take(self, session: AsyncSession) -> tuple[AsyncTask | None, int]:
        """A claimed task, or None and a revision: what can be claimed came after it."""
        while True:
            claims = await self.client.range(self._claims, prefix=True, keys_only=True)
            revision = claims.header.revision
            claimed = {kv.key.removeprefix(self._claims) for kv in claims}
            todo = await self.client.range(
                self._todo,
                prefix=True,
                order="ascend",
                sort_by="create",
                limit=len(claimed) + AHEAD_KEYS,
            )
            free = [kv for kv in todo if kv.key.removeprefix(self._todo) not in claimed]
            if not free:
                return None, revision
            for kv in free:
                task = AsyncTask(self, session, kv)
                if await task.claim():
                    return task, 0


class AsyncTask:
    """A task that this session works at: `content`, and `finish` with a result."""

    def __init__(self, tasks: AsyncTasks, session: AsyncSession, kv: KeyValue) -> None:
        self.session = session
        self.content = kv.value
        self.ident = kv.key.removeprefix(tasks._todo)
        self._created = kv.create_revision
        self._claimed = 0
        self._mark = b"%x/%d" % (session.lease_id, time_ns())
        self._todo = kv.key
        self._claim = tasks._claims + self.ident
        self._done = tasks._done + self.ident

    @property
    def task_id(self) -> str:
        return self.ident.decode()

    @property
    def fence(self) -> int:
        """A number that grows with every worker that takes the task; see `locks`."""
        return self._claimed

    def condition(self) -> Condition:
        """For transactions: still ours."""
        return create_revision(self._claim) == self._claimed

    async def __aenter__(self) -> AsyncTask:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.give_back()

    async def finish(self, result: Bytes = b"") -> None:
        """The result, told to who waits for it. Raises NotHeld when another one has the task."""
        client = self.session.client
        change = [delete(self._todo), delete(self._claim), put(self._done, result)]
        if not self._claimed or not await client.txn([self.condition()], change):
            raise NotHeld("another worker has the task")
        self._claimed = 0

    async def give_back(self) -> None:
        """Leave it to others. Nothing happens if it is finished or not ours any more."""
        if self._claimed and not self.session.lost:
            await to_the_end(self._release)

    async def claim(self) -> bool:
        """Make it ours; False when another one was faster, or it is done already."""
        try:
            return await to_the_end(self._put_claim)
        except BaseException:
            if not self.session.lost:
                await to_the_end(self._release)
            raise

    async def _put_claim(self) -> bool:
        client, lease = self.session.client, self.session.lease_id
        free = [version(self._claim) == 0, create_revision(self._todo) == self._created]
        make = put(self._claim, self._mark, lease=lease)
        try:  # may be repeated: our mark is there then
            done = await steadily(lambda: client.txn(free, [make], [get(self._claim)]))
        except LEASE_NOT_FOUND:
            raise SessionExpired("the session has ended") from None
        if done.succeeded:
            self._claimed = done.header.revision
            return True
        found = done.results[0]
        assert isinstance(found, RangeResult), "a range answers a range"
        if found.kvs and found.kvs[0].value == self._mark:
            self._claimed = found.kvs[0].create_revision
        return bool(self._claimed)

    async def _release(self) -> None:
        self._claimed = 0
        ours = value(self._claim) == self._mark
        await steadily(lambda: self.session.client.txn([ours], [delete(self._claim)]))
