"""Written conversations: each request goes to Go etcd and to ours, and the answers are equal.

Equal means every field of the answer, refusals with their code and text; ids that follow from
the peer port are masked.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from corum.pb import rpc
from oracle.build import compare, delete, get, method_of, op, put, txn
from oracle.pair import Pair

pytestmark = [pytest.mark.compat, pytest.mark.process, pytest.mark.slow]

ALL = ("\0", "\0")
ABC = [put("a", "1"), put("b", "2"), put("c", "3"), put("b", "4"), put("a", "0")]
LEASE = 7_000_000_001


def grant(lease: int = LEASE, ttl: int = 100) -> Any:
    return rpc.LeaseGrantRequest(ID=lease, TTL=ttl)


def revoke(lease: int = LEASE) -> Any:
    return rpc.LeaseRevokeRequest(ID=lease)


def compact(revision: int, physical: bool = False) -> Any:
    return rpc.CompactionRequest(revision=revision, physical=physical)


def sorted_reads() -> list[Any]:
    return [
        get("a", "z", sort_order=order, sort_target=target, limit=limit)
        for target in range(5)
        for order in range(3)
        for limit in (0, 2)
    ]


def nested(depth: int) -> Any:
    inner = txn(success=[put(f"deep{depth}", "x")], failure=[get("a")])
    for level in range(depth):
        inner = txn(
            compare=[compare(f"deep{level}", "version", "=", 0)],
            success=[put(f"level{level}", "y"), inner],
            failure=[delete("a")],
        )
    return inner


CONVERSATIONS: dict[str, Sequence[Any]] = {
    "put, overwrite, previous value": [
        put("a", "1"),
        put("a", "2", prev_kv=True),
        put("new", "1", prev_kv=True),
        get("a"),
    ],
    "put keeps value or lease when asked": [
        grant(),
        put("a", "1", lease=LEASE),
        put("a", "2", ignore_lease=True),
        get("a"),
        put("a", ignore_value=True),
        get("a"),
        put("missing", ignore_value=True),
        put("missing", ignore_lease=True),
        put("a", "x", ignore_value=True),
        put("a", "x", lease=LEASE, ignore_lease=True),
    ],
    "put refuses": [put("", "1"), put("a", "1", lease=12345), get("")],
    "binary keys and empty values": [
        put(b"\x00", b"\xff\x00"),
        put(b"\xff\xff", b""),
        get(*ALL),
        get(b"\x00"),
        get(b"\xff", b"\0"),
        delete(b"\xff", b"\0", prev_kv=True),
    ],
    "ranges": [
        *ABC,
        get("a", "c"),
        get("a", "c", limit=1),
        get("a", "\0", limit=1),
        get("b", "a"),
        get("b", "b"),
        get("a", "z", count_only=True),
        get("a", "z", keys_only=True),
        get("a", "z", keys_only=True, limit=2),
        get("a", "z", count_only=True, limit=1),
        get("nothing"),
        get("x", "z"),
        get("a", serializable=True),
        get("a", "z", limit=-1),
    ],
    "sort orders": [*ABC, *sorted_reads()],
    "revision filters": [
        *ABC,
        *[
            get("a", "z", **{bound: revision})
            for bound in (
                "min_mod_revision",
                "max_mod_revision",
                "min_create_revision",
                "max_create_revision",
            )
            for revision in (1, 3, 4, 1_000_000)
        ],
        get("a", "z", min_mod_revision=2, max_create_revision=1_000_000, limit=1),
    ],
    "delete": [
        *ABC,
        delete("a", prev_kv=True),
        delete("a"),
        delete("b", "z", prev_kv=True),
        get(*ALL),
        delete(""),
        delete("z", "a"),
        put("a", "again"),
        get("a"),
    ],
    "comparisons": [
        put("a", "1"),
        *[
            txn([compare("a", target, result, wanted)], [get("a")], [get("none")])
            for target in ("version", "create_revision", "mod_revision", "lease")
            for result in ("=", ">", "<", "!=")
            for wanted in (0, 1, 2)
        ],
        *[
            txn([compare("a", "value", result, wanted)])
            for result in ("=", ">", "<", "!=")
            for wanted in ("0", "1", "2", "")
        ],
        txn([compare("missing", "version", "=", 0)]),
        txn([compare("missing", "create_revision", "=", 0)]),
        txn([compare("missing", "value", "=", "")]),
        txn([compare("missing", "value", "!=", "x")]),
    ],
    "comparisons over ranges": [
        *ABC,
        txn([compare("a", "version", ">", 0, end="z")], [get("a")], []),
        txn([compare("a", "version", "=", 1, end="z")], [get("a")], []),
        txn([compare("x", "version", "=", 0, end="z")]),
        txn([compare("x", "version", ">", 0, end="z")]),
        txn([compare("a", "value", "<", "9", end="\0")]),
    ],
    "transactions": [
        *ABC,
        txn(
            success=[put("t", "1"), get("t"), put("u", "2", prev_kv=True), delete("a"), get(*ALL)],
        ),
        txn(success=[put("t", "1"), put("t", "2")]),
        txn(success=[put("t", "1"), delete("s", "z")]),
        txn(success=[delete("s", "z"), put("t", "1")]),
        txn(success=[delete("t"), delete("t")]),
        txn(failure=[put("t", "1"), put("t", "2")]),
        txn(success=[put("", "1")]),
        txn(success=[get("")]),
        txn(success=[put("x", "1", lease=999)]),
        txn([compare("", "version", "=", 0)]),
        txn(),
        txn(success=[get("a"), get("b")]),
        txn(success=[delete("nothing")]),
        txn(success=[put("p", "1"), delete("q"), put("r", "1")]),
        get(*ALL),
    ],
    "transaction with an operation that says nothing": [
        rpc.TxnRequest(success=[rpc.RequestOp()]),
    ],
    "nested transactions": [put("a", "1"), nested(1), nested(3), get(*ALL)],
    "nested transactions with duplicates": [
        txn(success=[put("d", "1"), txn(success=[put("d", "2")])]),
        txn(success=[txn(success=[put("d", "1")]), txn(success=[put("d", "2")])]),
        txn(success=[txn(success=[put("d", "1")], failure=[put("d", "2")])]),
        txn(success=[delete("a", "z"), txn(success=[put("d", "2")])]),
    ],
    "operations of a transaction are limited": [
        txn(success=[put(f"k{n}", "") for n in range(128)]),
        txn(success=[put(f"k{n}", "") for n in range(129)]),
        txn([compare("a", "version", "=", 0)] * 129),
        rpc.TxnRequest(success=[op(txn(success=[put(f"n{n}", "") for n in range(129)]))]),
    ],
    "reads inside transactions look at a revision": [
        put("a", "1"),
        put("a", "2"),
        txn(success=[get("a", revision=1)]),
        txn(success=[get("a", revision=1_000_000)]),
        txn(success=[put("b", "1"), get("a", "z", limit=1, count_only=True)]),
    ],
    "requests too large": [
        put("a", b"x" * (1536 * 1024 + 1)),
        put("a", b"x" * (1536 * 1024 - 64)),
        put("a", b"x" * (3 * 1024 * 1024)),
    ],
    "leases": [
        grant(),
        grant(),
        grant(LEASE + 3, 0),
        grant(LEASE + 1, -5),
        grant(LEASE + 1, 9_000_000_001),
        grant(LEASE + 2, 9_000_000_000),
        put("a", "1", lease=LEASE),
        put("b", "1", lease=LEASE),
        rpc.LeaseTimeToLiveRequest(ID=LEASE + 77, keys=True),
        rpc.LeaseLeasesRequest(),
        put("b", "2"),
        revoke(),
        revoke(),
        get(*ALL),
        rpc.LeaseLeasesRequest(),
    ],
    "a key belongs to its last lease": [
        grant(),
        grant(LEASE + 1),
        put("a", "1", lease=LEASE),
        put("a", "1", lease=LEASE + 1),
        revoke(),
        get("a"),
        revoke(LEASE + 1),
        get("a"),
    ],
    "members": [  # a read after each: Go drops a change while it still applies the last one
        rpc.MemberRemoveRequest(ID=12345),
        *[get("a")] * 3,
        rpc.MemberUpdateRequest(ID=12345, peerURLs=["http://127.0.0.1:1"]),
        *[get("a")] * 3,
        rpc.MemberPromoteRequest(ID=12345),
        *[get("a")] * 3,
        rpc.MemberAddRequest(peerURLs=["not a url"]),
        rpc.MoveLeaderRequest(targetID=12345),
    ],
    "alarms": [
        rpc.AlarmRequest(action=0),
        rpc.AlarmRequest(action=1, alarm=1),
        rpc.AlarmRequest(action=2, alarm=1),
        rpc.AlarmRequest(action=0),
    ],
    "future revisions": [
        put("a", "1"),
        get("a", revision=1_000_000),
        compact(1_000_000),
        rpc.HashKVRequest(revision=1_000_000),
    ],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversation(pair: Pair, name: str) -> None:
    """Ours answers every request of the conversation as Go etcd does."""
    for request in CONVERSATIONS[name]:
        pair.same(method_of(request), request)


def revision(pair: Pair) -> int:
    return pair.same("KV/Range", get("\0", "\0", count_only=True))["header"]["revision"]


def test_history_and_compaction(pair: Pair) -> None:
    """Every revision of a history reads the same before and after a compaction."""
    first = revision(pair)
    history = [*ABC, delete("b"), put("b", "back"), txn(success=[put("d", "1"), put("e", "1")])]
    for request in [*history, delete("a", "d")]:
        pair.same(method_of(request), request)
    last = revision(pair)
    for at in range(first, last + 2):
        pair.same("KV/Range", get("\0", "\0", revision=at))
        pair.same("Maintenance/HashKV", rpc.HashKVRequest(revision=at))
    pair.same("KV/Compact", compact(last - 2, physical=True))
    pair.same("KV/Compact", compact(last - 2))
    pair.same("KV/Compact", compact(first))
    for at in range(first, last + 2):
        pair.same("KV/Range", get("\0", "\0", revision=at))
        if at != last - 2:  # there 3.5 refuses, while 3.7 knows the compaction's own hash
            pair.same("Maintenance/HashKV", rpc.HashKVRequest(revision=at))
    pair.same("Maintenance/Defragment", rpc.DefragmentRequest())
    pair.same("KV/Range", get("\0", "\0"))
    pair.same("Maintenance/HashKV", rpc.HashKVRequest())


def test_remaining_time_of_a_lease(pair: Pair) -> None:
    """TimeToLive tells granted and remaining seconds and the keys in order."""
    pair.same("Lease/LeaseGrant", grant(LEASE, 100))
    for key in ("c", "a", "b"):
        pair.same("KV/Put", put(key, "1", lease=LEASE))
    both = pair.call("Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=LEASE, keys=True))
    for answer in both:
        assert 97 <= answer.TTL <= 100, answer
        assert (answer.grantedTTL, sorted(answer.keys)) == (100, [b"a", b"b", b"c"]), answer


def test_short_ttl_is_lengthened_alike(pair: Pair) -> None:
    """A TTL below the minimum (from the election timeout) is raised to the same value."""
    pair.same("Lease/LeaseGrant", grant(LEASE, 1))


def test_a_chosen_lease_id_is_positive(pair: Pair) -> None:
    """Without an id the server picks one that fits in 63 bits."""
    for answer in pair.call("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=50)):
        assert answer.ID > 0, answer
        assert answer.TTL == 50, answer


def test_unknown_methods_and_garbage_messages(pair: Pair) -> None:
    """What is not a method, or not a message, is refused with Go's code; texts of the decoder may
    differ."""
    paths = ("/etcdserverpb.KV/Nothing", "/none.Service/Put", "/etcdserverpb.KV/")
    for path in paths:
        go, ours = pair.each(lambda client, path=path: client.raw(path, b""))
        assert ours == go, path
    go, ours = pair.each(lambda client: client.raw("/etcdserverpb.KV/Put", b"\xff\xff\xff"))
    assert ours.code == go.code, (ours, go)


def test_status(pair: Pair) -> None:
    """Status names the same leader role, term and log; sizes are each server's own."""
    for answer in pair.call("Maintenance/Status", rpc.StatusRequest()):
        assert answer.leader == answer.header.member_id, answer
        assert answer.raftTerm == answer.header.raft_term, answer
        assert answer.raftIndex >= answer.raftAppliedIndex > 0, answer
        assert answer.dbSize >= answer.dbSizeInUse > 0, answer
        assert not answer.errors, answer
    go, ours = pair.call("Maintenance/Status", rpc.StatusRequest())
    assert ours.raftTerm == go.raftTerm


def test_member_list(pair: Pair) -> None:
    """One started member with its own URLs."""
    both = pair.call("Cluster/MemberList", rpc.MemberListRequest())
    for server, answer in zip(pair.servers, both, strict=True):
        (member,) = answer.members
        assert answer.header.member_id == member.ID
        assert (member.name, member.isLearner) == ("default", False)
        assert list(member.peerURLs) == [server.peer_url]
        assert list(member.clientURLs) == [server.client_url]


def test_compare_of_an_unknown_target(pair: Pair) -> None:
    """Enum values nobody defined are answered alike."""
    pair.same("KV/Put", put("a", "1"))
    for target, result in ((9, 0), (0, 9)):
        odd = rpc.Compare(key=b"a", target=target, result=result)
        pair.same("KV/Txn", rpc.TxnRequest(compare=[odd], success=[op(get("a"))]))
