"""`.snap` files: what the log's beginning is replaced by.

A file holds snappb.snapshot: the CRC-32C of a raftpb.Snapshot and its bytes; the snapshot's data is
the v2 store as JSON (the v3 state is in the backend). Names sort by age: term, then index, in hex.
A snapshot counts only if the log has a record of it, since the file is written first.
(etcd: server/etcdserver/api/snap/snapshotter.go at v3.5.1)
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from corum.pb.varints import varint
from corum.raft.messages import Snapshot
from corum.wal.codec import (
    CodecError,
    WalSnapshot,
    decode_snapshot,
    encode_snapshot,
    numbers_and_bytes,
)
from corum.wal.crc import crc32c
from corum.wal.errors import WalError

_NAME: Final = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.snap")
_DATABASE: Final = re.compile(r"([0-9a-f]{16})\.snap\.db")


class SnapshotBroken(WalError):
    """A `.snap` file is cut off or damaged."""


def encode_file(snapshot: Snapshot) -> bytes:
    """The content of a `.snap` file."""
    data = encode_snapshot(snapshot)
    return b"\x08%b\x12%b%b" % (varint(crc32c(data)), varint(len(data)), data)


def decode_file(content: bytes) -> Snapshot:
    """Inverse of `encode_file`. Raises SnapshotBroken."""
    try:
        numbers, parts = numbers_and_bytes(content)
        if not parts.get(2) or not numbers.get(1):
            raise SnapshotBroken("snap: empty snapshot")
        if crc32c(parts[2]) != numbers[1]:
            raise SnapshotBroken("snap: crc mismatch")
        return decode_snapshot(parts[2])
    except CodecError as error:
        raise SnapshotBroken(f"snap: no snapshot: {error}") from error


class SnapshotFiles:
    """The `.snap` and `.snap.db` files of one directory. Its calls block: worker thread."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, term: int, index: int) -> Path:
        """Where the snapshot after the entry at `index` is or will be."""
        return self.directory / f"{term:016x}-{index:016x}.snap"

    def database_path(self, index: int) -> Path:
        """Where a backend received from another member waits for its snapshot to be applied."""
        return self.directory / f"{index:016x}.snap.db"

    def save(self, snapshot: Snapshot) -> Path:
        """Write and sync it; then record it in the log. Raises OSError, leaving nothing behind."""
        path = self.path(snapshot.term, snapshot.index)
        building = path.with_name(f"tmp.{path.name}")
        fd = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(encode_file(snapshot))
                file.flush()
                os.fsync(fd)
            os.rename(building, path)
        except OSError:
            building.unlink(missing_ok=True)
            raise
        sync_directory(self.directory)
        return path

    def load(self, path: Path) -> Snapshot:
        """The snapshot in one file. Raises SnapshotBroken that names it, OSError."""
        try:
            return decode_file(path.read_bytes())
        except SnapshotBroken as error:
            raise SnapshotBroken(f"{error} (file {path})") from error

    def newest(self, known: Sequence[WalSnapshot], *, rename: bool = True) -> Snapshot | None:
        """The newest whole snapshot that the log knows (`valid_snapshots`), or None.

        Broken files are passed over, and renamed to `<name>.broken` unless `rename` is False.
        """
        wanted = {(snapshot.term, snapshot.index) for snapshot in known}
        for path, term, index in self._names():
            try:
                snapshot = self.load(path)
            except SnapshotBroken:
                if rename:
                    path.rename(path.with_name(path.name + ".broken"))
                continue
            if (snapshot.term, snapshot.index) in wanted:
                assert (term, index) == (snapshot.term, snapshot.index), f"{path} is misnamed"
                return snapshot
        return None

    def release_databases(self, index: int) -> list[Path]:
        """Remove received backends older than `index`, which was applied; returns what is gone."""
        removed: list[Path] = []
        for name in sorted(os.listdir(self.directory)):
            match = _DATABASE.fullmatch(name)
            if match is not None and int(match[1], 16) < index:
                (self.directory / name).unlink(missing_ok=True)
                removed.append(self.directory / name)
        return removed

    def _names(self) -> list[tuple[Path, int, int]]:
        """Path, term and index by name, newest first."""
        names = sorted(os.listdir(self.directory), reverse=True)
        matches = [match for match in map(_NAME.fullmatch, names) if match is not None]
        return [(self.directory / m[0], int(m[1], 16), int(m[2], 16)) for m in matches]


def sync_directory(directory: Path) -> None:
    """Make names created, renamed and removed there durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
