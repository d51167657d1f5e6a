"""The driver's log on real files: a `Wal` that frames, the transport's log thread that writes.

Segments are cut by a worker when no write is under way; until it has finished, `ready` is False and
writes wait here, in order (Raft's limits on what is not acknowledged bound them). A write that
failed for want of space is repeated; nobody was told of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, Final, Protocol

from corum.raft import Entry, HardState, Snapshot
from corum.server.commits import Jobs
from corum.values import NS_PER_MS, NS_PER_S
from corum.wal import Wal, WalSnapshot, Write

RETRY_NS: Final = NS_PER_S
SLOW_SYNC_NS: Final = NS_PER_S
"""Worth a line (as in etcd)."""
QUICK_NS: Final = 10 * NS_PER_MS
"""A sync up to here is worth a wait of the loop's; longer ones are left to the log thread."""
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ROOM_WORDS: Final = tuple(os.strerror(number) for number in NO_ROOM)


class Writer(Protocol):
    """Who writes and syncs prepared bytes: the transport's `LogWriter`, or a simulated disk."""

    def submit(self, token: int, fd: int, data: bytes, sync: bool, /) -> None: ...
    def write_now(self, fd: int, data: bytes, sync: bool, /) -> int: ...
    def clear_error(self) -> None: ...
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
        self._housekeeping = False
        self._failed: dict[int, Write] = {}
        """Nothing else is written until these are, with the same bytes."""
        self.written_bytes = 0
        self.observe: Callable[[int], None] = lambda took_ns: None
        """Told how long each write took, with its sync."""
        self.full: Callable[[str | None], None] = lambda error: None
        """Told when the disk is full (the error) and when it is not any more (None)."""
        self.slow: Callable[[int], None] = lambda took_ns: None
        """Told of a sync that took longer than `SLOW_SYNC_NS`."""
        self._quick = True
        """The last sync was."""
        self._full = False
        self._stuck_cut: Any = None
        self._later: list[Callable[[], object]] = []
        self._under_way: dict[int, Write] = {}
        self._retry_ns = 0
        self._housekeep()

    @property
    def ready(self) -> bool:
        """Would a write start now?"""
        return not self._cutting and not self._failed

    @property
    def stuck(self) -> bool:
        """No room on the disk."""
        return self._full

    @property
    def idle(self) -> bool:
        """Is nothing being written, and nothing in the way?"""
        return not (self._in_flight or self._cutting or self._later or self._failed)

    @property
    def prompt(self) -> bool:
        """Would `write_now` take no time worth mentioning?"""
        return self._quick and self.idle

    def write(self, token: int, state: HardState | None, entries: list[Entry], sync: bool) -> bool:
        """Write, now or in its turn; False when there is nothing to write or to wait for."""
        if self._cutting or self._later:
            if state is None and not entries:
                return False
            self._later.append(lambda: self._write(token, state, entries, sync))
            return True
        return self._write(token, state, entries, sync)

    def _write(self, token: int, state: HardState | None, entries: list[Entry], sync: bool) -> bool:
        write = self.wal.save(state, entries, sync)
        if write is None:
            return False
        self._submit(token, write)
        return True

    def _submit(self, token: int, write: Write) -> None:
        self._in_flight += 1
        self.written_bytes += len(write.data)
        self._under_way[token] = write
        self._writer.submit(token, write.fd, write.data, write.sync and self._sync)

    def write_now(
        self, token: int, state: HardState | None, entries: list[Entry], sync: bool
    ) -> bool:
        """Write and sync on this thread, only while nothing is under way; False: there was no room,
        `token` is reported when there is. Raises OSError."""
        write = self.wal.save(state, entries, sync)
        if write is not None:
            self.written_bytes += len(write.data)
            try:
                took_ns = self._writer.write_now(write.fd, write.data, write.sync and self._sync)
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                self._failed[token] = write
                self._out_of_room(str(error))
                return False
            self._observe(took_ns, write)
            self._maybe_cut()
        return True

    def save(self, snapshot: Snapshot) -> None:
        """Worker thread: write and sync the `.snap` file."""
        self._snapshots.save(snapshot)

    def record(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        """Note the snapshot in the log, then give up segments that only hold older entries."""
        if self._later or not self.ready:
            self._later.append(lambda: self.record(snapshot, done))
            return
        self._token += 1
        self._recording[self._token] = (snapshot.index, done)
        note = WalSnapshot(snapshot.index, snapshot.term, snapshot.conf_state)
        self._submit(self._token, self.wal.save_snapshot(note))

    def synced(self, token: int, error: str | None, took_ns: int) -> bool:
        """A submitted write ended; False: it failed and will be repeated."""
        self._in_flight -= 1
        write = self._under_way.pop(token)
        if error is not None:
            self._failed[token] = write
            if any(words in error for words in _NO_ROOM_WORDS):
                self._out_of_room(error)
            else:
                self._fatal("failed to write the log", OSError(errno.EIO, error))
            return False
        self._observe(took_ns, write)
        self._has_room()
        recorded = self._recording.pop(token, None)
        if recorded is not None:
            self.wal.release_to(recorded[0])
            recorded[1]()
        self._maybe_cut()
        return True

    def _observe(self, took_ns: int, write: Write) -> None:
        self.observe(took_ns)
        if write.sync:
            self._quick = took_ns <= QUICK_NS
        if took_ns > SLOW_SYNC_NS:
            self.slow(took_ns)

    def _out_of_room(self, error: str) -> None:
        if not self._full:
            self._full = True
            self.full(error)

    def retry(self, now_ns: int) -> None:
        """Every second while the disk is full: try again, in order."""
        if not self._full or self._in_flight or now_ns < self._retry_ns:
            return
        self._retry_ns = now_ns + RETRY_NS
        if self._stuck_cut is not None:
            cut, self._stuck_cut = self._stuck_cut, None
            self._jobs.start_urgent(cut.run, lambda result: self._cut_done(cut, result))
            return
        again, self._failed = self._failed, {}
        self._writer.clear_error()
        for token, write in again.items():
            self._submit(token, write)

    def _has_room(self) -> None:
        """Something was written: go on with what waited for that."""
        if self._full and not self._failed:
            self._full = False
            self.full(None)
        if self.ready and self._later:
            later, self._later = self._later, []
            for go_on in later:
                go_on()

    def _maybe_cut(self) -> None:
        if self.wal.housekeeping_due:
            self._housekeep()
        if not self._in_flight and not self._cutting and self.wal.cut_due:
            self._cutting = True
            cut = self.wal.begin_cut()
            self._jobs.start_urgent(cut.run, lambda result: self._cut_done(cut, result))

    def _cut_done(self, cut: Any, result: object) -> None:
        if isinstance(result, OSError) and result.errno == errno.ENOSPC:
            self._stuck_cut = cut
            self._out_of_room(str(result))
            return
        if isinstance(result, BaseException):
            self._fatal("failed to cut the log", result)
            return
        self.wal.finish_cut(cut)
        self._cutting = False
        self._has_room()
        self._housekeep()

    def _housekeep(self) -> None:
        if not self._housekeeping:
            self._housekeeping = True
            self._jobs.start(self.wal.housekeep, self._housekept)

    def _housekept(self, more: object) -> None:
        self._housekeeping = False
        if more is True:
            self._housekeep()

    def close(self) -> None:
        """Finish what was submitted, close the files."""
        self._writer.close()
        self.wal.close()
