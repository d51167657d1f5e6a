"""The parts by themselves: entries by identity, storage, limits, encodings, refusals."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corum.raft import (
    APPEND_THREAD,
    APPLY_THREAD,
    NO_LIMIT,
    ConfChange,
    ConfChangeRefused,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    Config,
    ConfState,
    Entry,
    EntryType,
    MemoryStorage,
    Message,
    MessageType,
    ProposalDropped,
    RawNode,
    ReadOnly,
    Snapshot,
    Transition,
    decode,
    encode,
)
from corum.raft.messages import (
    ENTRY_OVERHEAD_BYTES,
    ConfChangeCorrupt,
    MessageInvalid,
    StepLocalMessage,
    StepPeerNotFound,
)
from corum.raft.progress import Inflights
from corum.raft.read_index import PENDING_READS_MAX, PendingReads
from corum.raft.storage import Compacted, SnapshotOutOfDate, Unavailable, fitting
from raft.network import Network


def leader(**settings: object) -> tuple[RawNode, MemoryStorage]:
    """A lone voter that leads, with its first entry committed and applied."""
    network = Network((1,), **settings)
    peer = network.elect(1)
    return peer.node, peer.storage


# Entries


def test_proposed_entries_come_out_by_identity() -> None:
    """The objects that were proposed are in Ready.entries, the log and committed_entries."""
    node, storage = leader()
    batch = [Entry(data=b"%d" % number, request=object()) for number in range(50)]
    node.propose(batch)
    ready = node.ready()
    assert [id(entry) for entry in ready.entries] == [id(entry) for entry in batch]
    storage.append(list(ready.entries))
    node.advance(ready)
    ready = node.ready()
    assert [id(entry) for entry in ready.committed_entries] == [id(entry) for entry in batch]
    node.advance(ready)
    stored = storage.entries(batch[0].index, batch[-1].index + 1)
    assert [id(entry) for entry in stored] == [id(entry) for entry in batch]
    assert [entry.index for entry in batch] == list(range(3, 53))


def test_forwarded_entries_lose_their_request() -> None:
    """What another member proposes is copied: on the follower without `request`, on the leader
    into objects of its own, so that a doubled message makes two sets of entries."""
    network = Network()
    network.elect(1)
    entry = Entry(data=b"a", request="mine")
    network[2].node.propose([entry])
    network[2].handle_ready()
    (forwarded,), network[2].sent = network[2].sent, []
    assert (forwarded.entries[0].request, forwarded.entries[0] is entry) == (None, False)
    network[1].node.step(forwarded)
    network[1].node.step(forwarded)
    assert forwarded.entries[0].index == 0
    network.settle()
    assert network[3].data() == [b"a", b"a"]


def test_refused_conf_change_keeps_its_request() -> None:
    """A change that is not allowed now comes out as an empty NORMAL entry, with its request."""
    node, _ = leader()
    node.propose_conf_change(ConfChange(ConfChangeType.ADD_NODE, 2))
    refused = node.propose_conf_change(ConfChange(ConfChangeType.ADD_NODE, 3), request="who")
    assert (refused.type, refused.data, refused.request) == (EntryType.NORMAL, b"", "who")


def test_corrupt_conf_change_is_refused_not_fatal() -> None:
    """Bytes that are no ConfChange, forwarded by a peer, do not enter the log."""
    node, _ = leader()
    entry = Entry(type=EntryType.CONF_CHANGE, data=b"\x08\xff\xff\xff")
    node.propose([entry])
    assert entry.type == EntryType.NORMAL


def test_dropped_proposal_leaves_its_entries_alone() -> None:
    """After ProposalDropped the same entries can be proposed again."""
    network = Network()
    entry = Entry(data=b"a")
    with pytest.raises(ProposalDropped) as dropped:
        network[1].node.propose([entry])
    assert dropped.value.reason == "no leader at term 0"
    assert (entry.term, entry.index) == (0, 0)


# Refusals


def test_local_messages_do_not_come_from_the_network() -> None:
    """A peer cannot make us campaign or believe that our disk has answered."""
    node, _ = leader()
    local = [
        MessageType.HUP,
        MessageType.BEAT,
        MessageType.CHECK_QUORUM,
        MessageType.UNREACHABLE,
        MessageType.SNAP_STATUS,
        MessageType.STORAGE_APPEND_RESP,
        MessageType.STORAGE_APPLY_RESP,
    ]
    for kind in local:
        with pytest.raises(StepLocalMessage):
            node.step(Message(kind, to=1, sender=2))


def test_answers_of_strangers_are_refused() -> None:
    """Only members of the configuration can acknowledge or vote."""
    node, _ = leader()
    for kind in (MessageType.APP_RESP, MessageType.VOTE_RESP, MessageType.HEARTBEAT_RESP):
        with pytest.raises(StepPeerNotFound):
            node.step(Message(kind, to=1, sender=7, term=1))


@pytest.mark.parametrize(
    "msg",
    [
        Message(MessageType.APP, sender=2, term=9, index=1, log_term=1, entries=(Entry(9, 5),)),
        Message(MessageType.SNAP, sender=2, term=9),
        Message(MessageType.VOTE, sender=2, index=9, log_term=9),
        Message(MessageType.PRE_VOTE, sender=2, index=9, log_term=9),
        Message(MessageType.READ_INDEX_RESP, sender=2, term=9),
    ],
    ids=lambda msg: msg.type.name,
)
def test_malformed_messages_are_refused(msg: Message) -> None:
    """What no correct member sends raises MessageInvalid and leaves the log alone."""
    network = Network()
    node = network[1].node
    node.raft.become_follower(9, 2)
    with pytest.raises(MessageInvalid):
        node.step(msg)
    assert node.status().last_index == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"id": 0},
        {"id": 2**64 - 1},
        {"heartbeat_ticks": 0},
        {"election_ticks": 1},
        {"inflight_messages_max": 0},
        {"inflight_bytes_max": 5, "message_bytes_max": 6},
        {"uncommitted_bytes_max": 0},
        {"committed_bytes_max": 0},
        {"message_bytes_max": -1},
        {"read_only": ReadOnly.LEASE_BASED, "check_quorum": False},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    """Config.validate raises ValueError for what no member can run with."""
    options = {"id": 1, "dice": random.Random(1), **settings}
    with pytest.raises(ValueError):
        RawNode(Config(**options), MemoryStorage())


def test_impossible_change_is_refused_at_apply() -> None:
    """A committed change that the configuration does not allow raises and changes nothing."""
    node, _ = leader()
    with pytest.raises(ConfChangeRefused):
        node.apply_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, 1))
    assert node.status().configuration.conf_state() == ConfState((1,))


# Limits


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=40),
    limit=st.integers(0, 1500),
    data=st.data(),
)
def test_fitting_is_the_longest_prefix(sizes: list[int], limit: int, data: st.DataObject) -> None:
    """Within the limit, at least one entry, and one more would not fit."""
    start = data.draw(st.integers(0, len(sizes) - 1))
    stop = data.draw(st.integers(start + 1, len(sizes)))
    entries = [Entry(data=b"x" * size) for size in sizes]
    taken = fitting(entries, start, stop, limit)
    assert taken == entries[start : start + len(taken)]
    size = sum(len(entry.data) + ENTRY_OVERHEAD_BYTES for entry in taken)
    assert len(taken) == 1 or size <= limit
    if start + len(taken) < stop:
        assert size + len(entries[start + len(taken)].data) + ENTRY_OVERHEAD_BYTES > limit


def test_fitting_of_a_long_log() -> None:
    """Also across the chunks in which it measures."""
    entries = [Entry(data=b"x" * 76) for _ in range(3000)]
    assert len(fitting(entries, 0, 3000, 100 * 1999)) == 1999
    assert len(fitting(entries, 0, 3000, 100 * 3000)) == 3000
    assert len(fitting(entries, 500, 3000, NO_LIMIT)) == 2500


def test_inflights_limits() -> None:
    """Full at the number of messages, or when their bytes reach the limit; freed by index."""
    inflights = Inflights(3, 100)
    inflights.add(5, 40)
    inflights.add(8, 59)
    assert not inflights.full
    inflights.add(9, 0)
    assert inflights.full
    inflights.free_to(5)
    assert (len(inflights), inflights.full) == (2, False)
    inflights.add(11, 41)
    assert inflights.full
    inflights.free_to(11)
    assert (len(inflights), inflights.full) == (0, False)


def test_pending_reads_are_bounded() -> None:
    """Beyond the limit a read is dropped; whoever asked asks again."""
    reads = PendingReads()
    request = Message(MessageType.READ_INDEX)
    for number in range(PENDING_READS_MAX):
        assert reads.add(b"%d" % number, request, 1)
    assert not reads.add(b"one more", request, 1)
    assert len(reads.release(b"%d" % (PENDING_READS_MAX - 1))) == PENDING_READS_MAX
    assert reads.add(b"one more", request, 1)
    assert reads.newest_context() == b"one more"


# Storage


def stored(*terms: int) -> MemoryStorage:
    storage = MemoryStorage()
    storage.append([Entry(term, index) for index, term in enumerate(terms, start=1)])
    return storage


def test_storage_append_replaces_the_tail() -> None:
    """Entries at and after the first new one are gone."""
    storage = stored(1, 1, 1, 1)
    storage.append([Entry(2, 3)])
    assert [storage.term(index) for index in (1, 2, 3)] == [1, 1, 2]
    assert storage.last_index() == 3


def test_storage_compact() -> None:
    """Before the compacted index nothing is known, of itself the term."""
    storage = stored(1, 1, 2, 3)
    storage.compact(3)
    assert (storage.first_index(), storage.last_index(), storage.term(3)) == (4, 4, 2)
    with pytest.raises(Compacted):
        storage.term(2)
    with pytest.raises(Compacted):
        storage.entries(3, 5)
    with pytest.raises(Compacted):
        storage.compact(3)
    with pytest.raises(Unavailable):
        storage.term(5)
    storage.append([Entry(3, 2), Entry(3, 3), Entry(4, 4), Entry(4, 5)])
    assert [entry.term for entry in storage.entries(4, 6)] == [4, 4]


def test_storage_snapshots() -> None:
    """A made one leaves the log, a received one replaces it; older ones are refused."""
    storage = stored(1, 1, 2)
    made = storage.create_snapshot(2, ConfState((1,)), b"state")
    assert (made.term, storage.first_index()) == (1, 1)
    with pytest.raises(SnapshotOutOfDate):
        storage.create_snapshot(2, None)
    assert storage.create_snapshot(3, None).conf_state == ConfState((1,))
    storage.apply_snapshot(Snapshot(9, 4, ConfState((1, 2))))
    assert (storage.first_index(), storage.last_index(), storage.term(9)) == (10, 9, 4)
    with pytest.raises(SnapshotOutOfDate):
        storage.apply_snapshot(Snapshot(9, 4))


# Encodings


singles = st.builds(
    ConfChangeSingle, st.sampled_from(list(ConfChangeType)), st.integers(0, 2**64 - 1)
)
changes_v1 = st.builds(
    ConfChange,
    st.sampled_from(list(ConfChangeType)),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=20),
    st.integers(0, 2**64 - 1),
)
changes_v2 = st.builds(
    ConfChangeV2,
    st.lists(singles, max_size=4).map(tuple),
    st.sampled_from(list(Transition)),
    st.binary(max_size=20),
)


@given(change=changes_v1 | changes_v2)
def test_conf_change_comes_back(change: ConfChange | ConfChangeV2) -> None:
    """decode(encode(x)) is x."""
    kind, data = encode(change)
    assert decode(Entry(type=kind, data=data)) == change


def test_conf_change_bytes_are_etcds() -> None:
    """As Go etcd writes them (raftpb, every scalar of ConfChange present)."""
    change = ConfChange(ConfChangeType.ADD_LEARNER_NODE, 300, b"ctx", 7)
    assert encode(change) == (EntryType.CONF_CHANGE, bytes.fromhex("08071003 18ac02 2203637478"))
    plain = ConfChange(ConfChangeType.ADD_NODE, 1)
    assert encode(plain)[1] == bytes.fromhex("080010001801")
    several = ConfChangeV2(
        (ConfChangeSingle(ConfChangeType.REMOVE_NODE, 2),), Transition.JOINT_EXPLICIT
    )
    assert encode(several)[1] == bytes.fromhex("0802 1204 0801 1002")
    assert encode(ConfChangeV2()) == (EntryType.CONF_CHANGE_V2, b"")


@given(data=st.binary(max_size=30), kind=st.sampled_from([1, 2]))
def test_conf_change_of_any_bytes(data: bytes, kind: int) -> None:
    """Any bytes are a change or raise ConfChangeCorrupt, nothing else."""
    try:
        decode(Entry(type=EntryType(kind), data=data))
    except ConfChangeCorrupt:
        pass


# Driving


def test_has_ready_is_true_exactly_when_ready_is_not_empty() -> None:
    """In both ways of driving, over a whole life: election, proposals, compaction, restart."""
    for pipelined in (False, True):
        network = Network((1,), async_storage_writes=pipelined)
        network.elect(1)
        node = network[1].node
        assert not node.has_ready()
        ready = node.ready()
        assert not [*ready.messages, *ready.entries, *ready.committed_entries]
        assert (ready.hard_state, ready.soft_state, ready.snapshot) == (None, None, None)
        if not pipelined:
            node.advance(ready)
        node.propose([Entry(data=b"a")])
        assert node.has_ready()


def test_pipelined_appends_overlap() -> None:
    """With asynchronous writes a second batch is handed out before the first is durable; both are
    committed by the answer to the second."""
    network = Network((1,), async_storage_writes=True)
    network.elect(1)
    peer = network[1]
    for data in (b"a", b"b"):
        peer.node.propose([Entry(data=data)])
        peer.handle_ready()
    assert [msg.to for msg in peer.work] == [APPEND_THREAD, APPEND_THREAD]
    peer.do_work()
    peer.do_work()
    peer.handle_ready()
    (apply,) = [msg for msg in peer.work if msg.to == APPLY_THREAD]
    assert [entry.data for entry in apply.entries] == [b"a", b"b"]


def test_pipelined_leader_may_remove_itself() -> None:
    """The answer of its own disk is no stranger's, although it is no member any more."""
    network = Network((1, 2), async_storage_writes=True)
    network.elect(1)
    one, two = network[1], network[2]
    one.node.propose_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, 1))
    for peer in (one, two):
        while peer.node.has_ready():
            peer.handle_ready()
            peer.do_work(APPEND_THREAD)
        network.take(peer)
        network.deliver(network.messages.pop())
    one.handle_ready()
    network.propose(1, b"after")
    one.handle_ready()
    one.do_work(APPLY_THREAD)
    assert 1 not in one.node.status().progress
    while one.work:
        one.do_work(APPEND_THREAD)
    network.settle()
    assert two.data()[-1] == b"after"
    assert two.conf_state.voters == (2,)
