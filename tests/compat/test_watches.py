"""Watch conversations: the same requests on both servers give the same answers per watcher.

How many events one answer carries is a server's own affair, so the events of a watcher are
joined; their order, content and the answers about the watcher itself must be equal.
"""

import queue
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pytest

from corum.pb import rpc
from oracle.build import cancel, delete, get, method_of, progress, put, txn, watch
from oracle.pair import Pair, masked
from oracle.rpc import Client, Refused, Stream

pytestmark = [pytest.mark.compat, pytest.mark.process, pytest.mark.slow]

ANSWER_TIMEOUT_S = 6.0
SILENCE_S = 0.05  # after the last expected answer nothing more may follow
LEASE = 7_100_000_001


@dataclass(frozen=True)
class Case:
    """Steps are requests. `None` waits until every watch and cancel so far was answered, a number
    until so many events have come.

    `notices` counts answers without events (created, canceled), `events` all watchers' events.
    """

    steps: list[Any]
    notices: int
    events: int


ABC = [put("a", "1"), put("b", "2"), put("a", "3"), delete("a"), put("a", "4")]

CASES: dict[str, Case] = {
    "one key": Case([watch("a"), None, *ABC], 1, 4),
    "one key with previous values": Case(
        [put("a", "0"), watch("a", prev_kv=True), None, *ABC], 1, 4
    ),
    "a range": Case([watch("a", "c"), None, *ABC, put("c", "no")], 1, 5),
    "from a key on": Case([watch("b", "\0"), None, *ABC, put("c", "yes")], 1, 2),
    "all keys": Case([watch("\0", "\0"), None, *ABC], 1, 5),
    "the empty key with a range": Case([watch("", "b"), None, *ABC], 1, 4),
    "no deletes": Case([watch("a", filters=[1]), None, *ABC], 1, 3),
    "no puts": Case([watch("a", filters=[0]), None, *ABC], 1, 1),
    "neither": Case([watch("a", filters=[0, 1]), watch("b"), None, *ABC], 2, 1),
    "two watchers of one stream": Case([watch("a"), None, watch("a", "z"), None, *ABC], 2, 9),
    "chosen ids": Case([watch("a", watch_id=7), None, watch("b", watch_id=9), None, *ABC], 2, 5),
    "an id in use": Case([watch("a", watch_id=7), None, watch("b", watch_id=7), None, *ABC], 2, 4),
    "an empty range": Case([watch("b", "a"), None, watch("b", "b"), None, watch("a")], 3, 0),
    "one transaction is one revision": Case(
        [watch("a", "z"), None, txn(success=[put("a", "1"), put("b", "2"), delete("a")][:2])], 1, 2
    ),
    "a delete of a range": Case(
        [put("a", ""), put("b", ""), watch("a", "z", prev_kv=True), None, delete("a", "z")], 1, 2
    ),
    "canceled": Case([watch("a"), None, put("a", "1"), 1, cancel(0), None, put("a", "2")], 2, 1),
    "an unknown id canceled": Case([watch("a"), None, cancel(5), put("a", "1")], 1, 1),
    "a lease's end deletes": Case(
        [
            rpc.LeaseGrantRequest(ID=LEASE, TTL=100),
            watch("a", "z"),
            None,
            put("a", "1", lease=LEASE),
            put("b", "1", lease=LEASE),
            rpc.LeaseRevokeRequest(ID=LEASE),
        ],
        1,
        4,
    ),
    "large events in fragments": Case(
        [
            watch("a", "z", fragment=True),
            None,
            *[put(f"f{n}", b"x" * 700_000) for n in range(5)],
            txn(success=[put(f"t{n}", b"y" * 400_000) for n in range(3)]),
        ],
        1,
        8,
    ),
}


def run(client: Client, stream: Stream, case: Case) -> dict[int, Any]:
    """What each watcher was told: notices with their place, and all events joined."""
    told: dict[int, Any] = defaultdict(lambda: {"notices": [], "events": []})
    seen = {"notices": 0, "events": 0, "asked": 0}

    def take(timeout_s: float) -> bool:
        try:
            answer = stream.receive(timeout_s)
        except queue.Empty:
            return False
        assert not isinstance(answer, Refused), answer
        assert answer is not None, "the stream ended"
        if answer.events:
            seen["events"] += len(answer.events)
            told[answer.watch_id]["events"] += [masked(event) for event in answer.events]
        else:
            seen["notices"] += 1
            notice = masked(answer)
            notice["after_events"] = len(told[answer.watch_id]["events"])
            told[answer.watch_id]["notices"].append(notice)
        return True

    for step in case.steps:
        if step is None:
            while seen["notices"] < seen["asked"] and take(ANSWER_TIMEOUT_S):
                pass
        elif isinstance(step, int):
            while seen["events"] < step and take(ANSWER_TIMEOUT_S):
                pass
        elif isinstance(step, rpc.WatchRequest):
            stream.send(step)
            seen["asked"] += 1
        else:
            answer = client.call(method_of(step), step)
            assert not isinstance(answer, Refused), answer
    while seen["notices"] < case.notices or seen["events"] < case.events:
        if not take(ANSWER_TIMEOUT_S):
            break
    while take(SILENCE_S):
        pass
    assert (seen["notices"], seen["events"]) == (case.notices, case.events), dict(told)
    return dict(told)


def compared(pair: Pair, case: Case) -> None:
    assert pair.clients
    told = []
    for client in pair.clients:
        with client.watch() as stream:
            told.append(run(client, stream, case))
    assert told[1] == told[0]


@pytest.mark.parametrize("name", CASES)
def test_watch(pair: Pair, name: str) -> None:
    """Ours tells each watcher of the conversation what Go etcd tells it."""
    compared(pair, CASES[name])


def now(pair: Pair) -> int:
    return pair.same("KV/Range", get("x"))["header"]["revision"]


def test_a_watch_from_the_past(pair: Pair) -> None:
    """Any revision of the history can be the first one; the rest follows in order."""
    first = now(pair)
    for request in [*ABC, txn(success=[put("a", "5"), put("b", "6")])]:
        pair.same(method_of(request), request)
    for start, events in ((first + 1, 7), (first + 3, 5), (first + 6, 2), (first + 7, 0)):
        compared(pair, Case([watch("a", "z", start_revision=start, prev_kv=True)], 1, events))


def test_a_watch_from_the_future(pair: Pair) -> None:
    """A watcher with a start revision ahead sees nothing before it."""
    start = now(pair) + 3
    compared(pair, Case([watch("a", "z", start_revision=start), None, *ABC], 1, 3))


def test_a_watch_before_the_compaction_is_canceled(pair: Pair) -> None:
    """A start revision that was compacted gives a canceled answer that names the compaction."""
    first = now(pair)
    for request in ABC:
        pair.same(method_of(request), request)
    pair.same("KV/Compact", rpc.CompactionRequest(revision=first + 3, physical=True))
    compared(pair, Case([watch("a", "z", start_revision=first + 1)], 2, 0))
    compared(pair, Case([watch("a", "z", start_revision=first + 3)], 1, 3))


def test_progress_on_request(pair: Pair) -> None:
    """A progress request is answered for the whole stream (watch id -1) with the revision."""
    pair.same("KV/Put", put("a", "1"))

    def ask(client: Client) -> Any:
        with client.watch() as stream:
            stream.send(watch("a"))
            stream.receive()
            stream.send(progress())
            answer = stream.receive()
            return answer.watch_id, answer.header.revision, len(answer.events)

    go, ours = pair.each(ask)
    assert ours == go


def test_keep_alive(pair: Pair) -> None:
    """Renewals give the granted TTL; an unknown lease gives TTL 0, and the stream goes on."""
    pair.same("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=LEASE, TTL=77))

    def renew(client: Client) -> Any:
        with client.keep_alive() as stream:
            answers = []
            for lease in (LEASE, 4_711, LEASE):
                stream.send(rpc.LeaseKeepAliveRequest(ID=lease))
                answers.append(masked(stream.receive()))
            stream.half_close()
            return [*answers, stream.receive()]

    go, ours = pair.each(renew)
    assert ours == go


def test_half_close_leaves_a_watch_stream_open(pair: Pair) -> None:
    """A client that stops asking still gets its events."""

    def ask(client: Client) -> Any:
        with client.watch() as stream:
            stream.send(watch("a"))
            stream.receive()
            stream.half_close()
            assert not isinstance(client.call("KV/Put", put("a", "1")), Refused)
            return masked(stream.receive())

    go, ours = pair.each(ask)
    assert ours == go
