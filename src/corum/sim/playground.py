"""A simulated etcd to test with: real members, virtual time.

    etcd = SimulatedEtcd()
    lease = etcd.lease(3600)
    etcd.put("k", "v", lease=lease)
    etcd.advance(3601)
    assert etcd.get("k") is None

Every call returns when a simulated member has answered; time passes only inside calls and by
`advance`, an hour in a few milliseconds. The same seed gives the same run. Several members can be
killed, paused and cut off from each other:

    etcd = SimulatedEtcd(members=3)
    etcd.partition([etcd.leader()])
    etcd.put("k", "v")  # the other two have elected one of them
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from corum.api.methods import METHODS
from corum.client import requests, results
from corum.client.errors import ClientError, DeadlineExceeded, from_status
from corum.client.watch_state import WatchState
from corum.pb import rpc
from corum.server.node import NodeConfig
from corum.sim.cluster import Cluster
from corum.sim.world import World
from corum.values import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from google.protobuf.message import Message

    from corum.client.requests import (
        Bytes,
        Condition,
        DeleteOptions,
        Operation,
        PutOptions,
        RangeOptions,
    )
    from corum.sim.machines import Machine

    T = TypeVar("T", bound=Message)

ANSWER_S = 30  # of simulated time, for one call
AWAKE_NS = 2 * NS_PER_S  # in which what is due gets done
AWAKE_TOGETHER_NS = 6 * NS_PER_S  # the same with elections
FOR_EVER_NS = 1 << 60
SEGMENT_BYTES = 64 * 1024
_INDEX = {path: number for number, (path, _) in enumerate(METHODS)}


class SimulatedEtcd:
    """Members in a world of their own; the calls are those of `corum.Client`, without timeouts.

    Each call goes to the leader, and waits for one that a majority hears. What is done to members
    has the names that `corum.LocalCluster` has for it; no name means all of them.
    """

    def __init__(self, seed: int = 1, members: int = 1, **options: Any) -> None:
        """Members are called m1, m2, ...; `options` are fields of `NodeConfig`."""
        self.world = World(seed)
        config = NodeConfig(**options)
        self.cluster = Cluster(self.world, config, members, segment_bytes=SEGMENT_BYTES)
        self._paused: set[str] = set()
        self._awake_ns = AWAKE_NS if members == 1 else AWAKE_TOGETHER_NS
        self.cluster.start()
        self.leader()

    @property
    def now_s(self) -> float:
        """Simulated seconds since the beginning."""
        return self.world.now_ns / NS_PER_S

    def advance(self, seconds: float) -> None:
        """Let so much time pass. Everybody sleeps through all but the last seconds of it."""
        duration_ns = int(seconds * NS_PER_S)
        if duration_ns > self._awake_ns:
            self.world.jump(duration_ns - self._awake_ns)
            duration_ns = self._awake_ns
        self.world.run_for(duration_ns)

    # Members ---------------------------------------------------------------------------------

    @property
    def members(self) -> list[str]:
        return [machine.name for machine in self.cluster.machines]

    def leader(self) -> str:
        """The member that leads a majority, waiting for one. Raises DeadlineExceeded."""
        return self._lead().name

    def followers(self) -> list[str]:
        """All members but the leader, running or not."""
        leader = self.leader()
        return [name for name in self.members if name != leader]

    def crash(self, *names: str, power: bool = True) -> None:
        """Die at once (power: with what was not synced to disk) and come back."""
        machines = self._named(names)
        for machine in machines:
            machine.crash(power=power)
        self.wait_for(lambda: all(machine.is_up for machine in machines), "the return")

    def kill(self, *names: str) -> None:
        """The processes are gone until `start`; what they had written stays."""
        for machine in self._named(names):
            machine.stay_away(FOR_EVER_NS)
            machine.crash(power=False)
            self._paused.discard(machine.name)

    def start(self, *names: str) -> None:
        """Start what was killed."""
        for machine in self._named(names):
            machine.stay_away(0)
            if not machine.is_up:
                machine.start()

    def restart(self, *names: str) -> None:
        self.kill(*names)
        self.start(*names)

    def pause(self, *names: str) -> None:
        """The processes stand still until `resume`: connections stay, nothing is answered."""
        for machine in self._named(names):
            machine.pause(FOR_EVER_NS)
            self._paused.add(machine.name)

    def resume(self, *names: str) -> None:
        for machine in self._named(names):
            machine.go_on()
            self._paused.discard(machine.name)

    def partition(self, *groups: Sequence[str]) -> None:
        """Members of different groups hear nothing of each other; replaces what was cut.

        Who is in no group belongs to one more: `partition(["m1"])` cuts m1 off.
        """
        group_of = {
            machine.name: number
            for number, group in enumerate(groups)
            for machine in self._named([group] if isinstance(group, str) else group)
        }
        self.heal()
        names = self.members
        apart = [(a, b) for a in names for b in names if group_of.get(a) != group_of.get(b)]
        self.cluster.fabric.cut_links(apart)

    def cut(self, source: str, target: str) -> None:
        """`target` hears nothing of `source` any more; the other direction stays as it is."""
        self._named((source, target))
        self.cluster.fabric.cut_links([(source, target)])

    def heal(self) -> None:
        """Everybody hears everybody."""
        self.cluster.fabric.heal()

    def _named(self, names: Sequence[str]) -> list[Machine]:
        unknown = set(names) - set(self.members)
        if unknown:
            raise ValueError(f"no such member: {', '.join(sorted(unknown))}")
        machines = self.cluster.machines
        return [machine for machine in machines if not names or machine.name in names]

    def _lead(self) -> Machine:
        self.wait_for(lambda: self.leading() is not None, "a call: there is no leader")
        machine = self.leading()
        assert machine is not None, "waited for"
        return machine

    def leading(self) -> Machine | None:
        """Who leads a majority now."""
        running = [m for m in self.cluster.machines if m.is_up and m.name not in self._paused]
        cut = self.cluster.fabric.cut

        def hears(one: Machine, other: Machine) -> bool:
            return not {(one.name, other.name), (other.name, one.name)} & cut

        for machine in running:
            heard = sum(hears(machine, other) for other in running)
            if machine.node.is_leader and heard * 2 > len(self.cluster.machines):
                return machine
        return None

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

        network = self._lead().network
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
        machine = self._etcd.leading()
        if machine is None:
            self._etcd.world.after(NS_PER_S // 10, self._open)
            return
        index = _INDEX["/etcdserverpb.Watch/Watch"]
        self._call = machine.network.stream(index, self._arrived, self._ended)
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
