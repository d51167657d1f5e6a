"""Queues, barriers and the counter, with threads."""

import pytest

from corum import Client
from corum.recipes import (
    AlreadyThere,
    Barrier,
    Counter,
    DoubleBarrier,
    NotHeld,
    PriorityQueue,
    Queue,
    Session,
    SessionExpired,
    TooMany,
)
from recipes.helping import WAIT_S, beside, keys, until


def test_first_in_first_out(client: Client, name: str) -> None:
    """Items come as they were put, through any object of the same name."""
    queue = Queue(client, name)
    assert queue.try_get() is None
    assert queue.peek() is None
    for number in range(70):  # more than are read ahead
        queue.put(str(number))
    assert queue.peek() == b"0"
    assert queue.size() == 70
    half = [queue.get() for _ in range(35)]
    rest = [Queue(client, name).get() for _ in range(5)] + [queue.get() for _ in range(30)]
    assert half + rest == [str(number).encode() for number in range(70)]
    with pytest.raises(TimeoutError):
        queue.get(0.02)


def test_order_is_that_of_the_cluster_not_of_clocks(client: Client, name: str) -> None:
    """An item under an earlier name is behind those that were there before it."""
    queue = Queue(client, name)
    queue.put("first")
    client.put(f"{name}/1", "second")
    assert [queue.get(), queue.get()] == [b"first", b"second"]


def test_every_item_goes_to_one_consumer(client: Client, name: str) -> None:
    """Four consumers, two producers: all items, none twice; the waiting are woken."""
    queue = Queue(client, name)
    taken = [beside(lambda: [Queue(client, name).get(WAIT_S) for _ in range(15)]) for _ in range(4)]

    def produce(start: int) -> None:
        for number in range(30):
            queue.put(str(start + number))

    for thread in [beside(produce, start) for start in (0, 30)]:
        thread.result(WAIT_S)
    got = [int(item) for thread in taken for item in thread.result(WAIT_S)]
    assert sorted(got) == list(range(60))
    for thread in taken:  # of one producer each consumer sees the order
        mine = [int(item) for item in thread.result(WAIT_S)]
        assert [n for n in mine if n < 30] == sorted(n for n in mine if n < 30)


def test_waiting_over_a_compaction(client: Client, name: str) -> None:
    """Who waits does not mind that history is forgotten."""
    queue = Queue(client, name)
    waiting = beside(queue.get, WAIT_S)
    client.compact(client.put(name + "-x").header.revision)
    queue.put("late")
    assert waiting.result(WAIT_S) == b"late"


def test_waiting_for_a_size(client: Client, name: str) -> None:
    """A size is seen when it is reached, from below and from above."""
    queue = Queue(client, name)
    assert queue.wait_size(lambda size: size == 0) == 0
    waiting = beside(queue.wait_size, lambda size: size >= 3, WAIT_S)
    for _ in range(3):
        assert not waiting.done()
        queue.put("x")
    assert waiting.result(WAIT_S) == 3
    empty = beside(queue.wait_size, lambda size: size == 0, WAIT_S)
    for _ in range(3):
        queue.get()
    assert empty.result(WAIT_S) == 0
    with pytest.raises(TimeoutError):
        queue.wait_size(lambda size: size > 5, 0.02)


def test_priorities(client: Client, name: str) -> None:
    """Smallest number first, of equals the oldest; the range of numbers is checked."""
    queue = PriorityQueue(client, name)
    for item, priority in (("c", 5), ("d", 5), ("a", 0), ("e", 65_535), ("b", 4)):
        queue.put(item, priority)
    assert queue.size() == 5
    assert [queue.get() for _ in range(3)] == [b"a", b"b", b"c"]
    queue.put("first", 1)
    assert [queue.try_get() for _ in range(4)] == [b"first", b"d", b"e", None]
    for wrong in (-1, 65_536):
        with pytest.raises(ValueError, match="priority"):
            queue.put("x", wrong)
    with pytest.raises(TimeoutError):
        queue.get(0.02)
    waiting = beside(queue.get, WAIT_S)
    queue.put("woken", 7)
    assert waiting.result(WAIT_S) == b"woken"
    assert queue.wait_size(lambda size: size == 0) == 0


def test_priorities_from_many_threads(client: Client, name: str) -> None:
    """Numbers within a priority are given once."""
    queue = PriorityQueue(client, name)

    def produce(start: int) -> None:
        for number in range(10):
            queue.put(str(start + number), 3)

    for thread in [beside(produce, start) for start in (0, 10, 20)]:
        thread.result(WAIT_S)
    got = [int(queue.get()) for _ in range(30)]
    assert sorted(got) == list(range(30))
    for start in (0, 10, 20):
        mine = [number for number in got if start <= number < start + 10]
        assert mine == sorted(mine)


def test_barrier(client: Client, name: str) -> None:
    """Closed: all wait; open: nobody does."""
    barrier = Barrier(client, name)
    barrier.wait(0.5)
    barrier.hold()
    with pytest.raises(AlreadyThere):
        barrier.hold()
    with pytest.raises(TimeoutError):
        barrier.wait(0.02)
    waiting = [beside(Barrier(client, name).wait, WAIT_S) for _ in range(3)]
    client.compact(client.put(name + "-x").header.revision)
    barrier.release()
    for thread in waiting:
        thread.result(WAIT_S)


def test_double_barrier(client: Client, name: str) -> None:
    """Nobody begins before all are there, nobody ends before all are done; twice over."""
    inside: list[int] = []
    outside: list[int] = []
    with Session(client) as session:

        def work(number: int) -> None:
            barrier = DoubleBarrier(session, name, 3)
            for round_number in range(3):
                barrier.enter(WAIT_S)
                inside.append(round_number)
                assert len(inside) > 3 * round_number
                barrier.leave(WAIT_S)
                outside.append(round_number)
                assert len(inside) >= 3 * (round_number + 1)

        threads = [beside(work, number) for number in range(3)]
        for thread in threads:
            thread.result(WAIT_S)
    assert sorted(outside) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert keys(client, name) == []


def test_double_barrier_waits_and_gives_up(client: Client, name: str) -> None:
    """Too few: TimeoutError and no trace; too many: TooMany; not entered: NotHeld."""
    with Session(client) as session:
        one, two = DoubleBarrier(session, name, 2), DoubleBarrier(session, name, 2)
        with pytest.raises(TimeoutError):
            one.enter(0.02)
        assert keys(client, name) == []
        with pytest.raises(NotHeld):
            one.leave()
        entering = beside(one.enter, WAIT_S)
        until(lambda: len(keys(client, name)) == 1)
        two.enter(WAIT_S)
        entering.result(WAIT_S)
        with pytest.raises(TooMany):
            DoubleBarrier(session, name, 2).enter()
        with pytest.raises(TimeoutError):
            one.leave(0.02)
        leaving = beside(two.leave, WAIT_S)
        one.leave(WAIT_S)
        leaving.result(WAIT_S)
        assert keys(client, name) == []
    with pytest.raises(ValueError, match="count"):
        DoubleBarrier(session, name, 0)


def test_double_barrier_does_not_wait_for_the_dead(client: Client, name: str) -> None:
    """Who dies inside does not keep others from leaving; who dies waiting is told."""
    one, other = Session(client, 2).open(), Session(client).open()
    dying, living = DoubleBarrier(one, name, 2), DoubleBarrier(other, name, 2)
    entering = beside(dying.enter, WAIT_S)
    until(lambda: len(keys(client, name)) == 1)
    living.enter(WAIT_S)
    entering.result(WAIT_S)
    leaving = beside(living.leave, WAIT_S)
    client.revoke(one.lease_id)
    leaving.result(WAIT_S)
    waiting = beside(DoubleBarrier(other, name, 2).enter, WAIT_S)
    until(lambda: len(keys(client, name + "/waiters")) == 1)
    other.close()
    with pytest.raises(SessionExpired):
        waiting.result(WAIT_S)
    one.wait_lost(WAIT_S)
    one.close()


def test_counter_loses_nothing(client: Client, name: str) -> None:
    """Eight threads, two objects: every result once, the sum at the end."""
    counters = (Counter(client, name), Counter(client, name))
    assert counters[0].value() == 0

    def work(number: int) -> list[int]:
        return [counters[number % 2].add() for _ in range(10)]

    results = [n for thread in [beside(work, n) for n in range(8)] for n in thread.result(WAIT_S)]
    assert sorted(results) == list(range(1, 81))
    assert counters[1].add(-30) == 50
    counters[0].set(7)
    assert counters[1].add(0) == 7
    client.delete(name)
    assert counters[1].add(2) == 2
    client.put(name, "many")
    with pytest.raises(ValueError, match="many"):
        counters[0].value()
