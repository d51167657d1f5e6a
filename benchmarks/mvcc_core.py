"""The store alone: microseconds per operation, memory per key, time to open. No network, no log.

    python benchmarks/mvcc_core.py [--keys 1000000] [--value 256] [--dir DIR]

Prints one table. Commits run in a worker thread, as in a member, so their cost shows where it is
felt. "stall" is the longest the loop was kept from its work while a job ran in a worker.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from corum.backend.lmdb_backend import LmdbBackend
from corum.mvcc.reads import RangeOptions
from corum.mvcc.store import RangeJob, Store

COUNT = RangeOptions(count_only=True)


def resident_mb() -> dict[str, float]:
    """RssAnon (heap) and RssFile (mapped pages of the file) of this process."""
    wanted = ("VmRSS", "RssAnon", "RssFile")
    lines = Path("/proc/self/status").read_text().splitlines()
    found = (line.split() for line in lines if line.split(":")[0] in wanted)
    return {name.rstrip(":"): int(kb) / 1024 for name, kb, _ in found}


class Loop:
    """A member's loop, as far as the store notices it: batches to a worker, one in flight."""

    def __init__(self, path: Path) -> None:
        self.backend = LmdbBackend(path)
        self.store = Store(self.backend)
        self.index = 0
        self._batch = None
        self._worker: threading.Thread | None = None

    def commit(self, *, wait: bool = False) -> None:
        self.index += 1
        if self._worker is not None and (wait or not self._worker.is_alive()):
            self._worker.join()
            self.backend.committed(self._batch)
            self._worker = None
        if self._worker is None:
            self._batch = self.backend.seal(self.index, 1)
            if self._batch is not None:
                self._worker = threading.Thread(target=self._batch.write)
                self._worker.start()
        if wait and self._worker is not None:
            self._worker.join()
            self.backend.committed(self._batch)
            self._worker = None

    def put(self, key: bytes, value: bytes) -> None:
        write = self.store.begin()
        write.put(key, value)
        write.end()
        pending = self.backend.pending_operations
        if pending >= 10_000:
            self.commit(wait=pending >= 50_000)  # the server stops taking requests then


def measure(what: str, run: Callable[[], object], number: int) -> object:
    started = time.perf_counter()
    out = run()
    took = time.perf_counter() - started
    print(f"{what:46} {took / number * 1e6:10.2f} us/op {took * 1e3:10.1f} ms", flush=True)
    return out


def beside(what: str, run: Callable[[], object], loop: Loop, value: bytes) -> None:
    """Run a job in a worker while the loop puts; print how long one put ever took."""
    worker = threading.Thread(target=run)
    worker.start()
    worst = puts = 0
    started = time.perf_counter()
    while worker.is_alive():
        at = time.perf_counter()
        loop.put(b"beside/%06d" % puts, value)
        worst = max(worst, time.perf_counter() - at)
        puts += 1
        if puts % 100 == 0:
            time.sleep(0.001)  # a loop that waits for its clients now and then
    took = time.perf_counter() - started
    print(f"{what:46} {took * 1e3:10.1f} ms  stall {worst * 1e3:6.1f} ms  {puts} puts", flush=True)


def key_of(number: int) -> bytes:
    return b"key/%012d" % number


def writes(loop: Loop, keys: int, value: bytes) -> None:
    order = list(range(keys))
    random.Random(1).shuffle(order)

    def puts(numbers: list[int]) -> None:
        for number in numbers:
            loop.put(key_of(number), value)

    measure(f"put, {keys} new keys, random order", lambda: puts(order), keys)
    loop.commit(wait=True)
    loop.commit(wait=True)
    again = order[: max(keys // 10, 1)]
    measure("put, existing keys", lambda: puts(again), len(again))
    measure("commit of what is left", lambda: loop.commit(wait=True), 1)
    loop.commit(wait=True)
    print("resident MB after writing", {k: round(v) for k, v in resident_mb().items()})
    size, used = loop.backend.size, loop.backend.size_in_use
    print(f"file {size / 1e6:.0f} MB, in use {used / 1e6:.0f} MB")


def reads(loop: Loop, keys: int) -> None:
    store = loop.store
    some = random.Random(2).sample(range(keys), min(20_000, keys))
    measure("get", lambda: [store.get(key_of(n)) for n in some], len(some))
    measure("range, 1 key", lambda: [store.range(key_of(n)) for n in some], len(some))
    starts = [n for n in some if n + 50 <= keys][:1_000]
    fifty = [(key_of(n), key_of(n + 50)) for n in starts]
    measure("range, 50 keys (per range)", lambda: [store.range(*b) for b in fifty], len(fifty))
    low, high = key_of(keys // 4), key_of(keys // 4 + 10_000)
    for _ in range(3):
        measure("range, 10,000 keys (per key)", lambda: store.range(low, high), 10_000)
    old = RangeOptions(revision=store.revision - 10)
    measure("range, 10,000 keys, 10 revisions ago", lambda: store.range(low, high, old), 10_000)
    old = RangeOptions(revision=keys)
    measure("range, 10,000 keys, before the updates", lambda: store.range(low, high, old), 10_000)
    measure("count, everything", lambda: store.range(b"\0", b"\0", COUNT), 1)
    measure("count, a prefix of all keys, first time", lambda: counted(store), keys)
    measure("count, the same again", lambda: counted(store), 1)
    measure("changes_since, all (per change)", lambda: caught_up(store), store.revision)


def counted(store: Store) -> int:
    plan = store.plan_range(b"key/", b"key0", COUNT)
    if isinstance(plan, RangeJob):
        plan.run()
        result = store.finish(plan)
        assert result is not None
        return result.count
    return plan.count


def caught_up(store: Store) -> None:
    revision = 2
    while changes := store.changes_since(revision, 1_000):
        revision = changes[-1][0] + 1


def jobs(loop: Loop, keys: int, value: bytes) -> None:
    store = loop.store
    plan = store.plan_range(b"key/", b"key0")
    if isinstance(plan, RangeJob):
        beside(f"range of {keys} keys beside puts", plan.run, loop, value)
        store.finish(plan)
        plan.result = None
    beside("HashKV beside puts", store.hash_kv().run, loop, value)
    loop.commit(wait=True)
    loop.commit(wait=True)


def deletes(loop: Loop, keys: int) -> None:
    store = loop.store
    number = min(100_000, keys)

    def delete() -> None:
        write = store.begin()
        write.delete_range(key_of(0), key_of(number))
        write.end()

    measure(f"delete-range of {number} keys (per key)", delete, number)
    measure("its commit", lambda: loop.commit(wait=True), 1)
    compaction = store.compact(store.revision)
    worst, started = 0.0, time.perf_counter()
    while not compaction.done:
        at = time.perf_counter()
        compaction.step()
        worst = max(worst, time.perf_counter() - at)
        if loop.backend.pending_operations >= 10_000:
            loop.commit()
    took = time.perf_counter() - started
    print(
        f"compaction: {compaction.removed} revisions, {took:.2f} s,"
        f" longest slice {worst * 1e3:.1f} ms"
    )
    loop.commit(wait=True)
    loop.commit(wait=True)


def reopen(path: Path) -> None:
    """In a fresh process: how long until the store can serve, and what that costs in memory."""
    before = resident_mb()
    started = time.perf_counter()
    loop = Loop(path)
    took = time.perf_counter() - started
    after = resident_mb()
    print(
        f"reopen: {took * 1e3:.1f} ms, {loop.store.keys_total} keys at revision"
        f" {loop.store.revision}; resident {before['VmRSS']:.0f} -> {after['VmRSS']:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--value", type=int, default=256)
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--reopen", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.reopen:
        reopen(args.reopen)
        return
    folder = args.dir or Path(tempfile.mkdtemp(prefix="mvcc-core-"))
    path = folder / "db.lmdb"
    value = os.urandom(args.value)
    gc.set_threshold(100_000, 50, 1_000)  # as the daemon does
    gc.freeze()
    loop = Loop(path)
    writes(loop, args.keys, value)
    again = [sys.executable, __file__, "--reopen", str(path)]
    print("after a crash, with index rows to make up for: ", end="", flush=True)
    subprocess.run(again, check=True)
    loop.backend.flush_own()
    loop.commit(wait=True)
    loop.commit(wait=True)
    print("after a shutdown: ", end="", flush=True)
    subprocess.run(again, check=True)
    reads(loop, args.keys)
    jobs(loop, args.keys, value)
    deletes(loop, args.keys)
    print("resident MB at the end", {k: round(v) for k, v in resident_mb().items()})
    if not args.dir:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
