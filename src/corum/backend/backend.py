"""The backend as its users see it: buckets of sorted keys, read views, and one write batch.

Who does what (DESIGN.md D5): the loop thread owns the backend and is the only one to call it, with
two exceptions. `Batch.write` and everything on a `View` run in worker threads.

    loop:    put, delete, get, range ──▶ seal ─▶ Batch ································▶ committed
    worker:                                      └──▶ write: one transaction, synced ┘

Reads on the loop see three layers: what was written since `seal` (pending), what is on its way to
the disk (sealed), and what is committed. After a crash only the committed layer is left; the log
brings back the rest from the consistent index on, which every committed batch carries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

Row = tuple[bytes, bytes]


class BackendError(Exception):
    """The disk or the file refused. Pending and sealed data stay readable; nothing is lost."""


class BackendFull(BackendError):
    """No space left: on the disk, or in the reserved address range. The batch may be retried."""


class BackendCorrupt(BackendError):
    """The file is not what we wrote; `args` says which file and what was found."""


class Reader(Protocol):
    """One bucket, seen at one moment (view) or as it is now (the loop's `Bucket`)."""

    def get(self, key: bytes, /) -> bytes | None:
        """The value of `key`, of 1 to `schema.KEY_SIZE_MAX` bytes."""
        ...

    def get_many(self, keys: Sequence[bytes], /) -> list[bytes | None]:
        """The values of `keys`, in their order; the fast way to fetch thousands."""
        ...

    def range(self, start: bytes = b"", end: bytes | None = None, limit: int = 0) -> list[Row]:
        """Rows with start <= key < end, ascending; `end` None = to the last, `limit` 0 = all."""
        ...

    def values(
        self, start: bytes, end: bytes | None, limit: int
    ) -> tuple[list[bytes], bytes | None]:
        """The values alone of the first rows in the range, about `limit`: a third of what the rows
        cost. The second item is where to go on, or None when the range is at its end."""
        ...

    def count(self, start: bytes, end: bytes | None, limit: int) -> tuple[int, bytes | None]:
        """Number of keys in the range, but looks at `limit` rows at most.

        The second item is where to go on, or None when the range is at its end.
        """
        ...

    def last(self) -> Row | None:
        """The row with the greatest key."""
        ...

    def scan(
        self, start: bytes = b"", end: bytes | None = None, rows: int = 1_000
    ) -> Iterator[list[Row]]:
        """The range in lists of at most `rows` rows, so that the whole never is in memory."""
        ...


class Bucket(Reader, Protocol):
    """A bucket as the loop sees and changes it."""

    pending: dict[bytes, bytes | None]
    """What was written since the last `seal`; None = deleted. Hot paths assign to it directly
    (never delete from it). It is replaced by `seal`: do not keep a reference."""

    def put(self, key: bytes, value: bytes, /) -> None: ...

    def delete(self, key: bytes, /) -> None: ...

    def entries(self) -> int:
        """Rows committed; O(1). Pending and sealed ones are not counted."""
        ...


class Batch(Protocol):
    """All that was pending at one `seal`; immutable."""

    operations: int

    def write(self) -> BackendError | None:
        """Worker thread: write as one transaction and sync it. None = durable.

        An error leaves the file as it was; the batch stays sealed (and readable on the loop), and
        may be written again.
        """
        ...


class View(Protocol):
    """The whole backend at one moment, pending writes included.

    Made on the loop, used by one thread at a time, any thread. Close it soon: while it is open,
    the file cannot reuse pages that later commits free. `close` may be called by any thread.
    """

    def bucket(self, name: str, /) -> Reader: ...

    def close(self) -> None: ...


class DefragmentJob(Protocol):
    """Rewrites the file without holes. `run` in a worker; then `Backend.defragmented(job)`."""

    def run(self) -> BackendError | None: ...


class Backend(Protocol):
    """See the module's docstring. One per member."""

    commit_ns: int
    """How long the last successful `Batch.write` took."""

    defer_own: bool
    """Whether `seal` may leave our own buckets (`schema.OWN_BUCKETS`) pending until they hold
    `OWN_PENDING_MAX` entries. Set by whoever can make up for what a crash then loses of them."""

    def bucket(self, name: str, /) -> Bucket:
        """The bucket `name` of `schema.BUCKETS`."""
        ...

    def get(self, bucket: str, key: bytes, /) -> bytes | None: ...

    def put(self, bucket: str, key: bytes, value: bytes, /) -> None: ...

    def delete(self, bucket: str, key: bytes, /) -> None: ...

    def range(
        self, bucket: str, start: bytes = b"", end: bytes | None = None, limit: int = 0
    ) -> list[Row]: ...

    @property
    def pending_operations(self) -> int:
        """Distinct keys of etcd's buckets written since `seal`; commit at 10,000
        (`--backend-batch-limit`)."""
        ...

    @property
    def own_pending(self) -> int:
        """Entries of our own buckets written since they were last part of a batch."""
        ...

    def seal(self, consistent_index: int, term: int) -> Batch | None:
        """Everything pending, with this index and term, as a batch to write.

        Call `flush_own` before the last one, and the next start has nothing to make up.
        None when nothing is pending and the index is the committed one, while a batch is in
        flight, and while the file is being rewritten: try again later.
        """
        ...

    def flush_own(self) -> None:
        """The next batch shall hold our own buckets too, whatever `defer_own` says."""
        ...

    def committed(self, batch: Batch) -> None:
        """The batch is durable: reads take its data from the file from now on."""
        ...

    def view(self) -> View: ...

    @property
    def size(self) -> int:
        """Bytes of the file that were ever used; what the quota compares."""
        ...

    @property
    def size_in_use(self) -> int:
        """Bytes of pages that hold data, as of the last commit."""
        ...

    @property
    def open_views(self) -> int:
        """Views not yet closed (`etcd_mvcc_db_open_read_transactions`)."""
        ...

    def defragment(self) -> DefragmentJob | None:
        """Begin to rewrite the file; None while a batch is in flight: try again later."""
        ...

    def defragmented(self, job: DefragmentJob) -> None:
        """Put the rewritten file in place of the old one, or give up if `run` failed.

        Open views keep the old file, which goes with the last of them.
        """
        ...

    def close(self) -> None:
        """Forget what is not committed (the log has it) and close the file."""
        ...
