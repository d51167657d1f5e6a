"""Chance decides what happens; Raft's five properties hold after every step, then it recovers.

Act one: messages are delivered in any order, lost and doubled, members crash, compact, change the
configuration, hand over. Act two: everybody is back and the network works, so a leader must be
found and a proposal applied by all members within bounded time.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from corum.raft import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    ProposalDropped,
    ReadOnly,
    Transition,
)
from raft.network import Network

VOTERS = (1, 2, 3)
EVERYBODY = (*VOTERS, 4)
members = st.sampled_from(EVERYBODY)
places = st.integers(0, 200)
kinds = st.sampled_from(
    [ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER_NODE, ConfChangeType.REMOVE_NODE]
)


class Group(RuleBasedStateMachine):
    """Three voters and a fourth member that may be added."""

    @initialize(
        pipelined=st.booleans(),
        pre_vote=st.booleans(),
        check_quorum=st.booleans(),
        lease=st.booleans(),
        small=st.booleans(),
    )
    def start(
        self, pipelined: bool, pre_vote: bool, check_quorum: bool, lease: bool, small: bool
    ) -> None:
        limits: dict[str, object] = {}
        if small:  # so that every limit is met
            limits = {
                "message_bytes_max": 60,
                "inflight_messages_max": 2,
                "committed_bytes_max": 60,
                "uncommitted_bytes_max": 30,
            }
        self.network = Network(
            VOTERS,
            async_storage_writes=pipelined,
            pre_vote=pre_vote,
            check_quorum=check_quorum,
            read_only=ReadOnly.LEASE_BASED if lease and check_quorum else ReadOnly.SAFE,
            **limits,
        )
        self.network.add(4)
        self.proposed = 0
        self.network.elect(1)

    @rule(member=members, count=st.integers(1, 12))
    def tick(self, member: int, count: int) -> None:
        for _ in range(count):
            self.network[member].node.tick()

    @rule(member=members)
    def handle_ready(self, member: int) -> None:
        peer = self.network[member]
        peer.handle_ready()
        self.network.take(peer)

    @rule(member=members)
    def storage_work(self, member: int) -> None:
        peer = self.network[member]
        peer.do_work()
        self.network.take(peer)

    @rule(member=members)
    def apply_work_overtakes(self, member: int) -> None:
        peer = self.network[member]
        if peer.work:
            peer.do_work(peer.work[-1].to)
            self.network.take(peer)

    @precondition(lambda self: self.network.messages)
    @rule(place=places, fate=st.sampled_from(["once", "once", "once", "twice", "lost"]))
    def deliver(self, place: int, fate: str) -> None:
        network = self.network
        msg = network.messages.pop(place % len(network.messages))
        if fate == "lost":
            network[msg.sender].node.report_snapshot(msg.to, False)
            network[msg.sender].node.report_unreachable(msg.to)
            return
        network.deliver(msg)
        if fate == "twice":
            network.messages.append(msg)

    @rule(count=st.integers(1, 30))
    def deliver_in_order(self, count: int) -> None:
        network = self.network
        for _ in range(min(count, len(network.messages))):
            network.deliver(network.messages.pop(0))
            for peer in network.peers.values():
                peer.handle_ready()
                peer.do_work()
                network.take(peer)

    @rule(member=members, count=st.integers(1, 4))
    def propose(self, member: int, count: int) -> None:
        batch: list[Entry] = []
        for _ in range(count):
            self.proposed += 1
            batch.append(Entry(data=b"p%d" % self.proposed))
        try:
            self.network[member].node.propose(batch)
        except ProposalDropped:
            pass

    @rule(member=members, subject=st.sampled_from((2, 3, 4)), kind=kinds)
    def change_one(self, member: int, subject: int, kind: ConfChangeType) -> None:
        self._change(member, ConfChange(kind, subject))

    @rule(
        member=members,
        kinds=st.tuples(kinds, kinds),
        transition=st.sampled_from(list(Transition)),
    )
    def change_two(
        self, member: int, kinds: tuple[ConfChangeType, ...], transition: Transition
    ) -> None:
        changes = zip(kinds, (3, 4), strict=True)
        singles = tuple(ConfChangeSingle(kind, subject) for kind, subject in changes)
        self._change(member, ConfChangeV2(singles, transition))

    @rule(member=members)
    def leave_joint(self, member: int) -> None:
        self._change(member, ConfChangeV2())

    def _change(self, member: int, change: ConfChange | ConfChangeV2) -> None:
        try:
            self.network[member].node.propose_conf_change(change)
        except ProposalDropped:
            pass

    @rule(member=members, to=members)
    def transfer(self, member: int, to: int) -> None:
        self.network[member].node.transfer_leader(to)

    @rule(member=members)
    def forget_leader(self, member: int) -> None:
        self.network[member].node.forget_leader()

    @rule(member=members)
    def read(self, member: int) -> None:
        self.network[member].node.read_index(b"read")

    @rule(member=members)
    def compact(self, member: int) -> None:
        self.network[member].compact()

    @rule(member=members)
    def crash(self, member: int) -> None:
        self.network[member].restart()

    @invariant()
    def safe(self) -> None:
        if hasattr(self, "network"):
            self.network.check()

    def teardown(self) -> None:
        if hasattr(self, "network"):
            self._recover()

    def _recover(self) -> None:
        network = self.network
        for round_number in range(60):
            network.tick(5)
            leader = network.leader
            if leader is None:
                continue
            try:
                network.propose(leader.id, b"recovered%d" % round_number)
            except ProposalDropped:
                continue
            network.tick(3)
            configuration = leader.node.status().configuration
            everybody = configuration.voters() | configuration.learners
            wanted = leader.node.status().applied
            if leader.node.status().last_index == wanted and all(
                network[member].node.status().applied == wanted for member in everybody
            ):
                return
        states = {key: peer.node.status() for key, peer in network.peers.items()}
        raise AssertionError(f"not recovered: {states}")


TestGroup = pytest.mark.slow(Group.TestCase)
TestGroup.settings = settings(max_examples=40, stateful_step_count=50)
