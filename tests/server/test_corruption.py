"""Who is wrong when hashes differ, and what a CORRUPT alarm does."""

from typing import Any

import pytest

from corum import errors
from corum.mvcc.hashing import HashKv
from corum.pb import rpc
from corum.server import operations as op
from corum.server.corruption import (
    NOBODY_IN_PARTICULAR,
    PeerHash,
    answer,
    minority,
    parse,
    suspects,
)
from corum.server.space import CORRUPT, NOSPACE
from server.lone import Lone

ME, OTHER, THIRD = 1, 2, 3
MINE = HashKv(77, 5, 10)


def theirs(number: int = 77, compacted: int = 5, revision: int = 10) -> PeerHash:
    return PeerHash(revision, HashKv(number, compacted, 10))


def test_an_answer_reads_as_it_was_written() -> None:
    """Zeros are left out; -1 is a store that was never compacted."""
    assert parse(answer(12, HashKv(7, -1, 10))) == PeerHash(12, HashKv(7, -1, 10))
    assert answer(3, HashKv(535221974, -1, 3)) == (  # as etcd 3.7.3 answers
        b'{"header":{"revision":3},"hash":535221974,"compact_revision":-1,"hash_revision":3}'
    )
    assert parse(b'{"header":{"revision":3},"hash":9,"compact_revision":-1}') == PeerHash(
        3,
        HashKv(9, -1, 0),  # etcd 3.5.1 names no hash_revision
    )
    assert parse(b"[]") is None
    assert parse(b"no") is None


def test_equal_hashes_are_nobody_s_fault() -> None:
    later = HashKv(99, 5, 12)
    assert suspects(ME, MINE, later, {OTHER: theirs(), THIRD: theirs(88, compacted=4)}) == []


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (theirs(88), "same compact revision then hashes must match"),
        (theirs(revision=13), "revision from follower must be less than or equal to leader's"),
        (theirs(compacted=6), "compact revision from follower must be less than or equal to"),
    ],
)
def test_a_follower_that_cannot_be_right(peer: PeerHash, text: str) -> None:
    """Another hash at the same place, or a future that the leader does not know."""
    found = suspects(ME, MINE, HashKv(99, 5, 12), {OTHER: peer, THIRD: theirs()})
    assert [member for member, _ in found] == [OTHER]
    assert text in found[0][1][1]


def test_a_leader_that_contradicts_itself() -> None:
    """Two hashes of the same place differ: its own disk is wrong."""
    assert [one for one, _ in suspects(ME, MINE, HashKv(78, 5, 10), {})] == [ME]


def test_the_minority_is_wrong() -> None:
    """Three members, one differs, be it the leader."""
    settled, wrong, lines = minority(ME, MINE, {OTHER: theirs(88), THIRD: theirs()})
    assert (settled, wrong) == (True, [OTHER])
    assert lines[0][1] == "Detected compaction hash mismatch"
    assert minority(ME, MINE, {OTHER: theirs(88), THIRD: theirs(88)})[1] == [ME]


def test_without_a_majority_nobody_in_particular_is_wrong() -> None:
    settled, wrong, lines = minority(ME, MINE, {OTHER: theirs(88), THIRD: theirs(99)})
    assert (settled, wrong) == (True, [NOBODY_IN_PARTICULAR])
    assert "cannot identify" in lines[0][1]
    assert minority(ME, MINE, {OTHER: theirs(88)})[1] == [NOBODY_IN_PARTICULAR]


def test_members_that_do_not_answer_leave_the_question_open() -> None:
    """An older compaction may be known to all."""
    settled, wrong, lines = minority(ME, MINE, {OTHER: None, THIRD: theirs(88, compacted=4)})
    assert (settled, wrong) == (False, [])
    assert [line[1] for line in lines] == ["Skipped peer's hash"] * 2
    assert minority(ME, MINE, {OTHER: theirs(), THIRD: theirs()}) == (True, [], [])


def put(key: bytes = b"k") -> Any:
    return rpc.PutRequest(key=key, value=b"v")


def test_the_hash_of_a_compaction_is_what_members_had_before_it() -> None:
    """Kept under its revision, with the compaction before; later writes do not change it."""
    member = Lone(compact_hash_check_ns=10**12)
    for key in (b"a", b"b", b"a"):
        member.propose(op.PUT, put(key))
    before = member.node.store.hash_kv(4).run()
    member.propose(op.COMPACTION, rpc.CompactionRequest(revision=4))
    member.propose(op.PUT, put(b"c"))
    assert member.node.corruption.kept(4) == before
    assert member.node.corruption.kept(3) is None
    assert "storing new hash" in member.lines


@pytest.mark.parametrize(
    ("operation", "request_of"),
    [
        (op.PUT, put),
        (op.DELETE_RANGE, lambda: rpc.DeleteRangeRequest(key=b"k")),
        (op.TXN, lambda: rpc.TxnRequest(success=[rpc.RequestOp(request_put=put())])),
        (op.COMPACTION, lambda: rpc.CompactionRequest(revision=1)),
        (op.LEASE_GRANT, lambda: rpc.LeaseGrantRequest(ID=5, TTL=60)),
        (op.LEASE_REVOKE, lambda: rpc.LeaseRevokeRequest(ID=5)),
    ],
)
def test_a_corrupt_cluster_applies_no_write(operation: int, request_of: Any) -> None:
    """Wherever it was proposed, and before NOSPACE is looked at; cleared, writes go on."""
    member = Lone()
    member.node.raise_alarm(NOSPACE)
    member.node.raise_alarm(CORRUPT, 42)
    member.turn()
    assert (42, CORRUPT) in member.node.alarms.get(0, 0)
    revision = member.node.store.revision
    call = member.propose(operation, request_of())
    assert member.transport.failures[call] == (15, errors.CORRUPT.text)
    assert member.node.store.revision == revision
    for whose, kind in member.node.alarms.get(0, 0):
        action = rpc.AlarmRequest.DEACTIVATE
        member.propose(op.ALARM, rpc.AlarmRequest(action=action, memberID=whose, alarm=kind))
    assert member.propose(op.PUT, put()) in member.transport.replies
