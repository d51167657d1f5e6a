"""Calls on a cluster: endpoints with failover, retries where they are safe, credentials.

A session knows methods and messages but not what they mean; the client and the commands are built
on it. Decisions are made by the pure modules `balancer` and `retry`; this one waits and sends.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, TypeVar

from corum.client import methods, retry
from corum.client._async.runtime import Lock, Network, RpcError, Stream, sleep
from corum.client.balancer import Balancer
from corum.client.errors import (
    DEADLINE_EXCEEDED,
    DEADLINE_TEXT,
    ClientError,
    DeadlineExceeded,
    FailedPrecondition,
    from_status,
)
from corum.client.options import DEFAULT, target

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from corum.client._async.runtime import Channel
    from corum.client.methods import Method
    from corum.client.options import Options

    T = TypeVar("T", bound=Message)

NS_PER_S = 1_000_000_000
AUTH_DISABLED_TEXT = "etcdserver: authentication is not enabled"


class Session:
    """A cluster as one thing to call. Close it, or use it as a context manager."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._network = Network(options)
        self._channels: list[Channel | None] = [None] * len(options.endpoints)
        self._balancer = Balancer(len(options.endpoints))
        self._token = options.token
        self._needs_token = options.user is not None and options.token is None
        self._token_lock = Lock()
        self._downloads: list[Network] = []

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        for network in [*self._downloads, self._network]:
            await network.aclose()

    # Calls -----------------------------------------------------------------------------------

    async def call(
        self, method: Method[T], request: Message, *, timeout_s: float | None = DEFAULT
    ) -> T:
        """The answer to `request`. Raises ClientError.

        timeout_s: for the whole call with all retries; None waits for ever.
        """
        return method.decode(
            await self.call_bytes(method, request.SerializeToString(), timeout_s=timeout_s)
        )

    async def call_bytes(
        self, method: Method[T], request: bytes, *, timeout_s: float | None = DEFAULT
    ) -> bytes:
        """As `call`, with encoded messages."""
        end_ns = self._end_ns(timeout_s)
        if self._needs_token:
            await self._new_token(self._token, end_ns)
        renewable = self.options.user is not None
        detail = ""
        while True:
            index = await self._endpoint(end_ns, detail)
            token = self._token
            try:
                answer = await self._network.unary(
                    self._channel(index), method.path, request, _metadata(token), _left_s(end_ns)
                )
            except RpcError as error:
                detail = error.text
                decision = retry.decide(
                    error.code, error.text, repeatable=method.repeatable, renewable=renewable
                )
                if decision == retry.ELSEWHERE:
                    self._balancer.failed(index, monotonic_ns())
                elif decision == retry.NEW_TOKEN:
                    renewable = False
                    await self._new_token(token, end_ns)
                else:
                    raise _failure(error, detail) from None
            else:
                self._balancer.succeeded(index)
                return answer

    async def login(self, timeout_s: float | None = DEFAULT) -> None:
        """Fetch a token now rather than with the first call; nothing without credentials."""
        if self._needs_token:
            await self._new_token(self._token, self._end_ns(timeout_s))

    async def download(self, method: Method[T], request: Message) -> Stream:
        """A stream of its own network, for answers that are large and read slowly.

        The sender waits for the reader. `aclose` of the session ends it.
        """
        await self.login()
        network = Network(self.options, patient=True)
        self._downloads.append(network)
        index, _ = self._balancer.pick(monotonic_ns())
        address = target(self.options.endpoints[index], tls=self.options.tls is not None)
        stream = await network.stream(network.channel(address), method.path, _metadata(self._token))
        await stream.send(request.SerializeToString())
        await stream.half_close()
        return stream

    async def stream(self, method: Method[T]) -> Stream:
        """Open a stream to an endpoint that seems to work; it fails when the connection does."""
        await self.login()
        index, wait_ns = self._balancer.pick(monotonic_ns())
        if wait_ns:
            await sleep(wait_ns / NS_PER_S)
        stream = await self._network.stream(
            self._channel(index), method.path, _metadata(self._token)
        )
        stream.index = index
        return stream

    def stream_ended(self, stream: Stream, error: RpcError | None) -> bool:
        """Learn from the end of a stream; whether opening another one can help."""
        if error is None:
            self._balancer.succeeded(stream.index)
            return False
        decision = retry.decide(error.code, error.text, repeatable=True, renewable=False)
        if decision == retry.ELSEWHERE:
            self._balancer.failed(stream.index, monotonic_ns())
        return decision == retry.ELSEWHERE

    # Inside ----------------------------------------------------------------------------------

    def _channel(self, index: int) -> Channel:
        channel = self._channels[index]
        if channel is None:
            address = target(self.options.endpoints[index], tls=self.options.tls is not None)
            channel = self._channels[index] = self._network.channel(address)
        return channel

    async def _endpoint(self, end_ns: int, detail: str) -> int:
        """The endpoint for the next try, after the wait it asks for."""
        now_ns = monotonic_ns()
        index, wait_ns = self._balancer.pick(now_ns)
        if now_ns + wait_ns >= end_ns:
            await sleep(max(end_ns - now_ns, 0) / NS_PER_S)
            raise DeadlineExceeded(DEADLINE_TEXT, detail=detail)
        if wait_ns:
            await sleep(wait_ns / NS_PER_S)
        return index

    async def _new_token(self, refused: str | None, end_ns: int) -> None:
        """Authenticate, unless another caller has replaced the refused token meanwhile."""
        async with self._token_lock:
            if self._token != refused:
                return
            self._needs_token = False
            self._token = None
            try:
                self._token = await self._authenticate(end_ns)
            except FailedPrecondition as error:
                if error.text != AUTH_DISABLED_TEXT:
                    self._needs_token = True
                    raise
            except ClientError:
                self._needs_token = True
                raise

    async def _authenticate(self, end_ns: int) -> str:
        from corum.pb import rpc

        request = rpc.AuthenticateRequest(
            name=self.options.user or "", password=self.options.password or ""
        ).SerializeToString()
        detail = ""
        while True:
            index = await self._endpoint(end_ns, detail)
            try:
                answer = await self._network.unary(
                    self._channel(index), methods.AUTHENTICATE.path, request, (), _left_s(end_ns)
                )
            except RpcError as error:
                detail = error.text
                decision = retry.decide(error.code, error.text, repeatable=True, renewable=False)
                if decision != retry.ELSEWHERE:
                    raise _failure(error, detail) from None
                self._balancer.failed(index, monotonic_ns())
            else:
                return methods.AUTHENTICATE.decode(answer).token

    def _end_ns(self, timeout_s: float | None) -> int:
        if timeout_s is not None and timeout_s < 0:
            timeout_s = self.options.timeout_s
        if timeout_s is None:
            return 1 << 62
        return monotonic_ns() + int(timeout_s * NS_PER_S)


def _metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    return (("token", token),) if token else ()


def _left_s(end_ns: int) -> float | None:
    """Seconds until `end_ns`; None when there is no end."""
    return None if end_ns == 1 << 62 else max(end_ns - monotonic_ns(), 1) / NS_PER_S


def _failure(error: RpcError, detail: str) -> ClientError:
    text = DEADLINE_TEXT if error.code == DEADLINE_EXCEEDED else error.text
    return from_status(error.code, text, detail=detail)
