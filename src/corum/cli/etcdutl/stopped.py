"""The data directory of a member that does not run, as its log and snapshots tell of it.

Ours and Go's: only the backend differs. Everything here reads; a torn last write, which a crash or
a member that still runs may leave, is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError

from corum import v2store
from corum.backend import schema
from corum.backend.saved import Saved, open_saved, value_in
from corum.member.forced import members_after
from corum.pb.lenient import internal_request
from corum.raft.messages import Entry, EntryType, Snapshot
from corum.server.v2 import decode as decode_v2
from corum.v2store import Request
from corum.v2store.store import Store
from corum.values import value
from corum.wal import DataDir, Replay, SnapshotFiles, WalSnapshot, valid_snapshots
from corum.wal.replay import replay, segments_from


@value
class Log:
    """The newest snapshot and what the log says behind it."""

    snapshot: Snapshot | None
    replay: Replay

    def committed(self, consistent_index: int) -> list[Entry]:
        """The entries that count. A lone member's are all committed: it will commit them itself."""
        entries = self.replay.entries
        if len(members_after(self.snapshot, entries)) <= 1:
            return entries
        commit = max(self.replay.hard_state.commit, consistent_index)
        return [entry for entry in entries if entry.index <= commit]


def read_log(data: DataDir) -> Log:
    """Raises WalError, OSError."""
    snapshot = SnapshotFiles(data.snap).newest(valid_snapshots(data.wal), rename=False)
    start = WalSnapshot(snapshot.index, snapshot.term) if snapshot else WalSnapshot()
    segments = segments_from(data.wal, start.index)
    return Log(snapshot, replay(segments, start, forgive_torn=True))


def open_backend(data: DataDir) -> Saved:
    """The member's keys; ours if both kinds are there. Raises OSError, BboltError, BackendError."""
    return open_saved(data.backend if data.backend.exists() else data.bbolt)


def consistent_index(saved: Saved) -> int:
    """The last entry whose effect the backend holds."""
    return schema.from_u64(value_in(saved, schema.META, schema.CONSISTENT_INDEX))


def request_of(entry: Entry) -> Request | Any | None:
    """What a normal entry asks for: a v2 `Request`, or an InternalRaftRequest; else None.

    Raises ValueError for an entry that is neither.
    """
    if entry.type != EntryType.NORMAL or not entry.data:
        return None
    try:
        return internal_request(entry.data)
    except DecodeError:
        pass
    try:
        return decode_v2(entry.data)[1]
    except DecodeError as error:
        raise ValueError(f"entry {entry.index} holds no request") from error


def v2_requests(entries: list[Entry]) -> Iterator[Request]:
    """The requests of the v2 key space among them."""
    for entry in entries:
        request = request_of(entry)
        if isinstance(request, Request):
            yield request


def v2_store_of(snapshot: Snapshot | None) -> Store:
    """The v2 store in a `.snap` file; an empty one if there is none. Raises ValueError."""
    store = Store()
    if snapshot is not None and len(snapshot.data) > len(b"{}"):
        v2store.recover(store, snapshot.data)
    return store


def current_v2_store(log: Log, consistent_index: int) -> Store:
    """The v2 store after every committed entry. Raises ValueError."""
    store = v2_store_of(log.snapshot)
    for request in v2_requests(log.committed(consistent_index)):
        v2store.apply(store, request, now_ns=0)
    return store
