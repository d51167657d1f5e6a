"""snapshot save; status and restore, which etcdutl does."""

from __future__ import annotations

import os
import sys
from time import monotonic
from typing import TYPE_CHECKING

from corum.cli.command import EXIT_INTERRUPTED, ExitError, bad_arguments
from corum.cli.etcdctl.context import Context, log
from corum.cli.etcdctl.streams import messages
from corum.cli.gotext import human_bytes
from corum.client import methods
from corum.pb import rpc

if TYPE_CHECKING:
    from corum.cli.command import Invocation

DEPRECATED = "Deprecated: Use `etcdutl snapshot {}` instead.\n\n"


def save(invocation: Invocation) -> None:
    """Download into FILE.part, sync, rename: FILE is whole or not there."""
    with Context(invocation) as context:
        if len(context.arguments) != 1:
            raise bad_arguments("snapshot save expects one argument")
        path, names = context.arguments[0], context.endpoints()
        if len(names) != 1:
            shown = " ".join(names)
            raise bad_arguments(
                f"snapshot must be requested to one selected node, not multiple [{shown}]"
            )
        version = _download(context, path, names[0])
        context.out.line(f"Snapshot saved at {path}")
        if version:
            context.out.line(f"Server version {version}")


def _download(context: Context, path: str, endpoint: str) -> str:
    """Save the snapshot; the server's version if it tells."""
    part, begin, version = path + ".part", monotonic(), ""
    try:
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        reason = (error.strerror or "").lower()
        text = f"could not open {part} (open {part}: {reason})"
        raise ExitError(EXIT_INTERRUPTED, text) from None
    log("info", "created temporary db file", path=part)
    size = 0
    try:
        with open(file, "wb") as out:
            log("info", "fetching snapshot", endpoint=endpoint)
            for message in messages(context, methods.SNAPSHOT, rpc.SnapshotRequest()):
                version = message.version or version
                size += out.write(message.blob)
            out.flush()
            os.fsync(out.fileno())
        _check(size)
        os.rename(part, path)
    except OSError as error:
        _remove(part)
        raise ExitError(EXIT_INTERRUPTED, f"could not write {path} ({error.strerror})") from None
    except BaseException:
        _remove(part)
        raise
    took = f"{monotonic() - begin:.3f}s"
    log("info", "fetched snapshot", endpoint=endpoint, size=human_bytes(size), took=took)
    log("info", "saved", path=path)
    return version


def _check(size: int) -> None:
    """Database pages and the SHA-256 behind them: a stream that broke off has another length."""
    if size % 512 != 32:
        text = f"sha256 checksum not found [bytes: {size}]"
        raise ExitError(EXIT_INTERRUPTED, text)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def status(invocation: Invocation) -> int:
    from corum.cli.etcdctl.offline import snapshot_status

    sys.stderr.write(DEPRECATED.format("status"))
    with Context(invocation) as context:
        if len(context.arguments) != 1:
            raise bad_arguments("snapshot status requires exactly one argument")
        return snapshot_status(context.out.form, context.arguments[0])


def restore(invocation: Invocation) -> int:
    from corum.cli.etcdctl.offline import snapshot_restore

    sys.stderr.write(DEPRECATED.format("restore"))
    with Context(invocation) as context:
        if len(context.arguments) != 1:
            raise bad_arguments("snapshot restore requires exactly one argument")
        return snapshot_restore(context.values, context.arguments[0])
