"""Locks: mutex, read/write lock, semaphore. Waiters are served in the order of their arrival.

Common guarantees: while a lock is held and its session lives, nobody whom it excludes holds it,
in any process, thread or task, be it Python or, for mutex and read/write lock, Go's clientv3 on
the same name. A holder that dies is out after its session's TTL. An `acquire` that fails, times
out or is cancelled leaves no place behind.

What no such lock can guarantee: that a holder notices in time that its session has ended. It may be
stopped (garbage collection, a suspended machine) between looking at `held` and acting, while the
next one already holds. Therefore:

- changes in etcd itself go into a transaction with `condition()`: it fails when the lock is lost;
- changes elsewhere carry the fencing token that `acquire` gives: it grows with every holder, and
  whoever keeps the resource refuses tokens smaller than the largest it has seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.client.requests import to_bytes
from corum.recipes._async.line import AsyncLine
from corum.recipes._async.runtime import Guard, me
from corum.recipes.deadline import Deadline
from corum.recipes.errors import NotHeld

if TYPE_CHECKING:
    from corum.client.requests import Bytes, Condition
    from corum.recipes._async.line import Place
    from corum.recipes._async.session import AsyncSession


class AsyncLock:
    """The common machine; make an AsyncMutex, AsyncSemaphore or AsyncReadWriteLock.

    May be shared by threads (tasks): each `acquire` stands in line for itself, and as with
    `threading.Lock` whoever likes may release. Use it as a context manager.
    """

    def __init__(self, session: AsyncSession, own: bytes, ahead: bytes, limit: int = 1) -> None:
        self.session = session
        self._line = AsyncLine(session, own, ahead, limit)
        self._guard = Guard()
        self._places: dict[int, Place] = {}  # by token, the latest last
        self._entered: dict[int, list[int]] = {}  # tokens of `with` blocks, by thread or task

    async def acquire(self, timeout_s: float | None = None) -> int:
        """Wait until it is held; the fencing token, larger than that of every holder before.

        Raises TimeoutError after `timeout_s` seconds of waiting, SessionExpired, ClientError.
        """
        return self._hold(await self._line.enter(b"", Deadline(timeout_s)))

    async def try_acquire(self) -> int | None:
        """The fencing token if it can be held at once, else None."""
        place = await self._line.try_enter(b"")
        return None if place is None else self._hold(place)

    async def release(self, token: int | None = None) -> None:
        """Let the next one in. Raises NotHeld.

        token: which of several holds of this object; None: the latest.
        When the cluster does not answer, the session goes on trying in the background.
        """
        with self._guard:
            place = self._places.pop(self._latest() if token is None else token, None)
        if place is None:
            raise NotHeld("released without being held")
        await self._line.leave(place)

    @property
    def held(self) -> bool:
        """Whether this object holds, as far as this process can know."""
        return bool(self._places) and not self.session.lost

    def condition(self, token: int | None = None) -> Condition:
        """For transactions: the lock is still held (token as of `release`). Raises NotHeld."""
        with self._guard:
            place = self._places.get(self._latest() if token is None else token)
        if place is None:
            raise NotHeld("not held")
        return place.condition()

    async def __aenter__(self) -> int:
        token = await self.acquire()
        with self._guard:
            self._entered.setdefault(me(), []).append(token)
        return token

    async def __aexit__(self, *_: object) -> None:
        with self._guard:
            tokens = self._entered[me()]
            token = tokens.pop()
            if not tokens:
                del self._entered[me()]
        await self.release(token)

    def _hold(self, place: Place) -> int:
        with self._guard:
            self._places[place.revision] = place
        return place.revision

    def _latest(self) -> int:
        return next(reversed(self._places), 0)


class AsyncMutex(AsyncLock):
    """One holder at a time; first come, first served.

    Guarantees: while it is held and the session lives nobody else holds it. Does not guarantee
    that a holder whose session has ended notices at once: use `condition()` or the fencing token.
    Keys are `<name>/<lease id in hex>`, as of Go's `concurrency.Mutex`, `etcdctl lock` and the
    Lock service, which it excludes and which exclude it. Names below `<name>/` belong to it.
    Not reentrant: a second `acquire` waits, in the same thread too.
    """

    def __init__(self, session: AsyncSession, name: Bytes) -> None:
        prefix = to_bytes(name) + b"/"
        super().__init__(session, prefix, prefix)


class AsyncSemaphore(AsyncLock):
    """At most `limit` holders at a time; first come, first served.

    Guarantees: of places whose session lives never more than `limit` are held. What `AsyncMutex`
    does not guarantee is not guaranteed here either.
    All must give the same `limit`: each judges for itself whether it is among the first. There is
    no such recipe in Go; keys are `<name>/<lease id in hex>` with a number for further places.
    Every release is seen by every waiter.
    """

    def __init__(self, session: AsyncSession, name: Bytes, limit: int) -> None:
        prefix = to_bytes(name) + b"/"
        super().__init__(session, prefix, prefix, limit)


class AsyncReadWriteLock:
    """Many readers or one writer; a waiting writer keeps later readers out, so nobody starves.

    Guarantees: while a writer holds and its session lives nobody else does, while a reader does no
    writer. What `AsyncMutex` does not guarantee is not guaranteed here either.
    `reader` and `writer` are locks of their own kind. Keys are `<name>/read/...` and
    `<name>/write/...`, as of Go's recipes.RWMutex, with which it is compatible.
    A reader that wants to write must release first, else it waits for itself.
    """

    def __init__(self, session: AsyncSession, name: Bytes) -> None:
        prefix = to_bytes(name) + b"/"
        self.reader = AsyncLock(session, prefix + b"read/", prefix + b"write/")
        self.writer = AsyncLock(session, prefix + b"write/", prefix)
