"""What follows a range: mirror, configuration, services, liveness; signals and tasks."""

import json

import pytest

from corum import Client
from corum.client.errors import ClientError, Compacted
from corum.client.requests import delete, put
from corum.client.results import Event, KeyValue
from corum.recipes import (
    Config,
    Heartbeat,
    Instance,
    LeastLoaded,
    Mirror,
    Monitor,
    NotHeld,
    Presence,
    RecipeError,
    Registration,
    RoundRobin,
    Services,
    Session,
    SessionExpired,
    Signal,
    Tasks,
    instance_of,
    publish,
)
from corum.recipes.range_state import RangeState, Unseen
from recipes.helping import WAIT_S, beside, until


def kv(key: bytes, content: bytes, revision: int) -> KeyValue:
    return KeyValue(key, content, revision, revision, 1, 0)


def test_unseen_changes_are_at_most_one_per_key() -> None:
    """Coming and going unseen is nothing; what is left is from first to last."""
    state, unseen = RangeState(), Unseen()
    unseen.add(state.load([kv(b"a", b"1", 1)], 1))
    unseen.add(state.apply([Event(False, kv(b"b", b"1", 2), None)]))
    unseen.add(state.apply([Event(True, kv(b"b", b"", 3), None)]))
    unseen.add(state.apply([Event(False, kv(b"a", b"2", 4), None)]))
    (change,) = unseen.take()
    assert (change.key, change.old) == (b"a", None)
    assert change.new is not None
    assert change.new.value == b"2"
    assert not unseen
    unseen.add(state.load([kv(b"c", b"1", 9)], 9))
    assert {(c.key, c.old is None, c.new is None) for c in unseen.take()} == {
        (b"a", False, True),
        (b"c", True, False),
    }
    assert state.revision == 9


def test_mirror_is_current_and_whole(client: Client, name: str) -> None:
    """Keys of one transaction are seen together; changes are told; a snapshot is one's own."""
    client.put(f"{name}/a", "0")
    client.put(f"{name}/b", "0")
    with Mirror(client, f"{name}/") as mirror:
        assert len(mirror) == 2
        assert f"{name}/a" in mirror
        changes = mirror.changes()

        def write() -> None:
            for n in range(1, 200):
                client.txn([], [put(f"{name}/a", str(n)), put(f"{name}/b", str(n))])

        writing = beside(write)
        while not writing.done():
            seen = mirror.snapshot()
            assert len({one.value for one in seen.values()}) == 1
        writing.result()
        done = client.txn([], [delete(f"{name}/a"), put(f"{name}/c", "1")])
        mirror.wait_revision(done.header.revision, WAIT_S)
        assert mirror.revision == done.header.revision
        assert mirror.get(f"{name}/a") is None
        told = {change.key[-1:]: change for change in changes.receive(WAIT_S)}
        assert set(told) == {b"a", b"b", b"c"}
        assert told[b"a"].new is None
        assert next_value(told[b"b"].new) == b"199"
        with pytest.raises(TimeoutError):
            changes.receive(0.02)
        waiting = beside(list, changes)
    assert waiting.result(WAIT_S) == []
    assert len(mirror) == 2
    with pytest.raises(RecipeError):
        mirror.wait_for(lambda _: False)


def next_value(kv: KeyValue | None) -> bytes:
    assert kv is not None
    return kv.value


def test_mirror_of_many_keys_survives_compaction(client: Client, name: str) -> None:
    """It is read in pages; what was compacted away is read anew, and differences are told."""
    for start in range(0, 1_200, 100):
        client.txn([], [put(f"{name}/{n:04}", "x") for n in range(start, start + 100)])
    mirror = Mirror(client, f"{name}/")
    mirror._load()
    changes = mirror.changes()
    assert len(mirror) == 1_200
    client.delete(f"{name}/0007")
    client.compact(client.put(f"{name}/0008", "y").header.revision)
    client.put(f"{name}/new", "z")
    with mirror:  # its watch begins before the compaction
        mirror.wait_for(lambda kvs: f"{name}/new".encode() in kvs, WAIT_S)
        assert len(mirror) == 1_200
        assert {change.key[-4:] for change in changes.receive(WAIT_S)} == {
            b"0007",
            b"0008",
            b"/new",
        }


def test_mirror_that_is_ended_says_why(endpoint: str, name: str) -> None:
    """When it cannot follow any more, who waits is told."""
    other = Client(endpoint)
    mirror = Mirror(other, name).open()
    other.close()
    with pytest.raises((ClientError, OSError)):
        mirror.wait_for(lambda _: False, WAIT_S)
    mirror.close()


def test_configuration_is_published_and_followed(client: Client, name: str) -> None:
    """Settings of one publication come together; deletions too; readers need no cluster."""
    prefix = f"{name}/"
    assert publish(client, prefix, {"colour": "red", "size": "1"}) > 0
    assert publish(client, prefix, {"nothing": None}) == 0
    with Config(client, prefix) as config, Config(client, prefix) as follower:
        assert config.settings() == {"colour": "red", "size": "1"}
        assert config.get("colour") == "red"
        assert config.get("shape", "round") == "round"
        with pytest.raises(TimeoutError):
            follower.changed(0.02)
        assert config.publish({"nothing": None}) == 0
        config.publish({"colour": "blue", "size": None})
        assert config.get("colour") == "blue"
        assert follower.changed(WAIT_S) == {"colour": "blue", "size": None}
        assert follower.wait_for(lambda all: all.get("colour"), WAIT_S) == "blue"
        assert follower.revision == config.revision


def test_balancers() -> None:
    """In turn, also while instances go; least loaded by what is told and what is under way."""
    one, two, three = (Instance(key, key.decode(), None) for key in (b"1", b"2", b"3"))
    turns = RoundRobin()
    assert [turns.pick([one, two, three], {}).key for _ in range(4)] == [b"1", b"2", b"3", b"1"]
    assert turns.pick([one, three], {}).key == b"3"
    assert turns.pick([one, two], {}).key == b"1"
    least = LeastLoaded()
    told = Instance(b"2", "2", None, load=1.5)
    assert least.pick([one, told], {b"1": 1}).key == b"1"
    assert least.pick([one, told], {b"1": 2}).key == b"2"
    assert {least.pick([one, two, three], {b"3": 1}).key for _ in range(2)} == {b"1", b"2"}
    for metadata, load in (({"load": 2}, 2), ({"load": "x"}, 0), ([1], 0), ("text", 0), (None, 0)):
        found = instance_of(kv(b"k", json.dumps({"Addr": "a", "Metadata": metadata}).encode(), 1))
        assert found is not None
        assert found.load == load


def test_what_is_no_instance(client: Client, name: str) -> None:
    """Foreign keys below a service are passed over."""
    for content in (b"text", b"[]", b"{}", b"1"):
        assert instance_of(kv(b"k", content, 1)) is None
    client.put(f"{name}/x", "text")
    with Services(client, name) as services:
        assert services.instances() == []
        with pytest.raises(TimeoutError):
            services.pick(0.02)


def test_services_come_and_go(client: Client, name: str) -> None:
    """Registered instances are found, dead ones are not; requests spread; the bad are avoided."""
    one, other = Session(client).open(), Session(client).open()
    with Services(client, name, LeastLoaded()) as services:
        first = Registration(one, name, "10.0.0.1:80", {"load": 0})
        first.register()
        with Registration(other, name, "10.0.0.2:80"):
            addresses = [
                i.address
                for i in services.wait_for(lambda found: len(found) == 2 and found, WAIT_S)
            ]
            assert addresses == ["10.0.0.1:80", "10.0.0.2:80"]
            with services.use() as a, services.use() as b:
                assert {a.address, b.address} == set(addresses)
            services.avoid(a, 60)
            assert {services.pick().address for _ in range(4)} == {b.address}
            first.update({"load": 5})
            until(lambda: services.instances()[0].load == 5)
            stored = client.get(f"{name}/10.0.0.1:80")
            assert stored is not None
            assert json.loads(stored.value) == {
                "Op": 0,
                "Addr": "10.0.0.1:80",
                "Metadata": {"load": 5},
            }
        until(lambda: len(services.instances()) == 1)
        assert services.pick().address == "10.0.0.1:80"  # avoided, but there is no other
        client.revoke(one.lease_id)
        until(lambda: services.instances() == [])
    other.close()
    one.close()


def test_a_later_presence_takes_over(client: Client, name: str) -> None:
    """A restarted process has the key; the end of the old one does not take it away."""
    one, other = Session(client).open(), Session(client).open()
    old, new = Presence(one, name, "old"), Presence(other, name, "new")
    old.announce()
    new.announce()
    old.withdraw()
    one.close()
    found = client.get(name)
    assert found is not None
    assert found.value == b"new"
    new.withdraw()
    assert client.get(name) is None
    client.revoke(other.lease_id)
    with pytest.raises(SessionExpired):
        new.announce()
    other.close()


def test_monitor_sees_who_lives(client: Client, name: str) -> None:
    """Joined, changed, left; who is missing; death is the end of the lease."""
    one, other = Session(client).open(), Session(client).open()
    seen = []
    with Monitor(client, name) as monitor:
        looking = beside(lambda: seen.extend(monitor))
        alice = Heartbeat(one, name, "alice", "starting")
        alice.announce()
        monitor.wait_alive(["alice"], WAIT_S)
        until(lambda: seen)
        alice.announce("ready")
        until(lambda: len(seen) == 2)
        with Heartbeat(other, name, "bob"):
            monitor.wait_alive(["alice", "bob"], WAIT_S)
            assert monitor.alive() == {"alice": b"ready", "bob": b""}
            assert monitor.missing({"alice", "carol"}) == {"carol"}
            client.revoke(one.lease_id)
            monitor.wait_gone(["alice"], WAIT_S)
            assert set(monitor.alive()) == {"bob"}
            until(lambda: seen[-1].name == "alice")
        until(lambda: seen[-1].what == "left" and seen[-1].name == "bob")
    looking.result(WAIT_S)
    assert [(s.name, s.what) for s in seen if s.name == "alice"] == [
        ("alice", "joined"),
        ("alice", "changed"),
        ("alice", "left"),
    ]
    one.close()
    other.close()


def test_signals_are_not_missed(client: Client, name: str) -> None:
    """Who passes on the revision sees every notice, also those before the call."""
    signal = Signal(client, name)
    assert signal.last().revision == 0
    with pytest.raises(TimeoutError):
        signal.wait(timeout_s=0.02)
    start = client.put(name + "-x").header.revision
    waiting = [beside(Signal(client, name).wait, start, WAIT_S) for _ in range(3)]
    first = signal.notify("one")
    signal.notify("two")
    for thread in waiting:
        assert thread.result(WAIT_S).content == b"one"
    notice = signal.wait(first)
    assert notice.content == b"two"
    assert signal.last() == notice


def test_signals_and_compaction(client: Client, name: str) -> None:
    """A notice that was compacted away is told as such; if none was, nothing is."""
    signal = Signal(client, name)
    client.compact(client.put(name + "-x").header.revision)
    with pytest.raises(TimeoutError):
        signal.wait(0, 0.02)
    first = signal.notify("one")
    client.compact(client.put(name + "-x").header.revision)
    assert signal.wait(0, WAIT_S).content == b"one"
    last = signal.notify("two")
    client.compact(client.put(name + "-x").header.revision)
    with pytest.raises(Compacted):
        signal.wait(0, WAIT_S)
    with pytest.raises(Compacted):
        signal.wait(first, WAIT_S)
    with pytest.raises(TimeoutError):
        signal.wait(last, 0.02)


def test_tasks_are_done_once_each(client: Client, name: str) -> None:
    """Three workers, ten tasks: each has its result; a repeated submission is none."""
    tasks = Tasks(client, name)
    with Session(client) as session:

        def work() -> int:
            count = 0
            while True:
                with tasks.take(session, WAIT_S) as task:
                    task.finish(task.content.upper())
                    count += 1
                    if task.content == b"stop":
                        return count

        workers = [beside(work) for _ in range(3)]
        for number in range(10):
            assert tasks.submit(f"t{number}", f"id{number}")
        assert not tasks.submit("again", "id3")
        for number in range(10):
            assert tasks.wait(f"id{number}", WAIT_S) == f"T{number}".encode()
        for number in range(3):
            tasks.submit("stop", f"stop{number}")
        assert sum(worker.result(WAIT_S) for worker in workers) == 13
        assert tasks.size() == (0, 0)
        assert not tasks.submit("again", "id3")
        tasks.forget("id3")
        assert tasks.submit("again", "id3")


def test_task_of_a_dead_worker_is_taken_over(client: Client, name: str) -> None:
    """It goes to the next worker; what the dead one says afterwards is refused."""
    one, other = Session(client, 2).open(), Session(client).open()
    tasks = Tasks(client, name)
    tasks.submit("work", "a")
    task = tasks.take(one, WAIT_S)
    with pytest.raises(TimeoutError):
        tasks.take(other, 0.02)
    waiting = beside(tasks.take, other, WAIT_S)
    client.revoke(one.lease_id)
    again = waiting.result(WAIT_S)
    assert (again.content, again.task_id) == (b"work", "a")
    assert again.fence > task.fence
    with pytest.raises(NotHeld):
        task.finish("too late")
    again.give_back()
    third = tasks.take(other, WAIT_S)
    third.finish("done")
    with pytest.raises(NotHeld):
        third.finish("twice")
    assert tasks.wait("a") == b"done"
    one.wait_lost(WAIT_S)
    with pytest.raises(SessionExpired):
        tasks.take(one)
    one.close()
    other.close()
