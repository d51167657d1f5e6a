"""Mutual exclusion and order while leases end at any moment, and over a restart of the member."""

import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

import corum
from corum import Client
from corum.client.errors import ClientError
from corum.client.requests import put
from corum.recipes import Mutex, Queue, RecipeError, Semaphore, Session
from oracle import servers
from recipes.helping import WAIT_S, beside, keys, until


class Resource:
    """Something outside etcd that looks at fencing tokens: it refuses those from before."""

    def __init__(self) -> None:
        self.largest = 0
        self.accepted: list[int] = []

    def use(self, token: int) -> bool:
        if token < self.largest:
            return False
        self.largest = token
        self.accepted.append(token)
        return True


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),  # whose session
            st.sampled_from(["work", "die", "die early", "give up"]),
        ),
        min_size=2,
        max_size=6,
    )
)
def test_mutual_exclusion_while_holders_die(
    stm_client: Client, workers: list[tuple[int, str]]
) -> None:
    """Guarded writes are those of one holder after another, whoever dies when.

    Every worker takes the lock, notes who was the last, and writes itself, under the lock's
    condition. Some have their lease revoked while they hold or wait, some give up. The notes must
    form a chain: a write between a holder's read and its write would break it.
    """
    name = f"expiry/{time.monotonic_ns()}"
    made = [Session(stm_client, 2).open() for _ in range(3)]
    resource = Resource()

    def run(number: int) -> bool:
        session = made[workers[number][0]]
        what = workers[number][1]
        mutex = Mutex(session, name)
        try:
            if what == "die early":
                stm_client.revoke(session.lease_id)
            token = mutex.acquire(0.02 if what == "give up" else WAIT_S)
            found = stm_client.get(name + "-last")
            before = found.value if found else b""
            if what == "die":
                stm_client.revoke(session.lease_id)
            chain = put(name + f"-chain/{number}", before)
            last = put(name + "-last", str(number))
            done = stm_client.txn([mutex.condition()], [chain, last])
            if done:
                assert what != "die"
                assert resource.use(token)
            mutex.release()
            return bool(done)
        except (RecipeError, TimeoutError, ClientError):
            return False

    threads = [beside(run, number) for number in range(len(workers))]
    wrote = {str(n).encode() for n, thread in enumerate(threads) if thread.result(WAIT_S)}
    links = {
        kv.key.rpartition(b"/")[2]: kv.value
        for kv in stm_client.range(name + "-chain/", prefix=True)
    }
    assert set(links) == wrote
    followed: list[bytes] = []
    found = stm_client.get(name + "-last")
    link = found.value if found else b""
    while link:
        followed.append(link)
        link = links[link]
    assert set(followed) == wrote
    assert len(followed) == len(wrote)
    assert resource.accepted == sorted(resource.accepted)
    for session in made:
        session.close()
    assert keys(stm_client, name + "/") == []


@settings(max_examples=10)
@given(st.lists(st.booleans(), min_size=3, max_size=8), st.integers(1, 3))
def test_semaphores_are_filled_up_again(stm_client: Client, dying: list[bool], limit: int) -> None:
    """When some who hold or wait die, all others get their turn, never more than the limit."""
    name = f"fill/{time.monotonic_ns()}"
    made = [Session(stm_client).open() for _ in dying]
    semaphores = [Semaphore(session, name, limit) for session in made]
    threads = []
    for number, semaphore in enumerate(semaphores):
        threads.append(beside(semaphore.acquire))
        until(lambda n=number: len(keys(stm_client, name)) == n + 1)
    for number, dies in enumerate(dying):
        if dies:
            stm_client.revoke(made[number].lease_id)
    living = [number for number, dies in enumerate(dying) if not dies]
    for position, number in enumerate(living):
        threads[number].result(WAIT_S)
        until(lambda p=position: len(keys(stm_client, name)) == len(living) - p)
        holding = [n for n in living[position:] if semaphores[n].held]
        assert len(holding) <= limit
        assert holding == living[position : position + len(holding)]
        semaphores[number].release()
    for session in made:
        session.close()
    for thread in threads:
        assert thread.exception(WAIT_S) is None or isinstance(thread.exception(), RecipeError)


def test_waiting_outlives_a_restart_of_the_member(tmp_path: Path) -> None:
    """Holder, waiter and consumer go on when the only member was away for a moment."""
    url = f"http://127.0.0.1:{servers.free_port()}"
    member = corum.Member(tmp_path / "data", client_url=url).start()
    with Client(member.endpoint, timeout_s=20) as client, Session(client, 30) as session:
        mutex, queue = Mutex(session, "m"), Queue(client, "q")
        token = mutex.acquire()
        waiting = beside(Mutex(session, "m").acquire)
        taking = beside(queue.get)
        until(lambda: len(keys(client, "m")) == 2)
        member.stop()
        member.start()
        until(lambda: client.put("q-x"))
        assert client.txn([mutex.condition()], [put("guarded", "x")])
        assert not waiting.done()
        mutex.release()
        assert waiting.result(WAIT_S) > token
        queue.put("item")
        assert taking.result(WAIT_S) == b"item"
        assert not session.lost
    member.stop()
