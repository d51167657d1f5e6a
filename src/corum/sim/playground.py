"""A simulated etcd to test with: real member, virtual time.

    etcd = SimulatedEtcd()
    lease = etcd.lease(3600)
    etcd.put("k", "v", lease=lease)
    etcd.advance(3601)
    assert etcd.get("k") is None

Every call returns when the simulated member has answered; time passes only inside calls and by
`advance`, an hour in a few milliseconds. The same seed gives the same run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from corum.api.methods import METHODS
from corum.client import requests, results
from corum.client.errors import ClientError, DeadlineExceeded, from_status
from corum.client.watch_state import WatchState
from corum.pb import rpc
from corum.server.node import NodeConfig
from corum.sim.member import SimMember
from corum.sim.world import World
from corum.values import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf.message import Message

    from corum.client.requests import (
        Bytes,
        Condition,
        DeleteOptions,
        Operation,
        PutOptions,
        RangeOptions,
    )

    T = TypeVar("T", bound=Message)

ANSWER_S = 30  # of simulated time, for one call
AWAKE_NS = 2 * NS_PER_S  # in which what is due gets done
SEGMENT_BYTES = 64 * 1024
_INDEX = {path: number for number, (path, _) in enumerate(METHODS)}


class SimulatedEtcd:
    """One member in a world of its own; the calls are those of `corum.Client`, without timeouts."""

    def __init__(self, seed: int = 1, **options: Any) -> None:
        """`options` are fields of `NodeConfig` (quota_bytes, ...)."""
        self.world = World(seed)
        config = NodeConfig(name="sim", client_urls=("http://sim:2379",), **options)
        self.member = SimMember(self.world, config, segment_bytes=SEGMENT_BYTES)
        self.member.start()

    @property
    def now_s(self) -> float:
        """Simulated seconds since the beginning."""
        return self.world.now_ns / NS_PER_S

    def advance(self, seconds: float) -> None:
        """Let so much time pass. The member sleeps through all but the last seconds of it."""
        duration_ns = int(seconds * NS_PER_S)
        if duration_ns > AWAKE_NS:
            self.world.jump(duration_ns - AWAKE_NS)
            duration_ns = AWAKE_NS
        self.world.run_for(duration_ns)

    def crash(self, *, power: bool = True) -> None:
        """The member dies at once (power: with what was not synced to disk) and comes back."""
        self.member.crash(power=power)
        self.world.run_until(lambda: self.member.is_up, ANSWER_S * NS_PER_S)

    # Keys ------------------------------------------------------------------------------------

    def get(self, key: Bytes, *, revision: int = 0) -> results.KeyValue | None:
        found = self.range(key, revision=revision)
        return found.kvs[0] if found.kvs else None

    def range(
        self, key: Bytes, end: Bytes | None = None, **options: Unpack[RangeOptions]
    ) -> results.RangeResult:
        request = requests.range_request(key, end, **options)
        return results.range_result(self._call("KV/Range", request, rpc.RangeResponse()))

    def put(
        self, key: Bytes, value: Bytes = b"", **options: Unpack[PutOptions]
    ) -> results.PutResult:
        request = requests.put_request(key, value, **options)
        return results.PutResult(self._call("KV/Put", request, rpc.PutResponse()))

    def delete(
        self, key: Bytes, end: Bytes | None = None, **options: Unpack[DeleteOptions]
    ) -> results.DeleteResult:
        request = requests.delete_request(key, end, **options)
        response = self._call("KV/DeleteRange", request, rpc.DeleteRangeResponse())
        return results.delete_result(response)

    def txn(
        self,
        compare: Iterable[Condition] = (),
        success: Iterable[Operation] = (),
        failure: Iterable[Operation] = (),
    ) -> results.TxnResult:
        request = requests.txn_request(compare, success, failure)
        return results.txn_result(self._call("KV/Txn", request, rpc.TxnResponse()))

    def compact(self, revision: int) -> None:
        request = rpc.CompactionRequest(revision=revision)
        self._call("KV/Compact", request, rpc.CompactionResponse())

    def watch(self, key: Bytes, *, prefix: bool = False, revision: int = 0) -> SimulatedWatch:
        """Changes from `revision` (0: from now) on; it has begun when this returns."""
        begin, stop = requests.key_range(key, None, prefix=prefix)
        request = rpc.WatchCreateRequest(key=begin, range_end=stop, start_revision=revision)
        return SimulatedWatch(self, request)

    # Leases ----------------------------------------------------------------------------------

    def lease(self, ttl_s: int, *, lease_id: int = 0) -> int:
        """Grant a lease; its id. Nobody renews it by himself."""
        request = rpc.LeaseGrantRequest(TTL=ttl_s, ID=lease_id)
        return self._call("Lease/LeaseGrant", request, rpc.LeaseGrantResponse()).ID

    def keep_alive(self, lease_id: int) -> int:
        """Renew it once; its seconds from now on, 0 when it is gone."""
        request = rpc.LeaseKeepAliveRequest(ID=lease_id)
        return self._call("Lease/LeaseKeepAlive", request, rpc.LeaseKeepAliveResponse()).TTL

    def revoke(self, lease_id: int) -> None:
        request = rpc.LeaseRevokeRequest(ID=lease_id)
        self._call("Lease/LeaseRevoke", request, rpc.LeaseRevokeResponse())

    def leases(self) -> list[int]:
        response = self._call(
            "Lease/LeaseLeases", rpc.LeaseLeasesRequest(), rpc.LeaseLeasesResponse()
        )
        return [lease.ID for lease in response.leases]

    # Calls -----------------------------------------------------------------------------------

    def _call(self, name: str, request: Message, response: T) -> T:
        """The answer, read into `response`. Raises ClientError as the client does."""
        ended: list[tuple[int, str]] = []
        index = _INDEX[f"/etcdserverpb.{name}"]

        def answered(message: bytes) -> None:
            response.ParseFromString(message)
            if METHODS[index][1] != "unary":
                ended.append((0, ""))

        def end(code: int, text: str) -> None:
            ended.append((code, text))

        network = self.member.network
        if METHODS[index][1] == "unary":
            call = network.unary(index, request.SerializeToString(), answered, end)
        else:
            call = network.stream(index, answered, end)
            call.send(request.SerializeToString())
        self.wait_for(lambda: bool(ended), name)
        if METHODS[index][1] != "unary":
            call.cancel()
        code, text = ended[0]
        if code:
            raise from_status(code, text)
        return response

    def wait_for(self, done: Callable[[], bool], what: str) -> None:
        """Live on until `done()`. Raises DeadlineExceeded after thirty simulated seconds."""
        if not self.world.run_until(done, ANSWER_S * NS_PER_S):
            raise DeadlineExceeded(f"no answer to {what}")


class SimulatedWatch:
    """What has changed so far; `take` gives it and forgets it."""

    def __init__(self, etcd: SimulatedEtcd, request: rpc.WatchCreateRequest) -> None:
        self._etcd = etcd
        self._state = WatchState(request)
        self._events: list[results.Event] = []
        self._failure: ClientError | None = None
        self._open()
        etcd.wait_for(lambda: self._state.created or self._failure is not None, "the watch")

    def take(self) -> list[results.Event]:
        """The events that have arrived by now. Raises what ended the watch."""
        if self._failure is not None and not self._events:
            raise self._failure
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        self._call.cancel()

    def _open(self) -> None:
        index = _INDEX["/etcdserverpb.Watch/Watch"]
        self._call = self._etcd.member.network.stream(index, self._arrived, self._ended)
        request = rpc.WatchRequest(create_request=self._state.request())
        self._call.send(request.SerializeToString())

    def _arrived(self, message: bytes) -> None:
        try:
            raw, rest = results.split_events(message)
            response = self._state.received(rpc.WatchResponse.FromString(rest), raw)
        except ClientError as failure:
            self._failure = failure
            return
        if response is not None:
            self._events += response.events

    def _ended(self, code: int, text: str) -> None:
        """The member has died: go on where we were, when it is back."""
        self._etcd.world.after(NS_PER_S // 10, self._open)
