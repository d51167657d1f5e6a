"""Request ids and the entries made of requests: what goes into the log is what protobuf writes."""

import pytest

from corum import errors
from corum.pb import raft_internal, rpc
from corum.server import operations as op
from corum.server import proposals
from corum.server.proposals import PENDING_MAX, Proposals, timeout_ns
from corum.server.request_ids import RequestIds
from corum.values import NS_PER_S

MEMBER = 0x8E9E05C52164694D
START_MS = 1_700_000_000_000
HOUR_NS = 3_600 * NS_PER_S


def made(size_max: int = 1_572_864, timeout: int = 7 * NS_PER_S) -> Proposals:
    return Proposals(MEMBER, START_MS, size_max, timeout)


# ---- ids


@pytest.mark.parametrize("member", [0, 1, 0x7F, 0x7FFF, 0xFFFF, MEMBER])
def test_header_is_what_protobuf_writes(member: int) -> None:
    """Over more ids than the table of low bits holds, so that both halves change."""
    ids = RequestIds(member, START_MS)
    for _ in range(3 * (1 << 14) // 64):
        request_id, header = ids.next()
        wanted = raft_internal.InternalRaftRequest(
            header=raft_internal.RequestHeader(ID=request_id)
        )
        assert header == wanted.SerializeToString()
        ids._next += 63  # not every one of them: they are alike


def test_ids_ascend_and_name_member_and_start() -> None:
    """Two bytes of the member, five of the time, and a counter that begins at 1."""
    ids = RequestIds(MEMBER, START_MS)
    given = [ids.next()[0] for _ in range(1_000)]
    assert given[0] == (0x694D << 48) | ((START_MS & 0xFFFFFFFFFF) << 8) | 1
    assert given == list(range(given[0], given[0] + 1_000))


def test_a_restart_begins_behind_its_past() -> None:
    """256 ids fit into a millisecond: a start that is later than all proposals repeats none."""
    old = RequestIds(MEMBER, START_MS)
    last = [old.next()[0] for _ in range(2_550)][-1]
    assert RequestIds(MEMBER, START_MS + 10).next()[0] > last


def test_an_id_is_never_zero() -> None:
    """Nobody is what 0 means."""
    ids = RequestIds(MEMBER, START_MS)
    ids._next = 0xFFFFFFFFFFFFFFFF
    assert ids.next()[0] == 1


# ---- entries


REQUESTS = {
    "put": (op.PUT, rpc.PutRequest(key=b"k", value=b"v", lease=7)),
    "range": (op.RANGE, rpc.RangeRequest(key=b"k")),
    "delete_range": (op.DELETE_RANGE, rpc.DeleteRangeRequest(key=b"k", prev_kv=True)),
    "txn": (op.TXN, rpc.TxnRequest()),
    "compaction": (op.COMPACTION, rpc.CompactionRequest(revision=300)),
    "lease_grant": (op.LEASE_GRANT, rpc.LeaseGrantRequest(TTL=60, ID=1 << 62)),
    "lease_revoke": (op.LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=1)),
    "alarm": (op.ALARM, rpc.AlarmRequest(alarm=1)),
    "auth_enable": (op.AUTH_ENABLE, rpc.AuthEnableRequest()),
    "auth_user_add": (op.AUTH_USER_ADD, rpc.AuthUserAddRequest(name="u")),
}


@pytest.mark.parametrize("field", REQUESTS)
def test_an_entry_is_what_protobuf_writes(field: str) -> None:
    """The client's bytes, spliced: equal as bytes where the header follows the request, equal in
    meaning where protobuf would write the header (field 100) first."""
    operation, request = REQUESTS[field]
    queue = made()
    request_id = queue.add(operation, request.SerializeToString(), request, 5, 0)
    (entry,) = queue.take()
    header = raft_internal.RequestHeader(ID=request_id)
    wanted = raft_internal.InternalRaftRequest(header=header, **{field: request})
    assert raft_internal.InternalRaftRequest.FromString(entry.data) == wanted
    if operation < op.HEADER:
        assert entry.data == wanted.SerializeToString()


@pytest.mark.parametrize("size", [0, 1, 0x7B, 0x7C, 0x7D, 0x7E, 0x80, 0x3FFE, 0x4000, 1 << 20])
def test_lengths_of_every_width(size: int) -> None:
    """The length in front of the request takes one to three bytes."""
    request = rpc.PutRequest(key=b"k" * size)
    queue = made()
    request_id = queue.add(op.PUT, request.SerializeToString(), request, 5, 0)
    (entry,) = queue.take()
    header = raft_internal.RequestHeader(ID=request_id)
    wanted = raft_internal.InternalRaftRequest(header=header, put=request)
    assert entry.data == wanted.SerializeToString()


def test_user_and_auth_revision_stand_in_the_header() -> None:
    """`prefix` is the rest of RequestHeader, also when it makes its length a byte longer."""
    request = rpc.PutRequest(key=b"k")
    for name in ("root", "u" * 200):
        who = raft_internal.RequestHeader(username=name, auth_revision=9)
        queue = made()
        prefix = who.SerializeToString()
        who.ID = queue.add(op.PUT, request.SerializeToString(), request, 5, 0, prefix=prefix)
        (entry,) = queue.take()
        wanted = raft_internal.InternalRaftRequest(header=who, put=request)
        assert entry.data == wanted.SerializeToString()


def test_the_decoded_request_travels_beside_its_entry() -> None:
    """Who proposed it finds request, call and operation there and in the table, under one id."""
    request = rpc.PutRequest(key=b"k")
    queue = made()
    request_id = queue.add(op.PUT, request.SerializeToString(), request, 5, 0)
    (entry,) = queue.take()
    waiter = queue.waiting[request_id]
    assert entry.request is waiter
    assert waiter[:4] == (request_id, 5, op.PUT, request)
    assert queue.take() == []


# ---- bounds


def test_the_largest_entry_and_one_byte_more() -> None:
    """--max-request-bytes counts the entry as it stands in the log."""
    size_max = 1_000
    accepted = [size for size in range(940, 1_001) if _fits(size, size_max)]
    assert accepted == list(range(940, accepted[-1] + 1))
    queue = made(size_max)
    queue.add(op.PUT, bytes(accepted[-1]), None, 5, 0)
    assert len(queue.take()[0].data) == size_max


def _fits(size: int, size_max: int) -> bool:
    try:
        made(size_max).add(op.PUT, bytes(size), None, 5, 0)
    except errors.REQUEST_TOO_LARGE:
        return False
    return True


def test_the_last_waiter_and_one_more() -> None:
    """Nobody waits for what was refused, and nothing of it is proposed."""
    queue = made()
    queue.waiting.update(dict.fromkeys(range(PENDING_MAX - 1)))  # type: ignore[arg-type]
    queue.add(op.PUT, b"", None, 5, 0)
    with pytest.raises(errors.TOO_MANY_REQUESTS):
        queue.add(op.PUT, b"", None, 6, 0)
    with pytest.raises(errors.TOO_MANY_REQUESTS):
        queue.wait(1 << 60, 7, op.V2_REQUEST, None, None, 0)
    assert len(queue.waiting) == PENDING_MAX
    assert len(queue.take()) == 1


def test_who_waited_too_long_is_told_once() -> None:
    """At the deadline, not before; younger ones stay."""
    queue = made(timeout=10)
    first = queue.add(op.PUT, b"", None, 1, now_ns=0)
    second = queue.add(op.PUT, b"", None, 2, now_ns=1)
    assert queue.overdue(9) == []
    assert [waiter[0] for waiter in queue.overdue(10)] == [first]
    assert queue.overdue(10) == []
    assert list(queue.waiting) == [second]
    assert queue.failed_total == 1


def test_a_member_that_stops_names_everybody() -> None:
    """And proposes nothing more."""
    queue = made()
    for call in (1, 2, 3):
        queue.add(op.PUT, b"", None, call, 0)
    assert [waiter[1] for waiter in queue.drop_all()] == [1, 2, 3]
    assert queue.take() == []
    assert not queue.waiting


def test_request_timeout_is_etcds() -> None:
    """5 s and two election timeouts."""
    assert timeout_ns(1_000) == 7 * NS_PER_S
    assert proposals.APPLY_GAP_MAX == 5_000
