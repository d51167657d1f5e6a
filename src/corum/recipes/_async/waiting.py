"""Waiting for keys without a session: until something is put, or deleted."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from corum.client.errors import Canceled, Compacted

if TYPE_CHECKING:
    from corum.client._async.client import AsyncClient
    from corum.client.results import Event
    from corum.recipes.deadline import Deadline


async def wait_change(
    client: AsyncClient,
    key: bytes,
    after: int,
    deadline: Deadline,
    *,
    prefix: bool = False,
    puts: bool = True,
    deletes: bool = True,
) -> tuple[Event, ...]:
    """The first changes after the revision `after`; () when history was compacted: look again.

    Raises TimeoutError.
    """
    watch = client.watch(key, prefix=prefix, revision=after + 1, puts=puts, deletes=deletes)
    async with aclosing(watch):
        try:
            events = await watch.receive(deadline.left_s())
        except Compacted:
            return ()
    if not events:
        raise Canceled("the client was closed")
    return events
