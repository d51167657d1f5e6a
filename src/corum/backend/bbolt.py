"""bbolt databases, in which state leaves and enters: read etcd's, write one as a stream.

Snapshots saved and restored, snapshots between members, and the backend of a Go etcd whose data
directory is taken over. `bbolt_format` describes the file.
"""

from corum.backend.bbolt_format import PAGE_BYTES, BboltError, Row
from corum.backend.bbolt_read import Bucket, Database
from corum.backend.bbolt_stream import HEAD_BYTES, Arrival, spans_of
from corum.backend.bbolt_transfer import Filling, commit, image_of, load, source_of
from corum.backend.bbolt_write import Image, Source, with_trailer, write_database, write_snapshot

__all__ = [
    "HEAD_BYTES",
    "PAGE_BYTES",
    "Arrival",
    "BboltError",
    "Bucket",
    "Database",
    "Filling",
    "Image",
    "Row",
    "Source",
    "commit",
    "image_of",
    "load",
    "source_of",
    "spans_of",
    "with_trailer",
    "write_database",
    "write_snapshot",
]
