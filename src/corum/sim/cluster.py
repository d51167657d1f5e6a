"""Machines that make a cluster, and a client's choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from corum.member import boot
from corum.membership.bootstrap import FirstList
from corum.membership.members import Member
from corum.server.node import NodeConfig
from corum.sim.calls import META, NETWORK_NS, Call, OnEnd, OnMessage
from corum.sim.machines import Machine
from corum.sim.member import NO_FAULTS, RESTART_NS, WAKE_NS, Faults
from corum.sim.model import History
from corum.sim.raft_checks import Invariants
from corum.sim.watch_checks import is_inhabited
from corum.sim.wire import Fabric
from corum.sim.world import Violation, World
from corum.values import ClusterId, MemberId, value

TOKEN: Final = "sim"


@value
class Conditions:
    """What all machines of a run have in common."""

    wake_ns: int = WAKE_NS
    restart_ns: int = RESTART_NS
    skew: float = 0.0
    """Clocks run up to so much faster or slower than time; a fraction."""


CALM: Final = Conditions()


def url_of(name: str) -> str:
    """A machine's first peer URL."""
    return f"http://{name}:2380"


class Cluster:
    """Every machine that ever was, and what holds between them."""

    def __init__(
        self,
        world: World,
        config: NodeConfig,
        members: int,
        *,
        segment_bytes: int,
        faults: Faults = NO_FAULTS,
        conditions: Conditions = CALM,
        pre_vote: bool = True,
        meta: tuple[Any, ...] = META,
    ) -> None:
        """`meta`: what transports say of clients."""
        self.world = world
        self.meta = meta
        self.config = config
        self.segment_bytes = segment_bytes
        self.faults = faults
        self.conditions = conditions
        self.pre_vote = pre_vote
        self.fabric = Fabric(world)
        self.invariants = Invariants()
        self.machines: list[Machine] = []
        names = [f"m{number}" for number in range(1, members + 1)]
        initial = {name: [url_of(name)] for name in names}
        for name in names:
            self._new(name, boot.new_members(initial, TOKEN, name, initial[name]), joins=False)
        self._named = members

    def _new(self, name: str, first: FirstList, *, joins: bool) -> Machine:
        config = replace(self.config, name=name, client_urls=(f"http://{name}:2379",))
        machine = Machine(
            self.world,
            config,
            self.fabric,
            self.invariants,
            lambda: first,
            [url_of(name)],
            joins=joins,
            segment_bytes=self.segment_bytes,
            faults=self.faults,
            pre_vote=self.pre_vote,
        )
        machine.network.meta = self.meta
        conditions = self.conditions
        machine.wake_ns, machine.restart_ns = conditions.wake_ns, conditions.restart_ns
        if conditions.skew:
            machine.pace = self.world.dice.uniform(1 - conditions.skew, 1 + conditions.skew)
            self.world.trace(f"{name}: its clock runs {machine.pace:.3f} times as fast")
        self.machines.append(machine)
        return machine

    def next_name(self) -> str:
        """Of a machine that is to be added."""
        self._named += 1
        return f"m{self._named}"

    def join(self, name: str, cluster: int, listed: Sequence[Any], member: int) -> Machine:
        """Start a machine that the cluster has been told of: `listed` are rpc.Member."""
        members = tuple(
            Member(MemberId(one.ID), list(one.peerURLs), one.isLearner, one.name) for one in listed
        )
        first = FirstList(ClusterId(cluster), MemberId(member), members)
        machine = self._new(name, first, joins=True)
        self.world.trace(f"{name}: joins as {member:x}")
        machine.start()
        return machine

    def start(self) -> None:
        """Every machine boots."""
        for machine in self.machines:
            machine.start()

    # ---- who there is

    @property
    def members(self) -> list[Machine]:
        """Machines that were not removed."""
        return [each for each in self.machines if not each.is_removed]

    @property
    def up(self) -> list[Machine]:
        """Those of them that run."""
        return [each for each in self.members if each.is_up]

    @property
    def leader(self) -> Machine | None:
        """Who leads, the newest if there are two."""
        found = [each for each in self.up if each.node.is_leader]
        return max(found, key=lambda each: each.node.term) if found else None

    def by_id(self, member: int) -> Machine | None:
        """The machine of a member."""
        for each in self.machines:
            if each.incarnation and each.node.members.local == member:
                return each
        return None

    def by_name(self, name: str) -> Machine:
        """The machine with this name."""
        return next(each for each in self.machines if each.name == name)

    def latest_unix_ns(self) -> int:
        """The latest wall time that any member was ever told."""
        return max(each.latest_unix_ns for each in self.machines)

    # ---- what must hold

    def compare_hashes(self, history: History) -> int:
        """HashKV of all members at the newest revision that all have; how many were compared.

        Raises Violation.
        """
        ready = [each for each in self.up if not each.node.replaying]
        if len(ready) < 2:
            return 0
        stores = [each.node.store for each in ready]
        revision = min(store.revision for store in stores)
        compacted = {store.compacted for store in stores}
        if len(compacted) > 1 or not max(2, *compacted) <= revision <= history.revision:
            return 0
        if not is_inhabited(history, revision):
            return 0
        found: dict[str, int] = {}
        for each, store in zip(ready, stores, strict=True):
            job = store.hash_kv(revision)
            found[each.name] = job.run().hash
        if len(set(found.values())) > 1:
            raise Violation(f"HashKV at {revision} differs: {found}")
        return len(found)


class Balancer:
    """`Calls` on a cluster: stays with a machine for a while, and takes another when it is gone."""

    def __init__(self, cluster: Cluster, *, restless: float = 0.1) -> None:
        """`restless`: how often a call goes elsewhere than the one before; a probability."""
        self._cluster = cluster
        self._restless = restless
        self._at: Machine | None = None

    def _choose(self) -> Machine:
        world, cluster = self._cluster.world, self._cluster
        at = self._at
        if at is None or not at.is_up or at.is_removed or world.chance(self._restless):
            at = self._at = world.dice.choice(cluster.members or cluster.machines)
        return at

    def _moving_on(self, on_end: OnEnd) -> OnEnd:
        """After a failure another machine is tried."""

        def ended(code: int, text: str) -> None:
            if code:
                self._at = None
            on_end(code, text)

        return ended

    def unary(
        self, method: int, message: bytes, on_message: OnMessage, on_end: OnEnd, token: str = ""
    ) -> Call:
        """See `calls.Network`."""
        ended = self._moving_on(on_end)
        return self._choose().network.unary(method, message, on_message, ended, token)

    def http(
        self, verb: str, target: str, body: bytes, on_message: OnMessage, on_end: OnEnd
    ) -> Call:
        """See `calls.Network`."""
        ended = self._moving_on(on_end)
        return self._choose().network.http(verb, target, body, on_message, ended)

    def stream(
        self, method: int, on_message: OnMessage, on_end: OnEnd, read_ns: int = NETWORK_NS
    ) -> Call:
        """See `calls.Network`."""
        ended = self._moving_on(on_end)
        return self._choose().network.stream(method, on_message, ended, read_ns)
