"""The v2 client, in python-etcd's vocabulary, against Go etcd 3.5.1 and ours."""

import threading
import time
from collections.abc import Iterator

import pytest

import corum
from corum import v2
from oracle import servers

pytestmark = [pytest.mark.compat, pytest.mark.process]


@pytest.fixture
def client(server: servers.Server) -> Iterator[v2.Client]:
    with v2.Client("127.0.0.1", server.client_port, read_timeout=20) as client:
        for node in list(client.read("/").leaves):
            assert node.key is not None
            if node.key != "/":
                client.delete(f"/{node.key.split('/')[1]}", recursive=True, dir=True)
        yield client


def test_write_read_delete(client: v2.Client) -> None:
    """A key lives from write to delete; what was there before is told."""
    made = client.write("/a", "1")
    assert (made.action, made.key, made.value, made.newKey) == ("set", "/a", "1", True)
    assert made.prev_node is None
    found = client.read("/a")
    assert (found.action, found.value, found.newKey) == ("get", "1", False)
    assert found.etcd_index >= (found.modifiedIndex or 0) > 0
    again = client.set("/a", 2)
    assert again.prev_node is not None
    assert (again.prev_node.value, again.newKey) == ("1", False)
    assert "/a" in client
    gone = client.pop("/a")
    assert gone is not None
    assert gone.value == "2"
    assert "/a" not in client
    with pytest.raises(v2.EtcdKeyNotFound) as told:
        client.get("/a")
    assert told.value.payload["errorCode"] == 100


def test_conditions(client: v2.Client) -> None:
    """By value, by index, by existence; each refusal has its name."""
    client.write("/c", "1", prevExist=False)
    with pytest.raises(v2.EtcdAlreadyExist):
        client.write("/c", "2", prevExist=False)
    with pytest.raises(v2.EtcdKeyNotFound):
        client.write("/missing", "2", prevExist=True)
    assert client.test_and_set("/c", "2", "1").action == "compareAndSwap"
    with pytest.raises(v2.EtcdCompareFailed):
        client.test_and_set("/c", "3", "1")
    node = client.read("/c")
    node.value = "4"
    assert client.update(node).value == "4"
    with pytest.raises(v2.EtcdCompareFailed):
        client.update(node)  # read before that change
    with pytest.raises(v2.EtcdCompareFailed):
        client.delete("/c", prevValue="other")
    assert client.delete("/c", prevValue="4").action == "compareAndDelete"


def test_directories(client: v2.Client) -> None:
    """Trees, keys in order, and what may not be done to a directory."""
    client.write("/d", None, dir=True)
    client.write("/d/x/y", "1")
    client.write("/d/z", "2")
    tree = client.read("/d", recursive=True, sorted=True)
    assert [(leaf.key, leaf.value) for leaf in tree.leaves] == [("/d/x/y", "1"), ("/d/z", "2")]
    assert [node.key for node in tree.get_subtree()] == ["/d", "/d/x", "/d/x/y", "/d/z"]
    assert [child.key for child in tree.children] == ["/d/x/y", "/d/z"]
    with pytest.raises(v2.EtcdNotFile):
        client.write("/d", "value")
    with pytest.raises(v2.EtcdNotDir):
        client.write("/d/z/below", "value")
    with pytest.raises(v2.EtcdDirNotEmpty):
        client.delete("/d", dir=True)
    with pytest.raises(v2.EtcdRootReadOnly):
        client.delete("/", recursive=True)
    keys = [client.write("/q", str(n), append=True).key for n in range(3)]
    assert keys == sorted(key for key in keys if key)
    assert client.delete("/d", recursive=True).action == "delete"
    assert [node.value for node in client.read("/q", sorted=True).leaves] == ["0", "1", "2"]


def test_ttl_and_refresh(client: v2.Client) -> None:
    """A key goes by itself; refreshing it wakes nobody who waits."""
    client.write("/t", "1", ttl=1)
    end = time.monotonic() + 20
    while "/t" in client and time.monotonic() < end:
        time.sleep(0.05)
    assert "/t" not in client
    kept = client.write("/t", "1", ttl=50)
    assert kept.ttl == 50
    assert kept.expiration is not None
    after = client.refresh("/t", 100)
    assert (after.value, after.ttl) == ("1", 100)
    with pytest.raises(v2.EtcdWatchTimedOut):
        client.watch("/t", index=(kept.modifiedIndex or 0) + 1, timeout=0.2)
    with pytest.raises(v2.EtcdKeyNotFound):
        client.refresh("/missing", 5)


def test_watching(client: v2.Client) -> None:
    """The next change, a change of the past, and every change from an index on."""
    first = client.write("/w/1", "a")
    timer = threading.Timer(0.1, client.write, ("/w/2", "b"))
    timer.start()
    assert client.watch("/w", recursive=True, timeout=20).value == "b"
    timer.join()
    client.delete("/w/1")
    changes = client.eternal_watch("/w", index=first.modifiedIndex, recursive=True)
    seen = [next(changes) for _ in range(3)]
    assert [(c.action, c.key) for c in seen] == [
        ("set", "/w/1"),
        ("set", "/w/2"),
        ("delete", "/w/1"),
    ]


def test_old_events_are_dropped(client: v2.Client) -> None:
    """A watch from before the last thousand events is refused by name."""
    first = client.write("/h", "0")
    for n in range(1_001):
        client.write("/h", str(n))
    with pytest.raises(v2.EtcdEventIndexCleared):
        client.watch("/h", index=first.modifiedIndex)


def test_the_cluster(client: v2.Client, server: servers.Server) -> None:
    """Members, leader, statistics, URLs."""
    assert client.machines == [server.client_url]
    (member,) = client.members.values()
    assert member["name"] == "default" == client.leader["name"]
    assert client.stats["name"] == "default"
    assert client.store_stats["getsFail"] >= 0
    assert "followers" in client.leader_stats


def test_what_is_no_member(client: v2.Client) -> None:
    """Wrong addresses and unknown members are refused by name."""
    with pytest.raises(v2.EtcdKeyNotFound):
        client.remove_member("abc")
    with pytest.raises(v2.EtcdException, match="URL"):
        client.add_member("nonsense")


def test_members_change() -> None:
    """A member is taken out; another is announced, moved, and taken out again."""
    flags = ["--enable-v2", "--strict-reconfig-check=false"]
    with corum.LocalCluster(3, flags=flags, relayed=False) as cluster:
        host, port = cluster.endpoints[0].removeprefix("http://").split(":")
        with v2.Client(host, int(port)) as client:
            names = {member["name"]: id_ for id_, member in client.members.items()}
            # A leader's removal would cost the next change its time limit, as with etcd.
            leaves = names["m2" if client.leader["name"] == "m3" else "m3"]
            client.remove_member(leaves)
            assert leaves not in client.members
            with pytest.raises(v2.EtcdKeyNotFound, match="removed"):
                client.remove_member(leaves)
            made = client.add_member("http://127.0.0.1:1")
            assert client.members[made["id"]]["peerURLs"] == ["http://127.0.0.1:1"]
            client.update_member(made["id"], "http://127.0.0.1:2", "http://127.0.0.1:3")
            found = client.members[made["id"]]
            assert found["peerURLs"] == ["http://127.0.0.1:2", "http://127.0.0.1:3"]
            client.remove_member(made["id"])
            assert len(client.members) == 2


@pytest.fixture
def root(client: v2.Client) -> Iterator[v2.Client]:
    """A client that is root, and access control switched on for the test."""
    user = v2.EtcdUser(client, "root")
    user.password = "secret"
    user.write()
    v2.Auth(client).active = True
    with v2.Client(port=client.port, username="root", password="secret") as root:
        yield root
        v2.Auth(root).active = False


def test_access_control(client: v2.Client, root: v2.Client) -> None:
    """Who is nobody has the guest's rights; a user has those of their roles."""
    assert v2.Auth(client).active
    v2.Auth(root).active = True  # is it already
    client.write("/open", "1")
    guest = v2.EtcdRole(root, "guest")
    guest.read()
    assert guest.acls == {"/*": "RW"}
    guest.revoke("/*", "W")
    guest.write()
    with pytest.raises(v2.EtcdInsufficientPermissions):
        client.write("/open", "2")
    with pytest.raises(v2.EtcdInsufficientPermissions):
        v2.EtcdUser(client, "root").read()
    guest.grant("/*", "rw")
    guest.write()
    guest.write()  # nothing to change
    assert client.write("/open", "2").value == "2"


def test_roles_are_what_they_are_written_to_be(root: v2.Client) -> None:
    """Created, changed by their difference, deleted."""
    role = v2.EtcdRole(root, "ops")
    assert role.names == ["guest", "root"]
    with pytest.raises(v2.EtcdKeyNotFound):
        role.read()
    with pytest.raises(v2.EtcdKeyNotFound):
        role.delete()
    role.acls = {"/jobs/*": "RW", "/state": "R"}
    role.write()
    role.revoke("/jobs/*", "W")
    role.revoke("/state", "RW")
    role.grant("/log", "W")
    role.write()
    found = v2.EtcdRole(root, "ops")
    found.read()
    assert found.acls == role.acls == {"/jobs/*": "R", "/log": "W"}
    assert found.names == ["guest", "ops", "root"]
    with pytest.raises(ValueError, match="permission"):
        role.grant("/x", "X")
    role.delete()
    with pytest.raises(v2.EtcdKeyNotFound):
        role.read()
    with pytest.raises(v2.EtcdInsufficientPermissions):
        v2.EtcdRole(root, "root").delete()


def test_users_are_what_they_are_written_to_be(root: v2.Client) -> None:
    """Created with a password, given roles and another password, deleted."""
    for name in ("reader", "writer"):
        v2.EtcdRole(root, name).write()
    user = v2.EtcdUser(root, "joe")
    with pytest.raises(v2.EtcdException, match="password"):
        user.write()
    user.roles.add("reader")
    user.password = "one"
    user.write()
    assert user.password is None
    user.roles = ["writer"]
    user.write()
    user.write()  # nothing to change
    found = v2.EtcdUser(root, "joe")
    found.read()
    assert found.roles == {"writer"}
    assert found.names == ["joe", "root"]
    found.password = "two"
    found.roles.add("root")
    found.write()
    with v2.Client(port=root.port, username="joe", password="two") as joe:
        v2.EtcdUser(joe, "joe").delete()
    for name in ("reader", "writer"):
        v2.EtcdRole(root, name).delete()
    with pytest.raises(v2.EtcdKeyNotFound):
        user.read()
    with pytest.raises(v2.EtcdKeyNotFound):
        user.delete()
    with pytest.raises(v2.EtcdException, match="name"):
        v2.EtcdUser(root, "").read()


def test_lock_is_exclusive_and_fair(client: v2.Client) -> None:
    """Two take turns in the order in which they came; one that does not wait is told no."""
    order: list[str] = []
    held = v2.Lock(client, "l")
    assert held.acquire(lock_ttl=60)
    assert held.is_acquired
    assert not v2.Lock(client, "l").acquire(blocking=False)
    assert not v2.Lock(client, "l").acquire(timeout=0.2)

    def wait(name: str) -> None:
        with v2.Lock(client, "l"):
            order.append(name)

    threads: list[threading.Thread] = []
    for n, name in enumerate(("first", "second"), 2):
        threads.append(threading.Thread(target=wait, args=(name,)))
        threads[-1].start()
        end = time.monotonic() + 20
        while len(list(client.read(held.path).leaves)) < n and time.monotonic() < end:
            time.sleep(0.01)
    assert order == []
    held.release()
    for thread in threads:
        thread.join(20)
    assert order == ["first", "second"]


def test_lock_that_ran_out(client: v2.Client) -> None:
    """Who held it is told; the next one gets it."""
    short = v2.Lock(client, "e")
    assert short.acquire(lock_ttl=1)
    assert v2.Lock(client, "e").acquire(timeout=20)
    with pytest.raises(v2.EtcdLockExpired):
        _ = short.is_acquired
    assert not short.is_taken


def test_reconnecting(server: servers.Server) -> None:
    """A dead host in front is passed over, for writes too, as nothing was sent to it."""
    hosts = (("127.0.0.1", servers.free_port()), ("127.0.0.1", server.client_port))
    with v2.Client(hosts, allow_reconnect=True) as client:
        client.write("/r", "1")
        assert client.port == server.client_port
    with v2.Client(hosts) as lone, pytest.raises(v2.EtcdConnectionFailed):
        lone.write("/r", "1")


def test_expected_cluster(server: servers.Server) -> None:
    """Another cluster behind the same address is noticed."""
    client = v2.Client(port=server.client_port, expected_cluster_id="1234")
    with client, pytest.raises(v2.EtcdClusterIdChanged):
        client.read("/")
