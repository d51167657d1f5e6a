"""Leader election: campaign, proclaim, resign; and observing, for which no session is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.client.errors import Compacted
from corum.client.requests import put, to_bytes
from corum.recipes._async.line import AsyncLine
from corum.recipes._async.runtime import Guard
from corum.recipes._async.session import steadily
from corum.recipes.deadline import Deadline
from corum.recipes.errors import NotHeld

if TYPE_CHECKING:
    from corum.client._async.client import AsyncClient, AsyncWatch
    from corum.client.requests import Bytes, Condition
    from corum.client.results import KeyValue
    from corum.recipes._async.line import Place
    from corum.recipes._async.session import AsyncSession


class AsyncElection:
    """One leader among those who campaign for a name; when it goes, the longest waiting follows.

    Guarantees: of all whose session lives at most one leads. `condition()` in a transaction makes
    what a leader writes to etcd impossible after its time; `campaign` gives a fencing token for
    everything else. Does not guarantee that a leader whose session has ended knows it at once (see
    `AsyncSession`), nor that there is a leader at all times.

    Keys are `<name>/<lease id in hex>` with the proclaimed value, as of Go's
    `concurrency.Election`, `etcdctl elect` and the Election service, which may take part.
    """

    def __init__(self, session: AsyncSession, name: Bytes) -> None:
        self.session = session
        prefix = to_bytes(name) + b"/"
        self.observer = AsyncObserver(session.client, name)
        self._line = AsyncLine(session, prefix, prefix)
        self._guard = Guard()
        self._place: Place | None = None

    async def campaign(self, value: Bytes, timeout_s: float | None = None) -> int:
        """Wait to be elected, with `value` for all to see; the fencing token.

        Raises TimeoutError, SessionExpired, ClientError; then the candidacy is withdrawn.
        Whoever campaigns on an election that leads already waits behind itself.
        """
        place = await self._line.enter(to_bytes(value), Deadline(timeout_s))
        with self._guard:
            self._place = place
        return place.revision

    async def proclaim(self, value: Bytes) -> None:
        """Show another value, without a new election. Raises NotHeld when not the leader."""
        place = self._elected()
        change = put(place.key, value, lease=self.session.lease_id)
        if not await steadily(lambda: self.session.client.txn([place.condition()], [change])):
            raise NotHeld("not the leader any more")

    async def resign(self) -> None:
        """Let another one lead. Nothing happens to who does not lead."""
        with self._guard:
            place, self._place = self._place, None
        if place is not None:
            await self._line.leave(place)

    @property
    def is_leader(self) -> bool:
        """Whether this object leads, as far as this process can know."""
        return self._place is not None and not self.session.lost

    def condition(self) -> Condition:
        """For transactions: still the leader. Raises NotHeld when never elected."""
        return self._elected().condition()

    async def leader(self) -> KeyValue | None:
        """See `AsyncObserver`."""
        return await self.observer.leader()

    def observe(self) -> AsyncLeaders:
        """See `AsyncObserver`."""
        return self.observer.observe()

    def _elected(self) -> Place:
        place = self._place
        if place is None:
            raise NotHeld("not the leader")
        return place


class AsyncObserver:
    """Who leads, for those who do not want to.

    Guarantees: who is told led when the cluster was asked; they may have gone since.
    """

    def __init__(self, client: AsyncClient, name: Bytes) -> None:
        self.client = client
        self._prefix = to_bytes(name) + b"/"

    async def leader(self) -> KeyValue | None:
        """The leader's key and value, None when there is none; linearizable."""
        found = await self.client.range(
            self._prefix, prefix=True, limit=1, order="ascend", sort_by="create"
        )
        return found.kvs[0] if found.kvs else None

    def observe(self) -> AsyncLeaders:
        """The leaders from now on, the present one first; see `AsyncLeaders`."""
        return AsyncLeaders(self.client, self._prefix)


class AsyncLeaders:
    """An iterator of leaders: a new one, or a new value of the same one (see `create_revision`).

    Every value of a leader that is seen is handed out, in order; a leader that resigned before it
    was seen is not. Close it, from another thread too, or use it as a context manager.
    """

    def __init__(self, client: AsyncClient, prefix: bytes) -> None:
        self._client = client
        self._prefix = prefix
        self._guard = Guard()
        self._watch: AsyncWatch | None = None
        self._of_leader = False
        self._closed = False
        self._told: list[KeyValue] = []
        self._last: KeyValue | None = None

    async def __aenter__(self) -> AsyncLeaders:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncLeaders:
        return self

    async def __anext__(self) -> KeyValue:
        found = await self.receive()
        if found is None:
            raise StopAsyncIteration
        return found

    async def receive(self, timeout_s: float | None = None) -> KeyValue | None:
        """The next one; None when closed. Raises TimeoutError, and can then be called again."""
        deadline = Deadline(timeout_s)
        while not self._told and not self._closed:
            if self._watch is None:
                await self._look()
                continue
            try:
                events = await self._watch.receive(deadline.left_s())
            except Compacted:
                await self._leave()
                continue
            for event in events:
                if not self._of_leader or event.deleted:
                    await self._leave()  # somebody came, or the leader went: look who leads
                    break
                self._told.insert(0, event.kv)
        if not self._told:
            return None
        self._last = self._told.pop()
        return self._last

    async def aclose(self) -> None:
        with self._guard:
            self._closed = True
            watch = self._watch
        if watch is not None:
            await watch.aclose()

    async def _leave(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.aclose()

    async def _look(self) -> None:
        """See who leads and watch that key; watch all keys when nobody does."""
        found = await self._client.range(
            self._prefix, prefix=True, limit=1, order="ascend", sort_by="create"
        )
        self._of_leader = bool(found.kvs)
        self._told = [kv for kv in found.kvs if kv != self._last]
        key = found.kvs[0].key if found.kvs else self._prefix
        watch = self._client.watch(key, prefix=not found.kvs, revision=found.header.revision + 1)
        with self._guard:
            self._watch = watch
            closed = self._closed
        if closed:
            await watch.aclose()
