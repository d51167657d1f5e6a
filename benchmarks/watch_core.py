"""What the watch hub costs per delivered event, without transport and store.

    python benchmarks/watch_core.py

Goal: at most 1 µs per delivered event with 1,000 watchers on one key, next to nothing per put for
watchers of other ranges, and less than 1 KB of memory per watcher.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence

from corum.mvcc.watch import WatchHub
from corum.mvcc.watch_ranges import Change, prefix_end

HEADER = b"\x0a\x14" + b"\x08" + b"\xff" * 8 + b"\x01\x18\x64\x20\x02" + b"\x10" + b"\x7f" * 4


class History:
    """A store of which only the recent changes are asked for."""

    def __init__(self, changes: Sequence[Change] = ()) -> None:
        self.changes = changes
        self.revision = changes[-1][0] if changes else 1
        self.compacted = 0

    def changes_since(self, revision: int, limit: int) -> Sequence[Change]:
        return self.changes[revision - 2 : revision - 2 + limit]

    def kv_at(self, key: bytes, revision: int) -> bytes | None:
        raise AssertionError("nobody asked for prev_kv")


def change(main: int, key: bytes, size: int = 256) -> Change:
    body = b"\x0a" + bytes((len(key),)) + key + b"\x10\x02\x18\x02\x20\x01\x2a\x80\x02"
    return (main, key, body + b"v" * size)


def median_ns(work: Callable[[int], int], rounds: int = 7) -> float:
    """Median over rounds of CPU nanoseconds per unit; `work(n)` does round n, returns its units."""
    results: list[float] = []
    for number in range(rounds):
        begin = time.process_time_ns()
        units = work(number)
        results.append((time.process_time_ns() - begin) / units)
    return statistics.median(results)


def hub_with(
    streams: int, watchers: int, create: Callable[[WatchHub, int, int], object]
) -> WatchHub:
    hub = WatchHub(History(), lambda _: HEADER)
    for stream in range(streams):
        hub.open(stream, 0, 600_000_000_000)
    for number in range(watchers):
        create(hub, number % streams, number)
    return hub


def deliver(streams: int, batch: int) -> float:
    """1,000 watchers on one key; ns per delivered event."""
    hub = hub_with(streams, 1_000, lambda hub, stream, _: hub.create(stream, b"foo"))

    def work(number: int) -> int:
        puts = 200 // batch * batch
        start = 2 + number * puts
        for main in range(start, start + puts, batch):
            hub.notify(main + batch - 1, [change(main + n, b"foo") for n in range(batch)])
        return puts * 1_000

    return median_ns(work)


def bystanders(create: Callable[[WatchHub, int, int], object], watchers: int) -> float:
    """ns per put that nobody watches, among many watchers of other ranges; in batches of 50."""
    hub = hub_with(100, watchers, create)
    batches = [
        [change(main + n, b"user/%012d" % n, 0) for n in range(50)]
        for main in range(2, 2 + 7 * 5_000, 50)
    ]

    def work(number: int) -> int:
        for batch in batches[number * 100 : number * 100 + 100]:
            hub.notify(batch[-1][0], batch)
        return 5_000

    return median_ns(work)


def catch_up(events: int) -> float:
    """One watcher of everything reads `events` past events; ns per event."""
    history = History([change(2 + n, b"key%08d" % n) for n in range(events)])

    def work(_: int) -> int:
        hub = WatchHub(history, lambda _: HEADER)
        hub.open(0, 0, 600_000_000_000)
        hub.create(0, b"\0", b"\0", start_revision=2)
        told = 0
        while hub.has_work:
            told += len(hub.sync_slice())
        assert told
        return events

    return median_ns(work, rounds=3)


def memory(watchers: int) -> float:
    """Bytes per watcher, each on a key of its own, 100 per stream."""
    tracemalloc.start()
    hub = hub_with(
        watchers // 100, watchers, lambda hub, stream, n: hub.create(stream, b"/some/key/%09d" % n)
    )
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert hub.watcher_count == watchers
    return size / watchers


def prefix(hub: WatchHub, stream: int, number: int) -> None:
    key = b"/registry/%06d/" % number
    hub.create(stream, key, prefix_end(key))


def span(hub: WatchHub, stream: int, number: int) -> None:
    hub.create(stream, b"a%06d" % number, b"a%06d" % (number + 5))


def main() -> None:
    print(f"1,000 watchers on one key, 100 streams   {deliver(100, 1):8.0f} ns/event")
    print(f"1,000 watchers on one key, 1,000 streams {deliver(1_000, 1):8.0f} ns/event")
    print(f"the same, 20 revisions per notify        {deliver(100, 20):8.0f} ns/event")
    print(f"put among 0 watchers                     {bystanders(prefix, 0):8.0f} ns/put")
    print(f"put among 100,000 prefix watchers        {bystanders(prefix, 100_000):8.0f} ns/put")
    print(f"put among 20,000 interval watchers       {bystanders(span, 20_000):8.0f} ns/put")
    print(f"catch-up of 200,000 events               {catch_up(200_000):8.0f} ns/event")
    print(f"memory of 100,000 watchers               {memory(100_000):8.0f} bytes each")


if __name__ == "__main__":
    main()
