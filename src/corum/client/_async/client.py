"""The client: keys, transactions, watches, leases, members, maintenance, authentication.

Every method may raise the exceptions of `corum.client.errors` and takes `timeout_s`, seconds for
the whole call with its retries (default: the client's own; None: for ever).
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, BinaryIO, Literal, Unpack

from corum.client import methods, requests, results
from corum.client._async.leases import AsyncLease
from corum.client._async.runtime import RpcError
from corum.client._async.session import Session
from corum.client._async.users import AsyncUsers
from corum.client._async.watching import Watching
from corum.client.errors import DEADLINE_EXCEEDED, DEADLINE_TEXT, from_status
from corum.client.lease_clock import NS_PER_S
from corum.client.options import (
    DEFAULT,
    DEFAULT_ENDPOINT,
    DIAL_TIMEOUT_S,
    TIMEOUT_S,
    Options,
    Tls,
)
from corum.client.watch_state import WatchState
from corum.errors import NOT_LEADER
from corum.pb import rpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

    from corum.client.requests import Bytes, Condition, Operation, RangeOptions
    from corum.client.results import (
        DeleteResult,
        Event,
        KeyValue,
        Member,
        PutResult,
        RangeResult,
        Status,
        TimeToLive,
        TxnResult,
    )

SCAN_KEYS = 1_000  # in one page
KEEPALIVE_S = 10.0  # a silent connection is found dead within it and six seconds more


DowngradeAction = Literal["validate", "enable", "cancel"]
DOWNGRADE_ACTIONS = {"validate": 0, "enable": 1, "cancel": 2}


class AsyncClient:
    """A cluster to call. Close it, or use it as a context manager.

    endpoints: "host:port" or URLs, as a list or separated by commas; when one fails, the next
    one is used. user and password: fetch a token, and a new one when it is refused; or a `token`
    that was issued elsewhere (a JWT). tls: for endpoints that say "https://" or nothing.
    keepalive_s, prefer_leader: see `Options`.

    A call that failed is repeated by itself only where that cannot do anything twice: reads, and
    writes that certainly were not sent. Any other write is reported as `Unavailable` or
    `DeadlineExceeded`; it may or may not have taken place.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str] = DEFAULT_ENDPOINT,
        *,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        tls: Tls | None = None,
        timeout_s: float | None = TIMEOUT_S,
        dial_timeout_s: float = DIAL_TIMEOUT_S,
        keepalive_s: float = KEEPALIVE_S,
        prefer_leader: bool = False,
    ) -> None:
        self._options = Options(
            endpoints,
            user=user,
            password=password,
            token=token,
            tls=tls,
            timeout_s=timeout_s,
            dial_timeout_s=dial_timeout_s,
            keepalive_s=keepalive_s,
            prefer_leader=prefer_leader,
        )
        self.session = Session(self._options)
        self.auth = AsyncUsers(self.session)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End every call, watch and renewal."""
        await self.session.aclose()

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self.session.endpoints

    # Keys ------------------------------------------------------------------------------------

    async def get(
        self,
        key: Bytes,
        *,
        revision: int = 0,
        serializable: bool = False,
        timeout_s: float | None = DEFAULT,
    ) -> KeyValue | None:
        """One key, None when there is none. serializable: from this member, perhaps stale."""
        request = requests.one_key_bytes(key, revision, serializable=serializable)
        answer = await self.session.call_bytes(methods.RANGE, request, timeout_s)
        return results.decoded_pair(answer)

    async def range(
        self,
        key: Bytes,
        end: Bytes | None = None,
        *,
        timeout_s: float | None = DEFAULT,
        **options: Unpack[RangeOptions],
    ) -> RangeResult:
        """[key, end), or with `prefix` / `from_key`; options as of `requests.range_request`."""
        request = requests.range_request(key, end, **options).SerializeToString()
        answer = await self.session.call_bytes(methods.RANGE, request, timeout_s)
        return results.decoded_range(answer)

    async def scan(
        self,
        key: Bytes,
        end: Bytes | None = None,
        *,
        page: int = SCAN_KEYS,
        timeout_s: float | None = DEFAULT,
        **options: Unpack[RangeOptions],
    ) -> AsyncIterator[KeyValue]:
        """All keys of a range of any size, in their order, all as of one revision.

        Read in pages of `page` keys, the next one when it is asked for; timeout_s: for each.
        `limit` is for all pages together; `order` and `sort_by` would need all keys at once.
        """
        if options.get("sort_by", "key") != "key" or options.get("order") == "descend":
            raise ValueError("a scan goes by keys, upwards")
        request = requests.range_request(key, end, **options)
        left = request.limit or 1 << 62
        while left > 0:
            request.limit = min(page, left)
            asked = request.SerializeToString()
            found = await self.session.call_bytes(methods.RANGE, asked, timeout_s)
            response = results.decoded_range(found)
            request.revision = request.revision or response.header.revision
            for pair in response.kvs:
                yield pair
            if not response.more:
                return
            left -= len(response.kvs)
            request.key = response.kvs[-1].key + b"\0"

    async def put(
        self,
        key: Bytes,
        value: Bytes = b"",
        *,
        lease: int | AsyncLease = 0,
        prev_kv: bool = False,
        ignore_value: bool = False,
        ignore_lease: bool = False,
        timeout_s: float | None = DEFAULT,
    ) -> PutResult:
        """Store a value; ignore_value / ignore_lease keep what the key has."""
        request = requests.put_bytes(
            key,
            value,
            lease=lease.lease_id if isinstance(lease, AsyncLease) else lease,
            prev_kv=prev_kv,
            ignore_value=ignore_value,
            ignore_lease=ignore_lease,
        )
        return results.PutResult(await self.session.call_bytes(methods.PUT, request, timeout_s))

    async def delete(
        self,
        key: Bytes,
        end: Bytes | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        prev_kv: bool = False,
        timeout_s: float | None = DEFAULT,
    ) -> DeleteResult:
        request = requests.delete_request(
            key, end, prefix=prefix, from_key=from_key, prev_kv=prev_kv
        )
        return results.delete_result(
            await self.session.call(methods.DELETE_RANGE, request, timeout_s=timeout_s)
        )

    async def txn(
        self,
        compare: Iterable[Condition] = (),
        success: Iterable[Operation] = (),
        failure: Iterable[Operation] = (),
        *,
        timeout_s: float | None = DEFAULT,
    ) -> TxnResult:
        """`success` if all conditions hold, else `failure`, as one change (see `requests`)."""
        request = requests.txn_request(compare, success, failure)
        method = methods.TXN_READ_ONLY if requests.is_read_only(request) else methods.TXN
        return results.txn_result(await self.session.call(method, request, timeout_s=timeout_s))

    async def compact(
        self, revision: int, *, physical: bool = False, timeout_s: float | None = DEFAULT
    ) -> None:
        """Forget what was before `revision`; physical: return when the room is free."""
        request = rpc.CompactionRequest(revision=revision, physical=physical)
        await self.session.call(methods.COMPACT, request, timeout_s=timeout_s)

    def watch(
        self,
        key: Bytes,
        end: Bytes | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        revision: int = 0,
        prev_kv: bool = False,
        puts: bool = True,
        deletes: bool = True,
        progress: bool = False,
    ) -> AsyncWatch:
        """Changes from `revision` on (0: from when the watch begins), for ever; see `AsyncWatch`.

        prev_kv: events tell what was before. progress: the server tells every ten minutes how far
        a quiet watch is, so that it need not begin long ago after a break.
        """
        begin, stop = requests.key_range(key, end, prefix=prefix, from_key=from_key)
        filters = [f for f, wanted in ((0, puts), (1, deletes)) if not wanted]
        request = rpc.WatchCreateRequest(
            key=begin,
            range_end=stop,
            start_revision=revision,
            prev_kv=prev_kv,
            filters=filters,
            progress_notify=progress,
        )  # without `fragment`: Go's servers take quadratic time over large answers then
        return AsyncWatch(self.session, WatchState(request))

    # Leases ----------------------------------------------------------------------------------

    async def lease(
        self, ttl_s: int, *, lease_id: int = 0, timeout_s: float | None = DEFAULT
    ) -> AsyncLease:
        """Grant a lease. As a context manager it is kept alive; otherwise see its methods."""
        request = rpc.LeaseGrantRequest(TTL=ttl_s, ID=lease_id)
        response = await self.session.call(methods.LEASE_GRANT, request, timeout_s=timeout_s)
        return AsyncLease(self.session, response.ID, response.TTL)

    async def revoke(self, lease_id: int, *, timeout_s: float | None = DEFAULT) -> None:
        request = rpc.LeaseRevokeRequest(ID=lease_id)
        await self.session.call(methods.LEASE_REVOKE, request, timeout_s=timeout_s)

    async def time_to_live(
        self, lease_id: int, *, keys: bool = False, timeout_s: float | None = DEFAULT
    ) -> TimeToLive:
        request = rpc.LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
        found = await self.session.call(methods.LEASE_TIME_TO_LIVE, request, timeout_s=timeout_s)
        return results.TimeToLive(found.ID, found.TTL, found.grantedTTL, tuple(found.keys))

    async def leases(self, *, timeout_s: float | None = DEFAULT) -> list[int]:
        """Ids of all leases, the one that ends first in front."""
        request = rpc.LeaseLeasesRequest()
        response = await self.session.call(methods.LEASE_LEASES, request, timeout_s=timeout_s)
        return [lease.ID for lease in response.leases]

    # Members ---------------------------------------------------------------------------------

    async def members(self, *, timeout_s: float | None = DEFAULT) -> list[Member]:
        request = rpc.MemberListRequest(linearizable=True)
        response = await self.session.call(methods.MEMBER_LIST, request, timeout_s=timeout_s)
        return [results.member(member) for member in response.members]

    async def add_member(
        self,
        peer_urls: Sequence[str],
        *,
        learner: bool = False,
        timeout_s: float | None = DEFAULT,
    ) -> Member:
        request = rpc.MemberAddRequest(peerURLs=peer_urls, isLearner=learner)
        response = await self.session.call(methods.MEMBER_ADD, request, timeout_s=timeout_s)
        return results.member(response.member)

    async def remove_member(self, member_id: int, *, timeout_s: float | None = DEFAULT) -> None:
        request = rpc.MemberRemoveRequest(ID=member_id)
        await self.session.call(methods.MEMBER_REMOVE, request, timeout_s=timeout_s)

    async def update_member(
        self, member_id: int, peer_urls: Sequence[str], *, timeout_s: float | None = DEFAULT
    ) -> None:
        request = rpc.MemberUpdateRequest(ID=member_id, peerURLs=peer_urls)
        await self.session.call(methods.MEMBER_UPDATE, request, timeout_s=timeout_s)

    async def promote_member(self, member_id: int, *, timeout_s: float | None = DEFAULT) -> None:
        request = rpc.MemberPromoteRequest(ID=member_id)
        await self.session.call(methods.MEMBER_PROMOTE, request, timeout_s=timeout_s)

    async def move_leader(self, member_id: int, *, timeout_s: float | None = DEFAULT) -> None:
        """Make another member the leader.

        Only the present leader can; it is looked for among the endpoints if need be.
        """
        request = rpc.MoveLeaderRequest(targetID=member_id)
        try:
            await self.session.call(methods.MOVE_LEADER, request, timeout_s=timeout_s)
        except NOT_LEADER:
            if not await self.session.find_leader():
                raise
            await self.session.call(methods.MOVE_LEADER, request, timeout_s=timeout_s)

    async def sync_endpoints(self, *, timeout_s: float | None = DEFAULT) -> tuple[str, ...]:
        """Learn all members' client URLs, as further endpoints; all that are known now.

        Those learnt earlier of members that have left are forgotten, those given are kept.
        """
        members = await self.members(timeout_s=timeout_s)
        self.session.learn([url for member in members for url in member.client_urls])
        return self.session.endpoints

    # Maintenance -----------------------------------------------------------------------------

    async def status(self, *, timeout_s: float | None = DEFAULT) -> Status:
        """Of the member that answers; for a certain one make a client with its endpoint only."""
        request = rpc.StatusRequest()
        return results.status(await self.session.call(methods.STATUS, request, timeout_s=timeout_s))

    async def hash_kv(self, revision: int = 0, *, timeout_s: float | None = DEFAULT) -> int:
        """Hash of the history up to `revision`; equal on all members that hold it."""
        request = rpc.HashKVRequest(revision=revision)
        return (await self.session.call(methods.HASH_KV, request, timeout_s=timeout_s)).hash

    async def defragment(self, *, timeout_s: float | None = None) -> None:
        """Give free space of the member's database back; it does not serve meanwhile."""
        request = rpc.DefragmentRequest()
        await self.session.call(methods.DEFRAGMENT, request, timeout_s=timeout_s)

    async def hash(self, *, timeout_s: float | None = DEFAULT) -> int:
        """Hash of the member's whole database; of use only in comparison with itself."""
        return (await self.session.call(methods.HASH, rpc.HashRequest(), timeout_s=timeout_s)).hash

    async def downgrade(
        self, action: DowngradeAction, version: str = "", *, timeout_s: float | None = DEFAULT
    ) -> str:
        """Validate, enable (both to `version`, "3.5") or cancel; the cluster's version."""
        request = rpc.DowngradeRequest(action=DOWNGRADE_ACTIONS[action], version=version)
        return (await self.session.call(methods.DOWNGRADE, request, timeout_s=timeout_s)).version

    async def alarms(self, *, timeout_s: float | None = DEFAULT) -> list[tuple[int, str]]:
        """(member id, "NOSPACE" or "CORRUPT") of every alarm that is on."""
        response = await self.session.call(methods.ALARM, rpc.AlarmRequest(), timeout_s=timeout_s)
        return [(alarm.memberID, rpc.AlarmType.Name(alarm.alarm)) for alarm in response.alarms]

    async def disarm(self, *, timeout_s: float | None = DEFAULT) -> None:
        """End all alarms."""
        response = await self.session.call(methods.ALARM, rpc.AlarmRequest(), timeout_s=timeout_s)
        for alarm in response.alarms:
            request = rpc.AlarmRequest(
                action=rpc.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm
            )
            await self.session.call(methods.ALARM, request, timeout_s=timeout_s)

    async def snapshot(self, out: BinaryIO, *, timeout_s: float | None = None) -> int:
        """Write a snapshot of the whole store to `out`; its bytes. It ends with a SHA-256.

        timeout_s: between two pieces.
        """
        stream = await self.session.download(methods.SNAPSHOT, rpc.SnapshotRequest())
        size = 0
        try:
            while (data := await stream.receive(timeout_s)) is not None:
                size += out.write(methods.SNAPSHOT.decode(data).blob)
        except RpcError as error:
            raise from_status(error.code, error.text) from None
        except TimeoutError:
            raise from_status(DEADLINE_EXCEEDED, DEADLINE_TEXT) from None
        finally:
            await self.session.end_download(stream)
        return size


class AsyncWatch:
    """An iterator of events that goes on over broken connections without loss or repetition.

    It begins with its first use; as a context manager at once, so that a change made inside is
    seen. Raises Compacted when the revision it needs is gone, WatchCanceled when the server ends
    it. All watches of a client share one stream. Close it, or use it as a context manager.
    """

    def __init__(self, session: Session, state: WatchState) -> None:
        self._state = state
        self._session = session
        self._watching = Watching(session, state)
        self._events: Iterator[Event] = iter(())

    @property
    def next_revision(self) -> int:
        """Where another watch would have to begin to see what this one has not been sent."""
        return self._state.next_revision

    async def __aenter__(self) -> AsyncWatch:
        try:
            await self._watching.open(self._session.options.timeout_s)
        except TimeoutError:
            await self.aclose()
            raise from_status(DEADLINE_EXCEEDED, DEADLINE_TEXT) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._watching.aclose()

    def __aiter__(self) -> AsyncWatch:
        return self

    async def __anext__(self) -> Event:
        while True:
            for event in self._events:
                return event
            response = await self._watching.receive()
            if response is None:
                raise StopAsyncIteration
            self._events = iter(response.events)

    async def receive(self, timeout_s: float | None = None) -> tuple[Event, ...]:
        """The next events, whole revisions of them, or what `next` has left over of such.

        Empty when the watch was closed. Raises TimeoutError when none came for `timeout_s`
        seconds (None: wait for ever); the watch goes on.
        """
        end_ns = None if timeout_s is None else monotonic_ns() + int(timeout_s * NS_PER_S)
        while not (events := tuple(self._events)):
            left_s = None if end_ns is None else max(end_ns - monotonic_ns(), 0) / NS_PER_S
            response = await self._watching.receive(left_s)
            if response is None:
                return ()
            self._events = iter(response.events)
        return events
