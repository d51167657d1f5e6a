"""Leases that are kept alive in the background as long as they are held.

All leases of a session are renewed over one stream by one background, which runs while there are
any; `lease_clock.RenewalPlan` decides when which.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from corum.client import methods
from corum.client._async.runtime import Background, Guard, Mailbox, RpcError, sleep
from corum.client.errors import NOT_FOUND, UNAVAILABLE, ClientError, from_status
from corum.client.lease_clock import NS_PER_S, LeaseClock, RenewalPlan
from corum.client.options import DEFAULT
from corum.errors import LEASE_NOT_FOUND
from corum.pb import rpc

if TYPE_CHECKING:
    from corum.client._async.runtime import Stream, Work
    from corum.client._async.session import Session

RETRY_S = 0.25  # after a stream could not even be begun
OVERDUE = "no answer to a lease's renewal"


class AsyncLease:
    """A granted lease. As a context manager it is kept alive inside, and revoked at the end.

    `lost` becomes true when it could not be kept: its keys are gone or soon will be.
    """

    def __init__(self, session: Session, lease_id: int, ttl_s: int) -> None:
        self.lease_id = lease_id
        self.clock = LeaseClock(ttl_s, monotonic_ns())
        self._session = session
        self._when_lost: Work | None = None
        self._telling: Background | None = None
        self._gone = False

    @property
    def ttl_s(self) -> int:
        """As the server granted it; it may be more than was asked for."""
        return self.clock.ttl_s

    @property
    def lost(self) -> bool:
        return self._gone or self.clock.is_lost(monotonic_ns())

    async def __aenter__(self) -> AsyncLease:
        self.keep_alive()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.revoke()

    def keep_alive(self, when_lost: Work | None = None) -> None:
        """Renew it in the background from now on. Once is enough.

        when_lost: run there, once, when the lease is lost; not when it is revoked or released.
        """
        self._when_lost = when_lost or self._when_lost
        self._session.keeper.keep(self)

    async def renew(self, timeout_s: float | None = DEFAULT) -> int:
        """Renew it once, now; the seconds it has from now on. Raises NotFound when it is gone."""
        request = rpc.LeaseKeepAliveRequest(ID=self.lease_id)
        sent_ns = monotonic_ns()
        response = await self._session.call_stream(methods.LEASE_KEEP_ALIVE, request, timeout_s)
        self.clock.renewed(response.TTL, sent_ns)
        if response.TTL <= 0:
            self._gone = True
            raise from_status(NOT_FOUND, LEASE_NOT_FOUND.text)
        return response.TTL

    async def revoke(self, *, timeout_s: float | None = DEFAULT) -> None:
        """Give it up and delete its keys. One that is gone already is no error."""
        await self.release()
        if not self._gone:
            self._gone = True
            try:
                request = rpc.LeaseRevokeRequest(ID=self.lease_id)
                await self._session.call(methods.LEASE_REVOKE, request, timeout_s=timeout_s)
            except ClientError as error:
                if error.text != LEASE_NOT_FOUND.text:
                    raise

    async def release(self) -> None:
        """Stop renewing; it runs out by itself."""
        self._session.keeper.let_go(self)

    def told_lost(self) -> None:
        """The keeper's word that it could not be kept."""
        self._gone = True
        if self._when_lost is not None:
            self._telling = Background(self._when_lost)


class Keeper:
    """The leases of one session that are to be kept, and the background that does it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._guard = Guard()  # around the next four
        self._plan = RenewalPlan()
        self._leases: dict[int, AsyncLease] = {}
        self._background: Background | None = None
        self._closed = False
        # A message of a stream with the stream it came from, its end, or None to look around.
        self._mailbox: Mailbox[tuple[Stream, bytes | RpcError] | None] = Mailbox()

    def keep(self, lease: AsyncLease) -> None:
        with self._guard:
            self._leases[lease.lease_id] = lease
            self._plan.add(lease.lease_id, lease.clock)
            if self._background is None and not self._closed:
                self._background = Background(self._run)
        self._mailbox.put(None)

    def let_go(self, lease: AsyncLease) -> None:
        with self._guard:
            known = self._leases.pop(lease.lease_id, None)
            self._plan.remove(lease.lease_id)
        if known is not None:
            self._mailbox.put(None)

    async def aclose(self) -> None:
        self._closed = True
        self._mailbox.put(None)
        background = self._background
        if background is not None:
            await background.aclose()

    # The stream's side -----------------------------------------------------------------------

    def received(self, stream: Stream, message: bytes) -> None:
        self._mailbox.put((stream, message))

    def ended(self, stream: Stream, error: RpcError | None) -> None:
        self._mailbox.put((stream, error or RpcError(14, "the stream was closed")))

    # The background --------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            with self._guard:
                if self._closed or not self._leases:
                    self._background = None
                    return
                self._plan.new_stream()
            try:
                stream = await self._session.stream(methods.LEASE_KEEP_ALIVE, self)
            except ClientError:  # no token to be had now
                self._due()
                await sleep(RETRY_S)
                continue
            try:
                await self._serve(stream)
            finally:
                stream.cancel()

    async def _serve(self, stream: Stream) -> None:
        """Renew over one stream until it breaks or nothing is left to do."""
        while self._leases and not self._closed:
            renew, overdue = self._due()
            for lease_id in renew:
                stream.post(rpc.LeaseKeepAliveRequest(ID=lease_id).SerializeToString())
            if overdue:
                self._session.stream_ended(stream, RpcError(UNAVAILABLE, OVERDUE))
                return
            wait_ns = self._plan.wait_ns(monotonic_ns())
            try:
                item = await self._mailbox.get(None if wait_ns is None else wait_ns / NS_PER_S)
            except TimeoutError:
                continue
            if item is None or item[0] is not stream:
                continue
            if isinstance(item[1], RpcError):
                if not self._session.stream_ended(stream, item[1]):
                    await self._refused()
                return
            self._renewed(item[1])

    def _due(self) -> tuple[list[int], bool]:
        with self._guard:
            renew, lost, overdue = self._plan.due(monotonic_ns())
            gone = [self._leases.pop(lease_id) for lease_id in lost if lease_id in self._leases]
        for lease in gone:
            lease.told_lost()
        return renew, overdue

    def _renewed(self, message: bytes) -> None:
        response = methods.LEASE_KEEP_ALIVE.decode(message)
        with self._guard:
            kept = self._plan.renewed(response.ID, response.TTL)
            lease = None if kept else self._leases.pop(response.ID, None)
        if lease is not None:
            lease.told_lost()

    async def _refused(self) -> None:
        """The server wants no such stream: perhaps the token's fault, or not for long."""
        try:
            await self._session.renew()
        except ClientError:
            pass
        await sleep(RETRY_S)
