"""Watch: who is to be told of which change, and the bytes to tell it with (rpc.md §5).

A *stream* is one Watch call, named by the transport's opaque call id; it holds *watchers*, each
with an id of its own. A watcher is in exactly one state:

    created ──▶ SYNCED ──(stream blocked, or its share of a notify is too big)──▶ UNSYNCED
       │          ▲ ▲                                                              │  │
       │          │ └───────────────── sync_slice() reached the newest revision ───┘  │
       ├─▶ FUTURE ┘ (the store reached its start revision)                            │
       └─▶ UNSYNCED (starts in the past)               canceled (compacted) ◀─────────┘

Synced watchers hear from `notify`; unsynced ones remember the next revision they need and catch up
from the store in slices. Nothing is queued per watcher: a slow stream costs no memory here, its
watchers fall back and read the store again. This module sends nothing and keeps no clock; every
answer is returned as `(stream, encoded WatchResponse)`, to be sent in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

Change: TypeAlias = tuple[int, bytes, bytes | None]
"""One write: main revision, key, stored KeyValue bytes (None: the key was deleted)."""

Output: TypeAlias = list[tuple[int, bytes]]
"""Encoded WatchResponses in sending order, each with the stream it belongs to."""


class History(Protocol):
    """What watching needs of the store."""

    @property
    def revision(self) -> int:
        """Newest main revision."""
        ...

    @property
    def compacted(self) -> int:
        """Last compacted revision; -1 or 0 when there was none."""
        ...

    def changes_since(self, revision: int, limit: int, /) -> Sequence[Change]:
        """Changes with main revision >= `revision` in (main, sub) order.

        Never ends within a revision; may end early once `limit` changes are reached (one revision
        alone may exceed it). Empty only when nothing is left up to the newest revision.
        """
        ...

    def kv_at(self, key: bytes, revision: int, /) -> bytes | None:
        """Stored KeyValue of `key` as of `revision`; None when absent then, or compacted."""
        ...


class WatchHub:
    """All watch streams of one member."""

    def __init__(
        self, store: History, header: Callable[[int], bytes], *, fragment_bytes: int = 2 * 1024 * 1024
    ) -> None:
        """`header(revision)` is the whole field 1 of a response: tag, length and ResponseHeader.

        `fragment_bytes`: maximum request size + 512 KiB; larger answers are cut for watchers that
        asked for fragments.
        """

    @property
    def idle(self) -> bool:
        """No watcher at all: `notify` need not be given the changes (an empty list will do)."""
        ...

    @property
    def has_work(self) -> bool:
        """`sync_slice` has something to do: call it soon."""
        ...

    # -- streams ------------------------------------------------------------------------------

    def open(self, stream: int, now_ns: int, progress_interval_ns: int) -> None:
        """A Watch call began. The interval carries its jitter already (10 min + up to 10 %)."""

    def close(self, stream: int) -> None:
        """The call ended, for whatever reason; its watchers vanish without an answer."""

    def blocked(self, stream: int) -> None:
        """The transport's queue of `stream` is over its high-water mark: send it no events."""

    def unblocked(self, stream: int) -> None:
        """The queue drained (WRITABLE): its watchers may catch up."""

    # -- requests -----------------------------------------------------------------------------

    def create(
        self,
        stream: int,
        key: bytes,
        range_end: bytes = b"",
        *,
        start_revision: int = 0,
        watch_id: int = 0,
        progress_notify: bool = False,
        no_put: bool = False,
        no_delete: bool = False,
        prev_kv: bool = False,
        fragment: bool = False,
    ) -> Output:
        """A WatchCreateRequest that passed authorization; the answer is its `created` response."""
        ...

    def refuse(self, stream: int, reason: str) -> Output:
        """Created + canceled with id -1: what a request that may not watch is answered."""
        ...

    def cancel(self, stream: int, watch_id: int) -> Output:
        """A WatchCancelRequest; an unknown id has no answer."""
        ...

    def progress(self, stream: int) -> Output:
        """A WatchProgressRequest: answered (with id -1) once all watchers of it are synced."""
        ...

    # -- what drives it -----------------------------------------------------------------------

    def notify(self, revision: int, changes: Sequence[Change]) -> Output:
        """The store went forward to `revision` by `changes` (of one or of many revisions)."""
        ...

    def sync_slice(self) -> Output:
        """One bounded step of catching up for the watchers that are furthest behind."""
        ...

    def tick(self, now_ns: int) -> Output:
        """Progress notifications that are due."""
        ...

    def restored(self, store: History) -> Output:
        """The store was replaced by a snapshot: every synced watcher continues from `store`."""
        ...
