"""A few rows of a member's backend changed while it does not run, in either kind of file.

bbolt is written as a whole and put in place of the old file; LMDB is changed in one transaction.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from corum.backend import schema
from corum.backend.backend import Backend, Row
from corum.backend.bbolt import Image, Source, commit, write_database
from corum.backend.lmdb_backend import LmdbBackend
from corum.backend.saved import Saved, SavedBucket
from corum.values import value
from corum.wal import DataDir, DataDirLocked
from corum.wal.snapshot_files import sync_directory

_POLL_S: Final = 0.1

Rows = Mapping[bytes, bytes | None]
"""New values by key; None: the row goes."""


@value
class Edit:
    """What shall be different."""

    rows: Mapping[str, Rows]  # by bucket
    emptied: frozenset[str] = frozenset()  # buckets whose other rows all go


NOTHING: Final = Edit({})


def image_with(saved: Saved, edit: Edit) -> Image:
    """The bbolt file that holds the rows of `saved`, and the edit."""
    buckets = {bucket.name: bucket for bucket in saved.buckets()}
    names = sorted({*buckets, *(name.encode() for name in edit.rows)})
    return Image([_source(name, buckets.get(name), edit) for name in names])


def image_of_rows(rows: Mapping[str, Rows]) -> Image:
    """The bbolt file that holds these rows and no others."""
    edit = Edit(rows)
    return Image([_source(name.encode(), None, edit) for name in sorted(rows)])


def _source(name: bytes, bucket: SavedBucket | None, edit: Edit) -> Source:
    text = name.decode("utf-8", "backslashreplace")
    changed = edit.rows.get(text, {})
    if bucket is not None and not changed and text not in edit.emptied:
        return Source(name, bucket.scan)
    if bucket is None or text in edit.emptied:
        rows = sorted((key, new) for key, new in changed.items() if new is not None)
        return Source(name, lambda: iter([rows] if rows else []))
    return Source(name, lambda: _edited(bucket.scan(), changed))


def _edited(lists: Iterator[list[Row]], changed: Rows) -> Iterator[list[Row]]:
    """The rows with the changes at their places; only small buckets are edited row by row."""
    merged: dict[bytes, bytes | None] = {key: old for rows in lists for key, old in rows}
    merged |= changed
    rows = sorted((key, new) for key, new in merged.items() if new is not None)
    if rows:
        yield rows


def edit_backend(backend: Backend, edit: Edit, consistent_index: int, term: int) -> None:
    """The same in an open backend, committed with this index and term. Raises BackendError."""
    for name in edit.emptied:
        for key, _ in backend.range(name):
            backend.delete(name, key)
    for name, rows in edit.rows.items():
        for key, new in rows.items():
            if new is None:
                backend.delete(name, key)
            else:
                backend.put(name, key, new)
    backend.flush_own()
    commit(backend, consistent_index, term)


def edit_lmdb(path: Path, edit: Edit) -> None:
    """Change our file at `path`, which no member uses. Raises BackendError."""
    backend = LmdbBackend(path)
    try:
        index = schema.from_u64(backend.get(schema.META, schema.CONSISTENT_INDEX))
        term = schema.from_u64(backend.get(schema.META, schema.TERM))
        edit_backend(backend, edit, index, term)
    finally:
        backend.close()


def rewrite_bbolt(path: Path, saved: Saved, edit: Edit) -> None:
    """Put a new file without holes, with the edit, in place of the one at `path`, which is locked
    and open as `saved`. Raises OSError, BboltError.
    """
    copy = path.with_name("db.tmp.etcdutl")
    try:
        write_database(copy, image_with(saved, edit))
    except BaseException:
        copy.unlink(missing_ok=True)
        raise
    copy.rename(path)
    sync_directory(path.parent)


# --- locks ------------------------------------------------------------------------------------


@contextmanager
def bbolt_locked(path: Path, timeout_s: float) -> Generator[None]:
    """Locked as bbolt does it, so that a Go etcd is noticed. Raises OSError, DataDirLocked."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        until(timeout_s, lambda: _lock(fd, path))
        yield
    finally:
        os.close(fd)


@contextmanager
def member_locked(data: DataDir, timeout_s: float) -> Generator[None]:
    """No member of ours runs on the directory meanwhile. Raises OSError, DataDirLocked."""
    until(timeout_s, data.lock)
    try:
        yield
    finally:
        data.unlock()


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataDirLocked(f"{path} is used by another process") from None


def until(timeout_s: float, lock: Callable[[], None]) -> None:
    """Try to lock for this long; 0: as long as it takes."""
    end = time.monotonic() + timeout_s if timeout_s else float("inf")
    while True:
        try:
            return lock()
        except DataDirLocked:
            if time.monotonic() + _POLL_S > end:
                raise
            time.sleep(_POLL_S)
