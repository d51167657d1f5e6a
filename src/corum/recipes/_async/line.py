"""Standing in line below a prefix: what locks, semaphores and elections have in common.

Who wants something puts a key of its session below a prefix. The store's revisions order the keys:
a smaller create revision is nearer to the front. Who waits looks at what is older than its own key.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from corum.client.errors import Compacted
from corum.client.requests import create_revision, get, put
from corum.client.results import RangeResult
from corum.errors import LEASE_NOT_FOUND
from corum.recipes._async.runtime import to_the_end
from corum.recipes._async.session import steadily
from corum.recipes.errors import SessionExpired
from corum.values import value

if TYPE_CHECKING:
    from corum.client.requests import Condition
    from corum.client.results import KeyValue
    from corum.recipes._async.session import AsyncSession
    from corum.recipes.deadline import Deadline


@value
class Place:
    """One's own key, and the revision that made it: larger than that of everybody before."""

    key: bytes
    revision: int

    def condition(self) -> Condition:
        """For a transaction: the place is still ours."""
        return create_revision(self.key) == self.revision


class AsyncLine:
    """Places below the prefix `own`; one's turn is when fewer than `limit` of `ahead` are older.

    Invariant: `enter` either gives a place or leaves no key behind, whatever ends it.
    """

    def __init__(self, session: AsyncSession, own: bytes, ahead: bytes, limit: int = 1) -> None:
        assert limit > 0, f"room for {limit}"
        self._session = session
        self._own = own
        self._ahead = ahead
        self._limit = limit

    async def enter(self, content: bytes, deadline: Deadline) -> Place:
        """Wait for one's turn. Raises TimeoutError, SessionExpired, ClientError."""
        self._session.check()
        key = self._session.reserve(self._own)
        try:
            place, is_first = await to_the_end(self._put, key, content)
            if not is_first:
                await self._wait(place, deadline)
        except BaseException:
            await to_the_end(self._session.withdraw, self._own, key)
            raise
        return place

    async def try_enter(self, content: bytes) -> Place | None:
        """A place if it is one's turn at once."""
        self._session.check()
        key = self._session.reserve(self._own)
        try:
            place, is_first = await to_the_end(self._put, key, content)
            if not is_first:
                older, _ = await self._look(place)
                is_first = len(older) < self._limit
        except BaseException:
            await to_the_end(self._session.withdraw, self._own, key)
            raise
        if is_first:
            return place
        await self.leave(place)
        return None

    async def leave(self, place: Place) -> None:
        """Give the place up, also when the caller is being cancelled."""
        await to_the_end(self._session.withdraw, self._own, place.key)

    async def _put(self, key: bytes, content: bytes) -> tuple[Place, bool]:
        """Make the key; whether it is one's turn already.

        Repeating it is safe: the second time the key is there, with its first revision.
        """
        client, lease = self._session.client, self._session.lease_id
        look = get(self._ahead, prefix=True, count_only=True)
        make = put(key, content, lease=lease)
        try:
            done = await steadily(
                lambda: client.txn([create_revision(key) == 0], [look, make], [get(key)])
            )
        except LEASE_NOT_FOUND:
            raise SessionExpired("the session has ended") from None
        found = done.results[0]
        assert isinstance(found, RangeResult), "a range comes first in both branches"
        if done.succeeded:
            return Place(key, done.header.revision), found.count < self._limit
        return Place(key, found.kvs[0].create_revision), False

    async def _look(self, place: Place) -> tuple[tuple[KeyValue, ...], int]:
        """The keys of `ahead` older than ours, newest first, and the revision seen.

        All of them if more than one may hold, else at most one.
        """
        older = get(
            self._ahead,
            prefix=True,
            keys_only=True,
            limit=1 if self._limit == 1 else 0,
            order="descend",
            sort_by="create",
            max_create_revision=place.revision - 1,
        )
        done = await steadily(lambda: self._session.client.txn([place.condition()], [older], []))
        if not done.succeeded:
            raise SessionExpired("the key of the session is gone")
        found = done.results[0]
        assert isinstance(found, RangeResult), "a range answers a range"
        return found.kvs, done.header.revision

    async def _wait(self, place: Place, deadline: Deadline) -> None:
        while True:
            older, revision = await self._look(place)
            if len(older) < self._limit:
                return
            try:
                if self._limit == 1:
                    await self._wait_deleted(older[0].key, revision, deadline)
                else:
                    await self._wait_room({kv.key for kv in older}, revision, deadline)
            except Compacted:
                pass  # history is gone; look again

    async def _wait_deleted(self, key: bytes, revision: int, deadline: Deadline) -> None:
        """Only the next one ahead is watched, so one release wakes one waiter."""
        watch = await self._session.watch(key, revision=revision + 1, puts=False)
        async with aclosing(watch):
            await self._session.events_of(watch, deadline)

    async def _wait_room(self, older: set[bytes], revision: int, deadline: Deadline) -> None:
        """Any of them may go, so all are watched; what follows is counted without asking again."""
        watch = await self._session.watch(
            self._ahead, prefix=True, revision=revision + 1, puts=False
        )
        async with aclosing(watch):
            while len(older) >= self._limit:
                events = await self._session.events_of(watch, deadline)
                older.difference_update(event.key for event in events)
