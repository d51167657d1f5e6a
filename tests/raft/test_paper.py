"""One sentence of the dissertation ("diss.") or the extended paper ("Raft") each.

Arrange, one step, check. What needs a conversation to be seen is in scripts/ instead.
"""

from __future__ import annotations

import pytest

from corum.raft import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    HardState,
    MemoryStorage,
    Message,
    MessageType,
    ProposalDropped,
    RawNode,
    Role,
    Snapshot,
    Transition,
)
from raft.network import Network

PLAIN: dict[str, object] = {"pre_vote": False, "check_quorum": False}
"""The algorithm of the paper, without the extensions of chapters 6 and 9."""


def sent(network: Network, member: int) -> list[Message]:
    """What `member` sends for what it has been given."""
    peer = network[member]
    while peer.node.has_ready():
        peer.handle_ready()
    messages, peer.sent = peer.sent, []
    return messages


def vote(term: int, index: int, log_term: int, sender: int = 2) -> Message:
    return Message(MessageType.VOTE, to=1, sender=sender, term=term, index=index, log_term=log_term)


def append(term: int, prev: tuple[int, int], *entries: Entry, commit: int = 0) -> Message:
    return Message(
        MessageType.APP,
        to=1,
        sender=2,
        term=term,
        log_term=prev[0],
        index=prev[1],
        entries=entries,
        commit=commit,
    )


# Terms and elections


@pytest.mark.parametrize("role", list(Role))
def test_higher_term_makes_a_follower(role: Role) -> None:
    """Raft §5.1: a candidate or leader that discovers that its term is out of date immediately
    reverts to follower state."""
    network = Network(**PLAIN)
    raft = network[1].node.raft
    if role == Role.LEADER:
        network.elect(1)
    elif role == Role.CANDIDATE:
        raft.become_candidate()
    elif role == Role.PRE_CANDIDATE:
        raft.become_pre_candidate()
    network[1].node.step(append(9, (1, 1)))
    assert (raft.role, raft.term, raft.leader) == (Role.FOLLOWER, 9, 2)


def test_stale_term_is_rejected() -> None:
    """Raft §5.1: if a server receives a request with a stale term number, it rejects it."""
    network = Network(**PLAIN)
    network[1].node.step(append(5, (1, 1)))
    sent(network, 1)
    network[1].node.step(append(4, (1, 1), Entry(4, 2, data=b"stale")))
    assert sent(network, 1) == []
    assert network[1].node.status().last_index == 1


def test_one_vote_per_term_first_come() -> None:
    """Raft §5.2: each server votes for at most one candidate in a term, first come first served."""
    network = Network(**PLAIN)
    network[1].node.step(vote(2, 1, 1, sender=2))
    network[1].node.step(vote(2, 1, 1, sender=3))
    network[1].node.step(vote(2, 1, 1, sender=2))
    answers = [(msg.to, msg.reject) for msg in sent(network, 1)]
    assert answers == [(2, False), (3, True), (2, False)]


def test_a_vote_survives_a_crash() -> None:
    """diss. §3.8: the current term and vote are persisted, to prevent voting twice in a term."""
    network = Network(**PLAIN)
    network[1].node.step(vote(2, 1, 1, sender=2))
    sent(network, 1)
    network[1].restart()
    network[1].node.step(vote(2, 1, 1, sender=3))
    (answer,) = sent(network, 1)
    assert answer.reject


@pytest.mark.parametrize(
    ("index", "log_term", "granted"),
    [(3, 1, False), (2, 2, False), (3, 2, True), (4, 2, True), (1, 3, True), (9, 1, False)],
)
def test_vote_only_for_a_log_as_complete(index: int, log_term: int, granted: bool) -> None:
    """Raft §5.4.1: the voter denies its vote if its own log is more up-to-date: later last term,
    or the same last term and longer."""
    network = Network(**PLAIN)
    network[1].node.step(append(2, (1, 1), Entry(1, 2), Entry(2, 3)))
    sent(network, 1)
    network[1].node.step(vote(3, index, log_term, sender=3))
    (answer,) = sent(network, 1)
    assert answer.reject is not granted


def test_election_timeouts_are_drawn_from_an_interval() -> None:
    """Raft §5.2: election timeouts are chosen randomly from a fixed interval."""
    network = Network(election_ticks=10, **PLAIN)
    drawn: set[int] = set()
    for _ in range(200):
        network[1].node.raft.become_follower(network[1].node.raft.term, 0)
        ticks = 0
        while network[1].node.raft.role == Role.FOLLOWER:
            network[1].node.tick()
            ticks += 1
        drawn.add(ticks)
    assert drawn == set(range(10, 20))


def test_candidate_yields_to_the_leader_of_its_term() -> None:
    """Raft §5.2: if the leader's term is at least as large as the candidate's, the candidate
    recognizes it and returns to follower state."""
    network = Network(**PLAIN)
    network[1].node.campaign()
    term = network[1].node.raft.term
    network[1].node.step(append(term, (1, 1)))
    assert (network[1].node.raft.role, network[1].node.leader) == (Role.FOLLOWER, 2)


def test_split_vote_ends_with_a_new_election() -> None:
    """Raft §5.2: with votes split no candidate wins; each times out and starts a new election."""
    network = Network((1, 2), **PLAIN)
    network[1].node.campaign()
    network[2].node.campaign()
    network.settle()
    assert network.leader is None
    network.tick(30)
    assert network.leader is not None
    assert network.leader.node.status().term > 1


# Replication


def test_leader_starts_with_an_entry_of_its_term() -> None:
    """diss. §6.4: each leader commits a blank no-op entry at the start of its term."""
    network = Network()
    leader = network.elect(1)
    term = leader.node.status().term
    assert leader.applied == {2: (term, b"")}
    assert leader.node.status().commit == 2


def test_entries_are_sent_and_applied_everywhere() -> None:
    """Raft §5.3: once the entry is safely replicated, the leader applies it; followers apply it
    when they learn that it is committed."""
    network = Network()
    network.elect(1)
    network.propose(1, b"a")
    network.settle()
    assert [peer.data() for peer in network.peers.values()] == [[b"a"]] * 3


def test_majority_commits_without_the_slow() -> None:
    """Raft §5.3: a log entry is committed once replicated on a majority of the servers."""
    network = Network((1, 2, 3, 4, 5))
    network.elect(1)
    network.cut_off = {4, 5}
    network.propose(1, b"a")
    network.settle()
    assert network[1].data() == [b"a"]
    network.cut_off = {3, 4, 5}
    network.propose(1, b"b")
    network.settle()
    assert network[1].data() == [b"a"]


def test_append_checks_the_entry_before() -> None:
    """Raft §5.3: if the follower does not find an entry with the same index and term before the
    new ones, it refuses the new entries."""
    network = Network(**PLAIN)
    network[1].node.step(append(2, (2, 4), Entry(2, 5)))
    (answer,) = sent(network, 1)
    assert (answer.reject, answer.index, answer.reject_hint) == (True, 4, 1)


def test_conflicting_entries_are_overwritten() -> None:
    """Raft §5.3: conflicting entries in follower logs will be overwritten with the leader's."""
    network = Network(**PLAIN)
    network[1].node.step(append(2, (1, 1), Entry(2, 2, data=b"x"), Entry(2, 3, data=b"y")))
    sent(network, 1)
    network[1].node.step(append(3, (1, 1), Entry(3, 2, data=b"z")))
    assert network[1].log() == {2: (3, b"z")}


def test_late_append_does_not_shorten_the_log() -> None:
    """diss. §3.5: entries already in the log that do not conflict are kept (messages may come
    late and out of order)."""
    network = Network(**PLAIN)
    network[1].node.step(append(2, (1, 1), Entry(2, 2), Entry(2, 3)))
    network[1].node.step(append(2, (1, 1), Entry(2, 2)))
    assert network[1].node.status().last_index == 3


def test_commit_is_no_more_than_what_was_matched() -> None:
    """Raft fig. 2: commitIndex = min(leaderCommit, index of last new entry)."""
    network = Network(**PLAIN)
    network[1].node.step(append(2, (1, 1), Entry(2, 2), Entry(2, 3)))
    sent(network, 1)
    network[1].node.step(append(2, (1, 1), Entry(2, 2), commit=3))
    assert network[1].node.status().commit == 2


def test_probing_skips_whole_terms() -> None:
    """diss. §3.5: a rejection names the conflicting term, so that one round is needed per term
    and not per entry."""
    network = Network(**PLAIN)
    stale = [Entry(2, index, data=b"stale") for index in range(2, 40)]
    network[3].node.step(append(2, (1, 1), *stale))
    sent(network, 3)
    network[1].node.step(append(3, (1, 1), Entry(3, 2), Entry(3, 3)))
    sent(network, 1)
    network[1].node.raft.become_follower(3, 0)
    network.cut_off = {3}
    network.elect(1)
    for number in range(30):
        network.propose(1, b"%d" % number)
    network.settle()
    network.cut_off = set()
    network[1].node.tick()
    rejections = 0
    for _ in range(20):
        network.collect()
        batch, network.messages = network.messages, []
        rejections += sum(msg.reject for msg in batch)
        for msg in batch:
            network.deliver(msg)
    assert network[3].log() == network[1].log()
    assert rejections == 1


def test_older_terms_are_committed_only_with_the_own_one() -> None:
    """Raft §5.4.2: Raft never commits log entries from previous terms by counting replicas
    (figure 8)."""
    network = Network(**PLAIN)
    old = Entry(2, 2, data=b"old")
    for member in (1, 2):
        network[member].node.step(append(2, (1, 1), old))
        sent(network, member)
    raft = network[1].node.raft
    raft.become_candidate()
    raft.become_leader()
    sent(network, 1)
    raft.step(Message(MessageType.APP_RESP, to=1, sender=2, term=raft.term, index=2))
    assert network[1].node.status().commit == 1
    raft.step(Message(MessageType.APP_RESP, to=1, sender=2, term=raft.term, index=3))
    assert network[1].node.status().commit == 3


def test_leader_never_overwrites_its_log() -> None:
    """Raft fig. 3, leader append-only: a leader only appends new entries."""
    network = Network()
    leader = network.elect(1)
    before = leader.log()
    network.propose(1, b"a")
    network.settle()
    after = leader.log()
    assert {index: after[index] for index in before} == before


# Membership, snapshots, reads, transfer


def test_leader_that_removes_itself_leads_until_it_is_committed() -> None:
    """diss. §4.2.2: a leader that is removed steps down once the change is committed, and does
    not count itself in majorities meanwhile."""
    network = Network(step_down_on_removal=True)
    network.elect(1)
    network.cut_off = {3}
    network[1].node.propose_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, 1))
    network.settle()
    assert not network[1].node.is_leader
    network.cut_off = set()
    network.tick(30, 2, 3)
    assert network.leader is not None
    assert network.leader.id in (2, 3)


def test_joint_consensus_needs_both_majorities() -> None:
    """diss. §4.3: agreement requires separate majorities from the old and the new configuration."""
    network = Network()
    network.elect(1)
    for member in (4, 5):
        network.add(member)
    changes = tuple(
        ConfChangeSingle(kind, member)
        for kind, member in (
            (ConfChangeType.ADD_NODE, 4),
            (ConfChangeType.ADD_NODE, 5),
            (ConfChangeType.REMOVE_NODE, 2),
            (ConfChangeType.REMOVE_NODE, 3),
        )
    )
    change = ConfChangeV2(changes, Transition.JOINT_EXPLICIT)
    network[1].node.propose_conf_change(change)
    network.settle()
    assert network[1].node.status().configuration.is_joint
    network.cut_off = {2, 3}
    network.propose(1, b"stored on 1 4 5")
    network.settle()
    assert network[1].data()[-1] != b"stored on 1 4 5"
    network.cut_off = {4, 5}
    network.tick(2, 1)
    network.propose(1, b"stored on 1 2 3")
    network.settle()
    assert network[1].data()[-1] == b"stored on 1 4 5"
    network.cut_off = {3, 5}
    network.tick(2, 1)
    assert network[1].data()[-1] == b"stored on 1 2 3"


def test_vote_requests_are_ignored_while_the_leader_is_heard() -> None:
    """diss. §4.2.3: if a server receives a RequestVote within the minimum election timeout of
    hearing from a current leader, it does not update its term or grant its vote."""
    network = Network(check_quorum=True, pre_vote=False)
    network.elect(1)
    term = network[2].node.status().term
    request = Message(MessageType.VOTE, to=2, sender=3, term=term + 5, index=9, log_term=term + 4)
    network[2].node.step(request)
    assert network[2].node.status().term == term
    assert sent(network, 2) == []
    network[2].node.step(
        Message(
            MessageType.VOTE,
            to=2,
            sender=3,
            term=term + 5,
            index=9,
            log_term=term + 4,
            context=b"CampaignTransfer",
        )
    )
    (answer,) = sent(network, 2)
    assert (answer.term, answer.reject) == (term + 5, False)


def test_follower_that_fell_behind_gets_a_snapshot() -> None:
    """diss. §5.1: if the leader has discarded the entry the follower needs, it sends a snapshot."""
    network = Network()
    network.elect(1)
    network.cut_off = {3}
    for number in range(10):
        network.propose(1, b"%d" % number)
    network.settle()
    network[1].compact()
    network.cut_off = set()
    network.tick(3)
    assert network[3].storage.saved().index == network[1].storage.saved().index
    assert network[3].node.status().commit == network[1].node.status().commit


def test_snapshot_of_a_prefix_keeps_the_log() -> None:
    """Raft §7: if the snapshot describes a prefix of the log, the entries after it are kept."""
    network = Network(**PLAIN)
    network[1].node.step(append(2, (1, 1), Entry(2, 2), Entry(2, 3)))
    sent(network, 1)
    snapshot = Snapshot(2, 2, network[1].conf_state)
    network[1].node.step(Message(MessageType.SNAP, to=1, sender=2, term=2, snapshot=snapshot))
    status = network[1].node.status()
    assert (status.commit, status.last_index) == (2, 3)
    (answer,) = sent(network, 1)
    assert answer.index == 2


def test_lone_voter_reads_only_after_its_own_entry() -> None:
    """diss. §6.4: a leader does not know which entries are committed before it has committed one
    of its own term. After a restart the stored commit index is behind what was acknowledged."""
    network = Network((1,))
    network.elect(1)
    network.propose(1, b"acknowledged")
    network.settle()
    acknowledged = network[1].node.status().commit
    hard_state, _ = network[1].storage.initial_state()
    network[1].storage.set_hard_state(HardState(hard_state.term, hard_state.vote, 1))
    network[1].restart()
    node = network[1].node
    node.campaign()
    while not node.is_leader:
        network[1].handle_ready()
    assert node.read_index(b"ctx")
    network.settle()
    (read,) = network[1].reads
    assert read.index > acknowledged


def test_leadership_transfer() -> None:
    """diss. §3.10: the transferee, brought up to date, starts an election without waiting and
    wins it; the old leader has stopped accepting requests."""
    network = Network()
    network.elect(1)
    network[1].node.transfer_leader(3)
    with pytest.raises(ProposalDropped):
        network.propose(1, b"refused")
    network.settle()
    assert network.leader is network[3]


def test_partitioned_leader_steps_down() -> None:
    """diss. §6.2: a leader steps down if an election timeout elapses without a successful round
    of heartbeats to a majority of its cluster."""
    network = Network()
    network.elect(1)
    network.cut_off = {1}
    network.tick(15, 1)
    assert not network[1].node.is_leader


def test_pre_vote_keeps_the_term_of_the_isolated() -> None:
    """diss. §9.6: a server increments its term only if it first learns that it could win."""
    network = Network(pre_vote=True)
    network.elect(1)
    network.cut_off = {3}
    term = network[3].node.status().term
    network.tick(60)
    network.cut_off = set()
    network.tick(10)
    assert network[3].node.status().term == term
    assert network.leader is network[1]


def test_bootstrap_makes_one_cluster() -> None:
    """etcd: initial members begin with ADD_NODE entries 1..n at term 1, committed, the same on
    all of them; the first election is for term 2."""
    network = Network(())
    peers = [(member, b"context %d" % member) for member in (1, 2, 3)]
    for member, _ in peers:
        network.add(member).node.bootstrap(peers)
    network.collect()
    assert network[1].node.status().commit == 3
    network.elect(2)
    assert network[2].node.status().term == 2
    assert network[2].conf_state.voters == (1, 2, 3)


def test_restart_from_storage() -> None:
    """Raft §8 (etcd): a member that restarts has its term, vote, commit index and log again, and
    applies again what the application had not remembered."""
    storage = MemoryStorage()
    network = Network((1,))
    network.elect(1)
    network.propose(1, b"a")
    network.settle()
    storage = network[1].storage
    before = network[1].node.status()
    network[1].restart()
    after = network[1].node.status()
    assert isinstance(network[1].node, RawNode)
    assert (after.term, after.vote, after.commit) == (before.term, before.vote, before.commit)
    network[1].applied = {}
    network.settle()
    assert network[1].data() == [b"a"]
    assert storage.last_index() == before.last_index
