"""`etcdutl backup`: a data directory from which one member can go on with `--force-new-cluster`.

The copy has an identity of its own: new ids of member and cluster, no members but a placeholder,
and no configuration change in its log, so that it can never join the cluster it was taken from.
Our directory gives a directory of ours, Go's gives one of Go's. (etcdctl-v3.md §11)
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import ExitStack
from typing import Final

from corum import v2store
from corum.backend import schema
from corum.backend.bbolt import Database, write_database
from corum.backend.lmdb_backend import LmdbBackend
from corum.backend.lmdb_read import LmdbFile
from corum.cli.command import EXIT_ERROR, ExitError, Invocation
from corum.cli.etcdutl.output import data_dir, require, told
from corum.cli.etcdutl.rewriting import (
    Edit,
    bbolt_locked,
    edit_backend,
    edit_lmdb,
    image_of_rows,
    image_with,
)
from corum.cli.etcdutl.stopped import Log, consistent_index, read_log, request_of, v2_store_of
from corum.membership.members import Member
from corum.raft.messages import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Snapshot,
)
from corum.v2store import MEMBERS_PREFIX, REMOVED_PREFIX, Request
from corum.values import NS_PER_S, MemberId, value
from corum.wal import DataDir, SnapshotFiles, Wal, WalSnapshot, codec

PLACEHOLDER: Final = "etcdctl-v2-backup"
"""The only member of a backup; `--force-new-cluster` removes it."""
PLACEHOLDER_URL: Final = "http://use-flag--force-new-cluster:2080"
_FOREIGN: Final = frozenset((schema.MEMBERS, schema.MEMBERS_REMOVED, schema.CLUSTER))


@value
class Identity:
    """Whose the copy is."""

    cluster: int
    member: int  # of the one that will start from it
    placeholder: int

    @property
    def conf_state(self) -> ConfState:
        return ConfState(voters=(self.placeholder,))


def run(invocation: Invocation) -> int:
    """`etcdutl backup --data-dir D --backup-dir B`."""
    require(invocation, "backup-dir", "data-dir")
    values = invocation.values
    source = data_dir(invocation)
    target = data_dir(invocation, "backup-dir", "backup-wal-dir")
    timeout_s = values.integer("timeout") / NS_PER_S
    with told("open"):
        _check_empty(target)
        backup(source, target, with_v3=values.boolean("with-v3"), timeout_s=timeout_s)
    return 0


def _check_empty(target: DataDir) -> None:
    for directory in (target.snap, target.wal):
        found = sorted(os.listdir(directory)) if directory.exists() else []
        if found:
            names = " ".join(json.dumps(name) for name in found)
            raise ExitError(EXIT_ERROR, f'expected "{directory}" to be empty, got [{names}]')


def backup(source: DataDir, target: DataDir, *, with_v3: bool, timeout_s: float) -> None:
    """Make it; after an error nothing is left. A member of ours may run meanwhile, Go's not: then
    DataDirLocked. Raises OSError, WalError, BboltError, BackendError, ValueError (damaged).
    """
    who = Identity(_chance(), _chance(), _chance())
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, target.member, ignore_errors=True)
        undo.callback(shutil.rmtree, target.wal, ignore_errors=True)
        target.create()
        if target.wal.exists():
            target.wal.rmdir()  # `Wal.create` makes it, at once whole
        log = read_log(source)  # first: the backend must not be older than the snapshot
        if source.backend.exists() or not source.bbolt.exists():
            index = _copy_lmdb(source, target, who, with_v3=with_v3)
        else:
            index = _copy_bbolt(source, target, who, with_v3=with_v3, timeout_s=timeout_s)
        _write_log(target, read_log(source) if _grew(log, index) else log, who, index, with_v3)
        undo.pop_all()


def _grew(log: Log, index: int) -> bool:
    """The member runs, and its backend has seen entries that we have not."""
    return index > log.replay.last_index


# --- keys -------------------------------------------------------------------------------------


def _edit(who: Identity) -> Edit:
    member = {"id": who.placeholder, "peerURLs": [PLACEHOLDER_URL], "name": PLACEHOLDER}
    conf_state = {"voters": [who.placeholder], "auto_leave": False}
    return Edit(
        {
            schema.MEMBERS: {b"%x" % who.placeholder: _json(member)},
            schema.META: {schema.CONF_STATE: _json(conf_state)},
        },
        _FOREIGN,
    )


def _copy_lmdb(source: DataDir, target: DataDir, who: Identity, *, with_v3: bool) -> int:
    """Our backend; the consistent index of the copy."""
    with LmdbFile(source.backend) as saved:
        index, term = consistent_index(saved), _term(saved)
        if with_v3:
            saved.copy_to(target.backend)
    if with_v3:
        edit_lmdb(target.backend, _edit(who))
        with LmdbFile(target.backend) as saved:
            return consistent_index(saved)
    backend = LmdbBackend(target.backend)
    try:
        edit_backend(backend, _edit(who), index, term)
    finally:
        backend.close()
    return index


def _copy_bbolt(
    source: DataDir, target: DataDir, who: Identity, *, with_v3: bool, timeout_s: float
) -> int:
    """Go's backend; the consistent index of the copy."""
    with bbolt_locked(source.bbolt, timeout_s), Database(source.bbolt) as saved:
        index, term = consistent_index(saved), _term(saved)
        if with_v3:
            write_database(target.bbolt, image_with(saved, _edit(who)))
            return index
    rows = {name: dict(kept) for name, kept in _edit(who).rows.items()}
    rows[schema.META][schema.CONSISTENT_INDEX] = schema.u64(index)
    rows[schema.META][schema.TERM] = schema.u64(term)
    write_database(target.bbolt, image_of_rows({name: {} for name in _FOREIGN} | rows))
    return index


# --- log and v2 keys --------------------------------------------------------------------------


def _write_log(target: DataDir, log: Log, who: Identity, index: int, with_v3: bool) -> None:
    """The snapshot under the new identity, then the log behind it; the log comes last."""
    committed = log.committed(index)
    state = log.replay.hard_state
    entries = [_disarmed(entry, with_v3) for entry in committed]
    start = None
    if log.snapshot is None:
        _add_placeholder(entries, committed, who)
    else:
        old = log.snapshot
        SnapshotFiles(target.snap).save(
            Snapshot(old.index, old.term, who.conf_state, _v2_without_members(old, who))
        )
        start = WalSnapshot(old.index, old.term, who.conf_state)
    last = committed[-1].index if committed else start.index if start else 0
    Wal.create(
        target.wal,
        codec.encode_metadata(who.member, who.cluster),
        hard_state=HardState(state.term, 0, last),
        entries=entries,
        snapshot=start,
    ).close()


def _add_placeholder(entries: list[Entry], originals: list[Entry], who: Identity) -> None:
    """A log from its beginning on has made the members: now its first change makes this one."""
    for place, entry in enumerate(originals):
        if entry.type != EntryType.NORMAL:
            context = Member(MemberId(who.placeholder), [PLACEHOLDER_URL]).to_json()
            change = ConfChange(ConfChangeType.ADD_NODE, who.placeholder, context)
            data = codec.encode_conf_change(change)
            entries[place] = Entry(entry.term, entry.index, EntryType.CONF_CHANGE, data)
            return


def _v2_without_members(snapshot: Snapshot, who: Identity) -> bytes:
    """The v2 store with the placeholder as its only member."""
    store = v2_store_of(snapshot)
    for path in (MEMBERS_PREFIX, REMOVED_PREFIX):
        v2store.apply(store, Request("DELETE", path, dir=True, recursive=True), now_ns=0)
    here = f"{MEMBERS_PREFIX}/{who.placeholder:x}"
    attributes: dict[str, object] = {"name": PLACEHOLDER, "clientURLs": []}
    for name, body in (
        ("raftAttributes", {"peerURLs": [PLACEHOLDER_URL]}),
        ("attributes", attributes),
    ):
        v2store.apply(store, Request("PUT", f"{here}/{name}", _json(body).decode()), now_ns=0)
    return v2store.capture(store).encode()


def _disarmed(entry: Entry, with_v3: bool) -> Entry:
    """The entry, or an empty one in its place if it speaks of the old cluster's members."""
    request = request_of(entry)
    if isinstance(request, Request):
        keep = not request.path.startswith((f"{MEMBERS_PREFIX}/", f"{REMOVED_PREFIX}/"))
    elif request is not None:
        keep = with_v3 and not request.HasField("cluster_member_attr_set")
    else:
        keep = entry.type == EntryType.NORMAL
    return entry if keep else Entry(entry.term, entry.index)


def _term(saved: LmdbFile | Database) -> int:
    for bucket in saved.buckets():
        if bucket.name == schema.META.encode():
            return schema.from_u64(bucket.get(schema.TERM))
    return 0


def _json(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _chance() -> int:
    """An id that nobody has: 63 bits of chance, not 0."""
    return int.from_bytes(os.urandom(8)) >> 1 | 1
