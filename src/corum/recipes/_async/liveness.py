"""Which machines (or processes, or workers) are alive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from corum.client.requests import to_bytes
from corum.recipes._async.mirror import AsyncMirror
from corum.recipes._async.presence import AsyncPresence
from corum.values import value

if TYPE_CHECKING:
    from collections.abc import Collection

    from corum.client._async.client import AsyncClient
    from corum.client.requests import Bytes
    from corum.recipes._async.session import AsyncSession
    from corum.recipes.range_state import Change


@value
class Sighting:
    """Somebody of the group has come, gone, or says something else (`info`) about himself."""

    name: str
    what: Literal["joined", "left", "changed"]
    info: bytes


class AsyncHeartbeat(AsyncPresence):
    """Being alive in `group` under `name`, for as long as the session lives.

    Guarantees: who renews is not missed; who dies, hangs or is cut off is, after the session's TTL
    (or later, when the cluster's leader changes meanwhile). The heart beats with the renewals of
    the session's lease: for a machine to be missed within n seconds its session needs a TTL of n.
    """

    def __init__(self, session: AsyncSession, group: Bytes, name: str, info: Bytes = b"") -> None:
        super().__init__(session, to_bytes(group) + b"/" + name.encode(), info)


class AsyncMonitor:
    """Who of a group is alive. Use it as a context manager.

    Guarantees: whoever stays away for longer than its TTL (plus what an election of the cluster
    takes) is told as "left", whoever comes as "joined".
    Does not guarantee that who has left is dead: it may be cut off and still at work. Before its
    work is given to others it must be made sure that it cannot do harm (fencing, see `locks`).
    """

    def __init__(self, client: AsyncClient, group: Bytes) -> None:
        self._prefix = to_bytes(group) + b"/"
        self._mirror = AsyncMirror(client, self._prefix)
        self._changes = self._mirror.changes()

    async def open(self) -> AsyncMonitor:
        """Look; who is there now is told as "joined"."""
        await self._mirror.open()
        return self

    async def __aenter__(self) -> AsyncMonitor:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._mirror.aclose()

    def alive(self) -> dict[str, bytes]:
        """Names and what they say of themselves."""
        return {self._name(key): kv.value for key, kv in self._mirror.snapshot().items()}

    def missing(self, expected: Collection[str]) -> set[str]:
        """Who of those expected is not alive."""
        return set(expected) - self.alive().keys()

    async def wait_alive(self, expected: Collection[str], timeout_s: float | None = None) -> None:
        """Until all of those are alive at the same time. Raises TimeoutError."""
        await self._mirror.wait_for(
            lambda kvs: all(self._prefix + name.encode() in kvs for name in expected), timeout_s
        )

    async def wait_gone(self, names: Collection[str], timeout_s: float | None = None) -> None:
        """Until none of those is alive. Raises TimeoutError."""
        await self._mirror.wait_for(
            lambda kvs: not any(self._prefix + name.encode() in kvs for name in names), timeout_s
        )

    def __aiter__(self) -> AsyncMonitor:
        return self

    async def __anext__(self) -> Sighting:
        """What happens next; to be read by one task. Who leaves and comes unseen "changed"."""
        return self._sighting(await anext(self._changes))

    def _sighting(self, change: Change) -> Sighting:
        name = self._name(change.key)
        if change.new is None:
            return Sighting(name, "left", change.old.value if change.old else b"")
        return Sighting(name, "changed" if change.old else "joined", change.new.value)

    def _name(self, key: bytes) -> str:
        return key.removeprefix(self._prefix).decode()
