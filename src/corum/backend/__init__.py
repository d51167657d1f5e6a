"""State on disk: buckets of sorted keys, committed in batches off the loop.

In: puts and deletes by bucket. Out: reads that see them at once, one batch to write per commit, and
immutable views for worker threads. Invariant: a committed batch always carries the consistent index
and term, so that a restart replays the log from there and applies nothing twice.

Read `backend` (who may call what from which thread), `schema` (names and bytes), `layers`
(pending over sealed over committed), `layered` (what a batch holds, of either backend), then
`lmdb_backend` and `memory_backend`. `bbolt` is the foreign format.
"""

from corum.backend.backend import (
    Backend,
    BackendCorrupt,
    BackendError,
    BackendFull,
    Batch,
    Bucket,
    DefragmentJob,
    Reader,
    View,
)

__all__ = [
    "Backend",
    "BackendCorrupt",
    "BackendError",
    "BackendFull",
    "Batch",
    "Bucket",
    "DefragmentJob",
    "Reader",
    "View",
]
