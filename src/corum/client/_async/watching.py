"""One watch: an iterator of responses that goes on over broken streams.

It is one of many on the stream of its session (`watches`), whose events it keeps until they are
read. What is kept is bounded: a watch that is not read leaves the stream, and comes back, from the
revision it has come to, when all that it kept has been read.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from corum.client import retry
from corum.client._async.runtime import Mailbox
from corum.client.errors import INTERNAL, ClientError, WatchCanceled, from_status
from corum.client.lease_clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corum.client._async.session import Session
    from corum.client.results import RawEvent
    from corum.client.watch_state import Response, WatchState
    from corum.pb import rpc

    Arrival = tuple[rpc.WatchResponse, Sequence[RawEvent], int]  # events apart, and bytes

KEPT_BYTES_MAX = 64 * 1024 * 1024  # not read yet, of one watch


class Watching:
    """An iterator of watch responses. `aclose` ends it, from any thread in the synchronous form.

    Yields responses with events, and such without events where only progress is told. Raises
    Compacted, WatchCanceled, or what the server refused the stream with.
    """

    def __init__(self, session: Session, state: WatchState) -> None:
        self.state = state
        self.closed = False
        self._session = session
        self._watches = session.watches
        self._mailbox: Mailbox[
            tuple[rpc.WatchResponse, Sequence[RawEvent], int] | ClientError | None
        ] = Mailbox()
        self._kept_bytes = 0
        self._joined = False
        self._renewed = False
        self._failure: ClientError | None = None
        self._first: Response | None = None

    async def __aenter__(self) -> Watching:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self.closed = True
        self._watches.leave(self)
        self._mailbox.put(None)

    def __aiter__(self) -> Watching:
        return self

    async def __anext__(self) -> Response:
        response = await self.receive()
        if response is None:
            raise StopAsyncIteration
        return response

    async def receive(self, timeout_s: float | None = None) -> Response | None:
        """The next response; None when closed. Raises TimeoutError, and can then be called again.

        timeout_s: until it comes; None waits for ever.
        """
        end_ns = _end_ns(timeout_s)
        while not self.closed:
            response, self._first = self._first, None
            response = response or await self._step(end_ns)
            if response is not None:
                return response
        return None

    async def open(self, timeout_s: float | None = None) -> None:
        """Return when the server watches. Its refusal is raised by `receive`, not here.

        Raises TimeoutError when that takes more than `timeout_s`.
        """
        end_ns = _end_ns(timeout_s)
        while not (self.closed or self.state.created or self._first):
            try:
                self._first = await self._step(end_ns)
            except ClientError as failure:
                self._failure = failure
                return

    def request_progress(self) -> None:
        """Ask the server to tell how far its watches are; the answer comes as a response."""
        self._watches.request_progress()

    # The stream's side -----------------------------------------------------------------------

    def arrived(self, head: rpc.WatchResponse, events: Sequence[RawEvent], size_bytes: int) -> bool:
        """Keep a response until it is read; False: there is no room, it must come again."""
        if self._kept_bytes > KEPT_BYTES_MAX:
            return False
        self._kept_bytes += size_bytes
        self._mailbox.put((head, events, size_bytes))
        return True

    def parted(self, failure: ClientError | None) -> None:
        """The watch is not on the stream any more, and with a `failure` will not be again."""
        self._mailbox.put(failure)

    # Inside ----------------------------------------------------------------------------------

    async def _step(self, end_ns: int) -> Response | None:
        """One thing that happens to the watch, and the response if it is one to hand out."""
        if self._failure is not None:
            raise self._failure
        if not self._joined:
            await self._watches.join(self)
            self._joined = True
        item = await self._mailbox.get(_left_s(end_ns))
        if item is None:
            self._joined = False
            return None
        if isinstance(item, ClientError):
            self._failure = item
            raise item
        head, events, size_bytes = item
        self._kept_bytes -= size_bytes
        try:
            return self.state.received(head, events)
        except WatchCanceled as refusal:
            if self._renewed or not retry.may_need_token(refusal.text):
                raise self._failed(refusal) from None
        except ClientError as failure:
            raise self._failed(failure) from None
        except ValueError as error:
            raise self._failed(from_status(INTERNAL, f"not a watch response: {error}")) from None
        self._renewed = True  # once: a second refusal is meant
        if not await self._session.renew():
            raise self._failed(WatchCanceled(head.cancel_reason))
        self._watches.restart()
        self._joined = False
        return None

    def _failed(self, failure: ClientError) -> ClientError:
        self._failure = failure
        return failure


def _end_ns(timeout_s: float | None) -> int:
    return 1 << 62 if timeout_s is None else monotonic_ns() + int(timeout_s * NS_PER_S)


def _left_s(end_ns: int) -> float | None:
    return None if end_ns == 1 << 62 else max(end_ns - monotonic_ns(), 0) / NS_PER_S
