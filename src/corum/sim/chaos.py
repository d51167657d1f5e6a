"""What goes wrong in a cluster while clients use it: links, machines, disks and clocks.

Each kind is a process that strikes now and then, and lets go again. Swarm testing: the seed says
which kinds there are, how often and how hard they strike, so that every mixture comes up, also the
one in which a kind of fault is not hidden by the others. `stop` ends all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from corum.sim.cluster import Cluster
from corum.sim.machines import Machine, Mangling
from corum.sim.member import NO_FAULTS
from corum.sim.sessions import Later, Process, spawn
from corum.sim.wire import NETWORK_NS, Link
from corum.values import NS_PER_MS, NS_PER_S

HOUR_NS: Final = 3_600 * NS_PER_S
CALM_SYNC_NS: Final = 400_000
RARE: Final = (
    "boot: log opened",
    "boot: before a database is taken over",
    "boot: a database was taken over",
    "cut: new segment prepared",
    "cut: old segment ended",
    "cut: new segment named",
    "database: before it is kept",
    "database: kept",
    "database: prepared",
    "database: before it is installed",
    "database: installed",
)
"""Effects that chance alone seldom hits."""
OF_WRITES: Final = ("log: written", "log: written by the short path")
"""Here a power failure finds bytes that are not synced."""
OF_SNAPSHOTS: Final = tuple(each for each in RARE if each.startswith("database"))


class Chaos:
    """See the module's docstring."""

    def __init__(self, cluster: Cluster) -> None:
        self.world = cluster.world
        self.cluster = cluster
        self.is_over = False
        dice = self.world.dice
        self._pause_ns = dice.choice((100, 300, 1_000)) * NS_PER_MS
        self._mangling = Mangling(
            lost=dice.choice((0.0, 0.0, 0.01, 0.1)),
            twice=dice.choice((0.0, 0.0, 0.02, 0.1)),
            late=dice.choice((0.0, 0.0, 0.02, 0.1)),
        )
        kinds: list[Callable[[], Iterator[Later]]] = [
            self._partition,
            self._fall_behind,
            self._broken_connections,
            self._slow_links,
            self._crash,
            self._many_crashes,
            self._crash_to_come,
            self._torn_write,
            self._farewell,
            self._standstill,
            self._clock,
            self._slow_disk,
            self._full_disk,
        ]
        self._kinds = [(kind, dice.choice((0, 0, 1, 3))) for kind in kinds]

    def begin(self) -> None:
        """Strike from now on."""
        for machine in self.cluster.machines:
            self.meets(machine)
        if any(weight for _, weight in self._kinds):
            for _ in range(self.world.between(1, 2)):
                spawn(self._run())

    def meets(self, machine: Machine) -> None:
        """A machine is exposed to it all."""
        if not self.is_over:
            machine.mangling = self._mangling

    def stop(self) -> None:
        """Everything works again."""
        self.is_over = True
        fabric = self.cluster.fabric
        fabric.heal()
        fabric.delay_ns = NETWORK_NS
        fabric.slow.clear()
        for machine in self.cluster.machines:
            machine.faults, machine.mangling = NO_FAULTS, Mangling()
            machine.crash_at.clear()
            machine.disk.free()
            machine.sync_ns = CALM_SYNC_NS
            machine.go_on()
            machine.come_back()
        self.cluster.faults = NO_FAULTS

    def _sleep(self, typical_ns: int) -> Later:
        return lambda resume: self.world.after(self.world.delay(typical_ns), lambda: resume(None))

    def _run(self) -> Process:
        kinds, weights = zip(*self._kinds, strict=True)
        while not self.is_over:
            yield self._sleep(self._pause_ns)
            if self.is_over:
                return
            yield from self.world.dice.choices(kinds, weights)[0]()

    def _any(self) -> Machine:
        """A machine, the leader more often than others."""
        leader = self.cluster.leader
        if leader is not None and self.world.chance(0.4):
            return leader
        return self.world.dice.choice(self.cluster.members)

    # ---- links

    def _partition(self) -> Iterator[Later]:
        yield from self._cut(self._division(), self.world.dice.choice((300, 1_500, 4_000)))

    def _cut(self, links: list[Link], typical_ms: int) -> Iterator[Later]:
        fabric = self.cluster.fabric
        self.world.trace(f"partition: cut {' '.join(f'{a}>{b}' for a, b in links)}")
        fabric.cut_links(links)
        if self.world.chance(0.3):
            for one, other in links:
                fabric.break_between(one, other)
        yield self._sleep(typical_ms * NS_PER_MS)
        self.world.trace("partition: healed")
        if self.world.chance(0.5):
            for one, other in links:
                fabric.break_between(one, other)
        fabric.heal()

    def _division(self) -> list[Link]:
        """Halves, one alone, one direction only, a chain."""
        dice = self.world.dice
        names = [each.name for each in self.cluster.machines]
        dice.shuffle(names)
        kind = dice.choice(("halves", "alone", "deaf", "mute", "one link", "bridge"))
        self.world.counts[f"partitions: {kind}"] += 1
        at = self.world.between(1, max(1, len(names) - 1))
        if kind in ("alone", "deaf", "mute"):
            name = self._any().name
            others = [each for each in names if each != name]
            away = [(name, each) for each in others]
            back = [(each, name) for each in others]
            return {"alone": away + back, "deaf": back, "mute": away}[kind]
        if kind == "one link":
            return [(names[0], names[-1])]
        left, right = names[:at], names[at:]
        if kind == "bridge":
            left = left[1:]
        return [link for one in left for other in right for link in ((one, other), (other, one))]

    def _fall_behind(self) -> Iterator[Later]:
        """A follower misses so much that it needs a snapshot, and may die while it gets it."""
        followers = [each for each in self.cluster.members if each is not self.cluster.leader]
        if not followers:
            return
        victim = self.world.dice.choice(followers)
        if self.world.chance(0.6):
            self._arm(victim, self.world.dice.choice(OF_SNAPSHOTS))
        others = [each.name for each in self.cluster.machines if each is not victim]
        away = [(victim.name, each) for each in others]
        yield from self._cut(away + [(to, sender) for sender, to in away], 2_000)

    def _broken_connections(self) -> Iterator[Later]:
        one, other = self._any().name, self._any().name
        self.world.trace(f"connections of {one} and {other} break")
        self.cluster.fabric.break_between(one, other)
        yield self._sleep(NS_PER_MS)

    def _slow_links(self) -> Iterator[Later]:
        """All of them, or some in one direction."""
        fabric = self.cluster.fabric
        everywhere = self.world.chance(0.3)
        self.world.trace(f"{'all' if everywhere else 'some'} links are slow")
        if everywhere:
            fabric.delay_ns = 60 * NS_PER_MS
        else:
            fabric.slow.update(self._division())
        yield self._sleep(2 * NS_PER_S)
        fabric.delay_ns = NETWORK_NS
        fabric.slow.clear()

    # ---- machines

    def _crash(self) -> Iterator[Later]:
        machine = self._any()
        if self.world.chance(0.3):
            machine.stay_away(self.world.delay(3 * NS_PER_S))
        machine.crash(power=self.world.chance(0.5))
        yield self._sleep(NS_PER_MS)

    def _many_crashes(self) -> Iterator[Later]:
        """Up to all of them, at about the same time."""
        power = self.world.chance(0.7)
        victims = self.world.dice.sample(
            self.cluster.members, self.world.between(1, len(self.cluster.members))
        )
        for machine in victims:
            machine.crash(power=power)
            if self.world.chance(0.3):
                yield self._sleep(50 * NS_PER_MS)

    def _crash_to_come(self) -> Iterator[Later]:
        self._arm(self._any(), self.world.dice.choice(RARE))
        yield self._sleep(NS_PER_MS)

    def _torn_write(self) -> Iterator[Later]:
        """Power fails in the middle of the next write to the log, or of the one after it."""
        machine = self._any()
        machine.loses_power = True
        self.world.trace(f"{machine.name}: will lose power while it writes")
        for effect in OF_WRITES:
            machine.crash_at[effect] = self.world.between(1, 2)
        yield self._sleep(NS_PER_MS)

    def _arm(self, machine: Machine, effect: str) -> None:
        self.world.trace(f"{machine.name}: will die at '{effect}'")
        machine.crash_at[effect] = 1

    def _farewell(self) -> Iterator[Later]:
        """SIGTERM."""
        machine = self._any()
        if machine.is_up:
            machine.later(0, machine.leave)
        yield self._sleep(NS_PER_S)

    def _standstill(self) -> Iterator[Later]:
        self._any().pause(self.world.delay(self.world.dice.choice((300, 2_000)) * NS_PER_MS))
        yield self._sleep(NS_PER_S)

    def _clock(self) -> Iterator[Later]:
        machine = self._any()
        machine.wall_offset_ns += self.world.between(-HOUR_NS, HOUR_NS)
        self.world.trace(f"{machine.name}: its wall clock jumps")
        yield self._sleep(NS_PER_MS)

    # ---- disks

    def _slow_disk(self) -> Iterator[Later]:
        machine = self._any()
        before = machine.sync_ns
        machine.sync_ns = self.world.dice.choice((30, 300, 1_000)) * NS_PER_MS
        self.world.trace(f"{machine.name}: its disk is slow")
        yield self._sleep(2 * NS_PER_S)
        machine.sync_ns = before

    def _full_disk(self) -> Iterator[Later]:
        machine = self._any()
        self.world.trace(f"{machine.name}: disk full")
        machine.disk.fill(log=self.world.chance(0.2))
        yield self._sleep(500 * NS_PER_MS)
        self.world.trace(f"{machine.name}: disk has room")
        machine.disk.free()
