"""Between a backend and files: take over what a file holds, send what a backend holds as bbolt.

etcd's buckets have the same keys and values on both sides, so rows are copied as they are. Our own
buckets (the key index) are derived: they are left out on the way out, rebuilt on the way in.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from corum.backend import schema
from corum.backend.backend import Backend, View
from corum.backend.bbolt_format import BboltError, Row
from corum.backend.bbolt_write import Image, Source
from corum.backend.saved import Saved
from corum.values import MIB

_BATCH_ROWS: Final = 50_000
_BATCH_BYTES: Final = 8 * MIB
_SCAN_ROWS: Final = 64
"""Rows read at once: some are small, some have a megabyte and a half."""


def image_of(view: View) -> Image:
    """The bbolt file of a view's buckets. Worker thread; keep the view open until it is sent."""
    return Image([source_of(view, name) for name in schema.ETCD_BUCKETS])


def source_of(view: View, name: str) -> Source:
    """One bucket of such a file."""
    return Source(name.encode(), lambda: view.bucket(name).scan(rows=_SCAN_ROWS))


def load(
    database: Saved,
    backend: Backend,
    *,
    consistent_index: int,
    term: int,
    leave_out: Container[str] = (),
) -> list[str]:
    """Copy the buckets of `database` into an empty backend and commit with this index and term.

    Buckets in `leave_out` stay empty. Returns the names of buckets that etcd does not have; they
    are not copied. The index of keys is not made: `corum.mvcc.rebuild`. Commits on the way, so an
    error leaves a part behind. Raises BboltError, BackendError.
    """
    unknown: list[str] = []
    filling = Filling(backend)
    for bucket in database.buckets():
        name = bucket.name.decode("utf-8", "backslashreplace")
        if name not in schema.ETCD_BUCKETS:
            unknown.append(name)
            continue
        if name in leave_out:
            continue
        for rows in bucket.scan():
            if filling.add(name, rows):
                commit(backend, consistent_index, term)
    commit(backend, consistent_index, term)
    return unknown


class Filling:
    """Rows on their way into an empty backend, from a source that yields them in order."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._rows = self._bytes = 0

    def add(self, name: str, rows: Sequence[Row]) -> bool:
        """Take rows of bucket `name`; True: time to commit. Raises BboltError."""
        _refuse_long_keys(name, rows)
        self._backend.bucket(name).pending.update(rows)
        self._rows += len(rows)
        self._bytes += sum([len(value) for _, value in rows])
        full = self._rows >= _BATCH_ROWS or self._bytes >= _BATCH_BYTES
        if full:
            self._rows = self._bytes = 0
        return full


def _refuse_long_keys(name: str, rows: Sequence[Row]) -> None:
    longest = max([len(key) for key, _ in rows])
    if longest > schema.KEY_SIZE_MAX:
        raise BboltError(
            f"bucket {name!r}: a key of {longest} bytes, more than the {schema.KEY_SIZE_MAX} "
            "that can be kept"
        )


def commit(backend: Backend, consistent_index: int, term: int) -> None:
    """Write what is pending, on the spot. Raises BackendError."""
    batch = backend.seal(consistent_index, term)
    if batch is not None:
        error = batch.write()
        if error is not None:
            raise error
        backend.committed(batch)
