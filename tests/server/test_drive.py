"""The driver between Raft and the log: what waits for the disk, and what must not."""

import random
from dataclasses import replace
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
from corum.raft.messages import CAMPAIGN_TRANSFER
from corum.server.drive import Driver
from corum.server.proposals import ENTRY_OVERHEAD, FORWARDED_BYTES_MAX, Proposals

TERM = 5
ME, LEADER, THIRD = 1, 2, 3


class HandLog(MemoryLog):
    """Writes end when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[int] = []
        self.entries: list[list[Entry]] = []
        self.states: list[Any] = []
        self.short = 0

    def commits(self) -> list[int]:
        """Commit indexes as written; 0 where the state had not changed."""
        return [state.commit if state is not None else 0 for state in self.states]

    def write(self, token: int, state: HardState | None, entries: list[Entry], sync: bool) -> bool:
        self.open.append(token)
        self.entries.append(entries)
        self.states.append(state)
        return True

    def write_now(
        self, token: int, state: HardState | None, entries: list[Entry], sync: bool
    ) -> bool:
        assert not self.open
        self.short += bool(entries)
        self.entries.append(entries)
        self.states.append(state)
        return True


class Machine:
    """Collects what the driver gives out."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.role = Role.FOLLOWER
        self.story: list[Any] = []
        """What is written, snapshots among it."""
        self.installed_behind: list[int] = []

    def apply(self, entries: list[Entry]) -> None: ...
    def keep_snapshot(self, snapshot: Snapshot) -> None:
        self.story.append(snapshot)

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        self.installed_behind.append(len(self.story))

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


def answered(bench: Bench) -> list[int]:
    return [m.index for m in bench.machine.sent if m.type == MessageType.APP_RESP]


def test_what_comes_during_a_write_is_one_write() -> None:
    """However many messages a leader sends meanwhile; nothing is acknowledged before its write."""
    bench = Bench()
    bench.turn(bench.append(1, 2))
    bench.turn(bench.append(3, 2))
    bench.turn(bench.append(5, 2))
    assert len(bench.log.open) == 1
    bench.driver.synced(bench.log.open.pop(0), None, 0)
    bench.turn()
    assert answered(bench) == [3]
    assert len(bench.log.open) == 1
    assert [e.index for e in bench.log.entries[-1]] == [4, 5, 6, 7]
    bench.synced()
    assert answered(bench) == [3, 7]


def test_a_commit_index_alone_waits_for_no_disk() -> None:
    """It goes to the page cache while the log is idle, else with the next write; what it answers is
    acknowledged at once, or with the write before it."""
    bench = Bench()
    bench.turn(bench.append(1, 2))
    bench.synced()
    bench.turn(replace(bench.append(3, 0), commit=2))
    assert not bench.log.open
    assert bench.log.commits() == [1, 2]
    assert answered(bench) == [3, 3]
    bench.turn(bench.append(3, 2))
    bench.turn(replace(bench.append(5, 0), commit=3))
    bench.turn(bench.append(5, 2))
    assert len(bench.log.open) == 1
    assert answered(bench) == [3, 3]
    bench.driver.synced(bench.log.open.pop(0), None, 0)
    bench.turn()
    assert answered(bench) == [3, 3, 5]
    assert bench.log.commits()[-1] == 3


def test_a_vote_is_on_the_disk_before_it_is_given() -> None:
    """Also behind a write that is under way."""
    bench = Bench()
    bench.turn(bench.append(1, 2))
    vote = Message(
        MessageType.VOTE,
        to=ME,
        sender=THIRD,
        term=TERM + 1,
        index=9,
        log_term=TERM,
        context=CAMPAIGN_TRANSFER,
    )
    bench.turn(vote)
    assert MessageType.VOTE_RESP not in kinds(bench.machine.sent)
    bench.driver.synced(bench.log.open.pop(0), None, 0)
    bench.turn()
    assert MessageType.VOTE_RESP not in kinds(bench.machine.sent)
    state = bench.log.states[-1]
    assert state is not None
    assert (state.term, state.vote) == (TERM + 1, THIRD)
    bench.synced()
    assert MessageType.VOTE_RESP in kinds(bench.machine.sent)


def forwarded(*data: bytes) -> Message:
    return Message(MessageType.PROP, to=ME, sender=THIRD, entries=[Entry(data=d) for d in data])


def test_forwarded_proposals_join_the_next_batch() -> None:
    """One append message to each follower, and one write, for ours and for theirs."""
    bench = Bench()
    bench.lead()
    for follower in (LEADER, THIRD):  # the first entry of the term is there
        bench.turn(Message(MessageType.APP_RESP, to=ME, sender=follower, term=TERM, index=2))
    bench.proposals.queued += [Entry(data=b"one"), Entry(data=b"two")]
    bench.turn()
    bench.machine.sent.clear()
    assert bench.proposals.forward(forwarded(b"a", b"b"), 0)
    assert bench.proposals.forward(forwarded(b"c"), 0)
    bench.turn()
    assert MessageType.APP not in kinds(bench.machine.sent)
    bench.proposals.queued.append(Entry(data=b"d"))
    bench.synced()
    news = [m for m in bench.machine.sent if m.type == MessageType.APP and m.to == THIRD]
    assert [[e.data for e in m.entries] for m in news] == [[b"d", b"a", b"b", b"c"]]


def test_forwarded_proposals_go_on_to_the_next_leader() -> None:
    """A leader that is none any more when its log is free passes them on, as a follower does."""
    bench = Bench()
    bench.lead()
    assert bench.proposals.forward(forwarded(b"a"), 0)
    bench.raft.step(replace(bench.append(2, 0), term=TERM + 1))
    bench.turn()
    passed = [m for m in bench.machine.sent if m.type == MessageType.PROP]
    assert [(m.to, m.entries[0].data) for m in passed] == [(LEADER, b"a")]
    assert not bench.proposals.forwarded


def test_forwarded_proposals_are_bounded() -> None:
    """What does not fit is Raft's at once, which has a limit of its own."""
    proposals = Proposals(ME, 0, 1_000_000, 10**9)
    big = forwarded(bytes(FORWARDED_BYTES_MAX - ENTRY_OVERHEAD))
    assert proposals.forward(big, 0)
    assert not proposals.forward(forwarded(b""), 0)
    assert [message for _, message in proposals.take_forwarded()] == [big]
    assert proposals.forward(forwarded(b""), 0)


def test_forwarded_proposals_wait_for_the_end_of_a_handover() -> None:
    """A leader that hands over has proposed nothing of them: it does so if it stays, and sends them
    on, each once, when it knows who leads instead."""
    bench = Bench()
    bench.lead()
    for follower in (LEADER, THIRD):
        bench.turn(Message(MessageType.APP_RESP, to=ME, sender=follower, term=TERM, index=2))
    bench.raft.transfer_leader(LEADER)
    assert bench.proposals.forward(forwarded(b"a"), 0)
    bench.turn()
    assert bench.raft.raft.log.last_index == 2
    for _ in range(10):  # an election timeout: the handover has failed
        bench.raft.tick()
    bench.turn()
    bench.synced()
    assert bench.raft.raft.log.last_index == 3

    bench.raft.transfer_leader(LEADER)
    assert bench.proposals.forward(forwarded(b"b"), 0)
    vote = Message(MessageType.VOTE, to=ME, sender=LEADER, term=TERM + 1, index=3, log_term=TERM)
    bench.turn(replace(vote, context=CAMPAIGN_TRANSFER))
    bench.synced()
    assert bench.machine.role == Role.FOLLOWER
    assert bench.proposals.forwarded, "sent to nobody"
    bench.machine.sent.clear()
    bench.turn(replace(bench.append(3, 0), term=TERM + 1))
    passed = [m for m in bench.machine.sent if m.type == MessageType.PROP]
    assert [(m.to, m.entries[0].data) for m in passed] == [(LEADER, b"b")]
    assert not bench.proposals.forwarded


def test_forwarded_proposals_that_find_no_leader_are_given_up() -> None:
    """Whoever asked was told after the same time."""
    proposals = Proposals(ME, 0, 1_000_000, 10)
    big = forwarded(bytes(FORWARDED_BYTES_MAX - 2 * ENTRY_OVERHEAD))
    assert proposals.forward(big, 0)
    assert proposals.forward(forwarded(b""), 5)
    proposals.overdue(9)
    assert not proposals.forward(big, 9)
    proposals.overdue(10)
    assert [deadline for deadline, _ in proposals.forwarded] == [15]
    assert proposals.refused_total == 1
    assert proposals.forward(big, 10)


def test_a_snapshots_state_stands_behind_its_record() -> None:
    """And what waited for the log before it: a commit index beyond the log's end, or a database in
    place without a record, and the member never starts again (seeds 3/60180 and 3/60053)."""
    bench = Bench()
    story = bench.machine.story = bench.log.states
    bench.turn(bench.append(1, count=2))
    bench.turn(bench.append(3, count=2))  # waits for the write of the first two
    snapshot = Snapshot(9, TERM, ConfState((ME, LEADER, THIRD)), b"")
    bench.turn(
        Message(MessageType.SNAP, to=ME, sender=LEADER, term=TERM, commit=9, snapshot=snapshot)
    )
    bench.synced()
    at = story.index(snapshot)
    assert [state.commit for state in story[:at] if state is not None] == [1]
    assert [state.commit for state in story[at + 1 :] if state is not None] == [9]
    assert bench.machine.installed_behind == [len(bench.log.states)]
