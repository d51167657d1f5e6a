"""Locks and elections of a member: who waits, who is next, and what is left when a client goes."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

import corum
from auth_server.talk import Talk
from corum.api.v3.concurrency import UNSENT_MAX, Errand
from corum.errors import EtcdError
from oracle.rpc import Refused

pytestmark = pytest.mark.process

LOCK, ELECTION = "/v3lockpb.Lock/", "/v3electionpb.Election/"
NOT_LEADER = Refused("UNKNOWN", "election: not leader")


@pytest.fixture
def member() -> Iterator[corum.Member]:
    with corum.Member(bcrypt_cost=4) as member:
        yield member


@pytest.fixture
def talk(member: corum.Member) -> Iterator[Talk]:
    with Talk(member.endpoint) as talk:
        yield talk


def grant(talk: Talk, lease: int, ttl_s: int = 60) -> int:
    talk.call("Lease/LeaseGrant", ID=lease, TTL=ttl_s)
    return lease


def keys(talk: Talk) -> list[bytes]:
    found = talk.call("KV/Range", key=b"\0", range_end=b"\0", sort_target="CREATE")
    return [kv.key for kv in found.kvs]


def until(talk: Talk, wanted: list[bytes]) -> None:
    """Until exactly these keys exist; every look is a round trip, so this is no busy wait."""
    for _ in range(5_000):
        found = keys(talk)
        if found == wanted:
            return
    raise AssertionError(f"{found}, not {wanted}")


def waiting(talk: Talk, path: str, lease: int, known: list[bytes], **fields: Any) -> Any:
    """A call that waits behind `known` keys, when its own key is there."""
    future = talk.future(path, name=b"n", lease=lease, **fields)
    until(talk, [*known, b"n/%x" % lease])
    return future


def test_a_free_lock_is_had_at_once(talk: Talk) -> None:
    """Its key is the name and the lease in hex, and it lives as long as the lease."""
    answer = talk.call(LOCK + "Lock", name=b"n", lease=grant(talk, 0xABC))
    assert answer.key == b"n/abc"
    assert answer.header.revision == 2
    assert answer.header.member_id
    assert talk.call("KV/Range", key=b"n/abc").kvs[0].lease == 0xABC
    again = talk.call(LOCK + "Lock", name=b"n", lease=0xABC)
    assert (again.key, again.header.revision) == (b"n/abc", 2)
    talk.call("Lease/LeaseRevoke", ID=0xABC)
    assert keys(talk) == []


def test_a_lock_without_lease_gets_one_of_a_minute(talk: Talk) -> None:
    """Which nobody keeps alive."""
    answer = talk.call(LOCK + "Lock", name=b"n")
    lease = int(answer.key.removeprefix(b"n/"), 16)
    found = talk.call("Lease/LeaseTimeToLive", ID=lease, keys=True)
    assert (found.grantedTTL, list(found.keys)) == (60, [answer.key])


def test_the_lock_goes_on_in_the_order_of_asking(talk: Talk) -> None:
    """Three wait; each release wakes the next one, and it only."""
    order = [b"n/1"]
    talk.call(LOCK + "Lock", name=b"n", lease=grant(talk, 1))
    waiters = []
    for lease in (4, 3, 2):
        waiters.append(waiting(talk, LOCK + "Lock", grant(talk, lease), order))
        order.append(b"n/%x" % lease)
    for held, waiter in zip((1, 4, 3), waiters, strict=True):
        assert not any(each.done() for each in waiters[waiters.index(waiter) :])
        released = talk.call(LOCK + "Unlock", key=b"n/%x" % held)
        answer = waiter.result(10)
        assert answer.header.revision >= released.header.revision
    assert keys(talk) == [b"n/2"]


def test_a_waiter_in_the_middle_that_leaves(talk: Talk) -> None:
    """Takes its key with it; who is behind it still waits for the holder."""
    talk.call(LOCK + "Lock", name=b"n", lease=grant(talk, 1))
    middle = waiting(talk, LOCK + "Lock", grant(talk, 2), [b"n/1"])
    last = waiting(talk, LOCK + "Lock", grant(talk, 3), [b"n/1", b"n/2"])
    middle.cancel()
    until(talk, [b"n/1", b"n/3"])
    assert not last.done()
    talk.call(LOCK + "Unlock", key=b"n/1")
    assert last.result(10).key == b"n/3"


def test_a_waiter_whose_time_is_up(talk: Talk, member: corum.Member) -> None:
    """Hears its deadline, leaves no key behind, and no call under way."""
    talk.call(LOCK + "Lock", name=b"n", lease=grant(talk, 1))
    late = talk.call(LOCK + "Lock", timeout_s=0.2, name=b"n", lease=grant(talk, 2))
    assert late.code == "DEADLINE_EXCEEDED"
    until(talk, [b"n/1"])
    assert member._runtime.node.long_calls == {}
    assert not member._runtime.node.applier.listeners.waiting


def test_a_holder_whose_lease_is_revoked(talk: Talk) -> None:
    """Loses the lock to the next; a waiter whose own lease is gone when its turn comes is told."""
    talk.call(LOCK + "Lock", name=b"n", lease=grant(talk, 1))
    second = waiting(talk, LOCK + "Lock", grant(talk, 2), [b"n/1"])
    third = waiting(talk, LOCK + "Lock", grant(talk, 3), [b"n/1", b"n/2"])
    talk.call("Lease/LeaseRevoke", ID=3)
    talk.call("Lease/LeaseRevoke", ID=1)
    assert second.result(10).key == b"n/2"
    talk.call("Lease/LeaseRevoke", ID=2)
    with pytest.raises(grpc.RpcError) as error:
        third.result(10)
    assert error.value.details() == "mutex: session is expired"


def test_names_within_names_share_a_lock(talk: Talk) -> None:
    """All keys below `<name>/` count, as for etcd's clients; other names do not."""
    inner = talk.call(LOCK + "Lock", name=b"n/in", lease=grant(talk, 1))
    assert talk.call(LOCK + "Lock", name=b"m", lease=1).key == b"m/1"
    assert talk.call(LOCK + "Lock", name=b"nn", lease=1).key == b"nn/1"
    outer = talk.future(LOCK + "Lock", name=b"n", lease=grant(talk, 2))
    until(talk, [inner.key, b"m/1", b"nn/1", b"n/2"])
    assert not outer.done()
    talk.call(LOCK + "Unlock", key=inner.key)
    assert outer.result(10).key == b"n/2"


def test_elections_go_on_as_locks_do(talk: Talk) -> None:
    """The first leads at once, the next when it resigns; the value is what it came with."""
    first = talk.call(ELECTION + "Campaign", name=b"n", lease=grant(talk, 1), value=b"one")
    assert (first.leader.key, first.leader.rev, first.leader.lease) == (b"n/1", 2, 1)
    second = waiting(talk, ELECTION + "Campaign", grant(talk, 2), [b"n/1"], value=b"two")
    assert talk.call(ELECTION + "Leader", name=b"n").kv.value == b"one"
    talk.call(ELECTION + "Proclaim", leader=first.leader, value=b"uno")
    assert talk.call(ELECTION + "Leader", name=b"n").kv.value == b"uno"
    assert talk.call(ELECTION + "Resign", leader=first.leader).header.revision == 5
    assert second.result(10).leader.key == b"n/2"
    assert talk.call(ELECTION + "Proclaim", leader=first.leader, value=b"x") == NOT_LEADER
    assert not isinstance(talk.call(ELECTION + "Resign", leader=first.leader), Refused)
    assert keys(talk) == [b"n/2"]


def test_campaigning_again_proclaims(talk: Talk) -> None:
    """With the same lease; the leader key stays the old one."""
    first = talk.call(ELECTION + "Campaign", name=b"n", lease=grant(talk, 1), value=b"1")
    again = talk.call(ELECTION + "Campaign", name=b"n", lease=1, value=b"2")
    assert again.leader == first.leader
    assert talk.call(ELECTION + "Leader", name=b"n").kv.value == b"2"


def test_a_candidate_whose_key_is_gone_is_not_elected(talk: Talk) -> None:
    """Its lease ran out while it waited."""
    first = talk.call(ELECTION + "Campaign", name=b"n", lease=grant(talk, 1), value=b"1")
    second = waiting(talk, ELECTION + "Campaign", grant(talk, 2), [b"n/1"], value=b"2")
    talk.call("Lease/LeaseRevoke", ID=2)
    talk.call(ELECTION + "Resign", leader=first.leader)
    with pytest.raises(grpc.RpcError) as error:
        second.result(10)
    assert error.value.details() == NOT_LEADER.text


def test_observers_hear_every_word(talk: Talk) -> None:
    """The first leader although there was none yet, what it proclaims, and its successors."""
    heard = talk.stream(ELECTION + "Observe", name=b"n")
    talk.call("KV/Put", key=b"n/-not yet", value=b"")
    talk.call("KV/DeleteRange", key=b"n/-not yet")
    first = talk.call(ELECTION + "Campaign", name=b"n", lease=grant(talk, 1), value=b"1")
    second = waiting(talk, ELECTION + "Campaign", grant(talk, 2), [b"n/1"], value=b"2")
    talk.call(ELECTION + "Proclaim", leader=first.leader, value=b"1a")
    talk.call(ELECTION + "Proclaim", leader=first.leader, value=b"1b")
    talk.call(ELECTION + "Resign", leader=first.leader)
    second.result(10)
    values: list[bytes] = []
    for answer in heard:
        values += [answer.kv.value] if answer.kv.key != b"n/-not yet" else []
        if answer.kv.value == b"2":
            break
    assert values == [b"1", b"1a", b"1b", b"2"]
    heard.cancel()


def test_an_observer_that_comes_late(talk: Talk) -> None:
    """Hears the present leader's last word first."""
    talk.call(ELECTION + "Campaign", name=b"n", lease=grant(talk, 1), value=b"1")
    heard = talk.stream(ELECTION + "Observe", name=b"n")
    assert next(heard).kv.value == b"1"
    talk.call("Lease/LeaseRevoke", ID=1)
    talk.call(ELECTION + "Campaign", name=b"n", lease=grant(talk, 2), value=b"2")
    assert next(heard).kv.key == b"n/2"
    heard.cancel()


def test_the_callers_own_rights_count(talk: Talk) -> None:
    """A recipe does what its caller may do; refusals are Unknown, as etcd's."""
    _, token = talk.with_users()
    assert talk.call(LOCK + "Lock", token, name=b"a").key.startswith(b"a/")
    for path in (LOCK + "Lock", ELECTION + "Campaign", ELECTION + "Leader"):
        assert talk.call(path, token, name=b"x") == Refused(
            "UNKNOWN", "etcdserver: permission denied"
        )
        assert talk.call(path, name=b"a") == Refused("UNKNOWN", "etcdserver: user name is empty")
        assert talk.call(path, "no", name=b"a") == Refused(
            "UNKNOWN", "etcdserver: invalid auth token"
        )


def test_by_the_gateway(member: corum.Member, talk: Talk) -> None:
    """Locks and elections as JSON; an observation is a stream of lines; leaving unlocks."""
    host, _, port = member.endpoint.rpartition(":")
    name = base64.b64encode(b"n").decode()

    def post(path: str, **body: Any) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        connection.request("POST", path, json.dumps(body))
        connections.append(connection)
        return connection.getresponse()

    connections: list[http.client.HTTPConnection] = []
    key = json.loads(post("/v3/lock/lock", name=name).read())["key"]
    assert "header" in json.loads(post("/v3/lock/unlock", key=key).read())
    missing = post("/v3/election/leader", name=name)
    assert (missing.status, json.loads(missing.read())["message"]) == (500, "election: no leader")
    value = base64.b64encode(b"me").decode()
    post("/v3/election/campaign", name=name, value=value).read()
    line = post("/v3/election/observe", name=name).readline()
    assert json.loads(line)["result"]["kv"]["value"] == value
    for connection in connections:
        connection.close()


def test_a_member_that_stops_lets_its_waiters_go(member: corum.Member) -> None:
    """With etcd's word for it."""
    with Talk(member.endpoint) as talk:
        talk.call(LOCK + "Lock", name=b"n", lease=grant(talk, 1))
        waiter = waiting(talk, LOCK + "Lock", grant(talk, 2), [b"n/1"])
        member.stop()
        with pytest.raises(grpc.RpcError) as error:
            waiter.result(10)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE


def test_an_observer_that_does_not_read_is_bounded(member: corum.Member) -> None:
    """So much is kept for it in order; then its call ends."""
    node = member._runtime.node
    errand = Errand(node, 1, None)
    errand.blocked()
    for number in range(UNSENT_MAX):
        errand.send(b"%d" % number)
    with pytest.raises(EtcdError, match="observe closed early"):
        errand.send(b"one too many")
    node.out.messages, sent = [], node.out.messages
    errand.writable()
    node.out.messages, kept = sent, node.out.messages
    assert kept == [(1, b"%d" % number) for number in range(UNSENT_MAX)]
