"""A machine of a cluster: the lone machine of `member`, joined with others by its peer port.

Beside crashes it knows what only matters among several: processes that stand still, wall clocks
that jump, messages that are lost, doubled or late between two members, and the end of a member that
was removed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from corum._transport import POSTED, Transport
from corum.api.front import Front, Rules
from corum.member import boot
from corum.member.log_files import LogFiles
from corum.membership.bootstrap import BootstrapError, FirstList
from corum.membership.members import Member
from corum.peer.transport import Peers
from corum.raft import Entry, HardState, Message, MessageType, Snapshot
from corum.server.node import NodeConfig
from corum.sim import log
from corum.sim.databases import Databases, SimBackend
from corum.sim.member import NO_FAULTS, RESTART_NS, Crash, Faults, SimMember
from corum.sim.raft_checks import Invariants, Promises
from corum.sim.wire import LISTENER, Fabric, PeerWire
from corum.sim.world import Violation, World
from corum.values import NS_PER_MS, NS_PER_S, value
from corum.versions import DEFAULT, EMULATED
from corum.wal import Wal

REMOVED_NS: Final = NS_PER_S
"""A member that was removed stays so long."""
LATE_NS: Final = 100 * NS_PER_MS
"""How late a message is that others overtake, typically."""
NEVER_TWICE: Final = (MessageType.PROP,)
"""A proposal that arrives twice is proposed twice; no connection does that."""
_OFTEN: Final = ("log: ", "job: ")


@value
class Mangling:
    """What happens to single messages between two members; probabilities."""

    lost: float = 0.0
    twice: float = 0.0
    late: float = 0.0


class MangledPeers(Peers):
    """The real peer port, whose messages get lost, doubled and late before Raft sees them."""

    machine: Machine

    def received(self, messages: list[Message]) -> None:
        """Messages of another member."""
        machine = self.machine
        world, odds = machine.world, machine.mangling
        if not (odds.lost or odds.twice or odds.late):
            super().received(messages)
            return
        through: list[Message] = []
        for message in messages:
            if world.chance(odds.lost):
                world.counts["messages lost"] += 1
                continue
            if world.chance(odds.late):
                world.counts["messages late"] += 1
                self._later(message)
            else:
                through.append(message)
            if world.chance(odds.twice) and message.type not in NEVER_TWICE:
                world.counts["messages doubled"] += 1
                self._later(message)
        if through:
            super().received(through)

    def _later(self, message: Message) -> None:
        machine = self.machine
        # Each arrival of a message brings its own entries.
        entries = [Entry(e.term, e.index, e.type, e.data) for e in message.entries]
        copy = replace(message, entries=entries)
        delay_ns = machine.world.delay(LATE_NS)
        machine.later(delay_ns, lambda: machine.post(lambda: self.node.receive([copy])))


class CheckedLog(LogFiles):
    """A log whose entries all members compare."""

    machine: Machine

    def write(self, token: int, state: HardState | None, entries: list[Entry], sync: bool) -> bool:
        """See `LogFiles`."""
        self.machine.invariants.written(self.machine.node, entries)
        return super().write(token, state, entries, sync)

    def write_now(
        self, token: int, state: HardState | None, entries: list[Entry], sync: bool
    ) -> bool:
        """See `LogFiles`."""
        self.machine.invariants.written(self.machine.node, entries)
        return super().write_now(token, state, entries, sync)


class Machine(SimMember):
    """One of several; `first` says whom it starts with, and whether it joins them."""

    def __init__(
        self,
        world: World,
        config: NodeConfig,
        fabric: Fabric,
        invariants: Invariants,
        first: Callable[[], FirstList],
        urls: Sequence[str],
        *,
        joins: bool,
        segment_bytes: int,
        faults: Faults = NO_FAULTS,
        pre_vote: bool = True,
    ) -> None:
        super().__init__(world, config, segment_bytes=segment_bytes, faults=faults)
        self.name = config.name
        self.fabric = fabric
        self.invariants = invariants
        self.urls = list(urls)
        self.joins = joins
        self.pre_vote = pre_vote
        self.mangling = Mangling()
        self.applied = invariants.applied
        self.promises = Promises()
        self.peers: Peers | None = None
        self.front: Front | None = None
        """HTTP for clients, from the first request on."""
        self.wire = PeerWire(fabric, self)
        self.databases = Databases(self)
        self.is_removed = False
        self.wall_offset_ns = 0
        self.latest_unix_ns = 0
        """The latest wall time that this machine ever told."""
        self.away_until_ns = 0
        """It does not boot before."""
        self._paused_until_ns = 0
        self._held: list[Callable[[], None]] = []
        """What is due while the process stands still."""
        self._first = first
        self._clock_offset_ns = 0
        for url in urls:
            fabric.hosts[url] = self

    def __repr__(self) -> str:
        return self.name

    # ---- clocks

    def clock_ns(self) -> int:
        """The member's monotonic clock: of its own beginning at each boot of the machine."""
        return int(self.world.now_ns * self.pace) + self._clock_offset_ns

    def unix_time_ns(self) -> int:
        """Wall time, as far as this machine knows."""
        now_ns = self.world.unix_ns + self.wall_offset_ns
        self.latest_unix_ns = max(self.latest_unix_ns, now_ns)
        return now_ns

    def pause(self, duration_ns: int) -> None:
        """The process stands still."""
        self.world.trace(f"{self.name}: paused for {duration_ns // NS_PER_MS} ms")
        self._paused_until_ns = max(self._paused_until_ns, self.world.now_ns + duration_ns)
        self.world.at(self._paused_until_ns, self._resume)

    def _resume(self) -> None:
        if self.world.now_ns >= self._paused_until_ns:
            self.go_on()

    def go_on(self) -> None:
        """The process stands still no more."""
        held, self._held, self._paused_until_ns = self._held, [], 0
        for run in held:
            self.world.after(0, run)

    def stay_away(self, duration_ns: int) -> None:
        """Once it is down, it stays so for a while."""
        self.away_until_ns = self.world.now_ns + duration_ns

    def come_back(self) -> None:
        """It is away no longer than from any crash."""
        self.away_until_ns, incarnation = 0, self.incarnation
        self.world.after(RESTART_NS, lambda: self._restart(incarnation))

    def later(self, delay_ns: int, action: Callable[[], None]) -> None:
        """`action`, unless this incarnation is dead by then; not while it stands still."""
        incarnation, world = self.incarnation, self.world

        def run() -> None:
            if not self.is_up or self.incarnation != incarnation:
                return
            if self._paused_until_ns:
                self._held.append(run)
                return
            try:
                action()
            except Crash:
                self._die()

        world.after(delay_ns, run)

    def post(self, action: Callable[[], None]) -> None:
        """Have `action` done on the loop."""

        def done(_: object) -> None:
            action()

        self.deliver((POSTED, (done, None)))

    def effect(self, name: str) -> None:
        """The machine may die here; only then it is worth a line, but for rare steps."""
        if not name.startswith(_OFTEN):
            self.world.trace(f"{self.name}: {name}")
        count = self.crash_at.get(name)
        if count is not None:
            self.crash_at[name] = count - 1
        if count == 1 or self.world.chance(self.faults.crash):
            self.world.trace(f"{self.name}: dies at '{name}'")
            raise Crash

    # ---- boot

    def first_list(self) -> FirstList:
        """Whom the member starts with."""
        return self._first()

    def start(self) -> None:
        """Boot, unless it was removed from the cluster for good."""
        if self.is_removed:
            return
        if self.world.now_ns < self.away_until_ns:
            incarnation = self.incarnation
            self.world.at(self.away_until_ns, lambda: self._restart(incarnation))
            return
        self.peers = self.front = None
        self._held, self._paused_until_ns = [], 0
        try:
            super().start()
        except BootstrapError:
            self.world.trace(f"{self.name}: finds that it was removed")
            self.is_up, self.is_removed = False, True

    def _came_up(self) -> None:
        node = self.node
        self.world.trace(
            f"{self.name}: up as {node.members.local:x}: applied {node.applied_index} "
            f"of {node.raft.raft.log.last_index} term {node.term}"
        )

    def _open_backend(self) -> SimBackend:
        self._clock_offset_ns = self.world.between(0, 1 << 40)
        self.disk.received.clear()
        return SimBackend(self.disk.backend)

    def _open_log(self, wal: Wal) -> LogFiles:
        checked = CheckedLog(wal, self, log.SimWriter(self), self.jobs, self.fatal)
        checked.machine = self
        return checked

    def _open(self) -> boot.Booted:
        backend = self._backend
        assert isinstance(backend, SimBackend)
        if not self.disk.segments:
            return self._created()
        wal, snapshot = log.open_newest(self, self.segment_bytes)
        if snapshot is not None and snapshot.index > boot.received.consistent_index(backend):
            self.databases.take_over(backend, snapshot.index, snapshot.term)
        booted = self._resumed(wal, snapshot)
        if booted.members.local in booted.members.removed:  # as `Runtime` does
            raise BootstrapError("removed")
        return booted

    def _created(self) -> boot.Booted:
        first = self.first_list()
        wal = log.create(self, first, self.segment_bytes, joins=self.joins)
        if self.joins:
            return boot.Booted(
                boot.Members(first.cluster, first.local), boot.MemoryStorage(), wal, True
            )
        fresh = boot.in_memory(first)
        return boot.Booted(fresh.members, fresh.storage, wal, True)

    def _booted(self) -> None:
        self.promises.kept(self.node)
        self._others: Sequence[Member] = ()
        if self.joins:
            first = self.first_list()
            self._others = [each for each in first.members if each.id != first.local]
        self.router.peer_listeners = frozenset((LISTENER,))
        self.router.meet_peers = self.meet_peers
        self.router.http = self._begin_http
        self.node.members_changed = self._members_changed
        self._members_changed()

    def meet_peers(self) -> Peers:
        """As `Runtime` does."""
        if self.peers is None:
            made = MangledPeers(
                self.node, self.wire, self, self.wire.connect, self.urls, self.databases
            )
            made.machine = self
            self.peers = made
            self.node.peers = self.router.peers = made
            for member in self._others:
                made.remember(member.id, member.peer_urls)
        return self.peers

    def _begin_http(self, *request: Any) -> None:
        """The first HTTP request of a client."""
        transport = cast(Transport, self.network)
        self.front = Front(self.node, self.router, transport, EMULATED[DEFAULT], Rules())
        self.front.request(*request)

    def _members_changed(self) -> None:
        if self.peers is not None:
            self.peers.sync()
        elif self._others or any(m.id != self.node.members.local for m in self.node.members):
            self.meet_peers()

    # ---- the loop

    def _turned(self) -> None:
        if self.front is not None:
            self.front.keys.tell()
        if self.peers is not None:
            self.peers.turn()
        if not self._failure:
            self.invariants.turned(self.node)

    def crash(self, *, power: bool) -> None:
        """Die now; boot again after a while."""
        was_up = self.is_up
        if was_up:
            self.world.trace(f"{self.name}: crashes")
        super().crash(power=power)
        if was_up:
            self.fabric.died(self, silent=power)

    def leave(self) -> None:
        """SIGTERM: hand over to another member first, if there is one."""
        node = self.node
        successor = node.handover.successor()
        self.world.trace(f"{self.name}: told to stop, successor {successor:x}")
        if successor:
            node.handover.start(successor, lambda _: self.later(0, self._stop_now))
        else:
            self._stop_now()

    def _stop_now(self) -> None:
        if self.is_up:
            self.stop()

    # ---- ports of the node

    def send(self, messages: list[Message]) -> None:
        """To other members."""
        for message in messages:
            self.promises.sent(message)
        self.meet_peers().send(messages)

    def install(self, snapshot: Snapshot) -> None:
        """A received backend takes the place of the one in use."""
        backend = self._backend
        assert isinstance(backend, SimBackend)
        self.databases.install(backend, snapshot.index)
        self.consistent_index = max(self.consistent_index, snapshot.index)
        self._checked_index = snapshot.index
        self.jobs.start(lambda: self.databases.release(snapshot.index), _nothing)

    def removed(self) -> None:
        """This member was removed: it leaves soon, for good."""
        if not self.is_removed:
            self.world.trace(f"{self.name}: removed")
            self.is_removed = True
            self.later(REMOVED_NS, self._stop_now)

    def transition(self, level: str, message: str, **fields: Any) -> None:
        """A line for operators."""
        self.world.trace(f"{self.name}: {level}: {message}")

    def bug(self, where: str, error: Exception) -> None:
        """What a member survives, a run does not."""
        raise Violation(f"{self.name}: {where}: {error!r}") from error


def _nothing(_: object) -> None:
    """Wakes the loop."""
