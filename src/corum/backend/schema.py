"""Names and bytes of what lives in the backend: etcd's buckets, and the few of our own.

Only constants and codecs; no reading or writing. etcd's buckets hold etcd's keys and values byte
for byte (etcd: server/storage/schema@v3.6). Our own start with an underscore: they are derived from
the others, so exports, hashes and bbolt files leave them out and an import rebuilds them.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

# etcd's buckets, in the byte order in which bbolt walks them.
ALARM: Final = "alarm"
AUTH: Final = "auth"
AUTH_ROLES: Final = "authRoles"
AUTH_USERS: Final = "authUsers"
CLUSTER: Final = "cluster"
KEY: Final = "key"
LEASE: Final = "lease"
MEMBERS: Final = "members"
MEMBERS_REMOVED: Final = "members_removed"
META: Final = "meta"

ETCD_BUCKETS: Final = (
    ALARM,
    AUTH,
    AUTH_ROLES,
    AUTH_USERS,
    CLUSTER,
    KEY,
    LEASE,
    MEMBERS,
    MEMBERS_REMOVED,
    META,
)

# Ours: the key index (see docs/decisions/0001-index-in-lmdb.md and mvcc/index.py).
CURRENT: Final = "_current"
LONG: Final = "_long"
HISTORY: Final = "_history"
DEAD: Final = "_dead"
LEASED: Final = "_leased"
INDEX_META: Final = "_meta"

OWN_BUCKETS: Final = (CURRENT, LONG, HISTORY, DEAD, LEASED, INDEX_META)
BUCKETS: Final = ETCD_BUCKETS + OWN_BUCKETS

# Keys of the meta bucket.
CONSISTENT_INDEX: Final = b"consistent_index"
TERM: Final = b"term"
CONF_STATE: Final = b"confState"
STORAGE_VERSION: Final = b"storageVersion"
SCHEDULED_COMPACT: Final = b"scheduledCompactRev"
FINISHED_COMPACT: Final = b"finishedCompactRev"

# Members differ in these without differing in state, so Hash leaves them out.
UNHASHED_META: Final = frozenset((CONSISTENT_INDEX, TERM, STORAGE_VERSION))

KEY_SIZE_MAX: Final = 511
"""Longest key of any bucket, in bytes (LMDB as it is built by default). mvcc keeps longer user
keys elsewhere; auth refuses user and role names that do not fit."""

_U64: Final = Struct(">Q")


def u64(number: int) -> bytes:
    """Eight bytes, big endian: consistent index, term, lease id, auth revision."""
    return _U64.pack(number)


def from_u64(data: bytes | None) -> int:
    """Inverse of `u64`; 0 for an absent value, as etcd reads it."""
    if data is None:
        return 0
    assert len(data) == 8, f"u64 of {len(data)} bytes"
    return _U64.unpack(data)[0]
