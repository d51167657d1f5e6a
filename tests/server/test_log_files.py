"""The log on real files while a segment is cut: what is written meanwhile keeps its order."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from corum.member.log_files import QUICK_NS, LogFiles
from corum.raft import Entry, HardState, Snapshot
from corum.wal import Wal, WalSnapshot
from corum.wal.replay import replay, segments_from
from server.lone import HandJobs

SEGMENT = 64 * 1024


class Writer:
    """Writes at once, reports when the test says so."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def submit(self, token: int, fd: int, data: bytes, sync: bool, /) -> None:
        os.write(fd, data)
        self.done.append(token)

    def write_now(self, fd: int, data: bytes, sync: bool, /) -> int:
        raise AssertionError("not here")

    def clear_error(self) -> None: ...
    def close(self) -> None: ...


class Saved:
    def save(self, snapshot: Snapshot, /) -> object:
        return None


def entry(index: int, size: int = 10) -> Entry:
    return Entry(1, index, data=b"x" * size)


def fatal(message: str, error: BaseException) -> None:
    raise AssertionError(message) from error


@pytest.mark.parametrize("error", ["Input/output error (os error 5)", os.strerror(errno.ENOSPC)])
def test_nothing_is_written_behind_a_failed_write(tmp_path: Path, error: str) -> None:
    """Neither later nor at once: the bytes before it may not be on the disk."""
    wal = Wal.create(tmp_path / "wal", b"\x08\x01\x10\x02", segment_bytes=SEGMENT)
    jobs, told = HandJobs(), list[str]()
    log = LogFiles(wal, Saved(), Writer(), jobs, lambda message, _: told.append(message))
    log.full = lambda reason: told.append(reason or "room")
    jobs.run()
    assert log.idle
    log.record(Snapshot(1, 1), lambda: told.append("recorded"))
    assert not log.synced(1 << 62 | 1, error, 0)
    assert told == [error if "space" in error else "failed to write the log"]
    assert not log.idle
    assert not log.ready
    log.close()


def test_after_a_slow_sync_the_loop_does_not_wait(tmp_path: Path) -> None:
    """Until the log thread reports a quick one; what is not synced tells nothing of the disk."""
    wal = Wal.create(tmp_path / "wal", b"\x08\x01\x10\x02", segment_bytes=1 << 20)
    jobs = HandJobs()
    log = LogFiles(wal, Saved(), Writer(), jobs, fatal)
    jobs.run()
    assert log.prompt
    for token, took_ns, sync, prompt in (
        (1, QUICK_NS, True, True),
        (2, QUICK_NS + 1, True, False),
        (3, 0, False, False),
        (4, 0, True, True),
    ):
        assert log.write(token, HardState(1, 1, token), [], sync)
        assert not log.prompt
        log.synced(token, None, took_ns)
        assert log.prompt == prompt
        assert log.idle
    log.close()


def test_what_comes_during_a_cut_is_written_behind_it(tmp_path: Path) -> None:
    """Entries, then a received snapshot's record, then what follows it: in this order."""
    wal = Wal.create(tmp_path / "wal", b"\x08\x01\x10\x02", segment_bytes=SEGMENT)
    jobs, writer = HandJobs(), Writer()
    log = LogFiles(wal, Saved(), writer, jobs, fatal)
    jobs.run()

    def synced() -> list[int]:
        tokens, writer.done = writer.done, []
        for token in tokens:
            log.synced(token, None, 0)
        return tokens

    recorded: list[Any] = []
    assert log.write(1, HardState(1, 1, 0), [entry(1, SEGMENT)], True)
    synced()
    assert not log.ready
    assert not log.idle
    assert log.write(2, HardState(1, 1, 1), [entry(2)], True)
    assert not log.write(3, None, [], False), "nothing to wait for"
    log.record(Snapshot(50, 1), lambda: recorded.append(50))
    assert log.write(4, HardState(1, 1, 51), [entry(51)], True)
    assert writer.done == []
    jobs.run()  # the cut
    assert log.ready
    tokens = synced()
    assert [tokens[0], tokens[-1]] == [2, 4]
    assert recorded == [50]
    jobs.run()
    log.close()
    found = replay(segments_from(tmp_path / "wal", 50), WalSnapshot(50, 1))
    assert [one.index for one in found.entries] == [51]
    assert found.hard_state.commit == 51
