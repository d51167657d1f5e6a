"""A new member's data directory from a saved snapshot.

The store comes from the snapshot; whom it belongs to is new: members, ids, a log that begins with
one configuration change per member, and a `.snap` file behind them. Every member of the new cluster
restores the same file with the same `--initial-cluster` and gets the same state.
(etcd: etcdutl/snapshot/v3_snapshot.go at v3.5.1)
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from corum import logs
from corum.backend import schema
from corum.backend.backend import Backend
from corum.backend.bbolt import commit, load
from corum.backend.lmdb_backend import LmdbBackend
from corum.backend.saved import open_saved
from corum.member.names import resolver
from corum.membership.bootstrap import FirstList, static
from corum.mvcc.rebuild import needs_index, rebuild_index
from corum.mvcc.revision import main_of, stored_key
from corum.raft.messages import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Snapshot,
)
from corum.v2store import snapshot as v2_snapshot
from corum.v2store.store import Store as V2Store
from corum.values import MIB, value
from corum.wal import DataDir, SnapshotFiles, Wal, WalSnapshot, codec

TERM: Final = 1
"""Of everything in the new log."""

_TRAILER_BYTES: Final = 32
_CHUNK_BYTES: Final = 4 * MIB


class Refused(Exception):
    """The restore cannot be done as asked; nothing was written. The text is etcd's."""


@value
class Restore:
    """What to restore, and whose it will be."""

    snapshot: Path
    data_dir: Path
    wal_dir: Path | None
    name: str
    initial_cluster: Mapping[str, Sequence[str]]
    token: str
    advertised: Sequence[str]
    check_hash: bool = True
    bump_revision: int = 0  # then all older revisions count as compacted

    def run(self) -> None:
        """Do it. After an error what was written is removed again.

        Raises Refused, BootstrapError, BboltError, BackendError, WalError, OSError.
        """
        first = static(self.initial_cluster, self.token, self.name, self.advertised, resolver())
        data = DataDir(self.data_dir, self.wal_dir)
        self._check_places(data)
        logs.configure(console=True, outputs=("stderr",))
        log = logs.get().bind(
            **{
                "path": str(self.snapshot),
                "wal-dir": str(data.wal),
                "data-dir": str(data.path),
                "snap-dir": str(data.snap),
            }
        )
        log.info("restoring snapshot")
        self._check_snapshot()
        is_new = not data.path.exists()
        try:
            self._write(data, first)
        except BaseException:
            shutil.rmtree(data.path if is_new else data.member, ignore_errors=True)
            shutil.rmtree(data.wal, ignore_errors=True)
            raise
        log.info("restored snapshot")

    def _check_places(self, data: DataDir) -> None:
        try:
            is_used = any(data.path.iterdir())
        except FileNotFoundError:
            is_used = False
        except OSError:
            is_used = True
        if is_used:
            raise Refused(f'data-dir "{data.path}" not empty or could not be read')
        if data.wal.exists():
            raise Refused(f'wal-dir "{data.wal}" exists')

    def _check_snapshot(self) -> None:
        """Compare the trailer with the SHA-256 of what is before it."""
        size = self.snapshot.stat().st_size if self.snapshot.exists() else 0
        with self.snapshot.open("rb") as file:
            if not self.check_hash:
                return
            if size % 512 != _TRAILER_BYTES:
                raise Refused("snapshot missing hash but --skip-hash-check=false")
            digest, left = hashlib.sha256(), size - _TRAILER_BYTES
            while left:
                chunk = file.read(min(left, _CHUNK_BYTES))
                digest.update(chunk)
                left -= len(chunk)
            expected = file.read()
        if expected != digest.digest():
            raise Refused(f"expected sha256 {_go(expected)}, got {_go(digest.digest())}")

    def _write(self, data: DataDir, first: FirstList) -> None:
        """The log comes last: a directory without one is not a member's."""
        data.create()
        data.lock()
        try:
            self._write_backend(data, first)
            index = len(first.members)
            conf_state = ConfState(voters=tuple(member.id for member in first.members))
            SnapshotFiles(data.snap).save(Snapshot(index, TERM, conf_state, v2_members(first)))
            Wal.create(
                data.wal,
                codec.encode_metadata(first.local, first.cluster),
                hard_state=HardState(TERM, first.members[0].id, index),
                entries=first_entries(first),
                snapshot=WalSnapshot(index, TERM, conf_state),
            ).close()
        finally:
            data.unlock()

    def _write_backend(self, data: DataDir, first: FirstList) -> None:
        index = len(first.members)
        backend = LmdbBackend(data.backend)
        try:
            with open_saved(self.snapshot) as database:
                unknown = load(
                    database,
                    backend,
                    consistent_index=index,
                    term=TERM,
                    leave_out=(schema.MEMBERS, schema.MEMBERS_REMOVED),
                )
            for name in unknown:
                logs.get().warn("left out a bucket that etcd does not have", bucket=name)
            for member in first.members:
                backend.put(schema.MEMBERS, b"%x" % member.id, member.to_json())
            voters = {"voters": [member.id for member in first.members], "auto_leave": False}
            backend.put(
                schema.META,
                schema.CONF_STATE,
                json.dumps(voters, separators=(",", ":")).encode(),
            )
            if self.bump_revision:
                self._bump(backend)
            commit(backend, index, TERM)
            if needs_index(backend):
                rebuild_index(backend)
        finally:
            backend.close()

    def _bump(self, backend: Backend) -> None:
        """Clients that remember a revision of the lost cluster must not meet it again.

        The new revision is that of a scheduled compaction, so all before it is compacted at start.
        """
        last = backend.bucket(schema.KEY).last()
        revision = (main_of(last[0]) if last else 0) + self.bump_revision
        backend.put(schema.META, schema.SCHEDULED_COMPACT, stored_key(revision, 0))
        logs.get().info("marking revision compacted", revision=revision)


def first_entries(first: FirstList) -> list[Entry]:
    """The log of a new cluster: a configuration change per member."""
    changes = [
        ConfChange(ConfChangeType.ADD_NODE, member.id, member.to_json()) for member in first.members
    ]
    return [
        Entry(TERM, index, EntryType.CONF_CHANGE, codec.encode_conf_change(change))
        for index, change in enumerate(changes, 1)
    ]


def v2_members(first: FirstList) -> bytes:
    """The v2 store of a new cluster, as a `.snap` file holds it: only the members."""
    store = V2Store()
    for member in first.members:
        attributes = json.dumps({"peerURLs": member.peer_urls}, separators=(",", ":"))
        store.create(f"/0/members/{member.id:x}/raftAttributes", attributes, now_ns=0)
    return v2_snapshot.capture(store).encode()


def _go(data: bytes) -> str:
    """Bytes as Go prints a slice of them."""
    return f"[{' '.join(map(str, data))}]"
