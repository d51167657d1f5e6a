"""A cached prefix: a range of keys in this process's memory, kept current by a watch."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

from corum.client.errors import Compacted, DeadlineExceeded, Unavailable
from corum.client.requests import key_range, to_bytes
from corum.recipes._async.runtime import Background, Bell, Guard, sleep
from corum.recipes.deadline import Deadline
from corum.recipes.errors import RecipeError
from corum.recipes.range_state import Change, RangeState, Unseen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corum.client._async.client import AsyncClient, AsyncWatch
    from corum.client.requests import Bytes
    from corum.client.results import KeyValue

T = TypeVar("T")
PAGE_KEYS = 1_000
RETRY_S = 0.2


class AsyncMirror:
    """All keys below a prefix, readable without asking the cluster. Use it as a context manager.

    Guarantees: the state is one that the cluster had at `revision`, never a part of a transaction,
    never older than what was seen before, over broken connections and compactions as well.
    Does not guarantee that it is the newest state: it lags behind by a message, or for as long as
    the cluster cannot be reached. `wait_revision` waits for what a write of one's own has made.
    """

    def __init__(self, client: AsyncClient, prefix: Bytes) -> None:
        self.client = client
        self.prefix = to_bytes(prefix)
        self._state = RangeState()
        self._guard = Guard()
        self._bell = Bell()
        self._readers: WeakSet[AsyncChanges] = WeakSet()
        self._watch: AsyncWatch | None = None
        self._background: Background | None = None
        self._closed = False
        self._failure: Exception | None = None

    async def open(self) -> AsyncMirror:
        """Read the range and follow it from now on."""
        assert self._background is None, "opened twice"
        await self._load()
        self._background = Background(self._follow)
        return self

    async def __aenter__(self) -> AsyncMirror:
        return await self.open() if self._background is None else self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop following; the last state can still be read."""
        with self._guard:
            self._closed = True
            watch = self._watch
        if watch is not None:
            await watch.aclose()
        if self._background is not None:
            await self._background.aclose()
        self._bell.ring()

    # The state -------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """Of the state; revisions that did not touch the range are not counted."""
        return self._state.revision

    def get(self, key: Bytes) -> KeyValue | None:
        return self._state.kvs.get(to_bytes(key))

    def __len__(self) -> int:
        return len(self._state.kvs)

    def __contains__(self, key: Bytes) -> bool:
        return to_bytes(key) in self._state.kvs

    def snapshot(self) -> dict[bytes, KeyValue]:
        """A copy of the whole state, of one revision."""
        with self._guard:
            return dict(self._state.kvs)

    def look(self, at: Callable[[Mapping[bytes, KeyValue]], T]) -> T:
        """What `at` finds in the present state; it must be quick and not wait."""
        with self._guard:
            return at(self._state.kvs)

    async def wait_for(
        self, look: Callable[[Mapping[bytes, KeyValue]], T | None], timeout_s: float | None = None
    ) -> T:
        """The first true thing that `look` finds in a state. Raises TimeoutError.

        `look` is called for the present state and after changes; it must be quick and not wait.
        """
        deadline = Deadline(timeout_s)
        while True:
            rings = self._bell.rings
            found = self.look(look)
            if found:
                return found
            self._check()
            await self._bell.wait(rings, deadline.left_s())

    async def wait_revision(self, revision: int, timeout_s: float | None = None) -> None:
        """Until a write that gave `revision` and touched the range is in the state."""
        await self.wait_for(lambda _: self._state.revision >= revision, timeout_s)

    def changes(self) -> AsyncChanges:
        """What changes from now on; see `AsyncChanges`."""
        reader = AsyncChanges(self)
        with self._guard:
            self._readers.add(reader)
        return reader

    # Following -------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise RecipeError("the mirror has been closed")

    async def _follow(self) -> None:
        try:
            while not self._closed:
                try:
                    await self._follow_on()
                except Compacted:
                    await self._load_steadily()
        except Exception as error:  # whatever it is, it is for those who wait
            self._failure = error
            self._bell.ring()

    async def _follow_on(self) -> None:
        """Apply what the watch tells until it ends."""
        watch = self.client.watch(self.prefix, prefix=True, revision=self._state.revision + 1)
        with self._guard:
            self._watch = watch
            closed = self._closed
        if closed:
            await watch.aclose()
        async with aclosing(watch):
            while events := await watch.receive():
                with self._guard:
                    self._tell(self._state.apply(events))
                self._bell.ring()

    async def _load_steadily(self) -> None:
        """Until the cluster answers."""
        while not self._closed:
            try:
                await self._load()
            except (Unavailable, DeadlineExceeded):
                await sleep(RETRY_S)
            else:
                return

    async def _load(self) -> None:
        """The range as of one revision, in pages."""
        begin, end = key_range(self.prefix, None, prefix=True)
        while True:
            try:
                page = await self.client.range(begin, end, limit=PAGE_KEYS)
                kvs, revision = list(page.kvs), page.header.revision
                while page.more:
                    after = kvs[-1].key + b"\0"
                    page = await self.client.range(after, end, limit=PAGE_KEYS, revision=revision)
                    kvs += page.kvs
            except Compacted:
                continue  # between two pages
            break
        with self._guard:
            self._tell(self._state.load(kvs, revision))
        self._bell.ring()

    def _tell(self, changes: list[Change]) -> None:
        for reader in self._readers:
            reader.unseen.add(changes)


class AsyncChanges:
    """An iterator of a mirror's changes, for ever; ends when the mirror is closed.

    A reader that is slow sees per key only what it was and what it is; so nothing piles up.
    """

    def __init__(self, mirror: AsyncMirror) -> None:
        self._mirror = mirror
        self._taken: list[Change] = []
        self.unseen = Unseen()

    def __aiter__(self) -> AsyncChanges:
        return self

    async def __anext__(self) -> Change:
        if not self._taken:
            try:
                self._taken = await self.receive()
            except RecipeError:
                raise StopAsyncIteration from None
            self._taken.reverse()
        return self._taken.pop()

    async def receive(self, timeout_s: float | None = None) -> list[Change]:
        """All changes not yet seen, at least one. Raises TimeoutError, RecipeError when closed."""
        mirror = self._mirror
        return await mirror.wait_for(lambda _: self.unseen.take(), timeout_s)
