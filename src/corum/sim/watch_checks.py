"""Watches and hashes against the history of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from corum.backend.memory_backend import MemoryBackend
from corum.mvcc.store import Store
from corum.pb import rpc
from corum.sim.model import History, within
from corum.sim.sessions import Operation
from corum.sim.watchers import Watch, WatchStream
from corum.sim.world import Violation


def check_watches(history: History, streams: Iterable[WatchStream]) -> None:
    """Reliable: everything in its range between begin and end, and nothing else. Raises
    Violation."""
    for stream in streams:
        for watch in stream.watches.values():
            _check_watch(history, stream.name, watch)


def _check_watch(history: History, name: str, watch: Watch) -> None:
    last = history.revision
    if watch.next <= last:
        raise Violation(f"{name} did not get beyond {watch.next} of {last}")
    expected = list(_expected(history, watch, min(watch.next - 1, last)))
    received = [(each.kv.mod_revision, each.kv.key, _content(each)) for each in watch.received]
    for one, other in zip(expected, received, strict=False):
        if one != other:
            raise Violation(f"{name} {watch.request}: expected {one}, got {other}")
    if len(expected) != len(received):
        missing = expected[len(received) :] or received[len(expected) :]
        raise Violation(f"{name} {watch.request}: {len(expected)} != {len(received)}: {missing}")
    for event in watch.received:
        before = history.at(event.kv.key, event.kv.mod_revision - 1)
        if event.HasField("prev_kv") and event.prev_kv != before:
            raise Violation(f"{name}: previous of {event} should be {before}")
        if event.HasField("prev_kv") and not watch.request.prev_kv:
            raise Violation(f"{name}: nobody asked for the previous of {event}")


def _content(event: Any) -> tuple[bytes, int] | None:
    return None if event.type else (event.kv.value, event.kv.lease)


def _expected(
    history: History, watch: Watch, last: int
) -> Iterable[tuple[int, bytes, tuple[bytes, int] | None]]:
    request = watch.request
    no_put = rpc.WatchCreateRequest.NOPUT in request.filters
    no_delete = rpc.WatchCreateRequest.NODELETE in request.filters
    for revision in range(max(watch.first, 2), last + 1):
        if any(start <= revision < end for start, end in watch.gaps):
            continue
        for event in history.revisions[revision]:
            if not within(event.key, request.key, request.range_end):
                continue
            if event.value is None:
                if not no_delete:
                    yield revision, event.key, None
            elif not no_put:
                yield revision, event.key, (event.value, event.lease)


def check_hashes(history: History, operations: Sequence[Operation]) -> None:
    """Each HashKV is that of a store which was never interrupted. Raises Violation."""
    known: dict[tuple[int, int], int] = {}
    for operation in operations:
        if operation.name != "Maintenance/HashKV" or not operation.succeeded:
            continue
        response = operation.response
        at = (response.hash_revision, response.compact_revision)
        if at[0] > history.revision or not is_inhabited(history, at[0]):
            continue
        if at not in known:
            known[at] = hash_of(history, *at)
        if response.hash != known[at]:
            raise Violation(f"HashKV at {at} is {response.hash}, should be {known[at]}")


def is_inhabited(history: History, revision: int) -> bool:
    """Without any key alive, the hash depends on how far compaction has got (as etcd's)."""
    return any(history.at(key, revision) is not None for key in history.every_key())


def hash_of(history: History, revision: int, compacted: int) -> int:
    """HashKV of a fresh store that got this history."""
    store = Store(MemoryBackend())
    for events in history.revisions[2 : revision + 1]:
        write = store.begin()
        for event in events:
            if event.value is None:
                write.delete_range(event.key)
            else:
                write.put(event.key, event.value, event.lease)
        write.end()
    if compacted > 0:
        store.compact(compacted)
        compaction = store.compaction
        while compaction is not None and not compaction.step():
            pass
    return store.hash_kv(revision).run().hash
