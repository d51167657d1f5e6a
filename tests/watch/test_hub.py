"""The rules of rpc.md §5, one by one."""

from __future__ import annotations

import pytest

from corum.mvcc import watch, watch_wire
from corum.mvcc.watch import WatchHub

from .fakes import FakeStore, decode, header

MINUTE = 60_000_000_000


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def hub(store: FakeStore) -> WatchHub:
    hub = WatchHub(store, header)
    hub.open(1, 0, 10 * MINUTE)
    return hub


def put(hub: WatchHub, store: FakeStore, key: bytes, value: bytes = b"v") -> list:
    changes = store.transact((key, value))
    return hub.notify(store.revision, changes)


def answers(output: list) -> list:
    return [decode(data) for _, data in output]


def test_golden_bytes_of_a_put_and_a_delete(hub: WatchHub, store: FakeStore) -> None:
    """Field order and defaults as proto3 writes them: id 0 and type PUT are left out."""
    hub.create(1, b"k")
    hub.create(1, b"k", watch_id=300)
    ((_, first), (_, second)) = put(hub, store, b"k", b"v")
    head = bytes.fromhex("0a08 0807 1009 1802 2002")
    event = bytes.fromhex("5a0e 120c 0a016b 1002 1802 2001 2a0176")
    assert first == head + event
    assert second == head + bytes.fromhex("10ac02") + event
    ((_, gone), _) = hub.notify(3, store.transact((b"k", None)))
    assert gone[10:] == bytes.fromhex("5a09 0801 1205 0a016b 1803")


def test_ids_count_from_zero_and_skip_those_in_use(hub: WatchHub) -> None:
    """Id 0 asks for the next free one of this stream; a used id is refused."""
    assert answers(hub.create(1, b"a"))[0].watch_id == 0
    assert answers(hub.create(1, b"a", watch_id=1))[0].watch_id == 1
    assert answers(hub.create(1, b"a"))[0].watch_id == 2
    (refused,) = answers(hub.create(1, b"a", watch_id=2))
    assert (refused.created, refused.canceled, refused.watch_id) == (True, True, -1)
    assert refused.cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"
    hub.open(2, 0, MINUTE)
    assert answers(hub.create(2, b"a"))[0].watch_id == 0


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"key": b"b", "range_end": b"b"}, "mvcc: watcher range is empty"),
        ({"key": b"b", "range_end": b"a"}, "mvcc: watcher range is empty"),
        (
            {"key": b"b", "start_revision": -1},
            "etcdserver: mvcc: required revision has been compacted",
        ),
    ],
)
def test_a_bad_request_is_created_and_canceled(hub: WatchHub, request_: dict, reason: str) -> None:
    """The stream stays open, id -1, the reason in words."""
    (refused,) = answers(hub.create(1, **request_))
    assert (refused.created, refused.canceled, refused.watch_id) == (True, True, -1)
    assert refused.cancel_reason == reason
    assert hub.watcher_count == 0


def test_cancel_answers_known_ids_only(hub: WatchHub, store: FakeStore) -> None:
    """An unknown id gets no answer at all; a canceled watcher hears nothing more."""
    hub.create(1, b"a")
    assert hub.cancel(1, 7) == []
    (answer,) = answers(hub.cancel(1, 0))
    assert (answer.canceled, answer.created, answer.revision) == (True, False, 1)
    assert put(hub, store, b"a") == []
    assert hub.idle


@pytest.mark.parametrize(("start", "lost"), [(4, True), (5, False), (6, False)])
def test_compacted_start(hub: WatchHub, store: FakeStore, start: int, lost: bool) -> None:
    """Below the compacted revision: created, then canceled with it; at it: still readable."""
    for _ in range(6):
        put(hub, store, b"a")
    store.compacted = 5
    (created,) = answers(hub.create(1, b"a", start_revision=start))
    assert (created.created, created.canceled) == (True, False)
    assert hub.has_work
    (answer,) = answers(hub.sync_slice())
    assert answer.canceled == lost
    if lost:
        assert (answer.compact_revision, answer.revision, answer.cancel_reason) == (5, 0, "")
        assert hub.watcher_count == 0
    else:
        assert [event.mod for event in answer.events] == list(range(start, 8))
    assert not hub.has_work


def test_future_start_waits(hub: WatchHub, store: FakeStore) -> None:
    """Events before the start revision are not shown, the one at it is."""
    hub.create(1, b"a", start_revision=4)
    assert put(hub, store, b"a") == put(hub, store, b"a") == []
    (answer,) = answers(put(hub, store, b"a"))
    assert [event.mod for event in answer.events] == [4]


def test_future_start_within_a_batch(hub: WatchHub, store: FakeStore) -> None:
    """A batch that runs past the start revision leaves the rest to a slice, and loses nothing."""
    hub.create(1, b"a", start_revision=3)
    changes = [change for _ in range(3) for change in store.transact((b"a", b"v"))]
    assert hub.notify(store.revision, changes) == []
    (answer,) = answers(hub.sync_slice())
    assert [event.mod for event in answer.events] == [3, 4]


def test_one_revision_is_one_response_per_watcher(hub: WatchHub, store: FakeStore) -> None:
    """A transaction arrives whole, and each watcher that matches gets its own response."""
    hub.create(1, b"a", b"c")
    hub.create(1, b"b")
    changes = store.transact((b"a", b"1"), (b"b", b"2"), (b"c", b"3"))
    wide, narrow = answers(hub.notify(store.revision, changes))
    assert {(wide.watch_id, len(wide.events)), (narrow.watch_id, len(narrow.events))} == {
        (0, 2),
        (1, 1),
    }


def test_progress_request_waits_for_all_watchers(hub: WatchHub, store: FakeStore) -> None:
    """Answered with id -1 and the revision, after the events of those that were behind."""
    assert hub.progress(1) == []
    put(hub, store, b"a")
    hub.create(1, b"a")
    (now,) = answers(hub.progress(1))
    assert (now.watch_id, now.revision, now.events) == (-1, 2, [])
    hub.create(1, b"a", start_revision=1)
    assert hub.progress(1) == hub.progress(1) == []
    events, bookmark = answers(hub.sync_slice())
    assert [event.mod for event in events.events] == [2]
    assert (bookmark.watch_id, bookmark.revision) == (-1, 2)
    assert answers(hub.sync_slice()) == []


def test_progress_request_of_a_blocked_stream_waits(hub: WatchHub) -> None:
    """A stream that does not drain is told later, once."""
    hub.create(1, b"a")
    hub.blocked(1)
    assert hub.progress(1) == []
    hub.unblocked(1)
    assert hub.has_work
    assert [answer.watch_id for answer in answers(hub.sync_slice())] == [-1]
    assert not hub.has_work


def test_progress_notify_comes_when_nothing_else_did(hub: WatchHub, store: FakeStore) -> None:
    """Every interval, to those who asked, unless events were sent in it."""
    hub.create(1, b"a", progress_notify=True)
    hub.create(1, b"a")
    assert hub.tick(10 * MINUTE - 1) == []
    (quiet,) = answers(hub.tick(10 * MINUTE))
    assert (quiet.watch_id, quiet.revision, quiet.events) == (0, 1, [])
    put(hub, store, b"a")
    assert hub.tick(20 * MINUTE) == []
    assert len(hub.tick(30 * MINUTE)) == 1
    hub.close(1)
    assert hub.tick(40 * MINUTE) == []


def test_filters_and_prev_kv(hub: WatchHub, store: FakeStore) -> None:
    """NOPUT and NODELETE drop; prev_kv is there except for creations."""
    hub.create(1, b"a", no_put=True)
    hub.create(1, b"a", no_delete=True)
    hub.create(1, b"a", prev_kv=True)
    hub.create(1, b"a", no_put=True, no_delete=True)
    created = answers(put(hub, store, b"a", b"1"))
    assert [(r.watch_id, r.events[0].prev) for r in created] == [(1, None), (2, None)]
    first = created[0].events[0].kv
    changed = answers(put(hub, store, b"a", b"2"))
    assert [(r.watch_id, r.events[0].prev) for r in changed] == [(1, None), (2, first)]
    second = changed[0].events[0].kv
    gone = answers(hub.notify(4, store.transact((b"a", None))))
    assert [(r.watch_id, r.events[0].prev) for r in gone] == [(0, None), (2, second)]
    again = answers(put(hub, store, b"a", b"3"))
    assert [(r.watch_id, r.events[0].prev) for r in again] == [(1, None), (2, None)]


def test_prev_kv_of_a_compacted_revision_is_left_out(hub: WatchHub, store: FakeStore) -> None:
    """The event itself still comes."""
    for value in (b"1", b"2"):
        put(hub, store, b"a", value)
    store.compacted = 3
    hub.create(1, b"a", start_revision=3, prev_kv=True)
    (answer,) = answers(hub.sync_slice())
    assert [(event.mod, event.prev) for event in answer.events] == [(3, None)]


def test_fragments_only_for_those_who_asked(store: FakeStore) -> None:
    """Split between events below the limit; all but the last piece are marked."""
    hub = WatchHub(store, header, fragment_bytes=1_000)
    hub.open(1, 0, MINUTE)
    hub.create(1, b"a", b"b", fragment=True)
    hub.create(1, b"a", b"b")
    writes = [(b"a%d" % n, b"x" * 300) for n in range(8)]
    output = hub.notify(2, store.transact(*writes))
    pieces = [decode(data) for _, data in output if decode(data).watch_id == 0]
    whole = [decode(data) for _, data in output if decode(data).watch_id == 1]
    assert [piece.fragment for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert len(pieces) > 1
    assert all(len(data) <= 1_000 for _, data in output if decode(data).watch_id == 0)
    assert [len(response.events) for response in whole] == [8]
    assert [e.key for piece in pieces for e in piece.events] == [key for key, _ in writes]


def test_one_event_larger_than_the_limit_is_sent_whole(store: FakeStore) -> None:
    """There is nothing to split."""
    hub = WatchHub(store, header, fragment_bytes=1_000)
    hub.open(1, 0, MINUTE)
    hub.create(1, b"a", fragment=True)
    (answer,) = answers(put(hub, store, b"a", b"x" * 5_000))
    assert (answer.fragment, len(answer.events)) == (False, 1)


def test_blocked_stream_costs_no_bytes_and_catches_up(hub: WatchHub, store: FakeStore) -> None:
    """While blocked nothing is handed out; afterwards everything that was missed."""
    hub.create(1, b"a")
    hub.blocked(1)
    for _ in range(3):
        assert put(hub, store, b"a") == []
    assert hub.slow_count == 1
    assert hub.sync_slice() == []
    assert not hub.has_work
    hub.unblocked(1)
    (answer,) = answers(hub.sync_slice())
    assert [event.mod for event in answer.events] == [2, 3, 4]
    assert hub.slow_count == 0


def test_equal_answers_are_the_same_object(hub: WatchHub, store: FakeStore) -> None:
    """Watchers with the same id on many streams share the response, so the transport can too."""
    for stream in range(2, 10):
        hub.open(stream, 0, MINUTE)
        hub.create(stream, b"a")
    output = put(hub, store, b"a", b"x" * 1_000)
    assert len(output) == 8
    assert len({id(data) for _, data in output}) == 1


def test_a_notify_hands_out_a_bounded_number_of_bytes(
    hub: WatchHub, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit waits for slices, which are bounded too, and still everybody gets it."""
    monkeypatch.setattr(watch, "NOTIFY_BYTES", 10_000)
    monkeypatch.setattr(watch, "SLICE_BYTES", 3_000)
    for _ in range(30):
        hub.create(1, b"a")
    output = put(hub, store, b"a", b"x" * 1_000)
    assert sum(len(data) for _, data in output) <= 11_000
    told = {answer.watch_id for answer in answers(output)}
    while hub.has_work:
        piece = hub.sync_slice()
        assert sum(len(data) for _, data in piece) <= 4_500
        ids = {answer.watch_id for answer in answers(piece)}
        assert ids
        assert not ids & told
        told |= ids
    assert told == set(range(30))


def test_long_batches_are_cut_between_revisions(
    hub: WatchHub, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many revisions share a response up to the limit, never half a revision."""
    monkeypatch.setattr(watch_wire, "RESPONSE_BYTES", 500)
    hub.create(1, b"a", b"b")
    changes = []
    for _ in range(6):
        changes += store.transact((b"a1", b"x" * 150), (b"a2", b"x" * 150))
    replies = answers(hub.notify(store.revision, changes))
    assert [[event.mod for event in reply.events] for reply in replies] == [
        [2, 2, 3, 3],
        [4, 4, 5, 5],
        [6, 6, 7, 7],
    ]


def test_garbage_of_canceled_watchers_is_swept(hub: WatchHub) -> None:
    """Creating and canceling for ever does not grow anything."""
    for _ in range(2_000):
        (created,) = answers(hub.create(1, b"a", start_revision=1_000_000))
        hub.cancel(1, created.watch_id)
    assert len(hub._future._heap) < 100
    for stream in range(100, 2_100):
        hub.open(stream, 0, MINUTE)
        hub.close(stream)
    assert len(hub._timers) < 100


def test_an_idle_hub_need_not_be_told(hub: WatchHub, store: FakeStore) -> None:
    """Without watchers that wait, `notify` may be left out; who comes then sees the right time."""
    assert hub.idle
    for _ in range(3):
        store.transact((b"a", b"v"))
    (created,) = answers(hub.create(1, b"a", start_revision=3))
    assert created.revision == 4
    (caught_up,) = answers(hub.sync_slice())
    assert [event.mod for event in caught_up.events] == [3, 4]
    assert not hub.idle
    assert [answer.events[0].mod for answer in answers(put(hub, store, b"a"))] == [5]


def test_a_future_watcher_keeps_the_hub_from_idling(hub: WatchHub, store: FakeStore) -> None:
    """It has to hear that its revision has come."""
    hub.create(1, b"a", start_revision=3)
    assert not hub.idle


def test_recreation_in_one_transaction_is_a_creation(hub: WatchHub, store: FakeStore) -> None:
    """Deleted and put again in one revision: the deletion has a previous value, the put none."""
    put(hub, store, b"a", b"1")
    hub.create(1, b"a", prev_kv=True)
    changes = store.transact((b"a", None), (b"a", b"2"))
    (answer,) = answers(hub.notify(store.revision, changes))
    assert [(event.deleted, event.prev is None) for event in answer.events] == [
        (True, False),
        (False, True),
    ]
