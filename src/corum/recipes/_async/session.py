"""A session: a lease that is kept alive, and the keys that live no longer than it.

Every recipe whose holder may die stands on one: when the process ends, hangs for longer than the
TTL or is cut off from the cluster, the server deletes the session's keys and others go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

from corum.client.errors import ClientError, DeadlineExceeded, Unavailable
from corum.recipes._async.runtime import Background, Bell, Guard, sleep, to_the_end
from corum.recipes.deadline import Deadline
from corum.recipes.errors import SessionExpired

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, TypeVar

    from corum.client._async.client import AsyncClient, AsyncWatch
    from corum.client._async.leases import AsyncLease
    from corum.client.requests import Bytes
    from corum.client.results import Event

    T = TypeVar("T")

TTL_S = 60
"""As in Go's clientv3/concurrency."""
REPEAT_TIMES_MAX = 20
REPEAT_WAIT_S = 0.1
SWEEP_WAIT_S = 0.5


class AsyncSession:
    """A lease and what hangs on it. Use it as a context manager, or `open` and `aclose` it.

    Guarantees: as long as `lost` is false the lease was alive when it was last renewed, and it is
    alive for what is left of its TTL by this machine's clock (it counts from when the renewal was
    *sent*, so it errs on the safe side). When it ends, all its keys go in one change.
    Does not guarantee that this process notices before others do: it may be paused by its machine
    right after looking at `lost`. What must not happen twice therefore has to be guarded where it
    happens, by the condition or the fencing token that the recipes give.

    One session may be shared by all threads (tasks) and recipes of a program.
    """

    def __init__(self, client: AsyncClient, ttl_s: int = TTL_S) -> None:
        """ttl_s: how long others wait when this process dies. The lease is granted by `open`."""
        self.client = client
        self._ttl_s = ttl_s
        self._lease: AsyncLease | None = None
        self._ended = False
        self._end = Bell()
        self._guard = Guard()
        self._watches: WeakSet[AsyncWatch] = WeakSet()
        self._numbers: dict[bytes, set[int]] = {}
        self._leftovers: list[tuple[bytes, bytes]] = []
        self._sweeper: Background | None = None

    async def open(self) -> AsyncSession:
        """Grant the lease and keep it alive from now on."""
        assert self._lease is None, "opened twice"
        try:
            await to_the_end(self._grant)
        except BaseException:
            await to_the_end(self.aclose)
            raise
        return self

    async def __aenter__(self) -> AsyncSession:
        return await self.open() if self._lease is None else self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.aclose()
        except (Unavailable, DeadlineExceeded):
            pass  # nobody answers; the lease runs out by itself

    @property
    def lease_id(self) -> int:
        """Of the lease; for keys of your own that shall go with the session."""
        return self._granted().lease_id

    @property
    def ttl_s(self) -> int:
        return self._granted().ttl_s

    @property
    def lost(self) -> bool:
        """Whether the lease is gone, or must be taken to be, or the session was closed."""
        return self._ended or self._granted().lost

    async def wait_lost(self, timeout_s: float | None = None) -> None:
        """Return when the session has ended. Raises TimeoutError."""
        while not self._ended:
            await self._end.wait(0, timeout_s)

    async def aclose(self) -> None:
        """Revoke the lease: all keys of the session vanish now. Idempotent."""
        if self._lease is not None:
            await self._over()
            await self._lease.revoke()
            await self._stop_sweeping()

    async def orphan(self) -> None:
        """Stop renewing but leave the lease: its keys stay until the TTL has passed."""
        await self._over()
        await self._granted().release()
        await self._stop_sweeping()

    async def _grant(self) -> None:
        self._lease = await self.client.lease(self._ttl_s)
        self._lease.keep_alive(self._over)

    def _granted(self) -> AsyncLease:
        if self._lease is None:
            raise SessionExpired("the session has not been opened")
        return self._lease

    async def _over(self) -> None:
        """The end, however it came: wake who waits."""
        with self._guard:
            self._ended = True
            watches = list(self._watches)
        self._end.ring()
        for watch in watches:
            await watch.aclose()

    async def _stop_sweeping(self) -> None:
        sweeper = self._sweeper
        if sweeper is not None:
            await sweeper.aclose()

    # For recipes -----------------------------------------------------------------------------

    def check(self) -> None:
        """Raises SessionExpired."""
        if self.lost:
            raise SessionExpired("the session has ended")

    async def watch(self, key: Bytes, **options: Any) -> AsyncWatch:
        """A watch that is closed when the session ends; read it with `events_of`."""
        watch = self.client.watch(key, **options)
        with self._guard:
            self._watches.add(watch)
            ended = self._ended
        if ended:
            await watch.aclose()
        return watch

    async def events_of(self, watch: AsyncWatch, deadline: Deadline) -> tuple[Event, ...]:
        """The next ones. Raises TimeoutError, SessionExpired, Compacted."""
        events = await watch.receive(deadline.left_s())
        if not events:
            raise SessionExpired("the session has ended")
        return events

    def reserve(self, prefix: bytes) -> bytes:
        """A key `<prefix><lease id in hex>` that no other thread of this session uses.

        The first one is what Go's recipes call it, so that both agree; while that is in use, the
        next ones have a number behind it. Give it back with `withdraw`.
        """
        with self._guard:
            taken = self._numbers.setdefault(prefix, set())
            number = next(n for n in range(len(taken) + 1) if n not in taken)
            taken.add(number)
        return b"%b%x%b" % (prefix, self.lease_id, b".%d" % number if number else b"")

    async def withdraw(self, prefix: bytes, key: bytes) -> None:
        """Delete a reserved key, now or, if the cluster does not answer, as soon as it does."""
        if not self.lost:
            try:
                await steadily(lambda: self.client.delete(key))
            except ClientError:
                with self._guard:
                    self._leftovers.append((prefix, key))
                    if self._sweeper is None:
                        self._sweeper = Background(self._sweep)
                return
        self._free(prefix, key)

    def _free(self, prefix: bytes, key: bytes) -> None:
        number = int(key.removeprefix(prefix).partition(b".")[2] or 0)
        with self._guard:
            taken = self._numbers[prefix]
            taken.discard(number)
            if not taken:
                del self._numbers[prefix]

    async def _sweep(self) -> None:
        """Delete what could not be deleted when it should have been."""
        while not self.lost:
            with self._guard:
                leftover = self._leftovers[-1] if self._leftovers else None
                if leftover is None:
                    self._sweeper = None
                    return
            try:
                await self.client.delete(leftover[1])
            except ClientError:
                try:
                    await self._end.wait(0, SWEEP_WAIT_S)
                except TimeoutError:
                    pass
                continue
            with self._guard:
                self._leftovers.remove(leftover)
            self._free(*leftover)


async def steadily(work: Callable[[], Awaitable[T]]) -> T:
    """`work`, again when a member could not serve it; only for what may happen twice."""
    for _ in range(REPEAT_TIMES_MAX):
        try:
            return await work()
        except Unavailable:
            await sleep(REPEAT_WAIT_S)
    return await work()
