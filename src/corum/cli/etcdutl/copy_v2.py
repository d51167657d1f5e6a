"""`etcdutl copy-v2`: the v2 keys of a stopped member written as v3 keys into its backend.

The log is not touched: the copy looks as if it had always been there. So it is for a member that is
alone, or whose copy the others will start from (`snapshot restore`, joining anew); in a running
cluster `corum copy-v2` does the same through the log.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from corum.backend import schema
from corum.backend.backend import Backend
from corum.backend.bbolt import Database, commit, image_of, load, write_database
from corum.backend.lmdb_backend import LmdbBackend
from corum.cli.command import Invocation
from corum.cli.etcdutl.output import data_dir, require, told
from corum.cli.etcdutl.rewriting import bbolt_locked, member_locked
from corum.cli.etcdutl.stopped import Log, consistent_index, current_v2_store, read_log, request_of
from corum.lease import encode_lease
from corum.mvcc.rebuild import needs_index, rebuild_index
from corum.mvcc.store import Store
from corum.v2store import KEYS_PREFIX, Request
from corum.v2store.copying import Copied, end_s, leases, of_tree
from corum.values import NS_PER_S, LeaseId, value
from corum.wal import DataDir
from corum.wal.snapshot_files import sync_directory

_BATCH_KEYS: Final = 10_000


@value
class Copy:
    """How it is wanted."""

    prefix: str  # before every key
    overwrite: bool  # of v3 keys that are there


@value
class Done:
    """What came of it."""

    copied: int
    leases: int
    kept: int  # keys that were there


class Refused(Exception):
    """The member's backend is not where its log is."""


def run(invocation: Invocation) -> int:
    """`etcdutl copy-v2 --data-dir D [--prefix P] [--overwrite]`."""
    require(invocation, "data-dir")
    values = invocation.values
    data = data_dir(invocation)
    copy = Copy(values.string("prefix"), values.boolean("overwrite"))
    timeout_s = values.integer("timeout") / NS_PER_S
    with told("open", Refused):
        if data.backend.exists() or not data.bbolt.exists():
            data.backend.stat()
            with member_locked(data, timeout_s):
                done = _into_lmdb(data, copy)
        else:
            with bbolt_locked(data.bbolt, timeout_s):
                done = _into_bbolt(data, copy)
    sys.stdout.write(summary(done.copied, done.leases, done.kept))
    return 0


def summary(copied: int, leases: int, kept: int) -> str:
    """One line for people; `corum copy-v2` prints the same."""
    text = f"copied {copied} keys, {leases} leases"
    return f"{text}; {kept} keys were there already\n" if kept else f"{text}\n"


def _into_lmdb(data: DataDir, copy: Copy) -> Done:
    backend = LmdbBackend(data.backend)
    try:
        return _write(data, backend, copy)
    finally:
        backend.close()


def _into_bbolt(data: DataDir, copy: Copy) -> Done:
    """By way of a backend of ours beside it, then put in place of the old file."""
    with tempfile.TemporaryDirectory(prefix="db.tmp", dir=data.snap) as folder:
        backend = LmdbBackend(Path(folder) / "db.lmdb")
        try:
            with Database(data.bbolt) as saved:
                index = consistent_index(saved)
                term = next(
                    (
                        schema.from_u64(b.get(schema.TERM))
                        for b in saved.buckets()
                        if b.name == b"meta"
                    ),
                    0,
                )
                load(saved, backend, consistent_index=index, term=term)
            done = _write(data, backend, copy)
            view = backend.view()
            try:
                write_database(Path(folder) / "db", image_of(view))
            finally:
                view.close()
        finally:
            backend.close()
        (Path(folder) / "db").rename(data.bbolt)
        sync_directory(data.snap)
    return done


def _write(data: DataDir, backend: Backend, copy: Copy) -> Done:
    index = schema.from_u64(backend.get(schema.META, schema.CONSISTENT_INDEX))
    term = schema.from_u64(backend.get(schema.META, schema.TERM))
    log = read_log(data)
    _check_caught_up(log, index)
    if needs_index(backend):
        rebuild_index(backend)
    store = Store(backend)
    now_ns = time.time_ns()
    keys = of_tree(current_v2_store(log, index).tree.find(KEYS_PREFIX, 0), KEYS_PREFIX)
    keys = [key for key in keys if not key.expire_ns or key.expire_ns > now_ns]
    wanted = [key for key in keys if copy.overwrite or store.get(_v3(key, copy)) is None]
    ends = leases(wanted)
    for end in ends:
        lease = _lease(end)
        row = encode_lease(lease, max(end - now_ns // NS_PER_S, 1), 0)
        backend.put(schema.LEASE, schema.u64(lease), row)
    for number, key in enumerate(wanted, 1):
        write = store.begin()
        lease = _lease(end_s(key)) if key.expire_ns else LeaseId(0)
        write.put(_v3(key, copy), key.value.encode("utf-8", "surrogateescape"), lease)
        write.end()
        if number % _BATCH_KEYS == 0:
            commit(backend, index, term)
    backend.flush_own()
    commit(backend, index, term)
    return Done(len(wanted), len(ends), len(keys) - len(wanted))


def _check_caught_up(log: Log, index: int) -> None:
    """What the log would still write into the backend must come before the copy."""
    for entry in log.committed(index):
        request = request_of(entry) if entry.index > index else None
        if request is not None and not isinstance(request, Request):
            raise Refused(
                f"the log is ahead of the keys (entry {entry.index}, keys of {index}): "
                "start the member once and stop it again"
            )


def _v3(key: Copied, copy: Copy) -> bytes:
    return (copy.prefix + key.path).encode("utf-8", "surrogateescape")


def _lease(end: int) -> LeaseId:
    """An id of its own for every second, the same on every member."""
    digest = hashlib.sha256(b"v2 keys that end at %d" % end).digest()
    return LeaseId(int.from_bytes(digest[:8]) >> 1 | 1)
