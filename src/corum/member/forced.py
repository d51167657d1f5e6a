"""`--force-new-cluster`: the last member left goes on alone (peer-wire §9).

What was not known to be committed is dropped, and committed configuration changes are appended that
remove everybody else; the cluster keeps its id. There is no way back: the others, should they live,
are another cluster from then on.
"""

from __future__ import annotations

import os
from dataclasses import replace

from corum.membership.members import Member
from corum.pb import etcdserver, raftpb
from corum.raft import Entry, EntryType, HardState, Snapshot
from corum.values import MemberId
from corum.wal import Wal


def go_on_alone(wal: Wal, snapshot: Snapshot | None, consistent_index: int) -> None:
    """Change the log, durably, and what was replayed of it."""
    found = wal.replay
    assert found is not None
    local = etcdserver.Metadata.FromString(found.metadata).NodeID
    state = found.hard_state
    last = found.entries[-1].index if found.entries else snapshot.index if snapshot else 0
    commit = min(max(state.commit, consistent_index), last)
    kept = [entry for entry in found.entries if entry.index <= commit]
    members = members_after(snapshot, kept)
    changes: list[raftpb.ConfChange] = []
    if local not in members:  # first of all: a cluster never is without voters
        context = Member(MemberId(local), ["http://localhost:2380"]).to_json()
        changes.append(
            raftpb.ConfChange(type=raftpb.ConfChangeAddNode, node_id=local, context=context)
        )
    changes += [
        raftpb.ConfChange(type=raftpb.ConfChangeRemoveNode, node_id=member)
        for member in sorted(members)
        if member != local
    ]
    added = [
        Entry(state.term, commit + place, EntryType.CONF_CHANGE, change.SerializeToString())
        for place, change in enumerate(changes, 1)
    ]
    state = HardState(state.term, state.vote, commit + len(added))
    write = wal.save(state, added, must_sync=True)
    assert write is not None
    os.write(write.fd, write.data)
    os.fsync(write.fd)
    wal.replay = replace(found, hard_state=state, entries=[*kept, *added])


def members_after(snapshot: Snapshot | None, entries: list[Entry]) -> set[int]:
    """Voters and learners, as the log has it."""
    members: set[int] = set()
    if snapshot is not None:
        members = {*snapshot.conf_state.voters, *snapshot.conf_state.learners}
    for entry in entries:
        if entry.type != EntryType.CONF_CHANGE:
            continue
        change = raftpb.ConfChange.FromString(entry.data)
        if change.type == raftpb.ConfChangeRemoveNode:
            members.discard(change.node_id)
        elif change.type != raftpb.ConfChangeUpdateNode:
            members.add(change.node_id)
    return members
