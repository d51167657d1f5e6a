"""Go's recipes and ours on the same keys: they exclude, wake and understand each other.

The partner is `benchmarks/go/recipes` (made by the Makefile where there is Go), or etcdctl.
"""

import json
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from corum import Client
from corum.recipes import (
    Barrier,
    DoubleBarrier,
    Election,
    Isolation,
    Mutex,
    Observer,
    PriorityQueue,
    Queue,
    ReadWriteLock,
    Registration,
    Services,
    Session,
    Transaction,
    atomically,
)
from oracle import servers
from recipes.helping import WAIT_S, beside, keys, until

pytestmark = [pytest.mark.compat, pytest.mark.process]
PARTNER = servers.REPOSITORY / ".build" / "bin" / "recipes"


class Partner:
    """The Go program: `ask` and wait for the answer, or `tell` and take the `answer` later."""

    def __init__(self, endpoint: str) -> None:
        self.process = subprocess.Popen(
            [str(PARTNER), endpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=servers.plain_environment(),
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.lease = self.answer()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line.strip())

    def tell(self, *words: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")

    def answer(self) -> str:
        kind, _, text = self._answers.get(timeout=WAIT_S).partition(" ")
        assert kind == "ok", text
        return text

    def waits(self) -> bool:
        return self._answers.empty()

    def ask(self, *words: object) -> str:
        self.tell(*words)
        return self.answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self.process.stdout.close()


@pytest.fixture
def go(endpoint: str) -> Iterator[Partner]:
    if not PARTNER.exists():
        pytest.skip("the Go partner is not built (make .build/.go)")
    partner = Partner(endpoint)
    yield partner
    partner.close()


@pytest.fixture
def session(client: Client) -> Iterator[Session]:
    with Session(client) as session:
        yield session


def test_mutex(go: Partner, client: Client, session: Session, name: str) -> None:
    """Each waits for the other; the keys look the same; a failing TryLock agrees."""
    mutex = Mutex(session, name)
    mutex.acquire()
    go.tell("lock", name)
    until(lambda: len(keys(client, name)) == 2)
    assert go.waits()
    assert keys(client, name) == [
        f"{name}/{session.lease_id:x}".encode(),
        f"{name}/{go.lease}".encode(),
    ]
    mutex.release()
    go.answer()
    assert mutex.try_acquire() is None
    waiting = beside(mutex.acquire)
    until(lambda: len(keys(client, name)) == 2)
    assert not waiting.done()
    go.ask("unlock", name)
    waiting.result(WAIT_S)
    go.tell("trylock", name)
    with pytest.raises(AssertionError, match="Locked by another session"):
        go.answer()
    mutex.release()
    go.ask("trylock", name)
    client.revoke(int(go.lease, 16))  # the Go holder dies
    mutex.acquire(WAIT_S)


def test_read_write_lock(go: Partner, client: Client, session: Session, name: str) -> None:
    """Go's readers share with ours, writers wait for readers of either kind."""
    lock = ReadWriteLock(session, name)
    go.ask("rlock", name)
    lock.reader.acquire(WAIT_S)
    assert lock.writer.try_acquire() is None
    lock.reader.release()
    writing = beside(lock.writer.acquire)
    until(lambda: len(keys(client, name)) == 2)
    go.ask("runlock", name)
    writing.result(WAIT_S)
    go.tell("wlock", name)
    until(lambda: len(keys(client, name)) == 2)
    reading = beside(lock.reader.acquire)
    until(lambda: len(keys(client, name)) == 3)
    assert go.waits()
    lock.writer.release()
    go.answer()
    assert not reading.done()
    go.ask("wunlock", name)
    reading.result(WAIT_S)


def test_election(go: Partner, client: Client, session: Session, name: str) -> None:
    """One leader among both; each sees the other's values."""
    election = Election(session, name)
    go.ask("campaign", name, "gopher")
    leader = election.leader()
    assert leader is not None
    assert leader.value == b"gopher"
    with election.observe() as leaders:
        assert next(leaders).value == b"gopher"
        go.ask("proclaim", name, "badger")
        assert next(leaders).value == b"badger"
        waiting = beside(election.campaign, "python")
        until(lambda: len(keys(client, name)) == 2)
        assert not waiting.done()
        go.ask("resign", name)
        waiting.result(WAIT_S)
        assert next(leaders).value == b"python"
        assert go.ask("leader", name) == "python"
        election.proclaim("cobra")
        assert go.ask("leader", name) == "cobra"


def test_barriers(go: Partner, client: Client, session: Session, name: str) -> None:
    """Held by one, waited for by the other; entered and left together."""
    barrier = Barrier(client, name)
    go.ask("hold", name)
    waiting = beside(barrier.wait)
    go.ask("release", name)
    waiting.result(WAIT_S)
    barrier.hold()
    go.tell("wait", name)
    barrier.release()
    go.answer()
    double = DoubleBarrier(session, name + "-d", 2)
    for _ in range(2):
        go.tell("enter", name + "-d", 2)
        double.enter(WAIT_S)
        go.answer()
        leaving = beside(double.leave)
        go.ask("leave", name + "-d")
        leaving.result(WAIT_S)
    assert keys(client, name) == []


def test_queues(go: Partner, client: Client, name: str) -> None:
    """Items of both, in the order in which they came, or of their priorities.

    Go's Queue takes everything whose key begins with its name, so names are chosen accordingly.
    """
    queue, urgent = Queue(client, name), PriorityQueue(client, "p-" + name)
    for number in range(4):
        if number % 2:
            queue.put(str(number))
            urgent.put(str(number), 7)
        else:
            go.ask("enqueue", name, number)
            go.ask("penqueue", "p-" + name, number, 7)
    urgent.put("first", 2)
    assert [go.ask("dequeue", name), queue.get(), go.ask("dequeue", name)] == ["0", b"1", "2"]
    assert queue.get() == b"3"
    assert go.ask("pdequeue", "p-" + name) == "first"
    assert [urgent.get() for _ in range(4)] == [b"0", b"1", b"2", b"3"]
    go.tell("dequeue", name)
    queue.put("late")
    assert go.answer() == "late"
    waiting = beside(urgent.get)
    go.ask("penqueue", "p-" + name, "later", 9)
    assert waiting.result(WAIT_S) == b"later"


@pytest.mark.parametrize(
    "isolation",
    [Isolation.SERIALIZABLE_SNAPSHOT, Isolation.SERIALIZABLE, Isolation.REPEATABLE_READ],
)
def test_transactions(go: Partner, client: Client, name: str, isolation: Isolation) -> None:
    """Additions of both at the same time are all there."""

    def add(txn: Transaction) -> None:
        txn.put(name, str(int(txn.get(name) or 0) + 1))

    go.tell("add", name, 50, isolation.value.replace(" ", "-"))
    for _ in range(50):
        atomically(client, add, isolation=isolation)
    go.answer()
    found = client.get(name)
    assert found is not None
    assert found.value == b"100"


def test_services(go: Partner, client: Client, session: Session, name: str) -> None:
    """Instances registered by one are resolved by the other."""
    with (
        Registration(session, name, "10.0.0.1:80", {"load": 1}),
        Services(client, name) as services,
    ):
        go.ask("register", name, "10.0.0.2:80")
        found = services.wait_for(lambda all: len(all) == 2 and all, WAIT_S)
        assert [(one.address, one.load) for one in found] == [
            ("10.0.0.1:80", 1.0),
            ("10.0.0.2:80", 2.0),
        ]
        assert go.ask("endpoints", name).split(" ") == [
            f"{name}/10.0.0.1:80=10.0.0.1:80" + json.dumps({"load": 1}, separators=(",", ":")),
            f"{name}/10.0.0.2:80=10.0.0.2:80" + json.dumps({"load": 2}, separators=(",", ":")),
        ]


def etcdctl(tools: Path, endpoint: str, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [str(tools / "etcdctl"), f"--endpoints={endpoint}", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=servers.plain_environment({"ETCDCTL_API": "3"}),
    )


def test_etcdctl_lock(go_tools: Path, endpoint: str, client: Client, name: str) -> None:
    """`etcdctl lock` waits for us, and we for it, until it is interrupted."""
    with Session(client) as session:
        mutex = Mutex(session, name)
        mutex.acquire()
        theirs = etcdctl(go_tools, endpoint, "lock", name)
        until(lambda: len(keys(client, name)) == 2)
        waiting = beside(mutex.acquire)
        until(lambda: len(keys(client, name)) == 3)
        mutex.release()
        assert theirs.stdout is not None
        assert theirs.stdout.readline().startswith(f"{name}/")
        assert not waiting.done()
        theirs.send_signal(signal.SIGINT)
        waiting.result(WAIT_S)
        theirs.communicate(timeout=WAIT_S)


def test_etcdctl_elect(go_tools: Path, endpoint: str, client: Client, name: str) -> None:
    """`etcdctl elect` leads and observes among ours."""
    with Session(client) as session, Observer(client, name).observe() as leaders:
        theirs = etcdctl(go_tools, endpoint, "elect", name, "theirs")
        assert next(leaders).value == b"theirs"
        election = Election(session, name)
        waiting = beside(election.campaign, "ours")
        until(lambda: len(keys(client, name)) == 2)
        theirs.send_signal(signal.SIGINT)
        waiting.result(WAIT_S)
        theirs.communicate(timeout=WAIT_S)
        observer = etcdctl(go_tools, endpoint, "elect", "--listen", name)
        assert observer.stdout is not None
        key = f"{name}/{session.lease_id:x}\n"
        assert [observer.stdout.readline() for _ in range(2)] == [key, "ours\n"]
        election.proclaim("still ours")
        assert [observer.stdout.readline() for _ in range(2)] == [key, "still ours\n"]
        observer.send_signal(signal.SIGINT)
        observer.communicate(timeout=WAIT_S)
