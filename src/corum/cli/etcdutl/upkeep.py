"""`etcdutl defrag`, `hashkv` and `version`."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from corum import versions
from corum.backend.backend import BackendError
from corum.backend.bbolt import BboltError, Database, load
from corum.backend.lmdb_backend import LmdbBackend
from corum.backend.saved import open_saved
from corum.cli.command import EXIT_ERROR, ExitError, Invocation
from corum.cli.etcdutl import rewriting
from corum.cli.etcdutl.output import Shown, check_format, refused, render, require
from corum.cli.etcdutl.rewriting import bbolt_locked, member_locked
from corum.errors import EtcdError
from corum.mvcc.hashing import HashKv
from corum.mvcc.rebuild import rebuild_index
from corum.mvcc.store import Store
from corum.values import NS_PER_S
from corum.wal import DataDir, DataDirLocked


def version(invocation: Invocation) -> int:
    """`etcdutl version`."""
    emulated = versions.EMULATED[versions.DEFAULT]
    sys.stdout.write(f"etcdutl version: {emulated.server}\nAPI version: {emulated.minor}\n")
    return 0


# --- hashkv -----------------------------------------------------------------------------------


def hashkv(invocation: Invocation) -> int:
    """`etcdutl hashkv <filename> [--rev N]`."""
    arguments = invocation.arguments
    if len(arguments) != 1:
        raise ExitError(EXIT_ERROR, f"accepts 1 arg(s), received {len(arguments)}")
    form = invocation.values.string("write-out")
    check_format(form)
    try:
        found = read_hashkv(Path(arguments[0]), invocation.values.integer("rev"))
    except OSError as error:
        raise refused("stat", error) from None
    except EtcdError as error:
        raise ExitError(EXIT_ERROR, error.text.removeprefix("etcdserver: ")) from None
    except (BboltError, BackendError) as error:
        raise ExitError(EXIT_ERROR, str(error)) from None
    items = [
        Shown("hash", "Hash", "hash", found.hash, str(found.hash)),
        Shown(
            "hash revision",
            "Hash revision",
            "hashRevision",
            found.hash_revision,
            str(found.hash_revision),
        ),
        Shown(
            "compact revision",
            "Compact revision",
            "compactRevision",
            found.compact_revision,
            str(found.compact_revision),
        ),
    ]
    sys.stdout.write(render(form, items))
    return 0


def read_hashkv(path: Path, revision: int) -> HashKv:
    """HashKV of a file up to `revision` (0: the latest).

    Which revisions count depends on the index of keys, so a store is made of the file in a
    temporary directory; the file itself is only read.
    """
    with ExitStack() as stack:
        database = stack.enter_context(open_saved(path))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="etcdutl-"))
        backend = LmdbBackend(Path(folder) / "db.lmdb")
        stack.callback(backend.close)
        load(database, backend, consistent_index=1, term=1)
        rebuild_index(backend)
        return Store(backend).hash_kv(revision).run()


# --- defrag -----------------------------------------------------------------------------------


def defrag(invocation: Invocation) -> int:
    """`etcdutl defrag --data-dir D`, of a member that does not run."""
    directory = invocation.values.string("data-dir")
    require(invocation, "data-dir")
    data = DataDir(Path(directory))
    timeout_s = invocation.values.integer("timeout") / NS_PER_S
    try:
        if data.bbolt.exists() and not data.backend.exists():
            rewrite_bbolt(data.bbolt, timeout_s)
        else:
            rewrite_backend(data, timeout_s)
    except OSError as error:
        reason = refused("stat", error).text
        raise _failed(directory, reason) from None
    except (BboltError, BackendError, DataDirLocked) as error:
        raise _failed(directory, str(error)) from None
    return 0


def _failed(directory: str, reason: str) -> ExitError:
    return ExitError(EXIT_ERROR, f"Failed to defragment etcd data[{directory}] ({reason})")


def rewrite_backend(data: DataDir, timeout_s: float) -> None:
    """Rewrite our backend without holes. Raises OSError, BackendError, DataDirLocked."""
    data.backend.stat()  # LmdbBackend would make a missing one
    with member_locked(data, timeout_s):
        backend = LmdbBackend(data.backend)
        try:
            job = backend.defragment()
            assert job is not None, "a batch in flight in a backend just opened"
            error = job.run()
            backend.defragmented(job)
            if error is not None:
                raise error
        finally:
            backend.close()


def rewrite_bbolt(path: Path, timeout_s: float) -> None:
    """Rewrite a Go member's backend without holes. Raises OSError, BboltError, DataDirLocked."""
    with bbolt_locked(path, timeout_s), Database(path) as database:
        rewriting.rewrite_bbolt(path, database, rewriting.NOTHING)
