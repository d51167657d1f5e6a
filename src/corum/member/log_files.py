"""The driver's log on real files: a `Wal` that frames, the transport's log thread that writes.

Segments are cut by a worker when no write is under way; until it has finished, `ready` is False and
the driver waits. A write that failed for want of space is repeated; nobody was told of it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Final, Protocol

from corum.raft import Entry, HardState, Snapshot
from corum.server.commits import Jobs
from corum.wal import Wal, WalSnapshot, Write

RETRY_S: Final = 1.0


class Writer(Protocol):
    """Who writes and syncs prepared bytes: the transport's `LogWriter`, or a simulated disk."""

    def submit(self, token: int, fd: int, data: bytes, sync: bool, /) -> None: ...
    def write_now(self, fd: int, data: bytes, sync: bool, /) -> int: ...
    def close(self) -> None: ...


class Snapshots(Protocol):
    """Where `.snap` files go."""

    def save(self, snapshot: Snapshot, /) -> object: ...


class LogFiles:
    """See the module's docstring. Owned by the loop."""

    def __init__(
        self,
        wal: Wal,
        snapshots: Snapshots,
        writer: Writer,
        jobs: Jobs,
        fatal: Callable[[str, BaseException], None],
        sync: bool = True,
    ) -> None:
        """`sync` False: `--unsafe-no-fsync`."""
        self.wal = wal
        self._snapshots = snapshots
        self._recording: dict[int, tuple[int, Callable[[], None]]] = {}
        self._token = 1 << 62
        self._writer = writer
        self._jobs = jobs
        self._fatal = fatal
        self._sync = sync
        self._in_flight = 0
        self._cutting = False
        self._failed: dict[int, Write] = {}
        self.written_bytes = 0
        self.fsyncs_ns: list[int] = []
        self.full: Callable[[str], None] = lambda error: None
        """Told when the disk is full."""
        self._housekeep()

    @property
    def ready(self) -> bool:
        """May the driver write?"""
        return not self._cutting and not self._failed

    @property
    def idle(self) -> bool:
        """Is nothing being written?"""
        return not self._in_flight

    def write(self, token: int, state: HardState | None, entries: list[Entry], sync: bool) -> bool:
        """Start writing; False when there is nothing to write, so nothing to wait for."""
        write = self.wal.save(state, entries, sync)
        if write is None:
            return False
        self._submit(token, write)
        return True

    def _submit(self, token: int, write: Write) -> None:
        self._in_flight += 1
        self.written_bytes += len(write.data)
        self._last = write
        self._writer.submit(token, write.fd, write.data, write.sync and self._sync)

    def write_now(self, state: HardState | None, entries: list[Entry], sync: bool) -> None:
        """Write and sync on this thread; only while nothing is under way. Raises OSError."""
        write = self.wal.save(state, entries, sync)
        if write is not None:
            self.written_bytes += len(write.data)
            took = self._writer.write_now(write.fd, write.data, write.sync and self._sync)
            self.fsyncs_ns.append(took)
            self._maybe_cut()

    def save(self, snapshot: Snapshot) -> None:
        """Worker thread: write and sync the `.snap` file."""
        self._snapshots.save(snapshot)

    def record(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        """Note the snapshot in the log, then give up segments that only hold older entries."""
        if not self.ready:
            self._jobs.start(lambda: None, lambda _: self.record(snapshot, done))
            return
        self._token += 1
        self._recording[self._token] = (snapshot.index, done)
        note = WalSnapshot(snapshot.index, snapshot.term, snapshot.conf_state)
        self._submit(self._token, self.wal.save_snapshot(note))

    def synced(self, token: int, error: str | None, took_ns: int) -> bool:
        """A submitted write ended; False: it failed and will be repeated."""
        self._in_flight -= 1
        if error is not None:
            self._fatal("failed to write the log", OSError(errno.EIO, error))
            return False
        self.fsyncs_ns.append(took_ns)
        recorded = self._recording.pop(token, None)
        if recorded is not None:
            self.wal.release_to(recorded[0])
            recorded[1]()
        self._maybe_cut()
        return True

    def _maybe_cut(self) -> None:
        if not self._in_flight and not self._cutting and self.wal.cut_due:
            self._cutting = True
            cut = self.wal.begin_cut()
            self._jobs.start_urgent(cut.run, lambda result: self._cut_done(cut, result))

    def _cut_done(self, cut: Any, result: object) -> None:
        if isinstance(result, OSError) and result.errno == errno.ENOSPC:
            self.full(str(result))
            self._jobs.start_urgent(cut.run, lambda again: self._cut_done(cut, again))
            return
        if isinstance(result, BaseException):
            self._fatal("failed to cut the log", result)
            return
        self.wal.finish_cut(cut)
        self._cutting = False
        self._housekeep()

    def _housekeep(self) -> None:
        self._jobs.start(self.wal.housekeep, self._housekept)

    def _housekept(self, more: object) -> None:
        if more is True:
            self._jobs.start(self.wal.housekeep, self._housekept)

    def close(self) -> None:
        """Finish what was submitted, close the files."""
        self._writer.close()
        self.wal.close()
