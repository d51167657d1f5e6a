"""When pending writes become a transaction, and what happens when the disk refuses one."""

from collections.abc import Callable

import pytest

from corum.backend import schema
from corum.backend.backend import BackendError, BackendFull
from corum.backend.memory_backend import MemoryBackend, MemoryDisk
from corum.server.commits import IDLE_NS, RETRY_NS, Commits
from server.lone import HandJobs

INTERVAL_NS = 100
OPERATIONS_MAX = 10


class Bench:
    """A backend, its schedule, and workers by hand."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.backend = MemoryBackend(self.disk)
        self.jobs = HandJobs()
        self.failed: list[BaseException] = []
        self.commits = Commits(
            self.backend, self.jobs, INTERVAL_NS, OPERATIONS_MAX, self.failed.append
        )
        self.commits.run(0, 0, 0)  # the first interval begins

    def put(self, *keys: bytes) -> None:
        for key in keys:
            self.backend.put(schema.LEASE, key, b"v")

    def durable(self) -> list[bytes]:
        """Keys that a crash now would leave."""
        return [key for key, _ in MemoryBackend(self.disk).range(schema.LEASE)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_interval(bench: Bench) -> None:
    """Something pending is due 100 ms after the last commit; nothing pending never is."""
    assert not bench.commits.due(INTERVAL_NS)
    bench.put(b"a")
    assert not bench.commits.due(INTERVAL_NS - 1)
    assert bench.commits.due(INTERVAL_NS)


def test_many_operations_do_not_wait(bench: Bench) -> None:
    """--backend-batch-limit: the limit itself is enough."""
    bench.put(*(b"%d" % n for n in range(OPERATIONS_MAX - 1)))
    assert not bench.commits.due(0)
    bench.put(b"last")
    assert bench.commits.due(0)


def test_one_batch_in_flight(bench: Bench) -> None:
    """What is put meanwhile belongs to the next one; both are on the disk in the end."""
    bench.put(b"a")
    bench.commits.run(5, 1, INTERVAL_NS)
    bench.put(b"b")
    assert bench.commits.in_flight
    assert not bench.commits.due(10 * INTERVAL_NS)
    bench.jobs.run()
    assert bench.durable() == [b"a"]
    assert bench.commits.due(10 * INTERVAL_NS)
    bench.commits.run(6, 1, 10 * INTERVAL_NS)
    bench.jobs.run()
    assert bench.durable() == [b"a", b"b"]


def test_index_rows_go_when_nobody_writes(bench: Bench) -> None:
    """They may wait for company, but not for ever: reads would look through them."""
    bench.backend.defer_own = True
    bench.backend.put(schema.CURRENT, b"k", b"record")
    assert not bench.commits.due(INTERVAL_NS + IDLE_NS - 1)
    assert bench.commits.due(INTERVAL_NS + IDLE_NS)
    bench.commits.run(0, 0, INTERVAL_NS + IDLE_NS)
    bench.jobs.run()
    assert bench.backend.own_pending == 0
    assert not bench.commits.due(10 * IDLE_NS)


def test_a_transaction_carries_its_place_in_the_log(bench: Bench) -> None:
    """A restart replays from there."""
    bench.put(b"a")
    bench.commits.run(5, 2, 0)
    bench.jobs.run()
    found = MemoryBackend(bench.disk)
    assert schema.from_u64(found.get(schema.META, schema.CONSISTENT_INDEX)) == 5
    assert schema.from_u64(found.get(schema.META, schema.TERM)) == 2


def test_who_waits_is_called_when_it_is_durable(bench: Bench) -> None:
    """Not before, once, and without anything pending as well."""
    called: list[list[bytes]] = []
    then: Callable[[], None] = lambda: called.append(bench.durable())  # noqa: E731
    bench.put(b"a")
    bench.commits.when_durable(then)
    assert bench.commits.due(0)
    bench.commits.run(5, 1, 0)
    assert called == []
    bench.jobs.run()
    assert called == [[b"a"]]
    bench.commits.when_durable(then)
    bench.commits.run(5, 1, 0)
    bench.jobs.run()
    assert called == [[b"a"]] * 2


def test_who_comes_during_a_write_waits_for_the_next(bench: Bench) -> None:
    """The write under way may not hold what it asks about."""
    called: list[list[bytes]] = []
    bench.put(b"a")
    bench.commits.run(5, 1, 0)
    bench.put(b"b")
    bench.commits.when_durable(lambda: called.append(bench.durable()))
    bench.jobs.run()
    assert called == []
    bench.commits.run(6, 1, 0)
    bench.jobs.run()
    assert called == [[b"a", b"b"]]


def test_a_full_disk_is_tried_again(bench: Bench) -> None:
    """Every second, the same batch first; what came meanwhile follows, whoever waits still does."""
    called: list[list[bytes]] = []
    bench.put(b"a")
    bench.commits.when_durable(lambda: called.append(bench.durable()))
    bench.disk.error = BackendFull("no space left")
    bench.commits.run(5, 1, 0)
    bench.jobs.run()
    assert [str(error) for error in bench.failed] == ["no space left"]
    bench.put(b"b")
    assert not bench.commits.due(RETRY_NS - 1)
    assert bench.commits.due(RETRY_NS)
    bench.commits.run(6, 1, RETRY_NS)
    bench.jobs.run()
    assert len(bench.failed) == 2
    assert (called, bench.durable()) == ([], [])
    bench.disk.error = None
    bench.commits.run(6, 1, 2 * RETRY_NS)
    bench.jobs.run()
    assert called == [[b"a"]]
    assert bench.commits.due(3 * RETRY_NS)
    bench.commits.run(6, 1, 3 * RETRY_NS)
    bench.jobs.run()
    assert bench.durable() == [b"a", b"b"]
    assert bench.backend.get(schema.LEASE, b"b") == b"v"


def test_any_other_failure_is_told(bench: Bench) -> None:
    """The member stops; nobody is told that his write is durable."""
    called: list[None] = []
    bench.put(b"a")
    bench.commits.when_durable(lambda: called.append(None))
    bench.disk.error = BackendError("input/output error")
    bench.commits.run(5, 1, 0)
    bench.jobs.run()
    assert [str(error) for error in bench.failed] == ["input/output error"]
    assert called == []


def test_a_pause_holds_commits_back(bench: Bench) -> None:
    """While the file is being rewritten."""
    bench.put(b"a")
    bench.commits.paused = True
    assert not bench.commits.due(10 * INTERVAL_NS)
    bench.commits.paused = False
    assert bench.commits.due(10 * INTERVAL_NS)
