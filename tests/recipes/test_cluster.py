"""Recipes on a cluster whose leader is killed again and again (`--long`)."""

import time

import pytest

import corum
from corum.client.errors import ClientError
from corum.client.requests import put
from corum.recipes import Counter, Mirror, Mutex, RecipeError, Session, atomically
from recipes.helping import beside

pytestmark = [pytest.mark.process, pytest.mark.slow]
RUN_S = 40.0
THREADS = 4


def chain_of(client: corum.Client) -> tuple[dict[bytes, bytes], bytes]:
    """Every note with the one it follows, and the last one."""
    links = {kv.key: kv.value for kv in client.scan("chain/", prefix=True)}
    last = client.get("last")
    return links, last.value if last else b""


@pytest.mark.timeout(300)
@pytest.mark.long
def test_exclusion_while_leaders_die() -> None:
    """Guarded notes form one chain, sums are right, a mirror ends up with what there is.

    Calls may fail, and their fate may be unknown; but no note follows one that another follows.
    """
    with corum.LocalCluster(3) as cluster, corum.Client(cluster.endpoints) as client:
        end = time.monotonic() + RUN_S
        done, unknown, failures = [0], [0], [0]

        def work(number: int) -> None:
            mine = corum.Client(cluster.endpoints)
            counter = Counter(mine, "count")
            session: Session | None = None
            turn = 0
            while time.monotonic() < end:
                turn += 1
                try:
                    if session is None or session.lost:
                        session = Session(mine, 5).open()
                    mutex = Mutex(session, "lock")
                    with mutex as token:
                        last = mine.get("last")
                        before = last.value if last else b""
                        note = f"chain/{number}-{turn}"
                        mine.txn([mutex.condition(token)], [put(note, before), put("last", note)])
                    try:
                        counter.add()
                        done[0] += 1
                    except ClientError:
                        unknown[0] += 1
                except (ClientError, RecipeError):
                    failures[0] += 1
                    session = None
            mine.close()

        with Mirror(client, "chain/") as mirror:
            threads = [beside(work, number) for number in range(THREADS)]
            while time.monotonic() < end - 10:
                time.sleep(4)
                leader = cluster.leader()
                cluster.kill(leader)
                time.sleep(2)
                cluster.start(leader)
            for thread in threads:
                thread.result(120)
            links, last = chain_of(client)
            assert len(set(links.values())) == len(links), "two notes follow the same one"
            length = 0
            while last:
                last, length = links[last], length + 1
            assert length == len(links) > 20
            mirror.wait_for(lambda kvs: len(kvs) == len(links), 30)
            assert {kv.value for kv in mirror.snapshot().values()} == set(links.values())
        total = atomically(client, lambda txn: int(txn.get("count") or 0))
        assert done[0] <= total <= done[0] + unknown[0]
        print(f"{length} notes, {total} added, {unknown[0]} unknown, {failures[0]} failures")
