"""No v2 request goes into the log while a member may be an etcd that dies of it."""

from typing import Any

import pytest

from corum import errors
from corum.membership.members import Member
from corum.raft import Entry, MemoryStorage
from corum.server import proposals
from corum.server.v2_guard import HELD_MAX, HOLD_NS
from corum.v2store import Event, Request
from corum.values import NS_PER_MS, MemberId
from server.lone import Lone

OTHER = MemberId(0xBEEF)
HOLD_MS = HOLD_NS // NS_PER_MS


class Client:
    """Asks once, and remembers what it was told."""

    def __init__(self, lone: Lone, key: str = "/1/k") -> None:
        self.told: list[Any] = []
        request = Request("PUT", key, "v")
        lone.turn(
            0, lambda: lone.node.v2.propose(request, self, lambda _, it: self.told.append(it))
        )

    def fail(self, error: errors.EtcdError) -> None:
        self.told.append(error)


@pytest.fixture
def lone() -> Lone:
    return Lone()


def add(lone: Lone) -> None:
    """Another member is on the list."""
    lone.node.members.by_id[OTHER] = Member(OTHER, ["http://127.0.0.1:1"])
    lone.turn(0, lone.node.v2.guard.members_changed)


def runs(lone: Lone, version: str, *, corum: bool = False) -> None:
    lone.turn(0, lambda: lone.node.v2.guard.member_runs(OTHER, version, corum=corum))


def publishes(lone: Lone) -> None:
    """The other member tells its address."""
    lone.node.members.by_id[OTHER].client_urls[:] = ["http://127.0.0.1:2"]
    lone.node.v2.member_named(OTHER, "other", ["http://127.0.0.1:2"])


def carried_out(client: Client) -> bool:
    assert len(client.told) == 1, client.told
    return isinstance(client.told[0], Event)


def forget(lone: Lone) -> None:
    """As after a restart: the same list, nothing heard."""
    lone.node.members.by_id.pop(OTHER, None)
    lone.node.v2.guard.members_changed()
    lone.turn(2 * HOLD_MS)


@pytest.mark.parametrize(
    ("version", "corum"), [("3.5.1", False), ("3.7.0", True), ("3.4.45", True)]
)
def test_a_request_waits_for_what_a_new_member_runs(lone: Lone, version: str, corum: bool) -> None:
    """It goes on as soon as the member is known to take it."""
    add(lone)
    client = Client(lone)
    lone.turn(HOLD_MS // 2)
    assert not client.told
    runs(lone, version, corum=corum)
    assert carried_out(client)
    assert carried_out(Client(lone))


def test_it_is_refused_when_the_member_would_die_of_it(lone: Lone) -> None:
    """Until that member is gone."""
    add(lone)
    waiting = Client(lone)
    runs(lone, "3.7.3")
    assert "runs etcd 3.7.3" in str(waiting.told)
    with pytest.raises(errors.EtcdError, match=r"runs etcd 3\.7\.3"):
        Client(lone)
    forget(lone)
    assert carried_out(Client(lone))


def test_it_is_refused_when_nothing_is_heard(lone: Lone) -> None:
    """Nobody waits for ever, and who comes later does not wait at all."""
    add(lone)
    client = Client(lone)
    lone.turn(HOLD_MS + 1)
    lone.turn(1_000)
    assert "was not reached yet" in str(client.told)
    with pytest.raises(errors.EtcdError, match="was not reached yet"):
        Client(lone)


def test_the_wait_begins_with_the_process(lone: Lone) -> None:
    """The list is looked at before the first turn, when the node does not know the time yet."""
    lone.now_ns += HOLD_NS + 1
    lone.node.members.by_id[OTHER] = Member(OTHER, ["http://127.0.0.1:1"])
    lone.node.v2.guard.members_changed()
    client = Client(lone)
    assert not client.told
    runs(lone, "3.5.1")
    assert carried_out(client)


def test_who_waited_is_refused_when_there_is_no_room(
    lone: Lone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As who comes then; the member goes on."""
    add(lone)
    clients = [Client(lone), Client(lone)]
    monkeypatch.setattr(proposals, "PENDING_MAX", 1)
    runs(lone, "3.5.1")
    assert carried_out(clients[0])
    assert "too many requests" in str(clients[1].told)


def test_the_log_is_searched_once(lone: Lone, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are refused while a member has not started yet."""
    add(lone)
    searched: list[int] = []
    entries = MemoryStorage.entries

    def counted(storage: MemoryStorage, low: int, high: int) -> list[Entry]:
        searched.append(high - low)
        return entries(storage, low, high)

    monkeypatch.setattr(MemoryStorage, "entries", counted)
    for _ in range(3):
        assert not Client(lone).told
    assert len(searched) == 1, searched


def test_only_so_many_wait(lone: Lone) -> None:
    """The queue has a bound."""
    add(lone)
    clients = [Client(lone) for _ in range(HELD_MAX)]
    with pytest.raises(errors.EtcdError):
        Client(lone)
    runs(lone, "3.5.1")
    assert all(carried_out(client) for client in clients)


def test_who_never_started_is_waited_for_only_where_v2_is_not_in_use(lone: Lone) -> None:
    """The log that it begins with would be its end already."""
    Client(lone)
    add(lone)
    assert carried_out(Client(lone))
    publishes(lone)
    forget(lone)
    lone.node.members.by_id[OTHER] = Member(OTHER, ["http://u:1"], "o", ["http://127.0.0.1:2"])
    lone.node.v2.guard.members_changed()
    assert not Client(lone).told


def test_who_lived_through_one_lives_through_the_next(lone: Lone) -> None:
    """A member that is down while we start again does not stop v2 in a cluster that uses it."""
    add(lone)
    publishes(lone)
    runs(lone, "3.7.0", corum=True)
    assert carried_out(Client(lone))
    forget(lone)
    add(lone)
    publishes_again = Client(lone)
    assert carried_out(publishes_again)
    publishes(lone)  # it was started anew, perhaps as something else
    assert not Client(lone).told


def test_expiry_waits_too(lone: Lone) -> None:
    """The leader's SYNC is a v2 request."""
    due = Request("PUT", "/1/t", "v", expiration_ns=lone.unix_time_ns() + NS_PER_MS)
    lone.turn(0, lambda: lone.node.v2.propose(due, None, lambda *_: None))
    add(lone)
    runs(lone, "3.6.0")
    lone.turn(2_000)
    assert lone.node.v2.store.has_ttl_keys
    runs(lone, "3.5.1")
    lone.turn(2_000)
    assert not lone.node.v2.store.has_ttl_keys
