"""What etcdctl 3.5 also did without a server, done by etcdutl's commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corum.cli.flags import Values

RESTORE_FLAGS = (
    "data-dir", "initial-advertise-peer-urls", "initial-cluster", "initial-cluster-token", "name",
    "skip-hash-check", "wal-dir",
)  # fmt: skip


def snapshot_status(form: str, path: str) -> int:
    return _etcdutl(["snapshot", "status", f"--write-out={form}", "--", path])


def snapshot_restore(values: Values, path: str) -> int:
    """With the flags that were given; etcdutl has the same defaults."""
    shown = dict(values.shown())
    given = [f"--{name}={shown[name]}" for name in RESTORE_FLAGS if name in values.changed]
    if "data-dir" not in values.changed:
        given.append(f"--data-dir={values.string('name')}.etcd")
    return _etcdutl(["snapshot", "restore", *given, "--", path])


def defragment(data_dir: str) -> int:
    return _etcdutl(["defrag", f"--data-dir={data_dir}"])


def backup(values: Values) -> int:
    """The v2 backup of a data directory."""
    shown = dict(values.shown())
    return _etcdutl(["backup", *(f"--{name}={shown[name]}" for name in sorted(values.changed))])


def _etcdutl(words: Sequence[str]) -> int:
    from corum.cli.command import run
    from corum.cli.etcdutl.commands import PROGRAM

    return run(PROGRAM, words)
