"""The driver between Raft and the log: what waits for the disk, and what must not."""

import random
from typing import Any

from corum.member.memory_log import MemoryLog
from corum.raft import (
    Config,
    ConfState,
    Entry,
    HardState,
    MemoryStorage,
    Message,
    MessageType,
    RawNode,
    Role,
    Snapshot,
)
from corum.server.drive import Driver
from corum.server.proposals import Proposals

TERM = 5
ME, LEADER, THIRD = 1, 2, 3


class HandLog(MemoryLog):
    """Writes end when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[int] = []
        self.short = 0

    def write(self, token: int, state: HardState | None, entries: list[Entry], sync: bool) -> bool:
        self.open.append(token)
        return True

    def write_now(self, *_: Any) -> bool:
        self.short += 1
        return True


class Machine:
    """Collects what the driver gives out."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.role = Role.FOLLOWER

    def apply(self, entries: list[Entry]) -> None: ...
    def keep_snapshot(self, snapshot: Snapshot) -> None: ...
    def apply_snapshot(self, snapshot: Snapshot) -> None: ...
    def roles_changed(self, changes: Any) -> None: ...
    def read_confirmed(self, state: Any) -> None: ...

    def send(self, messages: list[Message]) -> None:
        self.sent += messages

    def soft_state_changed(self, state: Any) -> None:
        self.role = state.role


class Bench:
    """One of three members, driven by hand."""

    def __init__(self) -> None:
        storage = MemoryStorage()
        storage.apply_snapshot(Snapshot(1, 1, ConfState((ME, LEADER, THIRD)), b""))
        storage.set_hard_state(HardState(TERM - 1, 0, 1))
        self.log, self.machine = HandLog(), Machine()
        config = Config(id=ME, dice=random.Random(1), async_storage_writes=True, applied=1)
        self.raft = RawNode(config, storage)
        self.driver = Driver(self.raft, storage, self.log, self.machine, ME)
        self.proposals = Proposals(ME, 0, 1_000_000, 10**9)

    def turn(self, *messages: Message) -> None:
        for message in messages:
            self.raft.step(message)
        self.driver.pump(self.proposals)

    def synced(self) -> None:
        """Everything under way is on the disk, and what follows from that."""
        while self.log.open:
            self.driver.synced(self.log.open.pop(0), None, 0)
            self.turn()

    def append(self, index: int, count: int = 1) -> Message:
        """Entries of a leader behind `index`."""
        term = 1 if index == 1 else TERM
        entries = [Entry(TERM, index + n + 1, data=b"x") for n in range(count)]
        return Message(
            MessageType.APP,
            to=ME,
            sender=LEADER,
            term=TERM,
            index=index,
            log_term=term,
            entries=entries,
        )

    def lead(self) -> None:
        self.raft.campaign()
        self.turn()
        self.synced()
        for kind in (MessageType.PRE_VOTE_RESP, MessageType.VOTE_RESP):
            self.turn(Message(kind, to=ME, sender=LEADER, term=TERM))
            self.synced()
        assert self.machine.role == Role.LEADER
        self.machine.sent.clear()


def kinds(messages: list[Message]) -> set[MessageType]:
    return {message.type for message in messages}


def test_a_leader_whose_segment_is_cut_goes_on_with_heartbeats() -> None:
    """Only the log waits: followers must not think that their leader died of a full segment."""
    bench = Bench()
    bench.lead()
    bench.log.ready = False
    bench.raft.tick()
    assert bench.driver.wants_turn
    bench.turn()
    beats = [m.to for m in bench.machine.sent if m.type == MessageType.HEARTBEAT]
    assert sorted(beats) == [LEADER, THIRD]


def test_a_member_without_room_keeps_silent() -> None:
    """A leader that cannot write must not keep others from leading."""
    bench = Bench()
    bench.lead()
    bench.log.stuck = True
    bench.raft.tick()
    assert not bench.driver.wants_turn
    bench.turn()
    assert bench.machine.sent == []
    bench.log.stuck = False
    bench.turn()
    assert MessageType.HEARTBEAT in kinds(bench.machine.sent)


def test_nothing_is_acknowledged_while_a_write_is_held() -> None:
    """A follower whose segment is cut takes entries, and says so when they are on its disk."""
    bench = Bench()
    bench.log.ready = False
    bench.turn(bench.append(1, 3))
    assert MessageType.APP_RESP not in kinds(bench.machine.sent)
    bench.log.ready = True
    bench.synced()
    answers = [m.index for m in bench.machine.sent if m.type == MessageType.APP_RESP]
    assert answers == [4]


def test_lone_entries_of_a_leader_take_the_short_path() -> None:
    """The second one in a row; a batch goes to the log's thread."""
    bench = Bench()
    bench.turn(bench.append(1))
    bench.synced()
    assert bench.log.short == 0
    bench.turn(bench.append(2))
    assert bench.log.short == 1
    assert [m.index for m in bench.machine.sent if m.type == MessageType.APP_RESP] == [2, 3]
    bench.turn(bench.append(3, 2))
    assert bench.log.short == 1
    assert len(bench.log.open) == 1
