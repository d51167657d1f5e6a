"""From a data directory (or nothing) to a node: new or restarted, what lies there decides.

A new member computes ids from its flags and writes one configuration-change entry per initial
member
at term 1, committed (peer-wire §5). A restarted one ignores those flags: ids come from the log,
members from the backend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from corum.backend import schema
from corum.backend.backend import Backend
from corum.member import forced, received
from corum.membership import bootstrap
from corum.membership.members import Members
from corum.pb import etcdserver, raftpb
from corum.raft import Entry, EntryType, HardState, MemoryStorage, Snapshot
from corum.values import ClusterId, MemberId, value
from corum.wal import (
    SEGMENT_BYTES,
    DataDir,
    SnapshotFiles,
    Wal,
    WalSnapshot,
    WalTorn,
    repair,
    valid_snapshots,
)


@value
class Booted:
    """What a node starts from."""

    members: Members
    storage: MemoryStorage
    wal: Wal | None
    fresh: bool


def new_members(
    initial_cluster: Mapping[str, Sequence[str]], token: str, name: str, advertised: Sequence[str]
) -> bootstrap.FirstList:
    """The first list of a static cluster; raises BootstrapError."""
    return bootstrap.static(initial_cluster, token, name, advertised)


def first_entries(first: bootstrap.FirstList) -> tuple[HardState, list[Entry]]:
    """The log of a new cluster: a committed configuration change per member."""
    entries: list[Entry] = []
    for index, member in enumerate(first.members, 1):
        change = raftpb.ConfChange(
            type=raftpb.ConfChangeAddNode, node_id=member.id, context=member.to_json()
        )
        data = change.SerializeToString()
        entries.append(Entry(1, index, EntryType.CONF_CHANGE, data))
    return HardState(term=1, vote=0, commit=len(entries)), entries


def metadata(member: int, cluster: int) -> bytes:
    """The log's first record: who wrote it."""
    return etcdserver.Metadata(NodeID=member, ClusterID=cluster).SerializeToString()


def create(data: DataDir, first: bootstrap.FirstList, segment_bytes: int = SEGMENT_BYTES) -> Booted:
    """A new member's log, written and synced: whole, first members included, or not at all."""
    state, entries = first_entries(first)
    wal = Wal.create(
        data.wal,
        metadata(first.local, first.cluster),
        hard_state=state,
        entries=entries,
        segment_bytes=segment_bytes,
    )
    booted = in_memory(first)
    return Booted(booted.members, booted.storage, wal, True)


def join(data: DataDir, first: bootstrap.FirstList, segment_bytes: int = SEGMENT_BYTES) -> Booted:
    """A new member of a cluster that runs already: an empty log, which the leader will fill."""
    wal = Wal.create(data.wal, metadata(first.local, first.cluster), segment_bytes=segment_bytes)
    return Booted(Members(first.cluster, first.local), MemoryStorage(), wal, True)


def in_memory(first: bootstrap.FirstList) -> Booted:
    """A new member without a log on disk."""
    state, entries = first_entries(first)
    storage = MemoryStorage()
    storage.append(entries)
    storage.set_hard_state(state)
    return Booted(Members(first.cluster, first.local), storage, None, True)


def restart(
    data: DataDir,
    backend: Backend,
    segment_bytes: int = SEGMENT_BYTES,
    *,
    force_new_cluster: bool = False,
) -> Booted:
    """A member that has run before: newest snapshot, then the log behind it.

    `force_new_cluster`: it goes on alone, all others are removed from its cluster.

    Raises WalError (damaged, missing or locked files), BackendError.
    """
    files = SnapshotFiles(data.snap)
    try:
        wal, snapshot = _open_newest(data, files, segment_bytes)
    except WalTorn:
        repair(data.wal)
        # What was cut off may have named the snapshot, whose record nobody had synced.
        wal, snapshot = _open_newest(data, files, segment_bytes)
    # Behind the repair: a backend must not get ahead of a log that knows no such snapshot.
    if snapshot is not None and snapshot.index > received.consistent_index(backend):
        try:
            received.take_over(files.database_path(snapshot.index), backend, snapshot)
        except BaseException:
            wal.close()
            raise
    if force_new_cluster:
        forced.go_on_alone(wal, snapshot, received.consistent_index(backend))
    return resumed(wal, snapshot, backend)


def _open_newest(
    data: DataDir, files: SnapshotFiles, segment_bytes: int
) -> tuple[Wal, Snapshot | None]:
    """The log, opened at the newest snapshot that it knows; raises WalError."""
    snapshot = files.newest(valid_snapshots(data.wal))
    start = WalSnapshot(snapshot.index, snapshot.term) if snapshot else WalSnapshot()
    return Wal.open(data.wal, start, segment_bytes=segment_bytes), snapshot


def resumed(wal: Wal, snapshot: Snapshot | None, backend: Backend) -> Booted:
    """What a node goes on from: a log opened at `snapshot`, whose `replay` is used up here."""
    replay = wal.replay
    assert replay is not None
    wal.replay = None
    who = etcdserver.Metadata.FromString(replay.metadata)
    storage = MemoryStorage()
    if snapshot is not None:
        storage.apply_snapshot(snapshot)
    state = replay.hard_state
    if snapshot is not None and state.commit < snapshot.index:
        # A crash came between the record of a leader's snapshot and the state that follows it.
        state = HardState(max(state.term, snapshot.term), state.vote, snapshot.index)
    last = replay.entries[-1].index if replay.entries else state.commit
    done = min(received.consistent_index(backend), last)
    if state.commit < done:
        # What the backend holds was committed, whatever the log says so far: its commit index
        # waits for company (decision 0003). Were it applied only when a leader says so again, the
        # backend would be ahead of this member for a while, and what it sends to others, too.
        state = HardState(state.term, state.vote, done)
    storage.set_hard_state(state)
    storage.append(replay.entries)
    members = Members(ClusterId(who.ClusterID), MemberId(who.NodeID))
    members.restore(
        backend.range(schema.MEMBERS),
        backend.range(schema.MEMBERS_REMOVED),
        backend.range(schema.CLUSTER),
    )
    return Booted(members, storage, wal, False)
