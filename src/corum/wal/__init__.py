"""The durable log: etcd's WAL and `.snap` files, byte for byte.

In: hard states, entries and snapshots of Raft. Out: bytes that somebody else writes (the
transport's log thread, or the caller), so that group commit runs off the loop; and, after a
restart, the log. Invariants: nothing is written behind a gap; what was synced is found again, or
the start is refused.

Reading order: `codec` (protobuf of what the log holds), `records` (frames and the CRC chain, pure),
`segments` (the files), `replay` (reading them back, repair), `preallocation`, `snapshot_files`,
`datadir`.
"""

from corum.wal.codec import WalSnapshot
from corum.wal.datadir import DataDir
from corum.wal.errors import (
    DataDirLocked,
    SnapshotNotFound,
    WalCorrupt,
    WalError,
    WalFilesMissing,
    WalLocked,
    WalTorn,
)
from corum.wal.replay import Replay, repair, valid_snapshots
from corum.wal.segments import SEGMENT_BYTES, Cut, Wal, Write
from corum.wal.snapshot_files import SnapshotFiles

__all__ = [
    "SEGMENT_BYTES",
    "Cut",
    "DataDir",
    "DataDirLocked",
    "Replay",
    "SnapshotFiles",
    "SnapshotNotFound",
    "Wal",
    "WalCorrupt",
    "WalError",
    "WalFilesMissing",
    "WalLocked",
    "WalSnapshot",
    "WalTorn",
    "Write",
    "repair",
    "valid_snapshots",
]
