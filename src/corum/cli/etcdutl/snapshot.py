"""`etcdutl snapshot status` and `restore`: flags to arguments, results and errors to text."""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path

from corum.backend import schema
from corum.backend.backend import BackendError
from corum.backend.bbolt import BboltError, Row
from corum.backend.saved import Saved, open_saved
from corum.cli.command import EXIT_ERROR, ExitError, Invocation, bad_arguments
from corum.cli.etcdutl.output import Shown, check_format, refused, render
from corum.cli.etcdutl.restore import Refused, Restore
from corum.cli.gotext import human_bytes
from corum.config.urls import BadUrl, parse_cluster, parse_list
from corum.membership.bootstrap import BootstrapError
from corum.mvcc.revision import is_tombstone, key_of, main_of
from corum.values import value
from corum.wal import WalError
from corum.wal.crc import crc32c


@value
class Status:
    """What a snapshot holds."""

    hash: int  # CRC-32C over names of buckets, keys and values
    revision: int
    live_keys: int
    size: int  # bytes of pages
    version: str  # of the storage schema; empty before etcd 3.6


def read_status(path: Path) -> Status:
    """Read all of the file. Raises OSError; BboltError, BackendError (no database); ExitError
    (damaged).
    """
    with open_saved(path) as database:
        try:
            return _status(database)
        except (BboltError, BackendError) as error:
            text = f"snapshot file integrity check failed. 1 errors found.\n{error}"
            raise ExitError(EXIT_ERROR, text) from None


def _status(database: Saved) -> Status:
    crc = revision = 0
    live: set[bytes] = set()
    version = ""
    for bucket in database.buckets():
        crc = crc32c(bucket.name, crc)
        for rows in bucket.scan():
            crc = crc32c(b"".join(chain.from_iterable(rows)), crc)
            if bucket.name == schema.KEY.encode():
                revision = main_of(rows[-1][0])
                _follow(live, rows)
        if bucket.name == schema.META.encode():
            version = (bucket.get(schema.STORAGE_VERSION) or b"").decode("utf-8", "replace")
    return Status(crc, revision, len(live), database.size, version)


def _follow(live: set[bytes], rows: list[Row]) -> None:
    """Apply these revisions to the set of keys that are alive."""
    for stored, kv in rows:
        if is_tombstone(stored):
            live.discard(key_of(kv))
        else:
            live.add(key_of(kv))


def run_status(invocation: Invocation) -> int:
    """`etcdutl snapshot status <filename>`."""
    if len(invocation.arguments) != 1:
        raise bad_arguments("snapshot status requires exactly one argument")
    form = invocation.values.string("write-out")
    check_format(form)
    try:
        found = read_status(Path(invocation.arguments[0]))
    except OSError as error:
        raise refused("stat", error) from None
    except (BboltError, BackendError):
        raise ExitError(EXIT_ERROR, "invalid database") from None
    items = [
        Shown("hash", "Hash", "hash", found.hash, f"{found.hash:x}"),
        Shown("revision", "Revision", "revision", found.revision, str(found.revision)),
        Shown("total keys", "Keys", "totalKey", found.live_keys, str(found.live_keys)),
        Shown("total size", "Size", "totalSize", found.size, human_bytes(found.size)),
        Shown("version", "Version", "version", found.version, found.version),
    ]
    sys.stdout.write(render(form, items))
    return 0


def run_restore(invocation: Invocation) -> int:
    """`etcdutl snapshot restore <filename>`."""
    if len(invocation.arguments) != 1:
        raise bad_arguments("snapshot restore requires exactly one argument")
    values = invocation.values
    bump, mark = values.integer("bump-revision"), values.boolean("mark-compacted")
    if (bump > 0) != mark:
        raise bad_arguments("--mark-compacted required if --revision-bump > 0")
    name = values.string("name")
    wal_dir = values.string("wal-dir")
    try:
        Restore(
            snapshot=Path(invocation.arguments[0]),
            data_dir=Path(values.string("data-dir") or f"{name}.etcd"),
            wal_dir=Path(wal_dir) if wal_dir else None,
            name=name,
            initial_cluster=parse_cluster(values.string("initial-cluster")),
            token=values.string("initial-cluster-token"),
            advertised=parse_list(values.string("initial-advertise-peer-urls")),
            check_hash=not values.boolean("skip-hash-check"),
            bump_revision=bump,
        ).run()
    except OSError as error:
        raise refused("open", error) from None
    except (Refused, BadUrl, BootstrapError, BboltError, BackendError, WalError) as error:
        raise ExitError(EXIT_ERROR, str(error)) from None
    return 0
