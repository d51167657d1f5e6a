"""Sessions and locks, with threads: who holds, who waits, and who is out."""

import signal
import threading

import pytest

from corum import Client
from corum.client.errors import DeadlineExceeded
from corum.client.requests import put
from corum.recipes import (
    Mutex,
    NotHeld,
    ReadWriteLock,
    Semaphore,
    Session,
    SessionExpired,
)
from recipes.helping import WAIT_S, beside, keys, until


def test_keys_go_with_the_session(client: Client, name: str) -> None:
    """Closing revokes the lease, so everything under it is gone at once."""
    with Session(client, 60) as session:
        client.put(name, "x", lease=session.lease_id)
        assert session.ttl_s == 60
        assert not session.lost
    assert session.lost
    assert client.get(name) is None


def test_orphaned_session_leaves_its_keys(client: Client, name: str) -> None:
    """An orphan's lease is not renewed, but not revoked either."""
    session = Session(client, 60).open()
    client.put(name, "x", lease=session.lease_id)
    session.orphan()
    assert session.lost
    assert client.get(name) is not None
    client.revoke(session.lease_id)


def test_end_of_a_session_is_told(client: Client) -> None:
    """A lease that vanished (here: revoked by somebody else) ends the session of its owner."""
    session = Session(client, 2).open()
    with pytest.raises(TimeoutError):
        session.wait_lost(0.01)
    client.revoke(session.lease_id)
    session.wait_lost(WAIT_S)
    assert session.lost
    with pytest.raises(SessionExpired):
        Mutex(session, "x").acquire()
    session.close()


def test_mutex_excludes_and_serves_in_order(client: Client, name: str) -> None:
    """Threads of one session and of others hold one after another, as they came; tokens grow."""
    order: list[int] = []
    tokens: list[int] = []
    holders = threading.Semaphore(1)
    with Session(client) as one, Session(client) as other:
        first = Mutex(one, name)
        first.acquire()

        def hold(number: int) -> None:
            mutex = Mutex(one if number % 2 else other, name)
            with mutex as token:
                assert holders.acquire(blocking=False), "two hold at once"
                order.append(number)
                tokens.append(token)
                holders.release()

        waiting = []
        for number in range(6):
            waiting.append(beside(hold, number))
            until(lambda: len(keys(client, name)) == number + 2)  # noqa: B023
        assert order == []
        first.release()
        for thread in waiting:
            thread.result(WAIT_S)
    assert order == [0, 1, 2, 3, 4, 5]
    assert tokens == sorted(tokens)
    assert keys(client, name) == []


def test_one_mutex_shared_by_threads(client: Client, name: str) -> None:
    """One object, eight threads, a counter that only a lock keeps right."""
    with Session(client) as session:
        mutex = Mutex(session, name)
        total = 0

        def work() -> None:
            nonlocal total
            for _ in range(5):
                with mutex:
                    seen = total
                    client.get(name)
                    total = seen + 1

        for thread in [beside(work) for _ in range(8)]:
            thread.result(WAIT_S)
        assert total == 40
        assert not mutex.held
        assert keys(client, name) == []


def test_try_acquire_does_not_wait(client: Client, name: str) -> None:
    """None and no trace while another one holds."""
    with Session(client) as one, Session(client) as other:
        mine, theirs = Mutex(one, name), Mutex(other, name)
        assert mine.try_acquire() is not None
        assert theirs.try_acquire() is None
        assert len(keys(client, name)) == 1
        mine.release()
        assert theirs.try_acquire() is not None
        assert theirs.held


def test_timeout_leaves_no_place(client: Client, name: str) -> None:
    """Who gives up waiting keeps nobody waiting."""
    with Session(client) as one, Session(client) as other:
        mine = Mutex(one, name)
        with mine:
            before = keys(client, name)
            with pytest.raises(TimeoutError):
                Mutex(other, name).acquire(0.05)
            assert keys(client, name) == before
        with Mutex(other, name):
            pass


def test_dead_holder_is_followed(client: Client, name: str) -> None:
    """When the holder's lease is gone the next one holds; the old one's condition fails."""
    one, other = Session(client, 2).open(), Session(client).open()
    mine, theirs = Mutex(one, name), Mutex(other, name)
    mine.acquire()
    condition = mine.condition()
    waiting = beside(theirs.acquire)
    until(lambda: len(keys(client, name)) == 2)
    client.revoke(one.lease_id)
    waiting.result(WAIT_S)
    assert theirs.held
    assert not client.txn([condition], [put(name + "-data", "stale")])
    assert client.txn([theirs.condition()], [put(name + "-data", "fresh")])
    one.wait_lost(WAIT_S)
    assert not mine.held
    other.close()
    one.close()


def test_waiter_whose_session_ends_is_told(client: Client, name: str) -> None:
    """It does not wait for a turn that cannot come, and does not hold when the holder goes."""
    one, other = Session(client).open(), Session(client, 2).open()
    holder = Mutex(one, name)
    holder.acquire()
    waiting = beside(Mutex(other, name).acquire)
    until(lambda: len(keys(client, name)) == 2)
    client.revoke(other.lease_id)
    with pytest.raises(SessionExpired):
        waiting.result(WAIT_S)
    closing = beside(Mutex(one, name).acquire)
    until(lambda: len(keys(client, name)) == 2)
    one.close()
    with pytest.raises(SessionExpired):
        closing.result(WAIT_S)
    other.close()


def test_interrupted_waiter_leaves_no_place(client: Client, name: str) -> None:
    """Ctrl-C while waiting: KeyboardInterrupt, and nobody waits for who was interrupted."""
    with Session(client) as session:
        mutex = Mutex(session, name)
        mutex.acquire()

        def interrupt() -> None:
            until(lambda: len(keys(client, name)) == 2)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        interrupting = beside(interrupt)
        with pytest.raises(KeyboardInterrupt):
            mutex.acquire()
        interrupting.result(WAIT_S)
        assert len(keys(client, name)) == 1
        mutex.release()
        with mutex:
            pass


def test_waiter_in_the_middle_gives_up(client: Client, name: str) -> None:
    """Who waits behind somebody who gives up still waits for the holder."""
    with Session(client) as session:
        first, third = Mutex(session, name), Mutex(session, name)
        first.acquire()
        second = beside(Mutex(session, name).acquire, 0.5)
        until(lambda: len(keys(client, name)) == 2)
        last = beside(third.acquire)
        with pytest.raises(TimeoutError):
            second.result(WAIT_S)
        assert not third.held
        first.release()
        last.result(WAIT_S)
        assert third.held


def test_place_that_cannot_be_given_back_is_swept(
    client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Released while nobody answers: free as soon as somebody does, and not used till then."""
    with Session(client) as session:
        mutex = Mutex(session, name)
        mutex.acquire()

        def unanswered(*_: object, **__: object) -> None:
            raise DeadlineExceeded("context deadline exceeded")

        with monkeypatch.context() as patched:
            patched.setattr(client, "delete", unanswered)
            mutex.release()
            assert not mutex.held
            assert len(keys(client, name)) == 1
            waiting = beside(mutex.acquire)
            until(lambda: len(keys(client, name)) == 2)
        waiting.result(WAIT_S)
        assert mutex.held
        assert len(keys(client, name)) == 1
        mutex.release()
        mutex.acquire()
        assert keys(client, name) == [f"{name}/{session.lease_id:x}".encode()]


def test_wrong_release(client: Client, name: str) -> None:
    """Not held: NotHeld, and no condition."""
    with Session(client) as session:
        mutex = Mutex(session, name)
        with pytest.raises(NotHeld):
            mutex.release()
        with pytest.raises(NotHeld):
            mutex.condition()


def test_waiting_over_a_compaction(client: Client, name: str) -> None:
    """A waiter whose watch would begin in forgotten history looks again."""
    with Session(client) as one, Session(client) as other:
        mine, theirs = Mutex(one, name), Mutex(other, name)
        mine.acquire()
        waiting = beside(theirs.acquire)
        until(lambda: len(keys(client, name)) == 2)
        client.compact(client.put(name + "-x").header.revision)
        mine.release()
        waiting.result(WAIT_S)


def test_semaphore_lets_so_many_in(client: Client, name: str) -> None:
    """Never more than the limit; any release lets the longest waiting in."""
    with Session(client) as one, Session(client) as other:
        semaphore = Semaphore(one, name, 2)
        inside, most = 0, 0
        lock = threading.Lock()

        def work(session: Session) -> None:
            nonlocal inside, most
            with Semaphore(session, name, 2):
                with lock:
                    inside += 1
                    most = max(most, inside)
                client.get(name)
                with lock:
                    inside -= 1

        for thread in [beside(work, (one, other)[n % 2]) for n in range(10)]:
            thread.result(WAIT_S)
        assert most == 2
        first, second = semaphore.acquire(), semaphore.acquire()
        assert first < second
        assert semaphore.try_acquire() is None
        third = beside(semaphore.acquire)
        until(lambda: len(keys(client, name)) == 3)
        semaphore.release()
        third.result(WAIT_S)
        assert semaphore.held


def test_each_holder_has_its_own_token(client: Client, name: str) -> None:
    """Of several holds of one object each is released, and guarded, by itself."""
    with Session(client) as session:
        semaphore = Semaphore(session, name, 3)
        first, second = semaphore.acquire(), semaphore.acquire()
        one, two = semaphore.condition(first), semaphore.condition()
        semaphore.release(first)
        assert not client.txn([one], [])
        assert client.txn([two], [])
        with pytest.raises(NotHeld):
            semaphore.release(first)
        leave = threading.Event()

        def hold() -> int:
            with semaphore as token:
                assert leave.wait(WAIT_S)
                return token

        other = beside(hold)
        until(lambda: len(keys(client, name)) == 2)
        with semaphore as token:
            leave.set()
            other.result(WAIT_S)
            assert client.txn([semaphore.condition(token)], [])
        assert client.txn([semaphore.condition(second)], [])
        assert len(keys(client, name)) == 1


def test_semaphore_of_the_dead(client: Client, name: str) -> None:
    """A dead holder's place is free again."""
    one = Session(client, 2).open()
    Semaphore(one, name, 2).acquire()
    with Session(client) as other:
        semaphore = Semaphore(other, name, 2)
        semaphore.acquire()
        waiting = beside(semaphore.acquire)
        until(lambda: len(keys(client, name)) == 3)
        client.revoke(one.lease_id)
        waiting.result(WAIT_S)
    one.close()


def test_readers_together_writers_alone(client: Client, name: str) -> None:
    """Readers share; a writer waits for all of them, and later readers wait for the writer."""
    with Session(client) as session:
        lock = ReadWriteLock(session, name)
        lock.reader.acquire()
        lock.reader.acquire()
        assert lock.writer.try_acquire() is None
        writing = beside(lock.writer.acquire)
        until(lambda: len(keys(client, name)) == 3)
        assert lock.reader.try_acquire() is None
        reading = beside(lock.reader.acquire)
        until(lambda: len(keys(client, name)) == 4)
        lock.reader.release()
        assert not writing.done()
        lock.reader.release()
        writing.result(WAIT_S)
        assert lock.writer.held
        assert not reading.done()
        lock.writer.release()
        reading.result(WAIT_S)
        with pytest.raises(TimeoutError):
            lock.writer.acquire(0.02)
        lock.reader.release()
        assert keys(client, name) == []
