"""Notify and wait: tell all who are interested that something has happened."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from corum.client.errors import Canceled, Compacted
from corum.client.requests import to_bytes
from corum.recipes.deadline import Deadline
from corum.values import value

if TYPE_CHECKING:
    from corum.client._async.client import AsyncClient
    from corum.client.requests import Bytes


@value
class Notice:
    """What was told, and when: wait for what is `after` it to miss nothing."""

    content: bytes
    revision: int


class AsyncSignal:
    """One key whose changes are the notices; all who wait get each of them.

    Guarantees: `wait(after)` gives the first notice after a revision, also if it came before the
    call; so a waiter that passes on the revision of its last notice sees all of them, in order,
    over restarts of its own and broken connections. When it was away so long that notices have
    been compacted away, Compacted is raised. Nobody knows who has heard a notice.
    """

    def __init__(self, client: AsyncClient, name: Bytes) -> None:
        self.client = client
        self._key = to_bytes(name)

    async def notify(self, content: Bytes = b"") -> int:
        """Tell all; the revision of the notice."""
        return (await self.client.put(self._key, content)).header.revision

    async def last(self) -> Notice:
        """The last notice; with revision 0 if there was none yet."""
        found = await self.client.get(self._key)
        return Notice(found.value, found.mod_revision) if found else Notice(b"", 0)

    async def wait(self, after: int | None = None, timeout_s: float | None = None) -> Notice:
        """The first notice after a revision; None: from now on. Raises TimeoutError, Compacted."""
        deadline = Deadline(timeout_s)
        if after is None:
            after = (await self.client.range(self._key)).header.revision
        while True:
            watch = self.client.watch(self._key, revision=after + 1, deletes=False)
            try:
                async with aclosing(watch):
                    events = await watch.receive(deadline.left_s())
            except Compacted:
                found = await self.client.range(self._key)
                kv = found.kvs[0] if found.kvs else None
                if kv is None or kv.mod_revision <= after:  # nothing was missed
                    after = found.header.revision
                    continue
                if kv.version > 1:
                    raise
                return Notice(kv.value, kv.mod_revision)  # the only one there ever was
            if not events:
                raise Canceled("the client was closed")
            return Notice(events[0].value, events[0].kv.mod_revision)
