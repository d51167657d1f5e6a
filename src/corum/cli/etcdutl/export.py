"""`etcdutl export`: a member of ours handed back to Go etcd, as a data directory that it starts on.

The copy is the same member: its ids, its vote, its place in the cluster. Keys go into a bbolt file.
What the backend holds counts as a snapshot of the v2 keys and members then; only entries behind it
are kept in the log, as they are, for a member may have promised them to its leader. So a Go etcd
reads nothing that only we, or only etcd up to 3.5, would understand.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, Final

from corum import v2store
from corum.backend import schema
from corum.backend.bbolt import write_database
from corum.backend.lmdb_read import LmdbFile
from corum.cli.command import EXIT_ERROR, ExitError, Invocation
from corum.cli.etcdutl.output import data_dir, require, told
from corum.cli.etcdutl.rewriting import NOTHING, image_with, member_locked
from corum.cli.etcdutl.stopped import Log, consistent_index, read_log, request_of, v2_store_of
from corum.membership.members import Member
from corum.pb import raftpb
from corum.raft.messages import ConfState, Entry, EntryType, Snapshot
from corum.v2store import CLUSTER_PREFIX, MEMBERS_PREFIX, REMOVED_PREFIX, Request
from corum.v2store.errors import V2Error
from corum.v2store.store import Store
from corum.values import NS_PER_S
from corum.wal import DataDir, SnapshotFiles, Wal, WalSnapshot

_VERSION: Final = f"{CLUSTER_PREFIX}/version"

Rows = dict[str, dict[bytes, bytes]]
"""The rows of small buckets, by bucket."""


def run(invocation: Invocation) -> int:
    """`etcdutl export --data-dir D --output-dir O`."""
    require(invocation, "output-dir", "data-dir")
    values = invocation.values
    source = data_dir(invocation)
    target = data_dir(invocation, "output-dir", "output-wal-dir")
    for path in (target.path, target.wal):
        if path.exists() and any(path.iterdir()):
            raise ExitError(EXIT_ERROR, f'expected "{path}" to be empty')
    with told("open"), member_locked(source, values.integer("timeout") / NS_PER_S):
        export(source, target, with_v2=values.boolean("with-v2"))
    print(f"Exported {source.path} to {target.path}; start only one of the two")
    return 0


def export(source: DataDir, target: DataDir, *, with_v2: bool) -> None:
    """Write `target` from the locked `source`, whole or not at all.

    Raises OSError, WalError, BboltError, BackendError, ValueError (not ours, or damaged).
    """
    if not source.backend.exists():
        raise ValueError(f"{source.backend} does not exist: this is no data directory of ours")
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, target.member, ignore_errors=True)
        undo.callback(shutil.rmtree, target.wal, ignore_errors=True)
        log = read_log(source)
        target.create()
        if target.wal.exists():
            target.wal.rmdir()  # `Wal.create` makes it, at once whole
        with LmdbFile(source.backend) as saved:
            index = consistent_index(saved)
            rows = {
                bucket.name.decode(): _rows(bucket) for bucket in saved.buckets() if _few(bucket)
            }
            snapshot = _snapshot_at(log, index, rows, with_v2=with_v2)
            write_database(target.bbolt, image_with(saved, NOTHING))
        _write_log(target, log, snapshot)
        undo.pop_all()


def _few(bucket: Any) -> bool:
    """Buckets about the member and its cluster, not about keys."""
    return bucket.name.decode() in (
        schema.META,
        schema.MEMBERS,
        schema.MEMBERS_REMOVED,
        schema.CLUSTER,
    )


def _rows(bucket: Any) -> dict[bytes, bytes]:
    return {key: value for rows in bucket.scan() for key, value in rows}


def _snapshot_at(log: Log, index: int, rows: Rows, *, with_v2: bool) -> Snapshot:
    """What the backend holds, as a snapshot; its index is that of the backend."""
    known = log.snapshot or Snapshot()
    if index < known.index:
        raise ValueError(f"the backend (at {index}) is older than the snapshot (at {known.index})")
    entries = [entry for entry in log.replay.entries if entry.index <= index]
    if index > known.index and (not entries or entries[-1].index != index):
        raise ValueError(f"the log ends before the backend's entry {index}")
    told = Told(v2_store_of(log.snapshot) if with_v2 else Store())
    if with_v2:
        for entry in entries:
            told.follow(entry)
    told.agree(rows)
    found: Any = json.loads(rows[schema.META][schema.CONF_STATE])
    conf_state = ConfState(tuple(found["voters"]), tuple(found.get("learners", ())))
    term = entries[-1].term if entries else known.term
    return Snapshot(index, term, conf_state, v2store.capture(told.store).encode())


class Told:
    """A v2 store that hears, entry by entry, what it has heard in the member: so that indexes,
    which v2 clients keep, stay what they were."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def follow(self, entry: Entry) -> None:
        """A committed entry. Raises ValueError for a damaged one."""
        if entry.type == EntryType.CONF_CHANGE:
            change = raftpb.ConfChange.FromString(entry.data)
            if change.type == raftpb.ConfChangeRemoveNode:
                self._delete(f"{MEMBERS_PREFIX}/{change.node_id:x}")
                self._put(f"{REMOVED_PREFIX}/{change.node_id:x}", "removed")
            else:
                self._put(*_raft_attributes(Member.from_json(change.context)))
            return
        request = request_of(entry)
        if isinstance(request, Request):
            v2store.apply(self.store, request, now_ns=0)
        elif request is not None and request.HasField("cluster_member_attr_set"):
            said = request.cluster_member_attr_set
            attributes = said.member_attributes
            self._put(*_attributes(said.member_ID, attributes.name, attributes.client_urls))
        elif request is not None and request.HasField("cluster_version_set"):
            self._put(_VERSION, request.cluster_version_set.ver)

    def agree(self, rows: Rows) -> None:
        """At the end the backend decides who is a member: changes that were refused are in the log,
        too, and without a log nothing was heard. What is so already is not said again."""
        members = [Member.from_json(row) for row in rows.get(schema.MEMBERS, {}).values()]
        wanted = dict(_raft_attributes(member) for member in members)
        wanted |= dict(_attributes(m.id, m.name, m.client_urls) for m in members if m.started)
        for key in rows.get(schema.MEMBERS_REMOVED, {}):
            wanted[f"{REMOVED_PREFIX}/{key.decode()}"] = "removed"
        version = rows.get(schema.CLUSTER, {}).get(b"clusterVersion")
        if version is not None:
            wanted[_VERSION] = version.decode()
        for name in self._members() - {f"{member.id:x}" for member in members}:
            self._delete(f"{MEMBERS_PREFIX}/{name}")
        for path, text in wanted.items():
            if self._value(path) != text:
                self._put(path, text)

    def _put(self, path: str, text: str) -> None:
        v2store.apply(self.store, Request("PUT", path, text), now_ns=0)

    def _delete(self, path: str) -> None:
        request = Request("DELETE", path, dir=True, recursive=True)
        v2store.apply(self.store, request, now_ns=0)

    def _value(self, path: str) -> str | None:
        try:
            return self.store.tree.find(path, 0).value
        except V2Error:
            return None

    def _members(self) -> set[str]:
        try:
            return set(self.store.tree.find(MEMBERS_PREFIX, 0).children or ())
        except V2Error:
            return set()


def _raft_attributes(member: Member) -> tuple[str, str]:
    body: dict[str, object] = {"peerURLs": member.peer_urls}
    if member.is_learner:
        body["isLearner"] = True
    return f"{MEMBERS_PREFIX}/{member.id:x}/raftAttributes", _json(body)


def _attributes(member: int, name: str, client_urls: Iterable[str]) -> tuple[str, str]:
    body = {"name": name, "clientURLs": list(client_urls)}
    return f"{MEMBERS_PREFIX}/{member:x}/attributes", _json(body)


def _write_log(target: DataDir, log: Log, snapshot: Snapshot) -> None:
    """The snapshot, then the log behind it under the old identity; the log comes last."""
    SnapshotFiles(target.snap).save(snapshot)
    state = log.replay.hard_state
    state = type(state)(state.term, state.vote, max(state.commit, snapshot.index))
    Wal.create(
        target.wal,
        log.replay.metadata,
        hard_state=state,
        entries=[entry for entry in log.replay.entries if entry.index > snapshot.index],
        snapshot=WalSnapshot(snapshot.index, snapshot.term, snapshot.conf_state),
    ).close()


def _json(body: object) -> str:
    return json.dumps(body, separators=(",", ":"))
