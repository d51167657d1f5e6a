"""`etcdutl migrate`: the storage version of a data directory, up or down, without a member.

Storage 3.5 has no version field; 3.6 added it, and nothing else has changed since. Going down is
refused while the log holds entries that the older etcd could not read.
(etcd: server/storage/schema/migration.go at v3.7)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from corum import logs
from corum.backend import schema
from corum.backend.bbolt import Database
from corum.backend.lmdb_read import LmdbFile
from corum.backend.saved import Saved, value_in
from corum.cli.command import EXIT_BAD_ARGUMENTS, ExitError, Invocation
from corum.cli.etcdutl.output import require, told
from corum.cli.etcdutl.rewriting import (
    Edit,
    bbolt_locked,
    edit_lmdb,
    member_locked,
    rewrite_bbolt,
)
from corum.cli.etcdutl.stopped import Log, read_log, request_of
from corum.cli.gotext import GoSyntaxError, parse_int
from corum.v2store import Request
from corum.values import NS_PER_S
from corum.wal import DataDir

Version = tuple[int, int]

OLDEST: Final = (3, 5)
NEWEST: Final = (3, 7)
WITH_FIELD: Final = (3, 6)
"""The first version that names itself in the storage."""


class Refused(Exception):
    """There is no way from here to there; the text is etcd's."""


def run(invocation: Invocation) -> int:
    """`etcdutl migrate --data-dir D --target-version X.Y [--force]`."""
    require(invocation, "data-dir", "target-version")
    values = invocation.values
    target = parse_target(values.string("target-version"))
    data = DataDir(Path(values.string("data-dir")))
    timeout_s = values.integer("timeout") / NS_PER_S
    force = values.boolean("force")
    logs.configure(console=True, outputs=("stderr",))
    with told("stat", Refused):
        if data.backend.exists() or not data.bbolt.exists():
            with member_locked(data, timeout_s):
                with LmdbFile(data.backend) as saved:
                    edit = edit_for(data, saved, target, force=force)
                if edit is not None:
                    edit_lmdb(data.backend, edit)
        else:
            with bbolt_locked(data.bbolt, timeout_s), Database(data.bbolt) as saved:
                edit = edit_for(data, saved, target, force=force)
                if edit is not None:
                    rewrite_bbolt(data.bbolt, saved, edit)
    return 0


def parse_target(text: str) -> Version:
    """ "3.6" as a pair. Raises ExitError."""
    major, dot, minor = text.partition(".")
    if not dot or "." in minor:
        problem = f'wrong target version format, expected "X.Y", got "{text}"'
        raise ExitError(EXIT_BAD_ARGUMENTS, problem)
    try:
        found = parse_int(major), parse_int(minor)
    except GoSyntaxError as error:
        problem = f"failed to parse target version: {error}"
        raise ExitError(EXIT_BAD_ARGUMENTS, problem) from None
    if found < OLDEST:
        problem = f'target version "{_short(found)}" not supported. Minimal "3.5"'
        raise ExitError(EXIT_BAD_ARGUMENTS, problem)
    return found


def edit_for(data: DataDir, saved: Saved, target: Version, *, force: bool) -> Edit | None:
    """What to change; None when nothing. Logs each step. Raises Refused, WalError, OSError."""
    log = logs.get()
    current = storage_version(saved)
    if current == target:
        log.info("storage version up-to-date", **{"storage-version": _short(current)})
        return None
    try:
        steps = list(plan(current, target))
        if target < current:
            _check_log(read_log(data), target)
    except Refused as error:
        if not force:
            raise
        log.info("normal migrate failed, trying with force", error=str(error))
        if target < WITH_FIELD:
            log.warn("forcefully cleared storage version")
        else:
            log.warn("forcefully set storage version", **{"storage-version": _short(target)})
    else:
        for step in steps:
            log.info("updated storage version", **{"new-storage-version": _full(step)})
    field = None if target < WITH_FIELD else _full(target).encode()
    return Edit({schema.META: {schema.STORAGE_VERSION: field}})


def storage_version(saved: Saved) -> Version:
    """What the storage calls itself, or 3.5. Raises Refused for what is older."""
    text = value_in(saved, schema.META, schema.STORAGE_VERSION)
    if text:
        parts = text.decode("utf-8", "replace").split(".")
        try:
            return int(parts[0]), int(parts[1])
        except (ValueError, IndexError):
            raise Refused(f"storage version {text!r} is none") from None
    if not schema.from_u64(value_in(saved, schema.META, schema.TERM)):
        raise Refused("cannot detect storage schema version: missing term information")
    return OLDEST


def plan(current: Version, target: Version) -> Iterator[Version]:
    """The versions on the way, the target last. Raises Refused where the way ends."""
    if current[0] != target[0]:
        raise Refused(
            "cannot create migration plan: changing major storage version is not supported"
        )
    while current != target:
        step = (current[0], current[1] + (1 if current < target else -1))
        beyond = max(current, step)  # the version whose changes are made or taken back
        if not OLDEST < beyond <= NEWEST:
            raise Refused(
                f'cannot create migration plan: version "{_full(beyond)}" is not supported'
            )
        yield step
        current = step


def _check_log(log: Log, target: Version) -> None:
    """Raises Refused if an entry needs a newer etcd than `target`."""
    needed = max(map(_needed, map(request_of, log.replay.entries)), default=OLDEST)
    if target < needed:
        raise Refused(
            "cannot downgrade storage, WAL contains newer entries, as the target version "
            f"({_full(target)}) is lower than the version ({_full(needed)}) detected from WAL logs"
        )


def _needed(request: Any) -> Version:
    """The oldest etcd that can read an entry: only one kind of request came after 3.5."""
    if request is None or isinstance(request, Request):
        return OLDEST
    if not request.HasField("downgrade_version_test"):
        return OLDEST
    text: str = request.downgrade_version_test.ver
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0]
    named = (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else WITH_FIELD
    return max(WITH_FIELD, named)


def _short(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def _full(version: Version) -> str:
    return f"{_short(version)}.0"
