"""A run of several members: act one, anything may fail and nothing wrong may happen; act two,
nothing fails and everything must come to an end; then the judges."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any, Final

from corum import v2store
from corum.auth.passwords import COST_MIN
from corum.backend import schema
from corum.pb import rpc
from corum.server.node import NodeConfig
from corum.sim.acts import Acts
from corum.sim.auth_checks import check_auth, probe
from corum.sim.auth_workload import ROOTS_META
from corum.sim.calls import META
from corum.sim.chaos import Chaos
from corum.sim.checkers import check_alarms
from corum.sim.cluster import Cluster, Conditions
from corum.sim.cluster_workload import ClusterWorkload
from corum.sim.features import Features, random_features
from corum.sim.linearizability import check_linearizable
from corum.sim.machines import Machine
from corum.sim.member import Faults
from corum.sim.sessions import Client, Later, Operation, Process, spawn
from corum.sim.simulation import random_config
from corum.sim.v2_checks import check_v2, check_waits
from corum.sim.v2_workload import V2Workload
from corum.sim.workload import KEYS
from corum.sim.world import Violation, World
from corum.values import NS_PER_MS, NS_PER_S

ACT_NS: Final = 900 * NS_PER_S
"""Virtual time that an act may take."""
CONVERGED_NS: Final = 60 * NS_PER_S
"""After which all members must hold the same, when nothing fails."""
COMPARE_NS: Final = 700 * NS_PER_MS
REPLICATED: Final = tuple(
    name for name in schema.ETCD_BUCKETS if name not in (schema.META, schema.CLUSTER)
)


TICKS: Final = ((100, 10), (200, 5), (250, 4))
"""(ms, of them in an election timeout of a second): fewer ticks are more seeds, and more ties."""


def of_cluster(world: World, config: NodeConfig) -> NodeConfig:
    """How finely members see time, and whether changes of members wait for six calm seconds."""
    tick_ms, election_ticks = world.dice.choice(TICKS)
    return replace(
        config,
        tick_ns=tick_ms * NS_PER_MS,
        election_ticks=election_ticks,
        strict_reconfig=world.dice.random() < 0.3,
    )


def random_conditions(world: World) -> Conditions:
    """Loops that take events one by one or many at once, machines that are back soon or late."""
    dice = world.dice
    return Conditions(
        wake_ns=dice.choice((20_000, 20_000, 400_000)),
        restart_ns=dice.choice((50, 200, 1_000)) * NS_PER_MS,
        skew=dice.choice((0.0, 0.0, 0.001, 0.05, 0.3)),
    )


def random_faults(world: World) -> Faults:
    """From none to a crash every few hundred effects of a member."""
    dice = world.dice
    return Faults(
        crash=dice.choice((0.0, 0.0, 0.0005, 0.002)),
        power=dice.choice((0.0, 0.5, 1.0)),
        sync_error=dice.choice((0.0, 0.0, 0.0, 0.001)),
        clean_stop=dice.choice((0.0, 0.0, 0.0, 0.0003)),
    )


class ClusterSimulation(Acts[ClusterWorkload]):
    """One seed."""

    act_ns = ACT_NS
    answer_ns = CONVERGED_NS
    patience_ns = 5 * NS_PER_S

    def __init__(
        self,
        seed: int,
        *,
        members: int = 3,
        operations: int = 25,
        say: Callable[[str], None] | None = None,
        features: Features | None = None,
    ) -> None:
        """`features`: instead of what the seed says."""
        self.world = World(seed, say)
        self.features = features or random_features(seed)
        dice = self.world.dice
        config = of_cluster(self.world, random_config(self.world))
        self.cluster = Cluster(
            self.world,
            replace(
                config,
                quota_bytes=self.features.quota_bytes,
                client_cert_auth=self.features.auth,
                bcrypt_cost=COST_MIN,
            ),
            members,
            segment_bytes=dice.choice((1_024, 4_096, 65_536)),
            faults=random_faults(self.world),
            conditions=random_conditions(self.world),
            pre_vote=dice.random() < 0.8,
            meta=ROOTS_META if self.features.auth else META,
        )
        self.chaos = Chaos(self.cluster)
        self.workload = ClusterWorkload(
            self.world,
            self.cluster,
            self.chaos,
            self.features,
            operations=operations // 2 if self.features.crowded else operations,
            clients=dice.randint(2, 4),
        )
        self.compared = 0
        self.told = self.world.counts
        """What happened in act one (`coverage`)."""

    def run(self) -> None:
        """Both acts and the verdict. Raises Violation."""
        workload = self.workload
        self.cluster.start()
        for process in workload.processes():
            spawn(process)
        spawn(self._compare())
        self.chaos.begin()
        self.act(lambda: not workload.busy(), "the clients are not done")
        self.told = self.world.counts.copy()
        self.world.trace("act two")
        self.chaos.stop()
        self.workload.calm_down()
        revision = self._settle()
        self.world.trace(f"settled at {revision}")
        self.verdict()
        check_linearizable(workload.operations)

    def _compare(self) -> Process:
        """Hashes of all members at the same revision, again and again."""
        history = self.workload.auditor.history
        while True:
            yield lambda resume: self.world.after(COMPARE_NS, lambda: resume(None))
            self.compared += self.cluster.compare_hashes(history)

    def fastest(self) -> float:
        """See `Acts`."""
        return 1 + self.cluster.conditions.skew

    def leases_left(self) -> bool:
        """See `Acts`."""
        return any(len(each.node.lessor) for each in self.cluster.up)

    # ---- act two

    def _settle(self) -> int:
        """All come together, leases run out, watchers catch up, a power failure changes nothing."""
        self._until("the list of members is not answered", self.workload.adopt)
        if self.features.downgrades:
            self._end_downgrades()
        self._converge()
        self.let_leases_expire()
        if self.features.quota_bytes:
            self._alarms_end()
        if self.workload.auth is not None:
            self._until("nobody is told of rights", self._probe_rights)
            complaint = "the last requests are not answered"
            self.act(lambda: not self.workload.busy(), complaint, CONVERGED_NS)
        if self.workload.v2 is not None:
            self._let_v2_keys_expire(self.workload.v2)
        before = self.everything()
        self._converge()
        self.world.trace("power failure of all")
        for machine in self.cluster.up:
            machine.crash(power=True)
        self._converge()
        after = self.unchanged(before, "a power failure of all")
        self.watchers_get_to(after.revision)
        if self.workload.v2 is not None:
            complaint = "who waits for v2 events does not get them"
            self.act(self.workload.v2.caught_up, complaint, CONVERGED_NS)
        return after.revision

    def _let_v2_keys_expire(self, v2: V2Workload) -> None:
        """All wall clocks go to where the last is due: they are hours apart by now."""
        due_ns = max((each.node.expire_ns for each in v2.record.changes.values()), default=0)
        for machine in self.cluster.machines:
            machine.wall_offset_ns = max(machine.wall_offset_ns, due_ns - self.world.unix_ns)

        def gone() -> bool:
            return not any(each.node.v2.store.has_ttl_keys for each in self.cluster.up)

        self.act(gone, "v2 keys that do not expire", CONVERGED_NS)

    def verdict(self) -> None:
        """See `Acts`."""
        super().verdict()
        check_alarms(self.workload.operations, self.workload.alarmed)
        v2 = self.workload.v2
        if v2 is not None:
            check_v2(v2.record, v2.operations)
            check_waits(v2.record, v2.watchers, v2.streams)
        if self.workload.auth is not None:
            check_auth(self.workload.auth)

    def _until(self, complaint: str, ask: Callable[[Client], Generator[Later, Any, bool]]) -> None:
        """The judge asks until it is so."""
        done: list[bool] = []

        def process() -> Process:
            judge = self.workload.client("judge")
            while not (yield from ask(judge)):
                yield judge.sleep(100 * NS_PER_MS)
            done.append(True)

        while not done:
            spawn(process())
            self.act(lambda: bool(done), complaint, CONVERGED_NS)

    def _end_downgrades(self) -> None:
        """The cluster has its version again."""
        self._until("a downgrade does not end", self.workload.revert)
        wanted = self.cluster.config.cluster_version

        def is_back() -> bool:
            members = [each.node.members for each in self.cluster.up]
            return all(each.version == wanted and not each.downgrade_target for each in members)

        self.act(is_back, "the cluster does not come back to its version", CONVERGED_NS)

    def _probe_rights(self, client: Client) -> Generator[Later, Any, bool]:
        """At the leader, as learners answer nobody."""
        leader, auth = self.cluster.leader, self.workload.auth
        assert auth is not None, "without authentication"
        if leader is not None:
            client.network = leader.network
        return (yield from probe(auth, client))

    def _alarms_end(self) -> None:
        """There is room for everything again, and everybody knows."""
        self.act(
            lambda: not any(each.node.alarms.get(0, 0) for each in self.cluster.up),
            "alarms that nobody can end",
            CONVERGED_NS,
        )
        self._until("nobody may write", self._writes)

    def _writes(self, client: Client) -> Generator[Later, Any, bool]:
        """Another value each time: what is refused now may be carried out nevertheless."""
        request = rpc.PutRequest(key=KEYS[0], value=self.workload.value())
        written: Operation = yield client.ask("KV/Put", request, self.patience_ns)
        return written.succeeded

    def _converge(self) -> None:
        """Whoever is a member runs, follows one leader, and holds the same. Raises Violation."""
        if not self.world.run_until(self._is_converged, CONVERGED_NS):
            raise Violation(f"no agreement: {self._about()}")
        machines = self._listed()
        first = content_of(machines[0])
        for other in machines[1:]:
            found = content_of(other)
            for name in [each for each in found if each in first]:
                rows = found[name]
                if rows != first[name]:
                    odd = sorted(set(rows).symmetric_difference(first[name]))
                    raise Violation(f"bucket {name} of {other} and {machines[0]} differ: {odd[:4]}")
        trees = {v2_content_of(each) for each in machines}
        if len(trees) > 1:
            raise Violation("v2 stores differ:\n" + "\n".join(sorted(trees)))

    def _is_converged(self) -> bool:
        leader = self.cluster.leader
        if leader is None:
            return False
        here = self._listed()
        if len(here) != len(leader.node.members):
            return False
        if any(not each.is_up or each.node.replaying for each in here):
            return False
        nodes = [each.node for each in here]
        return (
            all(node.leader == leader.node.members.local for node in nodes)
            and len({node.applied_index for node in nodes}) == 1
            and leader.node.applied_index == leader.node.raft.raft.log.last_index
        )

    def _listed(self) -> list[Machine]:
        """The machines of all members, as the leader knows them."""
        leader = self.cluster.leader
        if leader is None:
            return []
        wanted = {each.id for each in leader.node.members}
        return [
            each
            for each in self.cluster.machines
            if each.incarnation and each.is_up and each.node.members.local in wanted
        ]

    def _about(self) -> str:
        parts: list[str] = []
        for each in self.cluster.machines:
            if not each.incarnation:
                continue
            node = each.node
            state = "up" if each.is_up else "removed" if each.is_removed else "down"
            parts.append(
                f"{each} {state} {node.members.local:x} {node.soft.role.name} of {node.leader:x} "
                f"term {node.term} applied {node.applied_index} of {node.raft.raft.log.last_index}"
                f" committed {node.committed} members {[f'{m.id:x}' for m in node.members]}"
                f" {node.reconfiguration.conf_state}"
            )
        return "\n".join(parts)


def content_of(machine: Machine) -> dict[str, list[tuple[bytes, bytes]]]:
    """Everything replicated that a member holds; keys still to be compacted are left out."""
    backend = machine.node.backend
    skipped = schema.KEY if machine.node.store.compaction is not None else ""
    return {name: backend.range(name) for name in REPLICATED if name != skipped}


def v2_content_of(machine: Machine) -> str:
    """The v2 store as a `.snap` file holds it, but for events and statistics, which hold seconds
    left and reads of each member's own."""
    saved = v2store.capture(machine.node.v2.store).encode().decode()
    return saved.partition(',"WatcherHub"')[0]


def simulate_cluster(
    seed: int, members: int = 3, say: Callable[[str], None] | None = None
) -> ClusterSimulation:
    """Run a seed. Raises Violation and whatever a member raises."""
    simulation = ClusterSimulation(seed, members=members, say=say)
    simulation.run()
    return simulation
