"""Queues for any number of producers and consumers, in any process.

Common guarantees: an item is given to one consumer, once, in order; it is stored like any other key
and outlives its producer. An item belongs to its consumer from then on: if that dies before it is
done with it, the item is gone (at most once). For work that must be done, see `tasks`.
When the answer to a `put` or `get` is lost (Unavailable, DeadlineExceeded), the item may have been
put, or may be gone; neither is repeated. A `get` that is cancelled takes nothing, but may move an
item to the end of an AsyncQueue. Keys are as of Go's recipes.Queue and PriorityQueue.
"""

from __future__ import annotations

from collections import deque
from time import time_ns
from typing import TYPE_CHECKING

from corum.client.requests import delete, get, mod_revision, put, to_bytes, version
from corum.client.results import RangeResult
from corum.recipes._async.runtime import Guard, to_the_end
from corum.recipes._async.waiting import wait_change
from corum.recipes.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from corum.client._async.client import AsyncClient
    from corum.client.requests import Bytes
    from corum.client.results import KeyValue

AHEAD_KEYS = 32  # oldest items read at once
PRIORITY_MAX = 65_535


class _Takable:
    """What queues have in common: items below a prefix, of which one is due."""

    def __init__(self, client: AsyncClient, name: Bytes) -> None:
        self.client = client
        self._prefix = to_bytes(name) + b"/"

    async def get(self, timeout_s: float | None = None) -> bytes:
        """Take the item that is due, waiting for one. Raises TimeoutError."""
        deadline = Deadline(timeout_s)
        while True:
            item, revision = await self._take()
            if item is not None:
                return item
            await wait_change(
                self.client, self._prefix, revision, deadline, prefix=True, deletes=False
            )

    async def try_get(self) -> bytes | None:
        """Take the item that is due; None when there is none."""
        return (await self._take())[0]

    async def size(self) -> int:
        """How many items there are now."""
        return (await _count(self.client, self._prefix))[0]

    async def wait_size(self, fits: Callable[[int], bool], timeout_s: float | None = None) -> int:
        """The first size from now on that `fits`; see `wait_size` of this module."""
        return await wait_size(self.client, self._prefix, fits, timeout_s)

    async def _take(self) -> tuple[bytes | None, int]:
        """The item, or None and the revision at which there was none."""
        raise NotImplementedError


class AsyncQueue(_Takable):
    """First in, first out, by the order in which the cluster took the items.

    Guarantees: an item is given to one consumer, at most once, and outlives its producer. What a
    consumer had taken when it died is gone.
    Keys are `<name>/<nanoseconds>`; the order is that of their revisions, so clocks do not matter.
    (Go's Queue takes all keys that begin with its name, those of `<name>2/` too.)
    """

    def __init__(self, client: AsyncClient, name: Bytes) -> None:
        super().__init__(client, name)
        self._guard = Guard()
        # Items seen at the front. They stay in front: whatever comes later has a larger revision.
        self._ahead: deque[KeyValue] = deque()

    async def put(self, item: Bytes) -> int:
        """Append; the revision of the item."""
        while True:
            key = self._prefix + str(time_ns()).encode()
            done = await self.client.txn([version(key) == 0], [put(key, item)])
            if done.succeeded:
                return done.header.revision

    async def peek(self) -> bytes | None:
        """The oldest item, left where it is."""
        found = await self._first(1)
        return found.kvs[0].value if found.kvs else None

    async def _take(self) -> tuple[bytes | None, int]:
        while True:
            with self._guard:
                found = self._ahead.popleft() if self._ahead else None
            if found is None:
                front = await self._first(AHEAD_KEYS)
                if not front.kvs:
                    return None, front.header.revision
                with self._guard:
                    self._ahead = deque(front.kvs)
            elif await self._claim(found):
                return found.value, 0

    async def _claim(self, found: KeyValue) -> bool:
        try:
            return await claim(self.client, found)
        except BaseException:
            with self._guard:
                self._ahead.clear()  # it may still be in front
            raise

    async def _first(self, limit: int) -> RangeResult:
        return await self.client.range(
            self._prefix, prefix=True, limit=limit, order="ascend", sort_by="mod"
        )


class AsyncPriorityQueue(_Takable):
    """The smallest priority first, of equals the oldest.

    Guarantees: an item is given to one consumer, at most once, and outlives its producer. What a
    consumer had taken when it died is gone.
    Keys are `<name>/<priority, 5 digits>/<number, 16 digits>`; the numbers are given under a key
    `__<name>/<priority>` that stays, so that they do not begin anew while somebody is putting.
    """

    async def put(self, item: Bytes, priority: int = 0) -> int:
        """Add, behind those of the same priority (0 to 65,535); the revision of the item."""
        if not 0 <= priority <= PRIORITY_MAX:
            raise ValueError(f"priority {priority} is not in 0..{PRIORITY_MAX}")
        rank = self._prefix + b"%05d" % priority
        base = b"__" + rank
        while True:
            last = await self.client.range(
                rank + b"/", prefix=True, limit=1, order="descend", keys_only=True
            )
            number = int(last.kvs[0].key.rpartition(b"/")[2]) + 1 if last.kvs else 0
            key = b"%b/%016d" % (rank, number)
            unmoved = mod_revision(base) < last.header.revision + 1
            done = await self.client.txn([unmoved], [put(base), put(key, item)])
            if done.succeeded:
                return done.header.revision

    async def _take(self) -> tuple[bytes | None, int]:
        while True:
            found = await self.client.range(self._prefix, prefix=True, limit=1)
            if not found.kvs:
                return None, found.header.revision
            if await claim(self.client, found.kvs[0]):
                return found.kvs[0].value, 0


async def claim(client: AsyncClient, found: KeyValue) -> bool:
    """Take an item that was seen; False when another consumer was faster.

    Cancelled after the item was taken, it puts the item back under its key.
    """
    taken = False

    async def take() -> None:
        nonlocal taken
        unmoved = mod_revision(found.key) == found.mod_revision
        taken = (await client.txn([unmoved], [delete(found.key)])).succeeded

    try:
        await to_the_end(take)
    except BaseException:
        if taken:
            await to_the_end(client.put, found.key, found.value)
        raise
    return taken


async def wait_size(
    client: AsyncClient, prefix: bytes, fits: Callable[[int], bool], timeout_s: float | None = None
) -> int:
    """The first number of keys below `prefix`, from now on, that `fits`. Raises TimeoutError.

    Sizes are seen as of whole revisions, one after another; by the time this returns the size may
    be another one.
    """
    deadline = Deadline(timeout_s)
    while True:
        size, revision = await _count(client, prefix)
        while not fits(size):
            events = await wait_change(client, prefix, revision, deadline, prefix=True)
            if not events:
                break  # compacted: count anew
            for event in events:
                created = not event.deleted and event.kv.version == 1
                size += created - event.deleted
            revision = events[-1].kv.mod_revision
        else:
            return size


async def _count(client: AsyncClient, prefix: bytes) -> tuple[int, int]:
    """How many keys are below `prefix`, and at which revision."""
    done = await client.txn([], [get(prefix, prefix=True, count_only=True)])
    found = done.results[0]
    assert isinstance(found, RangeResult), "a range answers a range"
    return found.count, done.header.revision
