"""The hub on the real store: the same events live and in catch-up, after a compaction, too."""

from __future__ import annotations

import random

from corum.backend.memory_backend import MemoryBackend
from corum.mvcc.store import Store
from corum.mvcc.watch import WatchHub

from .fakes import decode, header


def events_of(output: list[tuple[int, bytes]]) -> list[tuple[int, bytes, bool, bytes | None]]:
    decoded = [decode(data) for _, data in output]
    return [(e.mod, e.key, e.deleted, e.prev) for each in decoded for e in each.events]


def test_catch_up_tells_what_live_watchers_heard() -> None:
    """Transactions of several keys, deletions and previous values included."""
    dice = random.Random(7)
    store = Store(MemoryBackend())
    hub = WatchHub(store, header)
    hub.open(1, 0, 1)
    hub.create(1, b"a", b"c", prev_kv=True)
    live = []
    for _ in range(1_500):
        write = store.begin()
        for _ in range(dice.randint(1, 3)):
            key = dice.choice([b"a1", b"a2", b"b", b"c"])
            if dice.random() < 0.3:
                write.delete_range(key)
            else:
                write.put(key, b"%d" % dice.randint(0, 99), 0)
        changes = write.end()
        if changes:
            live += events_of(hub.notify(store.revision, changes))
    hub.open(2, 0, 1)
    hub.create(2, b"a", b"c", prev_kv=True, start_revision=1)
    late = []
    slices = 0
    while hub.has_work:
        late += events_of(hub.sync_slice())
        slices += 1
    assert slices > 1
    assert late == live
    store.compact(store.revision - 100)
    hub.create(2, b"a", b"c", start_revision=store.compacted + 1)
    hub.create(2, b"a", b"c", start_revision=store.compacted - 1)
    output = hub.sync_slice() + hub.sync_slice()
    assert [each[:3] for each in events_of(output)] == [
        each[:3] for each in live if each[0] > store.compacted
    ]
    assert [decode(data).compact_revision for _, data in output].count(store.compacted) == 1
