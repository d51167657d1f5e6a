"""Who waits when something does not keep up."""

from typing import Any

from corum import errors
from corum.api.router import Router
from corum.api.services import services_of
from corum.api.v3.watch import UNREAD_MAX
from corum.pb import rpc
from corum.server import operations as op
from server.lone import Lone

LIMIT = 5


def put(number: int) -> Any:
    return rpc.PutRequest(key=b"k%d" % number, value=b"v")


def queue(member: Lone, number: int) -> None:
    request = put(number)
    member.node.propose(op.PUT, request.SerializeToString(), request, number)


def test_proposals_wait_for_a_backend_that_does_not_keep_up() -> None:
    """Beyond four batches behind the one being written; with the disk they go on."""
    member = Lone(batch_operations_max=LIMIT)
    node = member.node
    for number in range(40):  # turns in which no worker works
        node.begin(member.now_ns)
        queue(member, number)
        node.end()
    assert node.commits.in_flight
    assert LIMIT <= node.backend.pending_operations <= 4 * LIMIT + 2
    assert len(member.transport.replies) < 40
    assert node.proposals.queued
    member.turn()
    assert len(member.transport.replies) == 40
    assert not node.proposals.queued


def test_a_compaction_is_answered_for_its_own_rows() -> None:
    """The end of an older compaction says nothing about a younger one."""
    member = Lone(compaction_rows=1)
    node = member.node
    for number in range(6):
        member.propose(op.PUT, put(number % 2))
    heard: list[int] = []
    member.now_ns += 1_000_000
    node.store.compact(3)
    node.compactions.when_done(lambda: heard.append(3))
    node.store.compact(5)
    node.compactions.when_done(lambda: heard.append(5))
    node.compactions.finished(3)
    assert heard == [3]
    for _ in range(20):
        member.turn(100)
    assert heard == [3, 5]


def test_a_client_that_asks_and_never_reads_is_let_go() -> None:
    """Answers to its requests are not gathered without end; other streams go on."""
    member = Lone()
    router = Router(member.node, services_of(member.node))
    method = router.index["/etcdserverpb.Watch/Watch"]
    meta = (None,) * 8
    create = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"k")).SerializeToString()
    for call in (1, 2):
        router.open_stream(call, method, meta)
    member.node.watch.blocked(1)
    for _ in range(UNREAD_MAX):
        router.stream_message(1, create)
    member.turn()
    assert member.transport.failures == {}
    router.stream_message(1, create)
    router.stream_message(2, create)
    member.turn()
    assert list(member.transport.failures) == [1]
    assert member.transport.failures[1][1] == errors.TOO_MANY_REQUESTS.text
    assert member.node.watch.stream_count == 1


def test_a_client_that_reads_again_may_ask_again() -> None:
    """Only what is unread counts."""
    member = Lone()
    router = Router(member.node, services_of(member.node))
    method = router.index["/etcdserverpb.Watch/Watch"]
    create = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"k")).SerializeToString()
    router.open_stream(1, method, (None,) * 8)
    for _ in range(3):
        member.node.watch.blocked(1)
        for _ in range(UNREAD_MAX - 1):
            router.stream_message(1, create)
        member.node.watch.unblocked(1)
        router.stream_message(1, create)
    member.turn()
    assert member.transport.failures == {}
