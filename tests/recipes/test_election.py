"""Elections with threads: one leads, others wait, all may look."""

import threading

import pytest

from corum import Client
from corum.client.requests import put
from corum.recipes import Election, Leaders, NotHeld, Observer, Session
from recipes.helping import WAIT_S, beside, keys, until


def test_one_leads_and_the_next_follows(client: Client, name: str) -> None:
    """In the order of their candidacy; each sees its own value at the front; tokens grow."""
    with Session(client) as one, Session(client) as other:
        first, second = Election(one, name), Election(other, name)
        assert first.leader() is None
        token = first.campaign("one")
        waiting = beside(second.campaign, "two")
        until(lambda: len(keys(client, name)) == 2)
        leader = second.leader()
        assert leader is not None
        assert (leader.value, leader.create_revision) == (b"one", token)
        assert leader.key == f"{name}/{one.lease_id:x}".encode()
        assert not second.is_leader
        first.resign()
        assert waiting.result(WAIT_S) > token
        assert second.is_leader
        assert not first.is_leader
        first.resign()
        second.resign()
        assert second.leader() is None
        assert keys(client, name) == []


def test_proclaim_is_for_leaders(client: Client, name: str) -> None:
    """A leader changes its value; who is deposed or never led cannot."""
    with Session(client) as session:
        election = Election(session, name)
        with pytest.raises(NotHeld):
            election.proclaim("x")
        election.campaign("a")
        election.proclaim("b")
        leader = election.leader()
        assert leader is not None
        assert leader.value == b"b"
        client.delete(name, prefix=True)
        with pytest.raises(NotHeld):
            election.proclaim("c")


def test_dead_leader_is_followed_and_fenced(client: Client, name: str) -> None:
    """The lease of the leader goes: the next leads, and the old one's writes are refused."""
    one, other = Session(client, 2).open(), Session(client).open()
    old, new = Election(one, name), Election(other, name)
    old.campaign("old")
    condition = old.condition()
    waiting = beside(new.campaign, "new")
    until(lambda: len(keys(client, name)) == 2)
    client.revoke(one.lease_id)
    waiting.result(WAIT_S)
    assert not client.txn([condition], [put(name + "-data", "stale")])
    assert client.txn([new.condition()], [put(name + "-data", "fresh")])
    one.wait_lost(WAIT_S)
    assert not old.is_leader
    one.close()
    other.close()


def test_campaign_times_out_without_a_trace(client: Client, name: str) -> None:
    """A candidate that gives up is none any more."""
    with Session(client) as one, Session(client) as other:
        Election(one, name).campaign("a")
        with pytest.raises(TimeoutError):
            Election(other, name).campaign("b", timeout_s=0.05)
        assert len(keys(client, name)) == 1


def test_observer_sees_every_leader_and_value(client: Client, name: str) -> None:
    """From nobody over two leaders and a proclamation; closing ends the iteration."""
    seen: list[bytes] = []
    with Session(client) as session, Observer(client, name).observe() as leaders:

        def look() -> None:
            seen.extend(leader.value for leader in leaders)

        with pytest.raises(TimeoutError):
            leaders.receive(0.01)
        looking = beside(look)
        first, second = Election(session, name), Election(session, name)
        first.campaign("a")
        first.proclaim("b")
        until(lambda: seen[-1:] == [b"b"])
        waiting = beside(second.campaign, "c")
        until(lambda: len(keys(client, name)) == 2)
        first.resign()
        waiting.result(WAIT_S)
        until(lambda: seen[-1:] == [b"c"])
        client.compact(client.put(name + "-x").header.revision)
        second.proclaim("d")
        until(lambda: seen[-1:] == [b"d"])
        leaders.close()
        looking.result(WAIT_S)
    assert seen in ([b"a", b"b", b"c", b"d"], [b"b", b"c", b"d"])


def test_closed_before_it_began(client: Client, name: str) -> None:
    """An observation that was closed has no elements."""
    leaders = Observer(client, name).observe()
    leaders.close()
    assert list(leaders) == []
    assert isinstance(leaders, Leaders)


def test_only_one_of_many_leads(client: Client, name: str) -> None:
    """Ten threads campaign, lead for a moment and resign; never two at once."""
    leading = threading.Semaphore(1)
    with Session(client) as one, Session(client) as other:

        def run(number: int) -> None:
            election = Election((one, other)[number % 2], name)
            election.campaign(str(number))
            assert leading.acquire(blocking=False), "two lead"
            client.get(name)
            leading.release()
            election.resign()

        for thread in [beside(run, number) for number in range(10)]:
            thread.result(WAIT_S)
    assert keys(client, name) == []
