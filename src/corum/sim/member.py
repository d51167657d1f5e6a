"""A machine with one member on it: boots, runs its loop, dies at any effect, boots again.

The node, its rooms, the router and the services are the real ones; this is what `member.runtime`
is for a process, with the ports of the simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

from corum.api.router import Router
from corum.api.services import services_of
from corum.backend import schema
from corum.backend.backend import BackendError, BackendFull
from corum.backend.memory_backend import MemoryBackend
from corum.member import boot
from corum.member.log_files import LogFiles
from corum.membership.bootstrap import FirstList
from corum.raft import Config as RaftConfig
from corum.raft import Entry, Message, RawNode, Snapshot
from corum.server.node import Node, NodeConfig
from corum.sim import log
from corum.sim.calls import Network
from corum.sim.disk import Disk
from corum.sim.jobs import SimJobs
from corum.sim.world import Violation, World
from corum.values import NS_PER_MS, value
from corum.wal import Wal

NAME: Final = "sim"
PEER_URL: Final = "http://sim:2380"
WAKE_NS: Final = 20_000
"""From an event's arrival to the turn that takes it, typically."""
RESTART_NS: Final = 200 * NS_PER_MS
"""From a crash to the next boot, typically."""
PURGE_NS: Final = 1_000 * NS_PER_MS


class Crash(BaseException):
    """The machine died in the middle of whatever runs."""


@value
class Faults:
    """How often things go wrong; probabilities."""

    crash: float = 0.0
    """At each effect."""
    power: float = 0.5
    """A crash is a power failure; otherwise only the process dies, the page cache stays."""
    sync_error: float = 0.0
    clean_stop: float = 0.0
    """Per turn: the member is asked to stop, and does it in good order."""


NO_FAULTS: Final = Faults()


class SimMember:
    """Machine, ports of the node, and its loop."""

    def __init__(
        self, world: World, config: NodeConfig, *, segment_bytes: int, faults: Faults = NO_FAULTS
    ) -> None:
        self.world = world
        self.config = config
        self.faults = faults
        self.segment_bytes = segment_bytes
        self.sync_ns = world.dice.choice((50_000, 400_000, 5_000_000))
        self.disk = Disk(world)
        self.network = Network(world, self)
        self.incarnation = 0
        self.is_up = False
        self.crash_at: dict[str, int] = {}
        """Effect -> die when it happens for the n-th time from now; for directed scenarios."""
        self.loses_power = False
        """The next of these deaths is a power failure."""
        self.crashes = 0
        self.pre_vote = True
        self.pace = 1.0
        """How fast its monotonic clock runs."""
        self.wake_ns = WAKE_NS
        self.restart_ns = RESTART_NS
        self.is_powered = True
        """If it is not up: only the process is gone, the machine refuses connections."""
        self.applied: dict[int, tuple[int, bytes]] = {}
        """What was applied at each index, over all incarnations: it must never change."""
        self.consistent_index = 0
        self._disk_failed = False
        self._stall_ns = 0

    # ---- life

    def start(self) -> None:
        """Boot from what the disk holds."""
        assert not self.is_up, "started twice"
        self.incarnation += 1
        self.is_up = self.is_powered = True
        try:
            self._boot()
            self._campaign_alone()
        except Crash:
            self._die()
            return
        except BackendFull as error:  # the process ends, and is started again until there is room
            self.world.trace(f"cannot start: {error}")
            self.crash(power=False)
            return
        self._came_up()
        self._wake(self.world.delay(self.wake_ns))

    def _came_up(self) -> None:
        self.world.trace(f"up: applied {self.node.applied_index} term {self.node.term}")

    def clock_ns(self) -> int:
        """The member's monotonic clock."""
        return self.world.now_ns

    def first_list(self) -> FirstList:
        """Whom the member starts with when its disk is empty."""
        return boot.new_members({NAME: [PEER_URL]}, "sim", NAME, [PEER_URL])

    def _boot(self) -> None:
        world, node_config = self.world, self.config
        self.dice = self.secrets = Random(world.dice.getrandbits(64))
        self.transport = self.network
        self.jobs = SimJobs(self)
        self._inbox: list[tuple[Any, ...]] = []
        self._turn_at_ns: int | None = None
        self._turn_number = 0
        self._failure: BaseException | None = None
        self._next_purge_ns = self.clock_ns() + PURGE_NS
        self.disk.held_from = 0
        self._backend = self._open_backend()
        booted = self._open()
        assert booted.wal is not None
        self.log = self._open_log(booted.wal)
        storage = booted.storage
        raft = RawNode(
            RaftConfig(
                id=booted.members.local,
                dice=self.dice,
                election_ticks=node_config.election_ticks,
                pre_vote=self.pre_vote,
                async_storage_writes=True,
            ),
            storage,
        )
        self._checked_index = storage.snapshot().index
        self.node = Node(
            node_config,
            self,
            raft,
            storage,
            booted.members,
            self._backend,
            start_ms=self.unix_time_ns() // NS_PER_MS,
        )
        self.router = Router(self.node, services_of(self.node))
        self._booted()

    def _open_backend(self) -> MemoryBackend:
        return MemoryBackend(self.disk.backend)

    def _open_log(self, wal: Wal) -> LogFiles:
        return LogFiles(wal, self, log.SimWriter(self), self.jobs, self.fatal)

    def _booted(self) -> None:
        """The node is there."""

    def _turned(self) -> None:
        """The node has ended a turn."""

    def _open(self) -> boot.Booted:
        if not self.disk.segments:
            first = self.first_list()
            wal = log.create(self, first, self.segment_bytes)
            fresh = boot.in_memory(first)
            return boot.Booted(fresh.members, fresh.storage, wal, True)
        wal, snapshot = log.open_newest(self, self.segment_bytes)
        return self._resumed(wal, snapshot)

    def _resumed(self, wal: Wal, snapshot: Snapshot | None) -> boot.Booted:
        assert wal.replay is not None
        start = snapshot.index if snapshot else 0
        last = max(start, wal.replay.entries[-1].index if wal.replay.entries else 0)
        self._check_consistent_index(start, last)
        return boot.resumed(wal, snapshot, self._backend)

    def _check_consistent_index(self, snapshot: int, last: int) -> None:
        """snapshot <= consistent index <= last entry; it never goes back."""
        index = schema.from_u64(self._backend.get(schema.META, schema.CONSISTENT_INDEX))
        if not snapshot <= index <= last:
            raise Violation(f"consistent index {index}, snapshot {snapshot}, last entry {last}")
        if index < self.consistent_index:
            raise Violation(f"consistent index {index} after {self.consistent_index}")
        self.consistent_index = index

    def _campaign_alone(self) -> None:
        """As `Runtime` does."""
        node = self.node
        node.begin(self.clock_ns())
        node.end()
        node.driver.pump(node.proposals)
        if node.reconfiguration.conf_state.voters == (node.members.local,):
            node.raft.campaign()
            node.end()

    def crash(self, *, power: bool) -> None:
        """Die now; boot again after a while."""
        if not self.is_up:
            return
        self.is_up, self.is_powered = False, not power
        self.crashes += 1
        self.world.trace("power failure" if power else "process died")
        if power:
            self.disk.power_failure()
        self.network.server_died()
        incarnation = self.incarnation
        self.world.after(self.world.delay(self.restart_ns), lambda: self._restart(incarnation))

    def _restart(self, incarnation: int) -> None:
        if self.incarnation == incarnation and not self.is_up:
            self.start()

    def _die(self) -> None:
        power, self.loses_power = self.loses_power, False
        self.crash(power=power or self.world.chance(self.faults.power))

    def stop(self) -> None:
        """End in good order, as SIGTERM does, without waiting for a commit under way."""
        node = self.node
        node.stop()
        if not node.commits.in_flight:
            self._backend.flush_own()
            batch = self._backend.seal(*node.backend_position)
            if batch is not None and batch.write() is None:
                self._backend.committed(batch)
        self.crash(power=False)

    # ---- the loop

    def deliver(self, event: tuple[Any, ...]) -> None:
        """Into the inbox."""
        self._inbox.append(event)
        self._wake(self.world.delay(self.wake_ns))

    def _wake(self, delay_ns: int) -> None:
        at_ns = self.world.now_ns + delay_ns + self._stall_ns
        if self._turn_at_ns is not None and self._turn_at_ns <= at_ns:
            return
        self._turn_at_ns = at_ns
        self._turn_number += 1
        number = self._turn_number
        self.later(at_ns - self.world.now_ns, lambda: self._turn(number))

    def _turn(self, number: int) -> None:
        if number != self._turn_number:
            return  # an earlier one was asked for meanwhile
        node, now_ns = self.node, self.clock_ns()
        self._turn_at_ns, self._stall_ns = None, 0
        events, self._inbox = self._inbox, []
        try:
            node.begin(now_ns)
            if events:
                self.router.dispatch(events)
            node.end()
            self._turned()
        except OSError as error:
            self.fatal("the loop failed", error)
        if self._failure is not None:
            self.world.trace(f"fatal: {self._failure}")
            self.crash(power=self._disk_failed)
            return
        self._check_applied()
        if now_ns >= self._next_purge_ns:
            self._next_purge_ns = now_ns + PURGE_NS
            self.jobs.start(lambda: self.disk.purge(3, 3), lambda _: None)
        if self.world.chance(self.faults.clean_stop):
            self.stop()
            return
        wait_ns = int(node.wait_ms(now_ns) * NS_PER_MS / self.pace)
        self._wake(max(wait_ns, self.world.delay(self.wake_ns)))

    def _check_applied(self) -> None:
        """State machine safety: an index holds the same entry, whoever applies it when."""
        node = self.node
        if node.applied_index == self._checked_index:
            return
        if node.raft_storage.last_index() < node.applied_index:
            return  # a leader's snapshot is installed; its record is on its way to the log
        first = max(self._checked_index + 1, node.raft_storage.first_index())
        for entry in node.raft_storage.entries(first, node.applied_index + 1):
            _compare(self.applied, entry)
        self._checked_index = node.applied_index

    # ---- `log.Machine`

    def effect(self, name: str) -> None:
        """The machine may die here."""
        self.world.trace(name)
        count = self.crash_at.get(name)
        if count is not None:
            self.crash_at[name] = count - 1
            if count == 1:
                raise Crash
        if self.world.chance(self.faults.crash):
            raise Crash

    def later(self, delay_ns: int, action: Callable[[], None]) -> None:
        """`action`, unless this incarnation is dead by then."""
        incarnation = self.incarnation

        def run() -> None:
            if self.is_up and self.incarnation == incarnation:
                try:
                    action()
                except Crash:
                    self._die()

        self.world.after(delay_ns, run)

    def stall(self, duration_ns: int) -> None:
        """The loop is busy."""
        self._stall_ns += duration_ns

    def sync_fails(self) -> bool:
        """An I/O error: what was to be synced is at the mercy of chance from now on."""
        self._disk_failed = self.world.chance(self.faults.sync_error)
        return self._disk_failed

    # ---- ports of the node

    @property
    def snapshots(self) -> LogFiles:
        """With the log."""
        return self.log

    def save(self, snapshot: Any) -> None:
        """`.snap` files of the log."""
        self.disk.save(snapshot)

    def transition(self, level: str, message: str, **fields: Any) -> None:
        """A line for operators."""
        self.world.trace(f"{level}: {message}")

    def published(self) -> None:
        """Ready to serve."""

    def removed(self) -> None:
        """Nobody removes members here."""
        raise Violation("removed")

    def bug(self, where: str, error: Exception) -> None:
        """What a member survives, a run does not."""
        raise Violation(f"{where}: {error!r}") from error

    def unix_time_ns(self) -> int:
        """Wall time."""
        return self.world.unix_ns

    def send(self, messages: list[Message]) -> None:
        """There are no others."""
        raise Violation(f"a lone member sends {messages}")

    def install(self, snapshot: Any) -> None:
        """There is nobody who would send one."""
        raise Violation("a lone member got a snapshot")

    def fatal(self, message: str, error: BaseException) -> None:
        """Stop after this turn; only the disk may be the reason."""
        if not isinstance(error, OSError | BackendError):
            raise Violation(message) from error
        self._failure = self._failure or error


def _compare(applied: dict[int, tuple[int, bytes]], entry: Entry) -> None:
    known = applied.setdefault(entry.index, (entry.term, entry.data))
    if known != (entry.term, entry.data):
        raise Violation(f"entry {entry.index} was {known}, is {(entry.term, entry.data)}")
