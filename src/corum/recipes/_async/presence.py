"""A key that says "I am here": it lives as long as its owner's session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.client.requests import delete, lease, put, to_bytes
from corum.errors import LEASE_NOT_FOUND
from corum.recipes._async.runtime import to_the_end
from corum.recipes._async.session import steadily
from corum.recipes.errors import SessionExpired

if TYPE_CHECKING:
    from corum.client.requests import Bytes
    from corum.recipes._async.session import AsyncSession


class AsyncPresence:
    """One key under a session's lease. Use it as a context manager, or `announce` and `withdraw`.

    Guarantees: when the session ends the key goes, unless somebody else has taken it over: of two
    who announce the same key the later one has it, so a restarted process need not wait until its
    predecessor has expired; and the predecessor's `withdraw` does not touch it.
    """

    def __init__(self, session: AsyncSession, key: Bytes, content: Bytes = b"") -> None:
        self.session = session
        self.key = to_bytes(key)
        self._content = to_bytes(content)

    async def __aenter__(self) -> AsyncPresence:
        await self.announce()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.withdraw()

    async def announce(self, content: Bytes | None = None) -> None:
        """Make the key, or change its content. Raises SessionExpired."""
        if content is not None:
            self._content = to_bytes(content)
        self.session.check()
        try:
            await to_the_end(self._put)
        except LEASE_NOT_FOUND:
            raise SessionExpired("the session has ended") from None

    async def withdraw(self) -> None:
        """Delete the key if it is still ours."""
        if not self.session.lost:
            await to_the_end(self._delete)

    async def _put(self) -> None:
        make = put(self.key, self._content, lease=self.session.lease_id)
        await steadily(lambda: self.session.client.txn([], [make]))

    async def _delete(self) -> None:
        ours = lease(self.key) == self.session.lease_id
        await steadily(lambda: self.session.client.txn([ours], [delete(self.key)]))
