"""The synchronous client against Go etcd 3.5.1."""

import io
import threading
import time

import pytest

from corum.client import requests
from corum.client._sync.client import Client
from corum.client.errors import (
    Canceled,
    Compacted,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    OutOfRange,
    WatchCanceled,
)
from corum.client.requests import create_revision, delete, get, mod_revision, put, value, version

pytestmark = [pytest.mark.compat, pytest.mark.process]


def test_put_get_delete(client: Client) -> None:
    """A key lives from put to delete; text and bytes are equally good."""
    first = client.put("k", "v1")
    second = client.put(b"k", b"v2", prev_kv=True)
    assert second.header.revision == first.header.revision + 1
    assert second.previous is not None
    assert second.previous.value == b"v1"
    found = client.get("k")
    assert found is not None
    assert (found.text, found.version, found.create_revision) == ("v2", 2, first.header.revision)
    old = client.get("k", revision=first.header.revision)
    assert old is not None
    assert old.value == b"v1"
    gone = client.delete("k", prev_kv=True)
    assert (gone.deleted, gone.previous[0].value) == (1, b"v2")
    assert client.get("k") is None


def test_ranges(client: Client) -> None:
    """Prefixes, ends, limits, orders, counts."""
    for n in range(5):
        client.put(f"r/{n}", str(9 - n))
    client.put("s", "x")
    assert [p.key for p in client.range("r/", prefix=True)] == [b"r/%d" % n for n in range(5)]
    assert [p.key for p in client.range("r/1", "r/3")] == [b"r/1", b"r/2"]
    assert [p.key for p in client.range("r/4", from_key=True)] == [b"r/4", b"s"]
    limited = client.range("r/", prefix=True, limit=2, order="descend", sort_by="key")
    assert ([p.key for p in limited], limited.more, limited.count) == ([b"r/4", b"r/3"], True, 5)
    by_value = client.range("r/", prefix=True, order="ascend", sort_by="value")
    assert [p.text for p in by_value] == ["5", "6", "7", "8", "9"]
    assert client.range("r/", prefix=True, count_only=True).count == 5
    assert [p.value for p in client.range("r/", prefix=True, keys_only=True, limit=1)] == [b""]
    with pytest.raises(ValueError, match="one of"):
        client.range("r", "s", prefix=True)


def test_scan_reads_pages_of_one_revision(client: Client) -> None:
    """Keys that are written meanwhile are not seen, and none is skipped."""
    for n in range(10):
        client.put(f"p{n}", "x")
    seen: list[bytes] = []
    for pair in client.scan("p", prefix=True, page=3):
        if not seen:
            client.put("p55", "later")
        seen.append(pair.key)
    assert seen == [b"p%d" % n for n in range(10)]


def test_transactions_with_operators(client: Client) -> None:
    """The branch that the conditions choose, and the results of its operations."""
    won = client.txn([version("lock") == 0], [put("lock", "me"), get("lock")], [get("lock")])
    assert won
    assert won.results[1].kvs[0].text == "me"  # type: ignore[union-attr]
    lost = client.txn([create_revision("lock") == 0], [put("lock", "you")], [get("lock")])
    assert not lost
    revision = won.header.revision
    checks = [value("lock") == "me", mod_revision("lock") > revision - 1, version("lock") < 2]
    nested = requests.txn([version("lock") != 0], [delete("lock", prev_kv=True)])
    done = client.txn(checks, [nested])
    assert done.results[0].results[0].deleted == 1  # type: ignore[union-attr]
    with pytest.raises(TypeError):
        bool(version("lock") == 0)


def test_refusals_are_exceptions(client: Client) -> None:
    """etcd's words and codes."""
    with pytest.raises(InvalidArgument, match="key is not provided"):
        client.put("", "x")
    with pytest.raises(OutOfRange, match="future revision"):
        client.get("k", revision=1 << 40)
    with pytest.raises(NotFound, match="requested lease not found"):
        client.put("k", "v", lease=12345)


def test_compaction(client: Client) -> None:
    """What is compacted cannot be read or watched."""
    revisions = [client.put("c", str(n)).header.revision for n in range(3)]
    client.compact(revisions[2], physical=True)
    with pytest.raises(Compacted):
        client.get("c", revision=revisions[0])
    with client.watch("c", revision=revisions[0]) as watch, pytest.raises(Compacted) as told:
        next(watch)
    assert told.value.revision == revisions[2]


def test_watch_past_and_present(client: Client) -> None:
    """Events from a revision on, in order, and then as they happen."""
    start = client.put("w/a", "1").header.revision
    client.put("w/b", "2")
    client.delete("w/a")
    with client.watch("w/", prefix=True, revision=start, prev_kv=True) as watch:
        seen = [next(watch) for _ in range(3)]
        assert [(e.deleted, e.key, e.value) for e in seen] == [
            (False, b"w/a", b"1"),
            (False, b"w/b", b"2"),
            (True, b"w/a", b""),
        ]
        assert seen[2].previous is not None
        assert seen[2].previous.value == b"1"
        timer = threading.Timer(0.05, lambda: client.put("w/c", "3"))
        timer.start()
        assert next(watch).key == b"w/c"
        timer.join()
        assert watch.next_revision == start + 4


def test_receive_gives_whole_revisions_or_times_out(client: Client) -> None:
    """What one transaction changed comes together; without events, TimeoutError, and on it goes."""
    start = client.put("r/0", "").header.revision
    with client.watch("r/", prefix=True, revision=start + 1) as watch:
        with pytest.raises(TimeoutError):
            watch.receive(0.05)
        client.txn([], [put("r/1", "a"), put("r/2", "b")])
        assert [event.key for event in watch.receive(10)] == [b"r/1", b"r/2"]
        watch.close()
        assert watch.receive() == ()


def test_watch_filters(client: Client) -> None:
    """Only deletions, when asked for."""
    start = client.put("f", "1").header.revision
    client.delete("f")
    with client.watch("f", revision=start, puts=False) as watch:
        assert next(watch).deleted


def test_closing_a_watch_ends_its_iteration(client: Client) -> None:
    """Also from another thread, while it waits."""
    watch = client.watch("nothing")
    threading.Timer(0.1, watch.close).start()
    assert list(watch) == []


def test_watch_that_the_server_refuses(client: Client) -> None:
    """An empty range ends the watch with its reason."""
    with client.watch("b", "a") as watch, pytest.raises(WatchCanceled):
        next(watch)


def test_lease_is_kept_alive_and_revoked(client: Client) -> None:
    """Inside the block the key outlives its TTL; behind it the key is gone."""
    with client.lease(2) as lease:
        client.put("l", "x", lease=lease)
        assert lease.ttl_s == 2
        time.sleep(3)
        assert not lease.lost
        left = client.time_to_live(lease.lease_id, keys=True)
        assert (left.granted_s, left.keys) == (2, (b"l",))
        assert lease.lease_id in client.leases()
    assert client.get("l") is None
    assert client.time_to_live(lease.lease_id).left_s == -1


def test_lost_lease_is_told(client: Client) -> None:
    """Revoked by somebody else: `lost` becomes true at the next renewal."""
    lease = client.lease(2)
    told = threading.Event()
    lease.keep_alive(told.set)
    client.revoke(lease.lease_id)
    assert told.wait(10)
    end = time.monotonic() + 3
    while not lease.lost and time.monotonic() < end:
        time.sleep(0.05)
    assert lease.lost
    lease.revoke()


def test_members_status_hash_alarms(client: Client, endpoint: str) -> None:
    """What operators ask."""
    (member,) = client.members()
    status = client.status()
    assert status.leader == member.member_id == status.header.member_id
    assert member.client_urls == (f"http://{endpoint}",)
    assert client.hash_kv() == client.hash_kv()
    assert client.alarms() == []
    client.disarm()
    client.defragment()


def test_snapshot_is_whole(client: Client) -> None:
    """Database pages, and the SHA-256 of them behind."""
    import hashlib

    out = io.BytesIO()
    size = client.snapshot(out)
    data = out.getvalue()
    assert len(data) == size
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]


def test_timeout_without_server() -> None:
    """Nobody there: DeadlineExceeded after the time given, with the reason as detail."""
    with Client("127.0.0.1:1", timeout_s=0.3) as client:
        begin = time.monotonic()
        with pytest.raises(DeadlineExceeded) as told:
            client.get("k")
        assert 0.25 < time.monotonic() - begin < 2
        assert "connection" in told.value.detail


def test_failover_to_the_endpoint_that_works(endpoint: str) -> None:
    """A dead endpoint in front costs a moment, not the call; writes too, as they never left."""
    with Client(["127.0.0.1:1", endpoint]) as client:
        client.put("fo", "x")
        assert client.get("fo") is not None


def test_learnt_endpoints_are_forgotten(endpoint: str) -> None:
    """What has left the cluster is not called any more; what is under way there goes on."""
    with Client("127.0.0.1:1", timeout_s=1) as client:
        client.session.learn([endpoint, "127.0.0.1:2"])
        assert client.endpoints == ("127.0.0.1:1", endpoint, "127.0.0.1:2")
        with client.watch("k") as watch:
            client.put("k", "1", timeout_s=20)
            client.session.learn(["127.0.0.1:2"])
            assert client.endpoints == ("127.0.0.1:1", "127.0.0.1:2")
            with pytest.raises(DeadlineExceeded):
                client.put("k", "2")
            with Client(endpoint) as other:
                other.put("k", "3", timeout_s=20)
            assert [next(watch).value, next(watch).value] == [b"1", b"3"]
        client.session.learn([f"http://{endpoint}"])
        assert client.endpoints == ("127.0.0.1:1", f"http://{endpoint}")
        client.session.learn([endpoint])
        assert client.endpoints == ("127.0.0.1:1", f"http://{endpoint}")
        client.put("k", "4", timeout_s=20)


def test_one_client_for_many_threads(client: Client) -> None:
    """Calls of eight threads at once on one client."""

    def work(number: int) -> None:
        for n in range(20):
            client.put(f"t/{number}/{n}", "x")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.range("t/", prefix=True, count_only=True).count == 160


def test_auth_with_token_renewal(client: Client, endpoint: str) -> None:
    """A user reads what his role permits; a token that went stale is renewed unseen."""
    auth = client.auth
    for role, user in (("root", "root"), ("reader", "joe")):
        auth.add_role(role)
        auth.add_user(user, "pw")
        auth.grant_role(user, role)
    auth.permit("reader", "read", "pub/", prefix=True)
    client.put("pub/a", "1")
    auth.enable()
    try:
        with (
            Client(endpoint, user="root", password="pw") as root,
            Client(endpoint, user="joe", password="pw") as joe,
        ):
            assert joe.get("pub/a") is not None
            assert root.auth.is_enabled()
            root.auth.change_password("joe", "pw2")
            root.auth.change_password("joe", "pw")  # drops joe's tokens
            assert joe.get("pub/a") is not None
            assert root.auth.permissions_of("reader") == [("read", b"pub/", b"pub0")]
            assert root.auth.users() == ["joe", "root"]
    finally:
        with Client(endpoint, user="root", password="pw") as root:
            root.auth.disable()
            for name in ("joe", "root"):
                root.auth.delete_user(name)
            for name in ("reader", "root"):
                root.auth.delete_role(name)


def test_watch_without_server() -> None:
    """A block that needs a watch is not entered without one; the client's timeout holds for it."""
    with (
        Client("127.0.0.1:1", timeout_s=0.3) as client,
        pytest.raises(DeadlineExceeded),
        client.watch("k"),
    ):
        pytest.fail("entered")


def test_closing_the_client_ends_its_watches_and_renewals(endpoint: str) -> None:
    """Readers in other threads come back, with the word that it was closed."""
    client = Client(endpoint)
    client.lease(30).keep_alive()
    ended: list[str] = []
    watch = client.watch("c").__enter__()

    def read() -> None:
        try:
            next(watch)
        except Canceled as error:
            ended.append(error.text)

    reader = threading.Thread(target=read)
    reader.start()
    client.close()
    reader.join(20)
    assert ended == ["the client was closed"]


def test_users_of_a_scan_may_limit_it(client: Client) -> None:
    """The limit counts over all pages; other orders than the keys' are refused."""
    for n in range(10):
        client.put(f"s{n}", "x")
    assert len(list(client.scan("s", prefix=True, page=3, limit=7))) == 7
    assert [p.value for p in client.scan("s", prefix=True, keys_only=True, limit=1)] == [b""]
    with pytest.raises(ValueError, match="upwards"):
        next(iter(client.scan("s", prefix=True, order="descend")))
