"""The client's decisions, without a network: endpoints, retries, watch resumption, lease times."""

import pytest

from corum import errors
from corum.client import balancer, retry
from corum.client.balancer import Balancer
from corum.client.errors import (
    Compacted,
    DeadlineExceeded,
    NotFound,
    Unavailable,
    WatchCanceled,
    compacted,
    from_status,
)
from corum.client.lease_clock import LeaseClock, RenewalPlan
from corum.client.options import Options, target
from corum.client.results import split_events
from corum.client.watch_state import Response, WatchState
from corum.pb import kv, rpc

S = 1_000_000_000


def test_stays_with_the_first_endpoint_while_it_answers() -> None:
    """No failure, no move: connections are not scattered."""
    endpoints = Balancer(3)
    assert [endpoints.pick(n)[0] for n in range(5)] == [0] * 5


def test_failed_endpoint_rests_and_is_tried_again() -> None:
    """The next endpoint serves; when that fails too, the first is back after its rest."""
    endpoints = Balancer(2)
    endpoints.failed(0, 0)
    assert endpoints.pick(1) == (1, 0)
    endpoints.failed(1, 50_000_000)
    index, wait_ns = endpoints.pick(60_000_000)
    assert (index, wait_ns) == (0, balancer.REST_MIN_NS - 60_000_000)
    assert endpoints.pick(balancer.REST_MIN_NS) == (0, 0)


def test_rest_grows_to_its_limit_and_success_ends_it() -> None:
    """A member that is down for long is asked once a second; when it works, at once."""
    endpoints = Balancer(1)
    for _ in range(20):
        endpoints.failed(0, 0)
    assert endpoints.pick(0) == (0, balancer.REST_MAX_NS)
    endpoints.succeeded(0)
    assert endpoints.pick(0) == (0, 0)


def test_a_retired_endpoint_is_not_used_again() -> None:
    """Whatever is told of it later; its place is given to the next new one."""
    endpoints = Balancer(2)
    endpoints.prefer(1)
    endpoints.retire(1)
    assert endpoints.pick(0) == (0, 0)
    endpoints.failed(0, 0)
    endpoints.failed(1, 0)
    endpoints.succeeded(1)
    assert endpoints.pick(0) == (0, balancer.REST_MIN_NS)
    assert endpoints.grow() == 1
    assert endpoints.pick(0) == (1, 0)
    assert endpoints.grow() == 2


@pytest.mark.parametrize(
    ("code", "text", "repeatable", "renewable", "decision"),
    [
        (14, "etcdserver: no leader", True, False, retry.ELSEWHERE),
        (14, "etcdserver: request timed out", False, False, retry.FAIL),
        (14, "transport is closing", False, False, retry.FAIL),
        (14, "connection error: refused", False, False, retry.ELSEWHERE),
        (14, "there is no connection available", False, False, retry.ELSEWHERE),
        (16, "etcdserver: invalid auth token", False, True, retry.NEW_TOKEN),
        (16, "etcdserver: invalid auth token", False, False, retry.FAIL),
        (3, "etcdserver: revision of auth store is old", False, True, retry.NEW_TOKEN),
        (3, "etcdserver: user name is empty", False, True, retry.NEW_TOKEN),
        (3, "etcdserver: key is not provided", True, True, retry.FAIL),
        (4, "context deadline exceeded", True, False, retry.FAIL),
    ],
)
def test_only_what_is_safe_is_repeated(
    code: int, text: str, repeatable: bool, renewable: bool, decision: int
) -> None:
    """A write whose fate is unknown is never sent twice."""
    assert retry.decide(code, text, repeatable=repeatable, renewable=renewable) == decision


@pytest.mark.parametrize(
    ("endpoint", "tls", "address"),
    [
        ("127.0.0.1:2379", False, "http://127.0.0.1:2379"),
        ("127.0.0.1:2379", True, "https://127.0.0.1:2379"),
        ("http://h:1/", True, "http://h:1"),
        ("https://h:1", False, "https://h:1"),
        ("http://h:1/v3", False, "http://h:1"),
        ("unix:///tmp/s", False, "unix:///tmp/s"),
        ("unix:/tmp/s", False, "unix:///tmp/s".replace("///", "///")),
        ("[::1]:2379", False, "http://[::1]:2379"),
    ],
)
def test_an_endpoints_own_scheme_decides(endpoint: str, tls: bool, address: str) -> None:
    """TLS settings apply where the endpoint does not say."""
    assert target(endpoint, tls=tls) == address


def test_endpoints_come_as_list_or_text() -> None:
    """Blanks and empty parts are dropped; nothing at all is refused."""
    assert Options("a:1, b:2,").endpoints == Options(["a:1", "b:2"]).endpoints
    with pytest.raises(ValueError, match="no endpoints"):
        Options(" , ")


def _events(*revisions: int) -> rpc.WatchResponse:
    pairs = [kv.Event(kv=kv.KeyValue(key=b"k", mod_revision=r)) for r in revisions]
    return rpc.WatchResponse(
        header=rpc.ResponseHeader(revision=max(revisions, default=0)), events=pairs
    )


def _created(revision: int) -> rpc.WatchResponse:
    return rpc.WatchResponse(header=rpc.ResponseHeader(revision=revision), created=True)


def _tell(state: WatchState, response: rpc.WatchResponse) -> Response | None:
    events, rest = split_events(response.SerializeToString())
    return state.received(rpc.WatchResponse.FromString(rest), events)


def test_watch_resumes_behind_what_was_handed_out() -> None:
    """From the creation's revision, then from the last event's, never from before."""
    state = WatchState(rpc.WatchCreateRequest(key=b"k", prev_kv=True))
    assert state.request().start_revision == 0
    assert _tell(state, _created(7)) is None
    assert state.request().start_revision == 8
    assert _tell(state, _events(9, 9, 12)) is not None
    again = state.request()
    assert (again.start_revision, again.key, again.prev_kv) == (13, b"k", True)


def test_watch_keeps_the_start_it_was_given() -> None:
    """A watch from the past that breaks before its first event begins there again."""
    state = WatchState(rpc.WatchCreateRequest(key=b"k", start_revision=3))
    _tell(state, _created(100))
    assert state.request().start_revision == 3


def test_progress_moves_the_watch_on() -> None:
    """After a progress notice at 50, nothing before 51 is asked for again."""
    state = WatchState(rpc.WatchCreateRequest(key=b"k"))
    _tell(state, _created(7))
    assert _tell(state, rpc.WatchResponse(header=rpc.ResponseHeader(revision=50))) is not None
    assert state.next_revision == 51


def test_pieces_are_handed_out_together() -> None:
    """A revision is seen whole or, after a break in its middle, again from its beginning."""
    state = WatchState(rpc.WatchCreateRequest(key=b"k", start_revision=2))
    first, second = _events(2, 2), _events(2)
    first.fragment = True
    assert _tell(state, first) is None
    assert state.request().start_revision == 2
    assert _tell(state, first) is None
    whole = _tell(state, second)
    assert whole is not None
    assert [e.kv.mod_revision for e in whole.events] == [2, 2, 2]
    assert state.next_revision == 3


def test_end_of_a_watch_tells_why() -> None:
    """Compaction is its own error, with the oldest revision left."""
    state = WatchState(rpc.WatchCreateRequest(key=b"k"))
    with pytest.raises(Compacted) as compacted:
        _tell(state, rpc.WatchResponse(canceled=True, compact_revision=5))
    assert compacted.value.revision == 5
    with pytest.raises(WatchCanceled, match="range is empty"):
        _tell(state, rpc.WatchResponse(canceled=True, cancel_reason="watcher range is empty"))


def test_a_response_is_put_together_as_it_was_sent() -> None:
    """Kinds, keys and what was before, of pieces as of one; nothing is made up or left out."""
    sent = [
        kv.Event(kv=kv.KeyValue(key=b"a", value=b"1", mod_revision=4, version=2, lease=-7)),
        kv.Event(type=kv.Event.DELETE, kv=kv.KeyValue(key=b"b" * 200, mod_revision=4)),
        kv.Event(
            kv=kv.KeyValue(key=b"", value=b"x" * 20_000, create_revision=1 << 62, mod_revision=4),
            prev_kv=kv.KeyValue(key=b"c", value=b"old", mod_revision=3),
        ),
    ]
    head = rpc.WatchResponse(header=rpc.ResponseHeader(revision=4), watch_id=3, fragment=True)
    state = WatchState(rpc.WatchCreateRequest(key=b"a"))
    for event in sent[:2]:
        piece = rpc.WatchResponse(events=[event])
        piece.MergeFrom(head)
        assert _tell(state, piece) is None
    last = rpc.WatchResponse(events=sent[2:], header=head.header, watch_id=3)
    whole = _tell(state, last)
    assert whole is not None
    assert list(whole.message().events) == sent
    assert whole.message().watch_id == 3
    assert [event.deleted for event in whole.events] == [False, True, False]
    assert [event.previous and event.previous.text for event in whole.events] == [None, None, "old"]


def test_an_event_that_is_none_is_no_event() -> None:
    """Nonsense in a watch's answer is told as such, not handed out."""
    state = WatchState(rpc.WatchCreateRequest(key=b"k"))
    with pytest.raises(ValueError, match="protobuf"):
        state.received(rpc.WatchResponse(), [(0, b"\x0a\xff", b"")])


def test_lease_is_renewed_after_a_third_and_lost_after_its_ttl() -> None:
    """Counted from when the renewal was sent, not from when its answer came."""
    clock = LeaseClock(9, now_ns=0)
    assert clock.wait_ns(0) == 3 * S
    assert clock.wait_ns(4 * S) == 0
    assert not clock.is_lost(9 * S - 1)
    assert clock.is_lost(9 * S)
    clock.renewed(9, sent_ns=4 * S)
    assert clock.wait_ns(5 * S) == 2 * S
    assert not clock.is_lost(12 * S)
    clock.renewed(0, sent_ns=5 * S)
    assert clock.is_lost(5 * S)


@pytest.mark.parametrize(
    ("code", "text", "kind", "builtin"),
    [
        (5, "etcdserver: requested lease not found", NotFound, Exception),
        (4, "context deadline exceeded", DeadlineExceeded, TimeoutError),
        (14, "connection error: x", Unavailable, ConnectionError),
        (11, "etcdserver: mvcc: required revision has been compacted", Compacted, Exception),
    ],
)
def test_exceptions_by_code(
    code: int, text: str, kind: type[Exception], builtin: type[Exception]
) -> None:
    """One class per gRPC code; timeouts and connections are also what Python calls them."""
    error = from_status(code, text)
    assert isinstance(error, kind)
    assert isinstance(error, builtin)
    assert (error.code, error.text) == (code, text)


def test_errors_have_etcds_names_too() -> None:
    """The same exception by its gRPC code and by what etcd calls it."""
    with pytest.raises(errors.LEASE_NOT_FOUND):
        raise from_status(5, "etcdserver: requested lease not found")
    with pytest.raises(errors.COMPACTED):
        raise compacted(7)
    assert not isinstance(from_status(5, "etcdserver: member not found"), errors.LEASE_NOT_FOUND)
    assert from_status(2, "something else").go_text() == (
        "rpc error: code = Unknown desc = something else"
    )


def test_leases_are_renewed_when_due_and_asked_once() -> None:
    """Each after a third of its TTL; no second request before the first is answered."""
    plan = RenewalPlan()
    plan.add(1, LeaseClock(9, now_ns=0))
    plan.add(2, LeaseClock(30, now_ns=0))
    assert plan.due(0) == ([], [], False)
    assert plan.wait_ns(0) == 3 * S
    assert plan.due(3 * S) == ([1], [], False)
    assert plan.due(4 * S) == ([], [], False)
    assert plan.renewed(1, 9)
    plan.due(5 * S)
    assert plan.wait_ns(5 * S) == 1 * S
    assert plan.due(6 * S) == ([1], [], False)
    assert plan.renewed(1, 0) is False
    assert len(plan) == 1
    plan.remove(2)
    assert plan.due(100 * S) == ([], [], False)
    assert plan.wait_ns(100 * S) is None


def test_overdue_answers_break_the_stream_and_lost_leases_are_told() -> None:
    """An answer that takes too long is told; on a new stream it is asked for again, until lost."""
    plan = RenewalPlan()
    plan.add(1, LeaseClock(9, now_ns=0))
    plan.due(0)
    assert plan.due(3 * S) == ([1], [], False)
    assert plan.due(5 * S) == ([], [], True)
    plan.new_stream()
    assert plan.due(5 * S) == ([1], [], False)
    assert plan.due(9 * S)[1] == [1]
    assert len(plan) == 0


def test_endpoints_can_be_added_and_preferred() -> None:
    """The leader's endpoint is used first; one that was learnt comes after the others."""
    endpoints = Balancer(1)
    endpoints.grow()
    endpoints.prefer(1)
    assert endpoints.pick(0) == (1, 0)
    endpoints.failed(1, 0)
    assert endpoints.pick(0) == (0, 0)
