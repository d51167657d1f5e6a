"""Random conversations (Hypothesis): whatever is asked in whatever order, both servers agree.

Keys, values, leases and revisions come from tiny sets, so that requests meet each other's
traces. A failing conversation is shrunk; the pair begins afresh whenever it fell out of step.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from corum.pb import rpc
from oracle.build import compare, delete, get, method_of, put, txn
from oracle.pair import Pair

pytestmark = [pytest.mark.compat, pytest.mark.process, pytest.mark.slow]

Resolve = Callable[[int], Any]  # a request once the revision the conversation began at is known

KEYS = st.sampled_from(["a", "b", "c", "d", "", "\0"])
ENDS = st.sampled_from(["", "", "", "b", "d", "z", "\0"])
VALUES = st.sampled_from(["", "1", "2"])
LEASES = st.sampled_from([0, 0, 0, 501, 502, 503])
BACK = st.sampled_from([None, None, None, -1, 0, 1, 2, 3, 100])  # revision, from the beginning on
LIMITS = st.sampled_from([0, 0, 1, 2])


def _revision(base: int, back: int | None) -> int:
    return 0 if back is None else base + back


@st.composite
def gets(draw: st.DrawFn) -> Resolve:
    key, end, back = draw(KEYS), draw(ENDS), draw(BACK)
    options: dict[str, Any] = {
        "limit": draw(LIMITS),
        "sort_order": draw(st.integers(0, 2)),
        "sort_target": draw(st.integers(0, 4)),
        "serializable": draw(st.booleans()),
        "keys_only": draw(st.booleans()),
        "count_only": draw(st.sampled_from([False, False, True])),
    }
    bounds = draw(
        st.lists(
            st.sampled_from(["min_mod", "max_mod", "min_create", "max_create"]),
            max_size=2,
            unique=True,
        )
    )
    at = draw(st.integers(0, 6))

    def resolve(base: int) -> Any:
        filters = {f"{bound}_revision": base + at for bound in bounds}
        return get(key, end, revision=_revision(base, back), **options, **filters)

    return resolve


@st.composite
def puts(draw: st.DrawFn) -> Resolve:
    options: dict[str, Any] = {
        "lease": draw(LEASES),
        "prev_kv": draw(st.booleans()),
        "ignore_value": draw(st.sampled_from([False, False, False, True])),
        "ignore_lease": draw(st.sampled_from([False, False, False, True])),
    }
    request = put(draw(KEYS), draw(VALUES), **options)
    return lambda _base: request


@st.composite
def deletes(draw: st.DrawFn) -> Resolve:
    request = delete(draw(KEYS), draw(ENDS), prev_kv=draw(st.booleans()))
    return lambda _base: request


@st.composite
def compares(draw: st.DrawFn) -> Resolve:
    key, end = draw(KEYS), draw(ENDS)
    target = draw(st.sampled_from(["version", "create_revision", "mod_revision", "value", "lease"]))
    result = draw(st.sampled_from(["=", ">", "<", "!="]))
    number, text = draw(st.integers(0, 4)), draw(VALUES)

    def resolve(base: int) -> Any:
        wanted: Any = text if target == "value" else number
        if target.endswith("_revision") and number:
            wanted = base + number
        if target == "lease" and number:
            wanted = 500 + number
        return compare(key, target, result, wanted, end)

    return resolve


@st.composite
def txns(draw: st.DrawFn, depth: int = 2) -> Resolve:
    inner = st.one_of(gets(), puts(), deletes(), *([txns(depth - 1)] if depth > 1 else []))
    conditions = draw(st.lists(compares(), max_size=2))
    success = draw(st.lists(inner, max_size=3))
    failure = draw(st.lists(inner, max_size=3))

    def resolve(base: int) -> Any:
        return txn(
            [condition(base) for condition in conditions],
            [request(base) for request in success],
            [request(base) for request in failure],
        )

    return resolve


@st.composite
def leases(draw: st.DrawFn) -> Resolve:
    lease = draw(st.sampled_from([501, 502, 503]))
    request = draw(
        st.sampled_from(
            [
                rpc.LeaseGrantRequest(ID=lease, TTL=600),
                rpc.LeaseGrantRequest(ID=lease, TTL=900),
                rpc.LeaseRevokeRequest(ID=lease),
                rpc.LeaseLeasesRequest(),
            ]
        )
    )
    return lambda _base: request


@st.composite
def compactions(draw: st.DrawFn) -> Resolve:
    """Physical ones only: in Go a hash beside a compaction under way depends on how far it is."""
    back = draw(st.integers(-2, 5))
    return lambda base: rpc.CompactionRequest(revision=base + back, physical=True)


@st.composite
def hashes(draw: st.DrawFn) -> Resolve:
    back = draw(BACK)
    return lambda base: rpc.HashKVRequest(revision=_revision(base, back))


REQUESTS = st.one_of(puts(), puts(), gets(), deletes(), txns(), txns(), leases())
WITH_HISTORY = st.one_of(REQUESTS, REQUESTS, compactions(), hashes())


def converse(pair: Pair, requests: list[Resolve]) -> None:
    base = pair.align().same("KV/Range", get("a"))["header"]["revision"]
    for resolve in requests:
        request = resolve(base)
        note(f"{method_of(request)} {request}")
        same(pair, request)
    pair.same("KV/Range", get("\0", "\0"))


def same(pair: Pair, request: Any) -> None:
    if isinstance(request, rpc.LeaseLeasesRequest):  # their order is by expiry, a race of clocks
        go, ours = pair.call("Lease/LeaseLeases", request)
        assert sorted(lease.ID for lease in ours.leases) == sorted(lease.ID for lease in go.leases)
        return
    pair.same(method_of(request), request)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "requests", [REQUESTS, WITH_HISTORY], ids=["requests", "with compactions and hashes"]
)
def test_any_conversation(pair: Pair, long: bool, requests: st.SearchStrategy[Resolve]) -> None:
    """Answers are equal for conversations nobody wrote."""

    @settings(
        max_examples=1_500 if long else 80,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(st.lists(requests, min_size=1, max_size=14))
    def check(conversation: list[Resolve]) -> None:
        converse(pair, conversation)

    check()
