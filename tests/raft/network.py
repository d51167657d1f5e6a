"""Members in one process with a network that does what the test says, and what must always hold."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from corum.raft import (
    APPEND_THREAD,
    APPLY_THREAD,
    Config,
    ConfState,
    Entry,
    EntryType,
    HardState,
    MemoryStorage,
    Message,
    MessageType,
    RaftError,
    RawNode,
    ReadState,
    Role,
    Snapshot,
    decode,
)


def on_the_wire(msg: Message) -> Message:
    """`msg` as another process would see it: nothing shared, no `request`."""
    entries = [Entry(entry.term, entry.index, entry.type, entry.data) for entry in msg.entries]
    return replace(msg, entries=entries)


class LiveStorage(MemoryStorage):
    """Sends what is applied now as a snapshot, as a server does; `saved` is the one on disk."""

    __slots__ = ("peer",)

    def snapshot(self) -> Snapshot:
        peer: Peer = self.peer
        index = peer.node.status().applied
        if index <= self.saved().index:
            return self.saved()
        return Snapshot(index, self.term(index), peer.conf_state)

    def saved(self) -> Snapshot:
        return super().snapshot()


@dataclass
class Peer:
    """One member with its disk and its application; the disk survives `crash`."""

    id: int
    settings: dict[str, object]
    storage: LiveStorage
    node: RawNode
    applied: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    conf_state: ConfState = field(default_factory=ConfState)
    reads: list[ReadState] = field(default_factory=list)
    work: list[Message] = field(default_factory=list)  # of the storage threads, in order
    sent: list[Message] = field(default_factory=list)
    led_terms: set[int] = field(default_factory=set)

    @classmethod
    def start(cls, id: int, first: Snapshot, settings: dict[str, object]) -> Peer:
        storage = LiveStorage()
        if first.index:
            storage.apply_snapshot(first)
        peer = cls(id, settings, storage, None)  # type: ignore[arg-type]  # next line
        storage.peer = peer
        peer.restart()
        return peer

    def restart(self) -> None:
        """Forget everything but the disk."""
        _, self.conf_state = self.storage.initial_state()
        applied = self.storage.saved().index
        options = {"election_ticks": 5, **self.settings}
        config = Config(id=self.id, dice=random.Random(self.id), applied=applied, **options)
        self.node = RawNode(config, self.storage)
        self.work = []
        self.sent = []

    @property
    def is_async(self) -> bool:
        return bool(self.settings.get("async_storage_writes"))

    def handle_ready(self) -> None:
        """Take one Ready; without storage threads also do its work."""
        if not self.node.has_ready():
            return
        ready = self.node.ready()
        self.reads += ready.read_states
        self.led_terms |= {
            change.term for change in ready.role_changes if change.role == Role.LEADER
        }
        if self.is_async:
            for msg in ready.messages:
                target = self.work if msg.to in (APPEND_THREAD, APPLY_THREAD) else self.sent
                target.append(msg)
            return
        if ready.snapshot is not None:
            self._restore(ready.snapshot)
        if ready.hard_state is not None:
            self.storage.set_hard_state(ready.hard_state)
        self.storage.append(list(ready.entries))
        self.sent += ready.messages
        self._apply(ready.committed_entries)
        self.node.advance(ready)

    def do_work(self, thread: int | None = None) -> None:
        """One piece of work of a storage thread (of any, in order)."""
        for place, msg in enumerate(self.work):
            if thread in (None, msg.to):
                del self.work[place]
                break
        else:
            return
        if msg.to == APPEND_THREAD:
            if msg.snapshot is not None:
                self._restore(msg.snapshot)
            hard_state = HardState(msg.term, msg.vote, msg.commit)
            if hard_state != HardState():
                self.storage.set_hard_state(hard_state)
            self.storage.append(list(msg.entries))
        else:
            self._apply(msg.entries)
        for answer in msg.responses:
            if answer.to == self.id:
                self.node.step(answer)
            else:
                self.sent.append(answer)

    def compact(self) -> None:
        """Snapshot at the last applied entry and forget the log before it."""
        index = self.node.status().applied
        if index > self.storage.saved().index:
            self.storage.create_snapshot(index, self.conf_state)
            if index > self.storage.first_index() - 1:
                self.storage.compact(index)

    def _restore(self, snapshot: Snapshot) -> None:
        self.storage.apply_snapshot(snapshot)
        self.conf_state = snapshot.conf_state

    def _apply(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.applied[entry.index] = (entry.term, entry.data)
            if entry.type != EntryType.NORMAL:
                self.conf_state = self.node.apply_conf_change(decode(entry))

    def log(self) -> dict[int, tuple[int, bytes]]:
        """Term and data by index, as Raft sees its log now."""
        log = self.node.raft.log
        entries = log.slice(log.first_index(), log.last_index + 1)
        return {entry.index: (entry.term, entry.data) for entry in entries}

    def data(self) -> list[bytes]:
        """Data of the applied entries, without empty ones."""
        return [data for _, (_, data) in sorted(self.applied.items()) if data]


class Network:
    """`messages` are on their way, oldest first, until they are delivered or dropped."""

    def __init__(self, voters: Sequence[int] = (1, 2, 3), **settings: object) -> None:
        self._settings = settings
        self.peers: dict[int, Peer] = {}
        self.messages: list[Message] = []
        self.cut_off: set[int] = set()
        first = Snapshot(1, 1, ConfState(tuple(voters)))
        for member in voters:
            self.add(member, first)
        self._committed: dict[int, tuple[int, bytes]] = {}
        self._leaders: dict[int, int] = {}
        self._checked: list[object] = []

    def add(self, member: int, first: Snapshot | None = None) -> Peer:
        """A member that knows of nobody, unless a first snapshot says who there is."""
        peer = Peer.start(member, first or Snapshot(), self._settings)
        self.peers[member] = peer
        return peer

    def __getitem__(self, member: int) -> Peer:
        return self.peers[member]

    @property
    def leader(self) -> Peer | None:
        """Of those that lead, the one in the highest term."""
        leading = [peer for peer in self.peers.values() if peer.node.is_leader]
        return max(leading, key=lambda peer: peer.node.status().term, default=None)

    def collect(self) -> None:
        """Let everybody handle what is ready, and take what they send."""
        for peer in self.peers.values():
            while peer.node.has_ready() or peer.work:
                peer.handle_ready()
                peer.do_work()
            self.take(peer)

    def take(self, peer: Peer) -> None:
        self.messages += [on_the_wire(msg) for msg in peer.sent]
        peer.sent = []

    def deliver(self, msg: Message) -> None:
        """Give a message to its receiver, unless one of the two is cut off (or not there)."""
        peer = self.peers.get(msg.to)
        lost = peer is None or msg.to in self.cut_off or msg.sender in self.cut_off
        if peer is not None and not lost:
            try:
                peer.node.step(on_the_wire(msg))
            except RaftError:
                pass  # refused, as it may be
        if msg.type == MessageType.SNAP and msg.sender in self.peers:
            self.peers[msg.sender].node.report_snapshot(msg.to, not lost)

    def settle(self, rounds_max: int = 200) -> None:
        """Deliver everything, and what follows from it, until it is quiet."""
        for _ in range(rounds_max):
            self.collect()
            if not self.messages:
                return
            batch, self.messages = self.messages, []
            for msg in batch:
                self.deliver(msg)
            self.check()
        raise AssertionError(f"not quiet after {rounds_max} rounds: {self.messages}")

    def elect(self, member: int) -> Peer:
        self[member].node.campaign()
        self.settle()
        assert self[member].node.is_leader, f"{member} did not win"
        return self[member]

    def tick(self, count: int, *members: int) -> None:
        """Let time pass for `members` (all), settling after each tick."""
        for _ in range(count):
            for member in members or tuple(self.peers):
                self.peers[member].node.tick()
            self.settle()

    def propose(self, member: int, data: bytes) -> Entry:
        entry = Entry(data=data)
        self[member].node.propose([entry])
        return entry

    # What must always hold (diss. fig. 3.2)

    def check(self) -> None:
        """Look at everybody, if anything has changed since the last look."""
        signature = [
            (raft.term, raft.role, raft.log.last_index, raft.log.last_term(), len(peer.applied))
            for peer in self.peers.values()
            for raft in (peer.node.raft,)
        ]
        if signature == self._checked:
            return
        self._checked = signature
        for peer in self.peers.values():
            self._check_election_safety(peer)
            self._check_state_machine_safety(peer)
        logs = {member: peer.log() for member, peer in self.peers.items()}
        self._check_leader_completeness(logs)
        self._check_log_matching(logs)

    def _check_election_safety(self, peer: Peer) -> None:
        status = peer.node.status()
        terms = peer.led_terms | ({status.term} if status.role == Role.LEADER else set())
        for term in terms:
            leader = self._leaders.setdefault(term, peer.id)
            assert leader == peer.id, f"two leaders in term {term}: {leader} and {peer.id}"

    def _check_state_machine_safety(self, peer: Peer) -> None:
        for index, entry in peer.applied.items():
            known = self._committed.setdefault(index, entry)
            assert known == entry, f"{peer.id} applied {entry} at {index}, others {known}"

    def _check_leader_completeness(self, logs: dict[int, dict[int, tuple[int, bytes]]]) -> None:
        for member, log in logs.items():
            status = self.peers[member].node.status()
            if status.role != Role.LEADER:
                continue
            first = min(log, default=status.last_index + 1)
            for index, entry in self._committed.items():
                if index >= first and entry[0] < status.term:
                    assert log.get(index) == entry, (
                        f"leader {member} of term {status.term} has {log.get(index)} at {index}, "
                        f"where {entry} is committed"
                    )

    def _check_log_matching(self, logs: dict[int, dict[int, tuple[int, bytes]]]) -> None:
        members = sorted(logs)
        for place, one in enumerate(members):
            for other in members[place + 1 :]:
                shared = sorted(logs[one].keys() & logs[other].keys(), reverse=True)
                agreed = False
                for index in shared:
                    ours, theirs = logs[one][index], logs[other][index]
                    agreed = agreed or ours[0] == theirs[0]
                    assert not agreed or ours == theirs, (
                        f"logs of {one} and {other} agree after {index} and differ there: "
                        f"{ours}, {theirs}"
                    )
