"""Watches and leases over broken and shared streams, on Go etcd 3.5.1 and ours alike."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corum import AsyncClient, Client, Tls
from corum.client._sync import watching
from corum.client.errors import Compacted, PermissionDenied, Unavailable, WatchCanceled
from oracle import servers
from oracle.certificates import Authority

pytestmark = [pytest.mark.compat, pytest.mark.process]


@pytest.fixture(params=["go-3.5.1", "ours"])
def program(request: pytest.FixtureRequest) -> servers.Program:
    found: servers.Program = request.getfixturevalue(
        "go_program" if request.param == "go-3.5.1" else "our_program"
    )
    return found


@pytest.fixture
def own_server(program: servers.Program, tmp_path: Path) -> Iterator[servers.Server]:
    """One that a test may kill."""
    with servers.running(program, tmp_path / "own") as server:
        yield server


def until(done: Callable[[], bool], timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


def started(server: servers.Server, method: str) -> int:
    """How many calls of a method the server has seen begin."""
    _, text = server.http("GET", "/metrics")
    found = re.search(
        rf'grpc_server_started_total{{grpc_method="{method}".*}} (\S+)', text.decode()
    )
    return int(float(found[1])) if found else 0


def test_many_watches_share_one_stream(server: servers.Server) -> None:
    """Sixty watches, each with its own events, and one stream on the server."""
    before = started(server, "Watch")
    with Client(server.endpoint) as client:
        watches = [client.watch(f"m/{n}/", prefix=True).__enter__() for n in range(60)]
        for n in range(60):
            client.put(f"m/{n}/k", str(n))
        for n, watch in enumerate(watches):
            (event,) = watch.receive(20)
            assert (event.key, event.value) == (b"m/%d/k" % n, b"%d" % n)
        watches[7].close()
        client.put("m/7/k", "x")
        client.put("m/8/k", "y")
        assert watches[8].receive(20)[0].value == b"y"
        assert list(watches[7]) == []
        assert started(server, "Watch") == before + 1


def test_a_watch_begins_with_its_block(client: Client) -> None:
    """What is changed inside is seen, however fast."""
    for n in range(20):
        with client.watch("b") as watch:
            client.put("b", str(n))
            assert next(watch).value == b"%d" % n


def test_refused_watch_leaves_the_others(client: Client) -> None:
    """One that the server refuses, or that is compacted, ends alone."""
    revisions = [client.put("c", str(n)).header.revision for n in range(3)]
    client.compact(revisions[2])
    with client.watch("c") as good, client.watch("c", revision=revisions[0]) as old:
        with client.watch("b", "a") as empty, pytest.raises(WatchCanceled):
            next(empty)
        with pytest.raises(Compacted):
            next(old)
        with pytest.raises(Compacted):
            next(old)
        client.put("c", "new")
        assert next(good).value == b"new"


def test_watch_survives_the_server(own_server: servers.Server) -> None:
    """Killed and started three times under load: every event once, in order."""
    with Client(own_server.endpoint, timeout_s=30) as client:
        acknowledged: list[int] = []
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    acknowledged.append(client.put("s", str(number)).header.revision)
                except Unavailable:  # may have been written or not
                    pass

        writer = threading.Thread(target=write)
        with client.watch("s") as watch, client.watch("other") as other:
            writer.start()
            for _ in range(3):
                seen = len(acknowledged)
                until(lambda seen=seen: len(acknowledged) > seen + 50)  # type: ignore[misc]
                own_server.kill()
                own_server.start()
            stop.set()
            writer.join()
            last = client.put("s", "last").header.revision
            client.put("other", "x")
            events = []
            while not events or events[-1].kv.mod_revision < last:
                events += watch.receive(30)
            revisions = [event.kv.mod_revision for event in events]
            assert revisions == sorted(set(revisions))
            assert set(acknowledged) <= set(revisions)
            assert [event.value for event in other.receive(30)] == [b"x"]


def test_compaction_while_the_watch_was_away(own_server: servers.Server) -> None:
    """A watch that comes back too late is told, not silently moved on."""
    with Client(own_server.endpoint, timeout_s=30) as client, client.watch("g") as watch:
        assert client.put("g", "1") is not None
        assert watch.receive(20)
        own_server.kill()
        own_server.start()
        with Client(own_server.endpoint, timeout_s=30) as other:
            last = [other.put("g", str(n)).header.revision for n in range(5)][-1]
            other.compact(last)
            with pytest.raises(Compacted) as told:
                watch.receive(20)
            assert told.value.revision == last


def test_unread_watch_is_bounded_and_complete(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who does not read keeps little, delays nobody, and misses nothing."""
    monkeypatch.setattr(watching, "KEPT_BYTES_MAX", 10_000)
    with client.watch("u") as slow, client.watch("u") as quick:
        for n in range(200):
            client.put("u", f"{n} {'x' * 500}")
            assert quick.receive(20)[0].value.startswith(b"%d " % n)
        assert slow._watching._kept_bytes < 12_000
        seen = []
        while len(seen) < 200:
            seen += [int(event.value.split()[0]) for event in slow.receive(20)]
        assert seen == list(range(200))


def test_leases_share_one_stream_and_survive(own_server: servers.Server) -> None:
    """Thirty leases are renewed over one stream, also after the server was away."""
    with Client(own_server.endpoint, timeout_s=30) as client:
        leases = [client.lease(6) for _ in range(30)]
        for lease in leases:
            client.put(f"l/{lease.lease_id}", "x", lease=lease)
            lease.keep_alive()
        granted = time.monotonic()
        until(lambda: time.monotonic() - granted > 2.5)  # a third of the TTL and more
        assert started(own_server, "LeaseKeepAlive") == 1
        own_server.kill()
        own_server.start()
        until(lambda: time.monotonic() - granted > 7)
        assert not any(lease.lost for lease in leases)
        assert client.range("l/", prefix=True, count_only=True).count == 30
        leases[0].revoke()
        assert client.range("l/", prefix=True, count_only=True).count == 29


def test_loss_of_a_lease_is_told_once(client: Client) -> None:
    """Revoked by somebody else; the others on the stream live on."""
    told: list[int] = []
    mine, other = client.lease(3), client.lease(3)
    mine.keep_alive(lambda: told.append(mine.lease_id))
    other.keep_alive(lambda: told.append(other.lease_id))
    client.revoke(mine.lease_id)
    until(lambda: bool(told))
    assert mine.lost
    assert not other.lost
    other.revoke()
    assert told == [mine.lease_id]


def test_renewing_by_hand(client: Client) -> None:
    """One renewal, at once; of a lease that is gone it raises."""
    lease = client.lease(100)
    assert lease.renew() == 100
    client.revoke(lease.lease_id)
    with pytest.raises(Exception, match="requested lease not found"):
        lease.renew()
    assert lease.lost


def test_cancelled_reading_loses_no_event(endpoint: str) -> None:
    """A reader that is cancelled again and again still sees every event, once."""

    async def work() -> None:
        async with AsyncClient(endpoint) as client, client.watch("x") as watch:

            async def write() -> None:
                for n in range(100):
                    await client.put("x", str(n))

            writer = asyncio.ensure_future(write())
            seen: list[int] = []
            while len(seen) < 100:
                try:
                    event = await asyncio.wait_for(anext(watch), 0.002)
                except TimeoutError:
                    continue
                seen.append(int(event.value))
            await writer
            assert seen == list(range(100))

    asyncio.run(asyncio.wait_for(work(), 60))


def test_watch_with_an_old_token(own_server: servers.Server) -> None:
    """A new watch on a stream whose token was dropped gets a new token; who may not, is told."""
    with Client(own_server.endpoint) as client:
        auth = client.auth
        for role, user in (("root", "root"), ("reader", "joe")):
            auth.add_role(role)
            auth.add_user(user, "pw")
            auth.grant_role(user, role)
        auth.permit("reader", "read", "pub/", prefix=True)
        auth.enable()
    with (
        Client(own_server.endpoint, user="root", password="pw") as root,
        Client(own_server.endpoint, user="joe", password="pw") as joe,
        joe.watch("pub/", prefix=True) as first,
    ):
        root.auth.change_password("joe", "pw2")
        root.auth.change_password("joe", "pw")  # drops joe's tokens
        with joe.watch("pub/", prefix=True) as second:
            root.put("pub/a", "1")
            assert second.receive(20)[0].value == b"1"
            assert first.receive(20)[0].value == b"1"
        with joe.watch("secret") as secret, pytest.raises((WatchCanceled, PermissionDenied)):
            next(secret)


def test_tls_with_client_certificates(program: servers.Program, tmp_path: Path) -> None:
    """Calls and watches with certificates on both sides; without, no connection."""
    authority = Authority(tmp_path, "ca")
    cert_file, key_file = authority.issue("server", "server", "localhost")
    own_cert, own_key = authority.issue("client", "client", "client")
    server = servers.Server(
        program,
        tmp_path / "tls",
        (
            f"--cert-file={cert_file}",
            f"--key-file={key_file}",
            f"--trusted-ca-file={authority.file}",
            "--client-cert-auth",
        ),
    )
    url = f"https://{server.endpoint}"
    server.flags = (*server.flags, f"--listen-client-urls={url}", f"--advertise-client-urls={url}")
    tls = Tls(ca_file=authority.file, cert_file=own_cert, key_file=own_key)
    server.spawn()
    try:
        with Client(server.endpoint, tls=tls, timeout_s=40) as client:
            until(lambda: bool(client.members()))
            with client.watch("t") as watch:
                client.put("t", "1")
                assert next(watch).value == b"1"
            with client.lease(5) as lease:
                assert not lease.lost
        with (
            Client(url, tls=Tls(ca_file=authority.file), timeout_s=1) as stranger,
            pytest.raises(TimeoutError),
        ):
            stranger.get("t")
    finally:
        server.kill()
