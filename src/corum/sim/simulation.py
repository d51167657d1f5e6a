"""A whole run: act one, anything may fail and nothing wrong may happen; act two, nothing fails and
everything must come to an end; then the judges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from corum.pb import rpc
from corum.server.node import NodeConfig
from corum.sim.acts import Acts
from corum.sim.member import NO_FAULTS, Faults, SimMember
from corum.sim.sessions import Process, spawn
from corum.sim.workload import Workload
from corum.sim.world import World
from corum.values import NS_PER_MS, NS_PER_S

ACT_NS: Final = 600 * NS_PER_S
"""Virtual time that an act may take."""


def random_config(world: World) -> NodeConfig:
    """Small numbers, so that snapshots, compactions and commits happen all the time."""
    dice = world.dice
    return NodeConfig(
        batch_interval_ns=dice.choice((1, 10, 100)) * NS_PER_MS,
        batch_operations_max=dice.choice((5, 50, 10_000)),
        watch_progress_ns=dice.choice((200, 2_000)) * NS_PER_MS,
        compaction_rows=dice.choice((1, 5, 1_000)),
        compaction_pause_ns=dice.choice((1, 10)) * NS_PER_MS,
        snapshot_count=dice.choice((5, 20, 100)),
        snapshot_catchup_entries=dice.choice((1, 5, 50)),
        lease_checkpoints=dice.random() < 0.5,
        client_urls=("http://sim:2379",),
        name="sim",
    )


def random_faults(world: World) -> Faults:
    """From none to a crash every few effects."""
    dice = world.dice
    return Faults(
        crash=dice.choice((0.0, 0.001, 0.004, 0.02)),
        power=dice.choice((0.0, 0.5, 1.0)),
        sync_error=dice.choice((0.0, 0.0, 0.003)),
        clean_stop=dice.choice((0.0, 0.0, 0.001)),
    )


class Simulation(Acts[Workload]):
    """One seed."""

    act_ns = answer_ns = ACT_NS

    def __init__(
        self,
        seed: int,
        *,
        faults: Faults | None = None,
        operations: int = 60,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """`faults`: instead of what the seed says."""
        self.world = World(seed, say)
        dice = self.world.dice
        config, chosen = random_config(self.world), random_faults(self.world)
        self.member = SimMember(
            self.world,
            config,
            segment_bytes=dice.choice((1_024, 4_096, 65_536)),
            faults=chosen if faults is None else faults,
        )
        self._disk_fills = dice.random() < 0.3 and faults is None
        self.workload = Workload(
            self.world, self.member, operations=operations, clients=dice.randint(2, 5)
        )

    def run(self) -> None:
        """Both acts and the verdict. Raises Violation."""
        self.member.start()
        for process in self.workload.processes():
            spawn(process)
        spawn(self._fill_disk())
        self.act(lambda: self.workload.running == 0, "the clients are not done")
        self.world.trace("act two")
        self._heal()
        revision = self._settle()
        self.world.trace(f"settled at {revision}")
        self.verdict()

    def _fill_disk(self) -> Process:
        """Now and then there is no room for a while."""
        world, disk = self.world, self.member.disk
        while self._disk_fills:
            yield lambda resume: world.after(world.delay(300 * NS_PER_MS), lambda: resume(None))
            if not self._disk_fills:
                return
            world.trace("disk full")
            disk.fill(log=world.chance(0.2))
            yield lambda resume: world.after(world.delay(300 * NS_PER_MS), lambda: resume(None))
            world.trace("disk has room")
            disk.free()

    def _heal(self) -> None:
        self._disk_fills = False
        self.member.faults = NO_FAULTS
        self.member.crash_at.clear()
        self.member.disk.free()

    def leases_left(self) -> bool:
        """See `Acts`."""
        return not self.member.is_up or bool(len(self.member.node.lessor))

    def _settle(self) -> int:
        """Leases run out, watchers catch up, a restart changes nothing; the last revision."""
        self.act(lambda: self.member.is_up, "the member does not come up")
        self.let_leases_expire()
        self.ask("Maintenance/HashKV", rpc.HashKVRequest())
        before = self.everything()
        self.member.stop()
        self.world.run_for(NS_PER_S)
        after = self.unchanged(before, "a restart")
        self.ask("Maintenance/HashKV", rpc.HashKVRequest())
        self.watchers_get_to(after.revision)
        return after.revision


def simulate(seed: int, say: Callable[[str], None] | None = None) -> str:
    """Run a seed; the hash of its trace. Raises Violation and whatever the member raises."""
    simulation = Simulation(seed, say=say)
    simulation.run()
    return simulation.world.trace_hash
