"""One simulated member and one client that waits for its answers: for scenarios of a few lines."""

from __future__ import annotations

from typing import Any

from corum.pb import rpc
from corum.server.ports import NodeConfig
from corum.sim.checkers import check
from corum.sim.member import NO_FAULTS, Faults, SimMember
from corum.sim.sessions import Client, Operation, spawn
from corum.sim.watchers import Auditor
from corum.sim.world import World
from corum.values import NS_PER_MS, NS_PER_S


class Scene:
    """`ask`, `put`, `get` return when answered; `restart` when the member leads again."""

    def __init__(
        self,
        seed: int = 1,
        *,
        segment_bytes: int = 4_096,
        faults: Faults = NO_FAULTS,
        **options: Any,
    ) -> None:
        """`options` are fields of NodeConfig."""
        self.world = World(seed)
        self.operations: list[Operation] = []
        config = NodeConfig(name="sim", client_urls=("http://sim:2379",), **options)
        self.member = SimMember(self.world, config, segment_bytes=segment_bytes, faults=faults)
        self.client = Client(self.world, self.member.network, "client", self.operations)
        self.auditor = Auditor(self.world, self.member.network)
        self.member.start()
        spawn(self.auditor.run())

    def ask(self, name: str, request: Any) -> Operation:
        found: list[Operation] = []
        self.client.ask(name, request)(found.append)
        assert self.world.run_until(lambda: bool(found), 20 * NS_PER_S), f"{name} is not answered"
        return found[0]

    def put(self, key: bytes, value: bytes, lease: int = 0) -> Operation:
        return self.ask("KV/Put", rpc.PutRequest(key=key, value=value, lease=lease))

    def get(self, key: bytes) -> bytes | None:
        read = self.ask("KV/Range", rpc.RangeRequest(key=key))
        assert read.succeeded, read
        return read.response.kvs[0].value if read.response.kvs else None

    def grant(self, lease: int, ttl_s: int) -> Operation:
        return self.ask("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=lease, TTL=ttl_s))

    def keep_alive(self, lease: int) -> Operation:
        return self.ask("Lease/LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=lease))

    def disarm(self) -> None:
        for alarm in self.ask("Maintenance/Alarm", rpc.AlarmRequest()).response.alarms:
            request = rpc.AlarmRequest(
                action=rpc.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm
            )
            assert self.ask("Maintenance/Alarm", request).succeeded

    def wait(self, seconds: float) -> None:
        self.world.run_for(int(seconds * NS_PER_S))

    def restart(self, *, power: bool = True) -> None:
        """Crash now, and wait until it serves again."""
        self.member.crash(power=power)
        self.wait_for_leader()

    def wait_for_leader(self) -> None:
        member = self.member
        assert self.world.run_until(
            lambda: member.is_up and member.node.is_leader and not member.node.replaying,
            20 * NS_PER_S,
        ), "the member does not come back"

    def settle(self) -> None:
        """Whatever is under way comes to its end."""
        self.world.run_for(500 * NS_PER_MS)

    def judge(self) -> None:
        """The checkers' verdict on everything so far. Raises Violation."""
        newest = max(each.revision for each in self.operations if each.succeeded)
        assert self.world.run_until(
            lambda: self.auditor.history.revision >= newest, 20 * NS_PER_S
        ), f"the auditor is told nothing of {newest}"
        check(self.auditor, self.operations)
