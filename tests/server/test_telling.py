"""When watchers are told: few of them at once, many of them with pauses in which changes gather."""

import pytest

from corum.pb import rpc
from corum.server import operations as op
from corum.server.apply import MANY_MESSAGES, READER_NS
from corum.values import NS_PER_MS
from server.lone import Lone

STREAM = 77
PAUSE_MS = MANY_MESSAGES * READER_NS // NS_PER_MS


def watched(count: int) -> Lone:
    """A node with so many watchers on one key, all on one stream; what they were told: `sent`."""
    lone = Lone()
    lone.node.watch.open(STREAM, 0, 600_000 * NS_PER_MS)
    for _ in range(count):
        lone.node.watch.create(STREAM, b"k")
    return lone


def put(lone: Lone) -> None:
    lone.propose(op.PUT, rpc.PutRequest(key=b"k", value=b"v"))


def events(lone: Lone) -> list[int]:
    """Events in each message since the last call."""
    sent, lone.transport.sent = lone.transport.sent, []
    return [len(rpc.WatchResponse.FromString(message).events) for _, message in sent]


def test_few_are_told_at_once() -> None:
    """No pause, however fast changes come."""
    lone = watched(MANY_MESSAGES - 1)
    for _ in range(3):
        put(lone)
        assert events(lone) == [1] * (MANY_MESSAGES - 1)


def test_changes_gather_while_many_read() -> None:
    """The first is told at once, those of the pause together at its end, the next at once again."""
    lone = watched(MANY_MESSAGES)
    put(lone)
    assert events(lone) == [1] * MANY_MESSAGES
    for _ in range(3):
        put(lone)
    assert events(lone) == []
    assert lone.node.wait_ms(lone.now_ns) <= PAUSE_MS
    lone.turn(PAUSE_MS)
    assert events(lone) == [3] * MANY_MESSAGES
    lone.turn(PAUSE_MS)
    put(lone)
    assert events(lone) == [1] * MANY_MESSAGES


@pytest.mark.parametrize("kind", ["create", "progress"])
def test_requests_see_what_was_applied(kind: str) -> None:
    """A watch that begins in a pause begins after what was answered before it: no old events."""
    from corum.api.v3.watch import WatchService

    lone = watched(MANY_MESSAGES)
    put(lone)
    put(lone)
    events(lone)
    revision = lone.node.store.revision
    request = rpc.WatchRequest()
    if kind == "create":
        request.create_request.key = b"k"
    else:
        request.progress_request.SetInParent()
    service = WatchService(lone.node)
    lone.turn(0, lambda: service.message(STREAM, request.SerializeToString(), (None,) * 7))
    answers = [rpc.WatchResponse.FromString(message) for _, message in lone.transport.sent]
    assert len(answers) == MANY_MESSAGES + 1
    assert answers[-1].header.revision == revision
    assert not answers[-1].events
