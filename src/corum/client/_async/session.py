"""Calls on a cluster: endpoints with failover, retries where they are safe, credentials.

A session knows methods and messages but not what they mean; the client and the commands are built
on it. Decisions are made by the pure modules `balancer` and `retry`; this one waits and sends.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, TypeVar

from corum.client import methods, retry
from corum.client._async.runtime import Guard, Lock, Network, RpcError, Stream, sleep
from corum.client.balancer import Balancer
from corum.client.errors import (
    DEADLINE_EXCEEDED,
    DEADLINE_TEXT,
    UNAVAILABLE,
    ClientError,
    DeadlineExceeded,
    FailedPrecondition,
    from_status,
)
from corum.client.options import DEFAULT, target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

    from corum.client._async.leases import Keeper
    from corum.client._async.runtime import Channel, Sink
    from corum.client._async.watches import Watches
    from corum.client.methods import Method
    from corum.client.options import Options

    T = TypeVar("T", bound=Message)
    Metadata = tuple[tuple[str, str], ...]

NS_PER_S = 1_000_000_000
ASK_LEADER_S = 1.0  # each endpoint
LOOK_AGAIN_NS = 10 * NS_PER_S  # whether the leader is still where it was
NEVER_NS = 1 << 62
HAS_LEADER = ("hasleader", "true")
AUTH_DISABLED_TEXT = "etcdserver: authentication is not enabled"


class Session:
    """A cluster as one thing to call. Close it, or use it as a context manager."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._endpoints: list[str | None] = list(options.endpoints)  # None: forgotten
        self._network = Network(options)
        self._channels: list[Channel | None] = [None] * len(self._endpoints)
        self._balancer = Balancer(len(self._endpoints))
        # What answered last, as long as nothing fails: the short way of a call.
        self._way: tuple[int, Channel] | None = None
        self._token = options.token
        self._metadata = _metadata(options.token)
        self._needs_token = options.user is not None and options.token is None
        self._token_lock = Lock()
        self._look_ns = 0 if options.prefer_leader else NEVER_NS  # for the leader, next
        self._downloads: dict[Stream, Network] = {}
        self._watches: Watches | None = None
        self._keeper: Keeper | None = None
        self._making = Guard()  # of the two above; also around changes of the endpoints

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._keeper is not None:
            await self._keeper.aclose()
        for network in [*self._downloads.values(), self._network]:
            await network.aclose()

    # Calls -----------------------------------------------------------------------------------

    async def call(
        self, method: Method[T], request: Message, *, timeout_s: float | None = DEFAULT
    ) -> T:
        """The answer to `request`. Raises ClientError.

        timeout_s: for the whole call with all retries; None waits for ever.
        """
        return method.decode(await self.call_bytes(method, request.SerializeToString(), timeout_s))

    async def call_bytes(
        self, method: Method[T], request: bytes, timeout_s: float | None = DEFAULT
    ) -> bytes:
        """As `call`, with encoded messages."""
        if timeout_s == DEFAULT:
            timeout_s = self.options.timeout_s
        way = self._way
        begin_ns = monotonic_ns()
        if way is None or begin_ns > self._look_ns:
            return await self._persist(method, request, _end_ns(timeout_s))
        metadata = self._metadata
        try:
            return await self._network.unary(way[1], method.path, request, metadata, timeout_s)
        except RpcError as error:
            failed = error
        end_ns = 1 << 62 if timeout_s is None else begin_ns + int(timeout_s * NS_PER_S)
        return await self._persist(method, request, end_ns, (way[0], metadata, failed))

    async def _persist(
        self,
        method: Method[T],
        request: bytes,
        end_ns: int,
        failed: tuple[int, Metadata, RpcError] | None = None,
    ) -> bytes:
        """Try until there is an answer or none can be had; `failed` is a first try's failure."""
        if self._needs_token:
            await self._new_token(self._token, end_ns)
        renewable = self.options.user is not None
        detail = ""
        while True:
            if failed is not None:
                index, used, error = failed
                detail = error.text
                decision = retry.decide(
                    error.code, error.text, repeatable=method.repeatable, renewable=renewable
                )
                if decision == retry.ELSEWHERE:
                    self._failed(index)
                elif decision == retry.NEW_TOKEN:
                    renewable = False
                    await self._new_token(used[0][1] if used else None, end_ns)
                else:
                    raise _failure(error, detail) from None
            index = await self._endpoint(end_ns, detail)
            metadata = self._metadata
            channel = self._channel(index)
            try:
                answer = await self._network.unary(
                    channel, method.path, request, metadata, _left_s(end_ns)
                )
            except RpcError as error:
                failed = index, metadata, error
            else:
                self._balancer.succeeded(index)
                self._way = index, channel
                return answer

    async def call_stream(
        self, method: Method[T], request: Message, timeout_s: float | None = DEFAULT
    ) -> T:
        """The first answer of a stream to one request; it ends then. Raises ClientError."""
        if timeout_s == DEFAULT:
            timeout_s = self.options.timeout_s
        stream = await self.stream(method)
        try:
            await stream.send(request.SerializeToString())
            answer = await stream.receive(timeout_s)
        except TimeoutError:
            raise DeadlineExceeded(DEADLINE_TEXT) from None
        except RpcError as error:
            self.stream_ended(stream, error)
            raise _failure(error, error.text) from None
        finally:
            stream.cancel()
        if answer is None:
            raise from_status(UNAVAILABLE, "the stream was closed")
        return method.decode(answer)

    @property
    def watches(self) -> Watches:
        """The one stream of all watches."""
        with self._making:
            if self._watches is None:
                from corum.client._async.watches import Watches

                self._watches = Watches(self)
            return self._watches

    @property
    def keeper(self) -> Keeper:
        """Who renews leases."""
        with self._making:
            if self._keeper is None:
                from corum.client._async.leases import Keeper

                self._keeper = Keeper(self)
            return self._keeper

    async def login(self, timeout_s: float | None = DEFAULT) -> None:
        """Fetch a token now rather than with the first call; nothing without credentials."""
        if self._needs_token:
            await self._new_token(self._token, _end_ns(self._or_default(timeout_s)))

    async def renew(self) -> bool:
        """Fetch a new token in place of the present one; False without credentials."""
        if self.options.user is None:
            return False
        await self._new_token(self._token, _end_ns(self.options.timeout_s))
        return True

    def learn(self, endpoints: Iterable[str]) -> None:
        """These are the ways to the cluster, besides those that the session was given.

        What was learnt before and is not among them is forgotten.
        """
        tls = self.options.tls is not None
        given = {target(endpoint, tls=tls) for endpoint in self.options.endpoints}
        learnt = {target(endpoint, tls=tls): endpoint for endpoint in endpoints}
        with self._making:
            known = set(given)
            for index, endpoint in enumerate(self._endpoints):
                address = target(endpoint, tls=tls) if endpoint else None
                if address in learnt:
                    known.add(address)
                elif address and address not in given:
                    self._forget(index)
            for address, endpoint in learnt.items():
                if address not in known:
                    self._add(endpoint)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(endpoint for endpoint in self._endpoints if endpoint)

    async def find_leader(self) -> bool:
        """Go to the leader's endpoint first from now on; False when none says that it leads.

        The one in use is asked first, so mostly no other.
        """
        from corum.pb import rpc

        request = rpc.StatusRequest().SerializeToString()
        if self.options.prefer_leader:
            self._look_ns = monotonic_ns() + LOOK_AGAIN_NS
        first = self._way[0] if self._way else 0
        for index in sorted(range(len(self._endpoints)), key=lambda index: index != first):
            if self._endpoints[index] is None:
                continue
            try:
                answer = await self._network.unary(
                    self._channel(index), methods.STATUS.path, request, self._metadata, ASK_LEADER_S
                )
            except RpcError:
                continue
            status = methods.STATUS.decode(answer)
            if status.leader == status.header.member_id:
                self._balancer.prefer(index)
                if index != first:
                    self._way = None
                return True
        if self.options.prefer_leader:
            self._look_ns = monotonic_ns() + NS_PER_S
        return False

    async def download(self, method: Method[T], request: Message) -> Stream:
        """A stream of its own network, for answers that are large and read slowly.

        The sender waits for the reader. `end_download` or `aclose` of the session ends it.
        """
        await self.login()
        network = Network(self.options, patient=True)
        index, _ = self._balancer.pick(monotonic_ns())
        channel = network.channel(self._address(index))
        stream = await network.stream(channel, method.path, self._metadata)
        self._downloads[stream] = network
        await stream.send(request.SerializeToString())
        await stream.half_close()
        return stream

    async def end_download(self, stream: Stream) -> None:
        """Give up a stream of `download`, and its connection."""
        network = self._downloads.pop(stream, None)
        if network is not None:
            await network.aclose()

    async def stream(self, method: Method[T], sink: Sink | None = None) -> Stream:
        """Open a stream to an endpoint that seems to work; it fails when the connection does.

        The member ends it when it loses its leader, so that another one can be asked.
        sink: see `Network.stream`.
        """
        await self.login()
        index, wait_ns = self._balancer.pick(monotonic_ns())
        if wait_ns:
            await sleep(wait_ns / NS_PER_S)
        metadata = (*self._metadata, HAS_LEADER)
        stream = await self._network.stream(self._channel(index), method.path, metadata, sink)
        stream.index = index
        return stream

    def stream_ended(self, stream: Stream, error: RpcError | None) -> bool:
        """Learn from the end of a stream; whether opening another one can help."""
        if error is None:
            self._balancer.succeeded(stream.index)
            return False
        decision = retry.decide(error.code, error.text, repeatable=True, renewable=False)
        if decision == retry.ELSEWHERE:
            self._failed(stream.index)
        return decision == retry.ELSEWHERE

    # Inside ----------------------------------------------------------------------------------

    def _failed(self, index: int) -> None:
        self._balancer.failed(index, monotonic_ns())
        self._way = None
        if self.options.prefer_leader:
            self._look_ns = 0

    def _add(self, endpoint: str) -> None:
        index = self._balancer.grow()
        if index == len(self._endpoints):
            self._endpoints.append(endpoint)
            self._channels.append(None)
        else:
            self._endpoints[index], self._channels[index] = endpoint, None

    def _forget(self, index: int) -> None:
        """Begin nothing there any more; what is under way may end well."""
        self._endpoints[index] = self._channels[index] = None
        self._balancer.retire(index)
        if self._way is not None and self._way[0] == index:
            self._way = None

    def _address(self, index: int) -> str:
        endpoint = self._endpoints[index] or self.options.endpoints[0]  # forgotten just now
        return target(endpoint, tls=self.options.tls is not None)

    def _channel(self, index: int) -> Channel:
        channel = self._channels[index]
        if channel is None:
            channel = self._channels[index] = self._network.channel(self._address(index))
        return channel

    async def _endpoint(self, end_ns: int, detail: str) -> int:
        """The endpoint for the next try, after the wait it asks for."""
        if monotonic_ns() > self._look_ns:
            await self.find_leader()
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
            self._token, self._metadata = None, ()
            try:
                self._token = await self._authenticate(end_ns)
                self._metadata = _metadata(self._token)
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
                self._failed(index)
            else:
                return methods.AUTHENTICATE.decode(answer).token

    def _or_default(self, timeout_s: float | None) -> float | None:
        return self.options.timeout_s if timeout_s == DEFAULT else timeout_s


def _end_ns(timeout_s: float | None) -> int:
    return 1 << 62 if timeout_s is None else monotonic_ns() + int(timeout_s * NS_PER_S)


def _metadata(token: str | None) -> Metadata:
    return (("token", token),) if token else ()


def _left_s(end_ns: int) -> float | None:
    """Seconds until `end_ns`; None when there is no end."""
    return None if end_ns == 1 << 62 else max(end_ns - monotonic_ns(), 1) / NS_PER_S


def _failure(error: RpcError, detail: str) -> ClientError:
    text = DEADLINE_TEXT if error.code == DEADLINE_EXCEEDED else error.text
    return from_status(error.code, text, detail=detail)
