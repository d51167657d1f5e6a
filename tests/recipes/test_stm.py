"""Transactional memory: what each isolation allows, and that a history has an order."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corum import Client
from corum.client.results import KeyValue
from corum.recipes import Isolation, Transaction, atomically
from corum.recipes.stm_sets import Sets
from recipes.helping import WAIT_S, beside

ALL = list(Isolation)


def kv(key: bytes, revision: int) -> KeyValue:
    return KeyValue(key, b"", revision, revision, 1, 0)


def test_what_each_isolation_relies_on() -> None:
    """Read keys, also those not there; for snapshots what is only written, too."""
    wanted = {
        Isolation.SERIALIZABLE_SNAPSHOT: [(b"r", 0, 5), (b"n", 0, 0), (b"w", 2, 10)],
        Isolation.SERIALIZABLE: [(b"r", 0, 5), (b"n", 0, 0)],
        Isolation.REPEATABLE_READ: [(b"r", 0, 5), (b"n", 0, 0)],
        Isolation.READ_COMMITTED: [],
    }
    for isolation, conditions in wanted.items():
        sets = Sets(isolation)
        sets.fetch([b"r", b"n", b"unread"], [kv(b"r", 5), kv(b"unread", 3)], 9)
        sets.read(b"r")
        sets.read(b"n")
        sets.writes = {b"r": b"", b"w": b""}
        made = [c.message for c in sets.conditions()]
        assert [(m.key, m.result, m.mod_revision) for m in made] == conditions
        assert sets.read_revision == (9 if "SERIAL" in isolation.name else 0)
        assert not sets.is_settled


@pytest.mark.parametrize("isolation", ALL)
def test_reads_writes_and_deletes(client: Client, name: str, isolation: Isolation) -> None:
    """A transaction sees its own writes; all of them happen in one revision."""
    a, b, c = (f"{name}/{letter}" for letter in "abc")
    client.put(a, "1")
    client.put(c, "3")

    def work(txn: Transaction) -> bytes | None:
        assert txn.get_many(a, b) == (b"1", None)
        assert txn.revision(a) > 0
        assert txn.revision(b) == 0
        txn.put(b, "2")
        txn.delete(c)
        assert txn.get(c) is None
        return txn.get(b)

    assert atomically(client, work, isolation=isolation, prefetch=[a, c]) == b"2"
    found = {one.key: one for one in client.range(name, prefix=True)}
    assert set(found) == {a.encode(), b.encode()}
    assert atomically(client, lambda txn: txn.get(b), isolation=isolation) == b"2"
    atomically(client, lambda txn: txn.put(c, "blind"), isolation=isolation)
    assert client.get(c) is not None


def test_exception_writes_nothing(client: Client, name: str) -> None:
    """What a failing function has put is not stored."""

    def work(txn: Transaction) -> None:
        txn.put(name, "x")
        raise LookupError("no")

    with pytest.raises(LookupError):
        atomically(client, work)
    assert client.get(name) is None


def attempts(client: Client, key: str, other: str, isolation: Isolation) -> int:
    """How often a function runs that reads `key` and writes `other`, while both change."""
    count = 0

    def work(txn: Transaction) -> None:
        nonlocal count
        count += 1
        seen = txn.get(key)
        if count == 1:
            client.put(key, "changed")
        txn.put(other, (seen or b"") + b"!")

    atomically(client, work, isolation=isolation)
    return count


@pytest.mark.parametrize(
    ("isolation", "wanted"), list(zip(ALL, (2, 2, 2, 1), strict=True)), ids=lambda x: str(x)
)
def test_changed_reads(client: Client, name: str, isolation: Isolation, wanted: int) -> None:
    """All but READ_COMMITTED begin again when what they read was changed."""
    client.put(name, "old")
    assert attempts(client, name, name + "-out", isolation) == wanted
    found = client.get(name + "-out")
    assert found is not None
    assert found.value == (b"old!" if wanted == 1 else b"changed!")


@pytest.mark.parametrize(
    ("isolation", "wanted"), list(zip(ALL, (2, 1, 1, 1), strict=True)), ids=lambda x: str(x)
)
def test_changed_writes(client: Client, name: str, isolation: Isolation, wanted: int) -> None:
    """Only SERIALIZABLE_SNAPSHOT minds when what it only writes was changed by another one."""
    client.put(name, "old")
    count = 0

    def work(txn: Transaction) -> None:
        nonlocal count
        count += 1
        txn.get(name)
        if count == 1:
            client.put(name + "-out", "theirs")
        txn.put(name + "-out", "ours")

    atomically(client, work, isolation=isolation)
    assert count == wanted


@pytest.mark.parametrize(
    ("isolation", "torn"), list(zip(ALL, (0, 0, 1, 1), strict=True)), ids=lambda x: str(x)
)
def test_snapshots(client: Client, name: str, isolation: Isolation, torn: int) -> None:
    """The serializable ones see both keys of one revision in every attempt, the others need not."""
    client.put(f"{name}/a", "0")
    client.put(f"{name}/b", "0")
    seen: list[tuple[bytes | None, bytes | None]] = []

    def work(txn: Transaction) -> None:
        a = txn.get(f"{name}/a")
        if not seen:
            client.put(f"{name}/a", "1")
            client.put(f"{name}/b", "1")
        seen.append((a, txn.get(f"{name}/b")))
        txn.put(f"{name}/c", "")

    atomically(client, work, isolation=isolation)
    assert sum(a != b for a, b in seen) == torn


def test_repeated_reads(client: Client, name: str) -> None:
    """REPEATABLE_READ gives the same value twice, READ_COMMITTED the newest."""
    for isolation, wanted in (
        (Isolation.REPEATABLE_READ, b"old"),
        (Isolation.READ_COMMITTED, b"new"),
    ):
        client.put(name, "old")
        again: list[bytes | None] = []

        def work(txn: Transaction, again: list[bytes | None] = again) -> None:
            txn.get(name)
            if not again:
                client.put(name, "new")
            again.append(txn.get(name))

        atomically(client, work, isolation=isolation)
        assert again[0] == wanted


def test_snapshot_that_was_compacted_begins_anew(client: Client, name: str) -> None:
    """An attempt that took too long for its snapshot is made again."""
    client.put(name, "old")
    count = 0

    def work(txn: Transaction) -> tuple[bytes | None, bytes | None]:
        nonlocal count
        count += 1
        first = txn.get(name)
        if count == 1:
            client.put(name, "new")
            client.compact(client.put(name + "-x").header.revision)
        return first, txn.get(name + "-other")

    assert atomically(client, work) == (b"new", None)
    assert count == 2


def test_time_limit(client: Client, name: str) -> None:
    """Always overtaken: TimeoutError."""

    def work(txn: Transaction) -> None:
        txn.get(name)
        client.put(name, "x")
        txn.put(name, "y")

    with pytest.raises(TimeoutError):
        atomically(client, work, timeout_s=0.05)


def test_money_is_not_made(client: Client, name: str) -> None:
    """Transfers between accounts by many threads: the sum stays, nobody is below zero."""
    for number in range(4):
        client.put(f"{name}/{number}", "100")

    def transfer(source: int, target: int, amount: int) -> bool:
        def work(txn: Transaction) -> bool:
            a, b = txn.get_many(f"{name}/{source}", f"{name}/{target}")
            assert a is not None
            assert b is not None
            if int(a) < amount:
                return False
            txn.put(f"{name}/{source}", str(int(a) - amount))
            txn.put(f"{name}/{target}", str(int(b) + amount))
            return True

        return atomically(client, work)

    def run(seed: int) -> None:
        for n in range(10):
            transfer((seed + n) % 4, (seed + n * 3 + 1) % 4, (seed * 7 + n * 11) % 60)

    def total(txn: Transaction) -> int:
        return sum(int(one or 0) for one in txn.get_many(*(f"{name}/{n}" for n in range(4))))

    threads = [beside(run, seed) for seed in range(6)]
    while not all(thread.done() for thread in threads):
        assert atomically(client, total) == 400
    for thread in threads:
        thread.result(WAIT_S)
    assert atomically(client, total) == 400


SCRIPTS = st.lists(
    st.tuples(st.lists(st.integers(0, 2), max_size=2, unique=True), st.integers(0, 2)),
    min_size=2,
    max_size=5,
)


@settings(max_examples=25)
@given(SCRIPTS)
def test_histories_are_serializable(
    stm_client: Client, scripts: list[tuple[list[int], int]]
) -> None:
    """Concurrent transactions give what they would have given one after another.

    Each reads some keys and writes one: its number, and what it read. By the revisions of their
    commits they have an order; run in that order on a dictionary, each must read the same.
    """
    prefix = f"history/{threading.get_ident()}/"
    stm_client.delete(prefix, prefix=True)
    begin = threading.Barrier(len(scripts))

    def run(number: int) -> tuple[int, dict[int, bytes | None]]:
        reads, target = scripts[number]
        begin.wait(WAIT_S)

        def work(txn: Transaction) -> dict[int, bytes | None]:
            seen = {key: txn.get(f"{prefix}{key}") for key in reads}
            txn.put(f"{prefix}{target}", str(number))
            txn.put(f"{prefix}by/{number}", "")
            return seen

        seen = atomically(stm_client, work)
        mark = stm_client.get(f"{prefix}by/{number}")
        assert mark is not None
        return mark.mod_revision, seen

    threads = [beside(run, number) for number in range(len(scripts))]
    done = [(*thread.result(WAIT_S), number) for number, thread in enumerate(threads)]
    memory: dict[int, bytes | None] = {}
    for _, seen, number in sorted(done, key=lambda one: one[0]):
        reads, target = scripts[number]
        assert seen == {key: memory.get(key) for key in reads}
        memory[target] = str(number).encode()
