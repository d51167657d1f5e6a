"""A lease that is kept alive in the background as long as it is held."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from corum.client import methods
from corum.client._async.runtime import Background, RpcError, Stream, sleep
from corum.client.errors import ClientError
from corum.client.lease_clock import NS_PER_S, LeaseClock
from corum.pb import rpc

if TYPE_CHECKING:
    from corum.client._async.runtime import Work
    from corum.client._async.session import Session

RETRY_S = 0.25  # after a renewal could not even be begun


class AsyncLease:
    """A granted lease. As a context manager it is kept alive inside, and revoked at the end.

    `lost` becomes true when it could not be kept: its keys are gone or soon will be.
    """

    def __init__(self, session: Session, lease_id: int, ttl_s: int) -> None:
        self.lease_id = lease_id
        self._session = session
        self._clock = LeaseClock(ttl_s, monotonic_ns())
        self._background: Background | None = None
        self._stream: Stream | None = None
        self._when_lost: Work | None = None
        self._closing = False
        self._gone = False

    @property
    def ttl_s(self) -> int:
        """As the server granted it; it may be more than was asked for."""
        return self._clock.ttl_s

    @property
    def lost(self) -> bool:
        return self._gone or self._clock.is_lost(monotonic_ns())

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
        if self._background is None:
            self._background = Background(self._run)

    async def revoke(self) -> None:
        """Give it up and delete its keys. One that is gone already is no error."""
        await self.release()
        if not self._gone:
            self._gone = True
            try:
                request = rpc.LeaseRevokeRequest(ID=self.lease_id)
                await self._session.call(methods.LEASE_REVOKE, request)
            except ClientError as error:
                if error.text != "etcdserver: requested lease not found":
                    raise

    async def release(self) -> None:
        """Stop renewing; it runs out by itself."""
        self._closing = True
        if self._stream is not None:
            self._stream.cancel()
        if self._background is not None:
            await self._background.aclose()
            self._background = None

    async def _run(self) -> None:
        while not self._closing and not self.lost:
            try:
                stream = self._stream = await self._session.stream(methods.LEASE_KEEP_ALIVE)
            except ClientError:  # no token to be had now
                await sleep(RETRY_S)
                continue
            try:
                await self._renew(stream)
            except TimeoutError:  # no answer in time: it is lost by now
                pass
            except RpcError as error:
                if not self._closing and not self._session.stream_ended(stream, error):
                    self._gone = True
            finally:
                stream.cancel()
        if not self._closing and self._when_lost is not None:
            await self._when_lost()

    async def _renew(self, stream: Stream) -> None:
        """Renew on one stream until it ends or the lease is gone."""
        request = rpc.LeaseKeepAliveRequest(ID=self.lease_id).SerializeToString()
        while not self._closing:
            try:  # nothing arrives while nothing is due: this waits, and ends with the stream
                await stream.receive(max(self._clock.wait_ns(monotonic_ns()), 1) / NS_PER_S)
            except TimeoutError:
                pass
            if self._closing:
                return
            sent_ns = monotonic_ns()
            await stream.send(request)
            data = await stream.receive(self._clock.ttl_s)
            if data is None:
                return
            response = methods.LEASE_KEEP_ALIVE.decode(data)
            self._clock.renewed(response.TTL, sent_ns)
            if response.TTL <= 0:
                self._gone = True
                return
