"""Whatever happens in whatever order, a watcher gets its events once, in order, whole, and all."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from corum.mvcc import watch, watch_wire
from corum.mvcc.watch import WatchHub

from .fakes import FakeStore, decode, header

KEYS = [b"a", b"a\xff", b"ab", b"abc", b"b", b"b\x00", b"c"]
RANGES = [
    *[(key, b"") for key in KEYS],
    (b"a", b"b"),
    (b"ab", b"ac"),
    (b"a\xff", b"b"),
    (b"a", b"abc"),
    (b"ab", b"c"),
    (b"abc", b"b\x00"),
    (b"b", b"\0"),
    (b"", b"\0"),
    (b"", b""),
]
STREAMS = [10, 11, 12]
WRITES = st.lists(
    st.tuples(st.sampled_from(KEYS), st.none() | st.binary(max_size=12)), min_size=1, max_size=4
)


class Expected:
    """What one watcher must see, from the definition."""

    def __init__(self, key: bytes, end: bytes, start: int, flags: dict[str, bool]) -> None:
        self.key = key or b"\0"
        self.end = end
        self.start = start
        self.flags = flags
        self.got: list[tuple[int, bytes, bool]] = []
        self.fragmenting = False

    def wants(self, main: int, key: bytes, stored: bytes | None) -> bool:
        if main < self.start or self.flags["no_put" if stored is not None else "no_delete"]:
            return False
        if not self.end:
            return key == self.key
        return self.key <= key and (self.end == b"\0" or key < self.end)

    def all(self, store: FakeStore) -> list[tuple[int, bytes, bool]]:
        return [(c[0], c[1], c[2] is None) for c in store.history if self.wants(*c)]


class Watching(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.store = FakeStore()
        self.hub = WatchHub(self.store, header, fragment_bytes=120)
        self.now = 0
        self.blocked: set[int] = set()
        self.watchers: dict[tuple[int, int], Expected] = {}
        for stream in STREAMS:
            self.hub.open(stream, 0, 1_000)

    def take(self, output: list[tuple[int, bytes]]) -> list:
        responses = []
        for stream, data in output:
            response = decode(data)
            responses.append((stream, response))
            if response.events:
                self.take_events(stream, response)
            elif response.compact_revision:
                gone = self.watchers.pop((stream, response.watch_id))
                assert response.canceled
                assert response.compact_revision == self.store.compacted
                seen = gone.got[-1][0] if gone.got else gone.start - 1
                assert min(gone.start, seen + 1) < self.store.compacted
            elif not response.created and not response.canceled:
                self.take_progress(stream, response)
        return responses

    def take_events(self, stream: int, response) -> None:
        assert stream not in self.blocked
        watcher = self.watchers[stream, response.watch_id]
        events = [(e.mod, e.key, e.deleted) for e in response.events]
        if watcher.got and not watcher.fragmenting:
            assert events[0][0] > watcher.got[-1][0], "a revision was split or repeated"
        assert response.fragment <= watcher.flags["fragment"]
        watcher.fragmenting = response.fragment
        watcher.got += events
        assert watcher.got == watcher.all(self.store)[: len(watcher.got)]
        assert response.revision >= events[-1][0]
        stored = {(main, key): kv for main, key, kv in self.store.history}
        for event in response.events:
            if not event.deleted:
                assert event.kv in [c[2] for c in self.store.history if c[0] == event.mod]
            assert (event.mod, event.key) in stored
            previous = self.store.kv_at(event.key, event.mod - 1)
            if watcher.flags["prev_kv"] and (event.deleted or event.create != event.mod):
                assert event.prev == previous
            else:
                assert event.prev is None

    def take_progress(self, stream: int, response) -> None:
        """A bookmark promises that nothing up to its revision is missing."""
        assert stream not in self.blocked
        for (owner, watch_id), watcher in self.watchers.items():
            if owner == stream and response.watch_id in (-1, watch_id):
                due = [e for e in watcher.all(self.store) if e[0] <= response.revision]
                assert watcher.got == due

    @rule(batch=st.lists(WRITES, min_size=1, max_size=3))
    def write(self, batch) -> None:
        changes = []
        for writes in batch:
            changes += self.store.transact(*writes)
        if not self.hub.idle:
            self.take(self.hub.notify(self.store.revision, changes))

    @rule(writes=WRITES)
    def slice_between_apply_and_notify(self, writes) -> None:
        changes = self.store.transact(*writes)
        self.take(self.hub.sync_slice())
        self.take(self.hub.notify(self.store.revision, changes))

    @rule(
        stream=st.sampled_from(STREAMS),
        bounds=st.sampled_from(RANGES),
        offset=st.none() | st.integers(-8, 3),
        flags=st.fixed_dictionaries(
            {
                name: st.booleans()
                for name in ("no_put", "no_delete", "prev_kv", "fragment", "progress_notify")
            }
        ),
        plain=st.booleans(),
    )
    def create(self, stream, bounds, offset, flags, plain) -> None:
        if plain:
            flags = dict.fromkeys(flags, False)
        start = 0 if offset is None else max(self.hub.revision + offset, 1)
        ((to, answer),) = self.take(self.hub.create(stream, *bounds, start_revision=start, **flags))
        assert (to, answer.created, answer.canceled) == (stream, True, False)
        assert (stream, answer.watch_id) not in self.watchers
        start = start or self.hub.revision + 1
        self.watchers[stream, answer.watch_id] = Expected(*bounds, start, flags)

    @precondition(lambda self: self.watchers)
    @rule(data=st.data())
    def cancel(self, data) -> None:
        stream, watch_id = data.draw(st.sampled_from(sorted(self.watchers)))
        del self.watchers[stream, watch_id]
        (_, answer), *_ = self.take(self.hub.cancel(stream, watch_id))
        assert (answer.canceled, answer.watch_id) == (True, watch_id)

    @rule(stream=st.sampled_from(STREAMS))
    def block(self, stream) -> None:
        self.blocked.add(stream)
        self.hub.blocked(stream)

    @rule(stream=st.sampled_from(STREAMS))
    def unblock(self, stream) -> None:
        self.blocked.discard(stream)
        self.hub.unblocked(stream)

    @rule()
    def catch_up(self) -> None:
        self.take(self.hub.sync_slice())

    @rule(stream=st.sampled_from(STREAMS))
    def ask_progress(self, stream) -> None:
        self.take(self.hub.progress(stream))

    @rule(elapsed=st.integers(1, 1_500))
    def tick(self, elapsed) -> None:
        self.now += elapsed
        self.take(self.hub.tick(self.now))

    @rule(back=st.integers(0, 5))
    def compact(self, back) -> None:
        self.store.compacted = max(self.store.compacted, self.store.revision - back)

    @rule(stream=st.sampled_from(STREAMS))
    def reopen(self, stream) -> None:
        self.hub.close(stream)
        self.hub.open(stream, self.now, 1_000)
        self.blocked.discard(stream)
        self.watchers = {k: v for k, v in self.watchers.items() if k[0] != stream}

    @rule(writes=WRITES)
    def restore(self, writes) -> None:
        """A snapshot from the leader brings revisions that were never notified."""
        self.store.transact(*writes)
        self.hub.restored(self.store)

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "hub"):
            assert self.hub.watcher_count == len(self.watchers)
            assert self.hub.stream_count == len(STREAMS)

    def teardown(self) -> None:
        if not hasattr(self, "hub"):
            return
        for stream in STREAMS:
            self.unblock(stream)
        for _ in range(1_000):
            if not self.hub.has_work:
                break
            self.catch_up()
        assert not self.hub.has_work
        assert self.hub.slow_count == 0
        for watcher in self.watchers.values():
            assert watcher.got == watcher.all(self.store)
            assert not watcher.fragmenting


@pytest.mark.parametrize("limits", ["small", "real"])
def test_every_watcher_sees_its_events_once_in_order_whole_and_all(
    limits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ordered, unique, reliable, atomic per revision, with limits that bite and with real ones."""
    if limits == "small":
        for name, size in {
            "SLICE_WATCHERS_MAX": 2,
            "SLICE_CHANGES": 3,
            "SLICE_STREAM_BYTES": 40,
            "SLICE_BYTES": 80,
            "NOTIFY_BYTES": 150,
        }.items():
            monkeypatch.setattr(watch, name, size)
        monkeypatch.setattr(watch_wire, "RESPONSE_BYTES", 60)
    run_state_machine_as_test(
        Watching,
        settings=settings(max_examples=60, stateful_step_count=50, deadline=None, derandomize=True),
    )
