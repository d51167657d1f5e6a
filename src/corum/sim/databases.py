"""A leader's database on its way into a simulated member: `member.received` on a simulated disk.

The bytes are a bbolt file, written by the real sender and read by the real reader; only files are
replaced by values on the disk. The machine may die between any two steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corum.backend.bbolt import Database, load
from corum.backend.memory_backend import MemoryBackend, MemoryDisk
from corum.mvcc.rebuild import rebuild_index
from corum.sim.log import Machine


class ImageDatabase(Database):
    """A bbolt file that is a value."""

    def __init__(self, image: bytes) -> None:
        self.path = Path("sim")
        self.file_bytes = len(image)
        self._map: Any = image
        self._meta = self._find_meta()
        self.page_bytes = self._meta.page_bytes

    def close(self) -> None:
        """Nothing is open."""


class SimBackend(MemoryBackend):
    """A backend in memory whose content can be replaced, as a `LmdbBackend`'s file is."""

    def adopt(self, received: MemoryDisk) -> None:
        """Put what was received in place of this one; what is pending is forgotten."""
        assert self._in_flight is None, "a batch is being written"
        assert self._defragmenting is None, "the backend is being rewritten"
        received.merge(in_place=True)
        self.disk.bases, self.disk.written = received.bases, []
        self._views = set()
        for name, bucket in self.buckets.items():
            bucket.forget()
            bucket.committed(self.disk.bases[name])
        self.reread()


class Databases:
    """`snapshots.Keeper`, and what `member.received` does at install and at the start."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def create(self) -> bytearray:
        """A temporary file."""
        self._machine.disk.check_room()
        return _File()

    def discard(self, file: Any) -> None:
        """It will not be whole."""

    def keep(self, file: Any, index: int) -> None:
        """It is whole."""
        self._machine.effect("database: before it is kept")
        self._machine.disk.databases[index] = bytes(file)
        self._machine.effect("database: kept")

    def prepare(self, file: Any, index: int, term: int) -> None:
        """Make a backend of it."""
        self._machine.disk.received[index] = self._made(index, term)
        self._machine.effect("database: prepared")

    def _made(self, index: int, term: int) -> MemoryDisk:
        found = MemoryDisk()
        found.error = self._machine.disk.backend.error
        backend = MemoryBackend(found)
        image = ImageDatabase(self._machine.disk.databases[index])
        load(image, backend, consistent_index=index, term=term)
        rebuild_index(backend)
        return found

    def install(self, backend: SimBackend, index: int) -> None:
        """What was prepared takes the place of the backend in use."""
        disk = self._machine.disk
        self._machine.effect("database: before it is installed")
        backend.adopt(disk.received.pop(index))
        self._machine.effect("database: installed")

    def release(self, index: int) -> None:
        """Databases up to this index have been taken over."""
        databases = self._machine.disk.databases
        for kept in (databases, self._machine.disk.received):
            for each in [each for each in kept if each <= index]:
                del kept[each]

    def take_over(self, backend: SimBackend, index: int, term: int) -> None:
        """At the start: a crash came between a snapshot's record and its backend."""
        self._machine.effect("boot: before a database is taken over")
        backend.adopt(self._made(index, term))
        self._machine.effect("boot: a database was taken over")


class _File(bytearray):
    """Open for writing."""

    def write(self, *pieces: bytes) -> None:
        """At its end."""
        for data in pieces:
            self += data
