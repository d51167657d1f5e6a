"""Services that find each other: registration, discovery, balancing on the client's side.

Keys are `<service>/<address>` with the JSON of Go's clientv3/naming, so Go programs can resolve
`etcd:///<service>` and find Python's instances, and the other way round.
"""

from __future__ import annotations

import json
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from corum.client.requests import to_bytes
from corum.recipes._async.mirror import AsyncMirror
from corum.recipes._async.presence import AsyncPresence
from corum.recipes._async.runtime import Guard
from corum.recipes.balance import Instance, RoundRobin, instance_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corum.client._async.client import AsyncClient
    from corum.client.requests import Bytes
    from corum.client.results import KeyValue
    from corum.recipes._async.mirror import AsyncChanges
    from corum.recipes._async.session import AsyncSession
    from corum.recipes.balance import Balancer

T = TypeVar("T")


class AsyncRegistration:
    """This process as an instance of a service, for as long as its session lives.

    Guarantees: its key lives as long as the session, and no longer. So health is the lease: a
    process that dies, hangs or is cut off is no instance any more after the session's TTL. Whether
    it does its work well is for itself to judge: if not, it should `withdraw`.
    metadata: anything JSON can hold; `load` in it is what `LeastLoaded` goes by.
    """

    def __init__(
        self, session: AsyncSession, service: Bytes, address: str, metadata: Any = None
    ) -> None:
        self.address = address
        key = to_bytes(service) + b"/" + address.encode()
        self._presence = AsyncPresence(session, key, _encoded(address, metadata))

    async def __aenter__(self) -> AsyncRegistration:
        await self.register()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.withdraw()

    async def register(self) -> None:
        """Be found from now on. Raises SessionExpired."""
        await self._presence.announce()

    async def update(self, metadata: Any) -> None:
        """Tell something else about oneself: the load, or a version."""
        await self._presence.announce(_encoded(self.address, metadata))

    async def withdraw(self) -> None:
        """Be found no longer."""
        await self._presence.withdraw()


class AsyncServices:
    """The instances of a service, current without asking. Use it as a context manager.

    Guarantees: what `pick` gives was registered in the newest state that this process knows; it is
    behind the cluster by a message, and a dead instance stays for up to its session's TTL. So a
    request can fail: `avoid` the instance then and pick another one.
    """

    def __init__(
        self, client: AsyncClient, service: Bytes, balancer: Balancer | None = None
    ) -> None:
        self._prefix = to_bytes(service) + b"/"
        self._mirror = AsyncMirror(client, self._prefix)
        self._balancer = balancer or RoundRobin()
        self._guard = Guard()
        self._in_flight: Counter[bytes] = Counter()
        self._avoided: dict[bytes, float] = {}
        self._known: tuple[int, list[Instance]] = (-1, [])  # as of a revision

    async def open(self) -> AsyncServices:
        await self._mirror.open()
        return self

    async def __aenter__(self) -> AsyncServices:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._mirror.aclose()

    def instances(self) -> list[Instance]:
        """All that are registered, sorted by key."""
        return self._mirror.look(self._instances)

    def changes(self) -> AsyncChanges:
        """When instances come, go or tell something else; `instance_of` reads a key."""
        return self._mirror.changes()

    async def pick(self, timeout_s: float | None = None) -> Instance:
        """The instance for the next request, waiting until there is one. Raises TimeoutError."""
        return await self._mirror.wait_for(self._choose, timeout_s)

    async def wait_for(
        self, look: Callable[[list[Instance]], T | None], timeout_s: float | None = None
    ) -> T:
        """The first true thing that `look` finds in the instances, now or later.

        Raises TimeoutError.
        """
        return await self._mirror.wait_for(lambda kvs: look(self._instances(kvs)), timeout_s)

    def use(self, timeout_s: float | None = None) -> AsyncUse:
        """A request as a context manager: gives the instance, counts it as busy meanwhile."""
        return AsyncUse(self, timeout_s)

    def avoid(self, instance: Instance, rest_s: float) -> None:
        """Do not pick an instance for a while, as long as there are others."""
        with self._guard:
            self._avoided[instance.key] = monotonic() + rest_s

    def busy(self, instance: Instance, by: int) -> None:
        """Count requests under way: +1 at the begin, -1 at the end."""
        with self._guard:
            self._in_flight[instance.key] += by
            if not self._in_flight[instance.key]:
                del self._in_flight[instance.key]

    def _choose(self, kvs: Mapping[bytes, KeyValue]) -> Instance | None:
        instances = self._instances(kvs)
        if not instances:
            return None
        now = monotonic()
        with self._guard:
            self._avoided = {key: end for key, end in self._avoided.items() if end > now}
            rested = [one for one in instances if one.key not in self._avoided]
            return self._balancer.pick(rested or instances, self._in_flight)

    def _instances(self, kvs: Mapping[bytes, KeyValue]) -> list[Instance]:
        """What the keys say, read once for each state; under the mirror's guard."""
        revision, instances = self._known
        if revision != self._mirror.revision:
            found = [instance_of(kv) for _, kv in sorted(kvs.items())]
            instances = [one for one in found if one is not None]
            self._known = (self._mirror.revision, instances)
        return instances


class AsyncUse:
    """One request to an instance; see `AsyncServices.use`."""

    def __init__(self, services: AsyncServices, timeout_s: float | None) -> None:
        self._services = services
        self._timeout_s = timeout_s
        self._instance: Instance | None = None

    async def __aenter__(self) -> Instance:
        self._instance = await self._services.pick(self._timeout_s)
        self._services.busy(self._instance, 1)
        return self._instance

    async def __aexit__(self, *_: object) -> None:
        if self._instance is not None:
            self._services.busy(self._instance, -1)


def _encoded(address: str, metadata: Any) -> bytes:
    return json.dumps({"Op": 0, "Addr": address, "Metadata": metadata}).encode()
