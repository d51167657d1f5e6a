"""The short way of a compare-and-put against the long one: the same state, the same answer."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from corum.mvcc.guarded import GuardedPut, guarded_put
from corum.mvcc.txn import plan_of
from corum.pb import rpc
from server.lone import Lone

KEYS = st.sampled_from([b"a", b"b", b"k" * 600])
VALUES = st.sampled_from([b"", b"v", b"w"])
NUMBERS = st.integers(-1, 6)
OPERANDS = ("version", "create_revision", "mod_revision", "value", "lease")
LEASE = 7

PUTS = st.tuples(KEYS, VALUES)
BRANCHES = st.lists(PUTS, max_size=1)
COMPARES = st.lists(st.tuples(KEYS, st.integers(0, 4), st.integers(0, 3), NUMBERS, VALUES))
HISTORIES = st.lists(st.tuples(KEYS, VALUES, st.sampled_from(["put", "leased", "delete"])))


def request_of(compares: Any, success: Any, failure: Any) -> rpc.TxnRequest:
    request = rpc.TxnRequest()
    for key, target, result, number, value in compares:
        compare = request.compare.add()
        compare.key, compare.target, compare.result = key, target, result
        setattr(compare, OPERANDS[target], value if target == 3 else number)
    for puts, branch in ((success, request.success), (failure, request.failure)):
        for key, value in puts:
            put = branch.add().request_put
            put.key, put.value = key, value
    return request


def member(history: Any) -> Lone:
    lone = Lone()
    applier = lone.node.applier
    assert isinstance(applier.lease_grant(rpc.LeaseGrantRequest(ID=LEASE, TTL=60)), bytes)
    for key, value, what in history:
        if what == "delete":
            applier.delete_range(rpc.DeleteRangeRequest(key=key))
        else:
            lease = LEASE if what == "leased" else 0
            applier.put(rpc.PutRequest(key=key, value=value, lease=lease))
    return lone


def state_of(lone: Lone) -> tuple[Any, ...]:
    node = lone.node
    buckets = {name: lone.backend.range(name) for name in lone.backend.buckets}
    return buckets, node.store.revision, node.store.keys_total, sorted(node.lessor.keys(LEASE))


@given(HISTORIES, COMPARES, BRANCHES, BRANCHES)
def test_both_ways_are_one(history: Any, compares: Any, success: Any, failure: Any) -> None:
    """Whatever the keys have been through and whatever is compared."""
    request = request_of(compares, success, failure)
    short = guarded_put(request)
    if not (success or failure):
        assert short is None
        return
    if len(compares) <= 16:
        assert short is not None
    one, other = member(history), member(history)
    answer = one.node.applier.txn(short or plan_of(request))
    assert answer == other.node.applier.txn(plan_of(request))
    assert state_of(one) == state_of(other)


def with_put(**fields: Any) -> rpc.TxnRequest:
    request = request_of([(b"a", 0, 0, 1, b"")], [(b"a", b"v")], [])
    for name, value in fields.items():
        setattr(request.success[0].request_put, name, value)
    return request


def with_compare(**fields: Any) -> rpc.TxnRequest:
    request = with_put()
    for name, value in fields.items():
        setattr(request.compare[0], name, value)
    return request


def test_others_go_the_long_way() -> None:
    """Options, ranges, other operations, several of them, and what is not sound at all."""
    assert isinstance(guarded_put(with_put()), GuardedPut)
    for fields in (
        *({"key": b""}, {"lease": LEASE}, {"prev_kv": True}),
        *({"ignore_value": True}, {"ignore_lease": True}),
    ):
        assert guarded_put(with_put(**fields)) is None, fields
    for fields in ({"key": b""}, {"range_end": b"z"}, {"target": 9}, {"result": 9}):
        assert guarded_put(with_compare(**fields)) is None, fields
    other = with_put()
    other.failure.add().request_range.key = b"a"
    assert guarded_put(other) is None
    empty = with_put()
    empty.failure.add()
    assert guarded_put(empty) is None
    two = with_put()
    two.success.add().CopyFrom(two.success[0])
    assert guarded_put(two) is None
