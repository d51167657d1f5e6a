"""The v2 API when things go wrong around it: members that die or are too new, clients that go or
do not read."""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oracle import servers
from oracle.clusters import Cluster
from oracle.servers import Program, Server

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(300)]

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def put(server: Server, key: str, text: str) -> tuple[int, Any]:
    """Status and body of a set."""
    url = f"{server.client_url}/v2/keys{key}"
    request = urllib.request.Request(url, f"value={text}".encode(), FORM, method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


class Asking:
    """A request whose answer comes in pieces: the head now, the body when it is read."""

    def __init__(self, server: Server, target: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.client_port, timeout=60)
        self.connection.request("GET", f"/v2/keys{target}")
        self.answer = self.connection.getresponse()

    def read(self) -> bytes:
        """All the rest; b"" also when the connection breaks."""
        try:
            return self.answer.read()
        except (http.client.IncompleteRead, OSError):
            return b""
        finally:
            self.close()

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


def waiting(server: Server, key: str, more: str = "") -> Asking:
    """A client that waits for a key."""
    return Asking(server, f"{key}?wait=true{more}")


def until(found: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < end, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


def watchers(server: Server) -> int:
    return json.loads(server.http("GET", "/v2/stats/store")[1])["watchers"]


def statistics(server: Server) -> Any:
    return json.loads(server.http("GET", "/v2/stats/self")[1])


def rss_kib(server: Server) -> int:
    text = Path(f"/proc/{server.pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0])


def test_a_wait_outlives_the_leader(cluster: Cluster, our_program: Program) -> None:
    """A follower's client waits on while another leader is found, and hears of the next change;
    the dead leader's client sees its answer end, and resumes elsewhere by index."""
    for name in ("a", "b", "c"):
        cluster.add(our_program, name)
    cluster.start(["a", "b", "c"])
    leader = cluster.leader()
    assert put(leader, "/k", "before")[0] == 201
    follower = next(m for m in cluster.members.values() if m is not leader)
    until(lambda: follower.http("GET", "/v2/keys/k")[0] == 200, "the change on the follower")
    assert statistics(leader)["sendAppendRequestCnt"] >= 2  # one for each follower
    assert statistics(follower)["recvAppendRequestCnt"] >= 1
    kept, lost = waiting(follower, "/k"), waiting(leader, "/k")
    index = int(lost.answer.headers["X-Etcd-Index"])
    leader.kill()
    assert lost.read() == b"", "an event from nowhere"
    until(lambda: put(follower, "/k", "after")[0] == 200, "a new leader")
    assert json.loads(kept.read())["node"]["value"] == "after"
    resumed = waiting(follower, "/k", f"&waitIndex={index + 1}")
    assert json.loads(resumed.read())["node"]["value"] == "after"


def test_clients_that_leave_leave_nothing(our_server: Server) -> None:
    """Waiters whose connections are gone are forgotten."""
    connections = [waiting(our_server, f"/w{number}") for number in range(200)]
    assert watchers(our_server) == 200
    for connection in connections:
        connection.close()
    until(lambda: watchers(our_server) == 0, "no watcher left")
    assert put(our_server, "/w1", "x")[0] == 201


@pytest.mark.compat
def test_no_v2_request_reaches_a_member_that_would_die_of_it(
    cluster: Cluster, our_program: Program
) -> None:
    """With a Go etcd from 3.6 on among the members, v2 writes are refused and say why: from the
    first one on, and while it is down; v3 goes on."""
    newest = servers.go_newest()
    if newest is None:
        pytest.skip("the newest Go etcd is not built")
    ours = [cluster.add(our_program, name) for name in ("a", "b")]
    go = cluster.add(newest, "c")
    for name in ("a", "b"):
        cluster.spawn(name)
    for server in ours:
        server.wait_ready()
        refused(server, "was not reached yet")
    cluster.spawn("c")
    go.wait_ready(60)
    for server in ours:
        refused(server, "runs etcd 3.")
    body = b'{"key":"YQ==","value":"YQ=="}'
    assert go.http("POST", "/v3/kv/put", body)[0] == 200
    go.kill()
    for server in ours:
        server.kill()
        server.spawn()
    for server in ours:
        server.wait_ready()
        refused(server, "was not reached yet")
    go.start(60)
    assert go.http("POST", "/v3/kv/put", body)[0] == 200


def refused(server: Server, why: str) -> None:
    """Each time, and soon for this reason: a member hears of another one when they have met."""

    def said() -> bool:
        status, answer = put(server, "/k", "x")
        assert status == 500, answer
        return why in answer["cause"]

    until(said, why)


def test_a_proxys_slow_client_fills_no_memory(
    our_server: Server, our_program: Program, tmp_path: Path
) -> None:
    """A big answer waits at the member, not in the proxy, and comes whole in the end."""
    size, count = 200_000, 300
    for number in range(count):
        assert put(our_server, f"/big/{number}", "v" * size)[0] == 201
    flags = ["--proxy=on", f"--initial-cluster=default={our_server.peer_url}"]
    proxy = Server(our_program, tmp_path / "proxy", flags)
    try:
        proxy.spawn()
        until(lambda: served(proxy), "the proxy has endpoints")
        before = rss_kib(proxy)
        asking = Asking(proxy, "/big?recursive=true")
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert rss_kib(proxy) - before < 40_000, "the answer piles up in the proxy"
            time.sleep(0.1)
        nodes = json.loads(asking.read())["node"]["nodes"]
        assert sum(len(node["value"]) for node in nodes) == size * count
    finally:
        proxy.kill()


def served(server: Server) -> bool:
    try:
        return server.http("GET", "/v2/keys/")[0] == 200
    except OSError:
        return False
