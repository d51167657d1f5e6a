"""Some simulated members and one client that names the machine it asks: for short scenarios."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from corum.pb import rpc
from corum.server.ports import NodeConfig
from corum.sim.cluster import Cluster, url_of
from corum.sim.cluster_simulation import content_of
from corum.sim.machines import Machine
from corum.sim.sessions import Client, Operation
from corum.sim.world import World
from corum.values import NS_PER_MS, NS_PER_S


class ClusterScene:
    """`ask`, `put`, `get` return when answered; nothing fails but what the scenario breaks."""

    def __init__(self, seed: int = 1, *, members: int = 3, **options: Any) -> None:
        """`options` are fields of NodeConfig."""
        self.world = World(seed)
        self.operations: list[Operation] = []
        config = NodeConfig(**options)
        self.cluster = Cluster(self.world, config, members, segment_bytes=4_096)
        self.cluster.start()
        self.wait_for_leader()
        self.wait(6)  # versions, attributes; connected long enough for changes of members

    def ask(self, at: Machine, name: str, request: Any, *, within_s: int = 30) -> Operation:
        found: list[Operation] = []
        client = Client(self.world, at.network, "client", self.operations)
        client.ask(name, request)(found.append)
        self.until(lambda: bool(found), f"{name} is not answered", within_s)
        return found[0]

    def put(self, key: bytes, value: bytes, *, lease: int = 0, at: Machine | None = None) -> None:
        request = rpc.PutRequest(key=key, value=value, lease=lease)
        answer = self.ask(at or self.leader, "KV/Put", request)
        assert answer.succeeded, answer

    def puts(self, at: list[Machine], *, every_ms: int, for_ms: int) -> list[Operation]:
        """From now on a put at each machine every so often; the list of those that are answered."""
        answers: list[Operation] = []

        def put(machine: Machine, number: int) -> None:
            client = Client(self.world, machine.network, f"client {number}", self.operations)
            request = rpc.PutRequest(key=b"k%d" % number, value=machine.name.encode())
            client.ask("KV/Put", request)(answers.append)

        for number in range(for_ms // every_ms):
            for machine in at:
                after_ns = number * every_ms * NS_PER_MS
                self.world.after(after_ns, partial(put, machine, number))
        return answers

    def get(self, key: bytes, *, at: Machine | None = None) -> bytes | None:
        read = self.ask(at or self.leader, "KV/Range", rpc.RangeRequest(key=key))
        assert read.succeeded, read
        return read.response.kvs[0].value if read.response.kvs else None

    def grant(self, lease: int, ttl_s: int, *, at: Machine | None = None) -> None:
        request = rpc.LeaseGrantRequest(ID=lease, TTL=ttl_s)
        assert self.ask(at or self.leader, "Lease/LeaseGrant", request).succeeded

    def add(self, *, learner: bool) -> Machine:
        name = self.cluster.next_name()
        request = rpc.MemberAddRequest(peerURLs=[url_of(name)], isLearner=learner)
        added = self.ask(self.leader, "Cluster/MemberAdd", request)
        assert added.succeeded, added
        response = added.response
        return self.cluster.join(
            name, response.header.cluster_id, response.members, response.member.ID
        )

    @property
    def leader(self) -> Machine:
        self.wait_for_leader()
        leader = self.cluster.leader
        assert leader is not None
        return leader

    @property
    def followers(self) -> list[Machine]:
        leader = self.leader
        return [each for each in self.cluster.members if each is not leader]

    def cut_off(self, machine: Machine) -> None:
        """It hears nobody, and nobody hears it."""
        others = [each.name for each in self.cluster.machines if each is not machine]
        links = [(machine.name, each) for each in others]
        self.cluster.fabric.cut_links([*links, *[(to, sender) for sender, to in links]])
        for name in others:
            self.cluster.fabric.break_between(machine.name, name)

    def heal(self) -> None:
        self.cluster.fabric.heal()

    def wait(self, seconds: float) -> None:
        self.world.run_for(int(seconds * NS_PER_S))

    def until(self, done: Callable[[], bool], complaint: str, within_s: int = 30) -> None:
        assert self.world.run_until(done, within_s * NS_PER_S), complaint

    def wait_for_leader(self) -> None:
        self.until(lambda: self.cluster.leader is not None, "nobody leads")

    def converge(self) -> None:
        """All hold the same."""

        def equal() -> bool:
            machines = self.cluster.members
            if not all(each.is_up and not each.node.replaying for each in machines):
                return False
            return len({each.node.applied_index for each in machines}) == 1

        self.until(equal, "the members do not come together", 60)
        first, *others = [content_of(each) for each in self.cluster.members]
        for other in others:
            assert other == first
