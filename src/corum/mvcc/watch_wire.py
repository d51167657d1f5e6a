"""WatchResponse bytes by hand: an event is encoded once and shared by all who receive it.

    WatchResponse = header (1) · watch_id (2) · created (3) · canceled (4) · compact_revision (5)
                    · cancel_reason (6) · fragment (7) · events (11)
    Event         = type (1) · kv (2) · prev_kv (3)

A response is `head + id_field(watch_id) + body`: the head is the same for all responses of a
moment, the body for all watchers that want the same of the same events. Only proto3 field numbers
and kinds live here (rpc.md §2), no watching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from corum.pb.wire import varint

if TYPE_CHECKING:
    from corum.mvcc.watch_ranges import Change

NO_PUT: Final = 1
NO_DELETE: Final = 2
PREV_KV: Final = 4
FRAGMENT: Final = 8
PROGRESS: Final = 16  # wants periodic progress notifications; does not change the bytes
FORM: Final = NO_PUT | NO_DELETE | PREV_KV | FRAGMENT

INVALID_ID: Final = -1

RESPONSE_BYTES: Final = 1024 * 1024
"""Events of several revisions share a response up to about this size (clients often take 4 MiB)."""

ID_FIELD_MAX: Final = 11
_FRAGMENT_FIELD: Final = b"\x38\x01"
_CREATED: Final = b"\x18\x01"
_CANCELED: Final = b"\x20\x01"


def id_field(watch_id: int) -> bytes:
    """Field 2; nothing at all for id 0."""
    return b"\x10" + varint(watch_id) if watch_id else b""


def created_body(reason: str | None = None) -> bytes:
    """Created, or with a reason: created and canceled at once."""
    if reason is None:
        return _CREATED
    text = reason.encode()
    return _CREATED + _CANCELED + b"\x32" + varint(len(text)) + text


def canceled_body(compact_revision: int = 0) -> bytes:
    if not compact_revision:
        return _CANCELED
    return _CANCELED + b"\x28" + varint(compact_revision)


def encode_event(change: Change, previous: bytes | None = None) -> bytes:
    """Field 11 of a response: tag, length, Event."""
    main, key, stored = change
    if stored is None:
        kv = b"\x0a" + varint(len(key)) + key + b"\x18" + varint(main)
        event = b"\x08\x01\x12" + varint(len(kv)) + kv
    else:
        event = b"\x12" + varint(len(stored)) + stored
    if previous is not None:
        event += b"\x1a" + varint(len(previous)) + previous
    return b"\x5a" + varint(len(event)) + event


def is_creation(change: Change) -> bool:
    """A put whose stored KeyValue says create_revision == mod_revision.

    Reads only the fields before them: key (1), create_revision (2), as the store writes them.
    """
    main, key, stored = change
    if stored is None:
        return False
    at = 1 + len(varint(len(key))) + len(key)
    field = b"\x10" + varint(main)
    return stored[at : at + len(field)] == field


class EventBatch:
    """The events of one notify or one catch-up step, each encoded at most once per kind."""

    __slots__ = ("_changes", "_fragment_bytes", "_plain", "_previous", "_with_previous", "head")

    def __init__(
        self,
        changes: Sequence[Change],
        head: bytes,
        previous: Callable[[bytes, int], bytes | None],
        fragment_bytes: int,
    ) -> None:
        """`previous(key, revision)`: the stored KeyValue as of that revision.

        `fragment_bytes`: longest response for those who asked for fragments.
        """
        self.head = head
        self._changes = changes
        self._previous = previous
        self._fragment_bytes = fragment_bytes - len(head) - ID_FIELD_MAX - len(_FRAGMENT_FIELD)
        self._plain: list[bytes | None] = [None] * len(changes)
        self._with_previous: dict[int, bytes] = {}

    def bodies(self, hits: Sequence[int], form: int) -> list[bytes]:
        """Response bodies for these changes, in order; none when the filters leave nothing."""
        if form & (NO_PUT | NO_DELETE):
            changes = self._changes
            unwanted = (NO_DELETE, NO_PUT)
            hits = [at for at in hits if not form & unwanted[changes[at][2] is not None]]
        encode = self._encode_with_previous if form & PREV_KV else self._encode
        if len(hits) == 1:
            return [encode(hits[0])]
        events = [encode(at) for at in hits]
        size = sum(map(len, events))
        if size <= RESPONSE_BYTES:
            if size == 0:
                return []
            if not form & FRAGMENT or size < self._fragment_bytes:
                return [b"".join(events)]
        bodies: list[bytes] = []
        for run in self._runs(hits, events):
            if form & FRAGMENT:
                bodies += _fragments(run, self._fragment_bytes)
            else:
                bodies.append(b"".join(run))
        return bodies

    def _encode(self, at: int) -> bytes:
        event = self._plain[at]
        if event is None:
            event = self._plain[at] = encode_event(self._changes[at])
        return event

    def _encode_with_previous(self, at: int) -> bytes:
        event = self._with_previous.get(at)
        if event is None:
            change = self._changes[at]
            previous = None if is_creation(change) else self._previous(change[1], change[0] - 1)
            event = self._encode(at) if previous is None else encode_event(change, previous)
            self._with_previous[at] = event
        return event

    def _runs(self, hits: Sequence[int], events: list[bytes]) -> list[list[bytes]]:
        """Cut between revisions, never within one, where a response would get too long."""
        runs: list[list[bytes]] = []
        run: list[bytes] = []
        size = 0
        revision = -1
        for at, event in zip(hits, events, strict=True):
            main = self._changes[at][0]
            if main != revision and size >= RESPONSE_BYTES:
                runs.append(run)
                run = []
                size = 0
            revision = main
            run.append(event)
            size += len(event)
        runs.append(run)
        return runs


def _fragments(events: list[bytes], bytes_max: int) -> list[bytes]:
    """Pieces of at most `bytes_max` (or of one event), all but the last marked as fragments."""
    pieces: list[list[bytes]] = [[]]
    size = 0
    for event in events:
        if pieces[-1] and size + len(event) >= bytes_max:
            pieces.append([])
            size = 0
        pieces[-1].append(event)
        size += len(event)
    bodies = [b"".join(piece) for piece in pieces]
    return [_FRAGMENT_FIELD + body for body in bodies[:-1]] + bodies[-1:]
