"""How members come to be a cluster, and what they say when they cannot."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oracle.certificates import Authority
from oracle.clusters import Cluster, call, until
from oracle.moving import get, id_of, members, put
from oracle.servers import Program, Server, free_port, go_newest

pytestmark = [pytest.mark.process, pytest.mark.slow]

TOKEN = "6c007a14875d53d9bf0ef5a6fc0257c817f0fb83"


def said(server: Server, level: str = "fatal") -> list[str]:
    """The errors that the log tells at this level."""
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [str(line.get("error")) for line in lines if line["level"] == level]


def names(server: Server) -> list[str]:
    return sorted(m.get("name", "") for m in members(server))


def alone(cluster: Cluster, program: Program, name: str, *flags: str) -> Server:
    """Started with these flags only; nobody waits for it."""
    server = cluster.add(program, name, *flags)
    cluster.members[name] = server
    return server.spawn()


def three(cluster: Cluster, program: Program) -> list[Server]:
    for name in ("a", "b", "c"):
        cluster.add(program, name)
    cluster.start(["a", "b", "c"])
    return list(cluster.members.values())


def test_a_member_without_its_data_does_not_begin_anew(
    cluster: Cluster, our_program: Program
) -> None:
    """Others know that it ran; with an empty log it could undo what was acknowledged."""
    first, _, third = three(cluster, our_program)
    identity = int(id_of(third))
    third.kill()
    shutil.rmtree(third.data_dir)
    third.spawn()
    assert third.wait() == 1
    assert said(third) == [f"member {identity:x} has already been bootstrapped"]
    assert put(first, "key", "value")


def test_a_restart_ignores_what_flags_say_of_the_beginning(
    cluster: Cluster, our_program: Program
) -> None:
    """Ids, members and token come from the log; even a list that is none does not matter."""
    one = cluster.add(our_program, "a")
    cluster.start(["a"])
    assert put(one, "key", "value")
    identity = id_of(one)
    for flags in (
        ["--initial-cluster=a=nonsense"],
        ["--initial-cluster=", "--initial-cluster-token=other"],
        ["--initial-cluster=b=http://127.0.0.1:1", "--initial-cluster-state=existing"],
        ["--discovery=http://127.0.0.1:1/none", "--initial-cluster="],
    ):
        one.stop()
        one.flags = flags
        one.start()
        assert (id_of(one), get(one, "key")) == (identity, "value")


def test_joining_needs_a_list_that_fits(cluster: Cluster, our_program: Program) -> None:
    """Who was not added, or names other members, is told; nothing is left behind by the attempt."""
    first = cluster.add(our_program, "a")
    cluster.start(["a"])
    late = cluster.add(our_program, "b")
    everybody = f"a={first.peer_url},b={late.peer_url}"
    late.flags = [f"--initial-cluster={everybody}", "--initial-cluster-state=existing"]
    late.spawn()
    assert late.wait() == 1
    assert said(late)[-1].endswith("member count is unequal")
    assert call(first, "cluster/member/add", {"peerURLs": ["http://127.0.0.1:1"]})
    late.spawn()
    assert late.wait() == 1
    assert said(late)[-1].endswith("unmatched member while checking PeerURLs")
    assert not (late.data_dir / "member").exists()


def test_members_of_different_clusters_do_not_mix(cluster: Cluster, our_program: Program) -> None:
    """Same addresses, another token: both say why they do not talk to each other."""
    one, two = cluster.add(our_program, "a"), cluster.add(our_program, "b")
    for server, token in ((one, "red"), (two, "blue")):
        server.flags = [
            f"--initial-cluster=a={one.peer_url},b={two.peer_url}",
            f"--initial-cluster-token={token}",
        ]
        server.spawn()
    for server in (one, two):
        until(lambda server=server: "cluster ID mismatch" in server.log())
        assert server.alive()
        assert not server.healthy()


def test_a_proxy_stays_one(cluster: Cluster, our_program: Program) -> None:
    """Its directory says what it is and whom it forwards to; flags, and services that are gone by
    now, do not matter. A directory of both kinds is refused."""
    one = cluster.add(our_program, "a")
    cluster.start(["a"])
    assert put_v2(one, "/v2/keys/key", "value=1")[0] == 201
    proxy = alone(cluster, our_program, "p", "--proxy=on", f"--initial-cluster=a={one.peer_url}")
    kept = proxy.data_dir / "proxy" / "cluster"
    until(lambda: kept.exists() and forwards(proxy))
    assert proxy.http("GET", "/v2/config/local/proxy")[1].endswith(b"]}\n")
    assert proxy.http("PUT", "/v2/config/local/proxy")[0] == 405
    page = proxy.http("GET", "/metrics")[1]
    assert b"process_open_fds" in page
    assert b"etcd_server_is_leader" not in page, "the member's"
    proxy.stop()
    proxy.flags = ["--initial-cluster=", "--discovery=http://127.0.0.1:1/gone"]
    proxy.spawn()
    until(lambda: forwards(proxy))
    proxy.stop()
    (proxy.data_dir / "member").mkdir()
    proxy.spawn()
    assert proxy.wait() == 1
    assert said(proxy) == ["invalid datadir; both member and proxy directories exist"]
    del cluster.members["p"]


def forwards(proxy: Server) -> bool:
    try:
        return proxy.http("GET", "/v2/keys/key")[0] == 200
    except OSError:
        return False


# ---- discovery


def announced(host: Server, size: int) -> str:
    status, _ = put_v2(host, f"/v2/keys/disc/{TOKEN}/_config/size", f"value={size}")
    assert status == 201
    return f"{host.client_url}/v2/keys/disc/{TOKEN}"


def put_v2(host: Server, path: str, body: str) -> tuple[int, bytes]:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", host.client_port, timeout=10)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("PUT", path, body, form)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


@pytest.fixture(params=["ours", "go"])
def host(
    request: pytest.FixtureRequest, our_program: Program, go_program: Program, tmp_path: Path
) -> Iterator[Server]:
    """An etcd that others meet at: v2 and v3; Go's with --long."""
    if request.param == "ours":
        server = Server(our_program, tmp_path / "host")
    else:
        if not request.getfixturevalue("long"):
            pytest.skip("with --long")
        server = Server(go_program, tmp_path / "host", ["--enable-v2"])
    try:
        yield server.start()
    finally:
        server.kill()


def test_v2_discovery(cluster: Cluster, our_program: Program, host: Server) -> None:
    """Two of two meet; the third is told that it is late, and one that lost its data that it has
    been there already."""
    url = announced(host, 2)
    flags = ["--initial-cluster=", f"--discovery={url}"]
    first, second = (alone(cluster, our_program, name, *flags) for name in ("a", "b"))
    for server in (first, second):
        server.wait_ready()
        assert names(server) == ["a", "b"]
    late = alone(cluster, our_program, "c", *flags, "--discovery-fallback=exit")
    assert late.wait() == 1
    assert said(late) == ["failed to join discovery cluster (discovery: cluster is full)"]
    second.kill()
    shutil.rmtree(second.data_dir)
    second.spawn()
    assert second.wait() == 1
    assert said(second)[-1] == "failed to join discovery cluster (discovery: found duplicate id)"
    assert "member has been registered with discovery service" in second.log()


def test_v2_discovery_through_a_proxy(
    cluster: Cluster, our_program: Program, our_server: Server
) -> None:
    """--discovery-proxy is asked for a host that only it knows."""
    announced(our_server, 1)
    asked: list[str] = []
    with proxying(our_server, asked) as port:
        url = f"http://discovery.invalid/v2/keys/disc/{TOKEN}"
        flags = [f"--discovery={url}", f"--discovery-proxy=http://127.0.0.1:{port}"]
        member = alone(cluster, our_program, "a", "--initial-cluster=", *flags)
        member.wait_ready()
    assert names(member) == ["a"]
    assert asked
    assert all(one.startswith(url) for one in asked)


class proxying:
    """An HTTP proxy that sends everything to `server`; a context manager that gives its port."""

    def __init__(self, server: Server, asked: list[str]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def serve(self) -> None:
                asked.append(self.path)
                length = int(self.headers.get("Content-Length", 0))
                path = "/" + self.path.split("/", 3)[3]
                body = self.rfile.read(length).decode()
                status, found = put_v2(server, path, body) if body else server.http("GET", path)
                self.send_response(status)
                self.send_header("X-Etcd-Index", "1")
                self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

            do_GET = do_PUT = serve

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._proxy = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self._thread = threading.Thread(target=self._proxy.serve_forever, daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        return int(self._proxy.server_address[1])

    def __exit__(self, *_: object) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()
        self._thread.join()


def test_v3_discovery(cluster: Cluster, our_program: Program, host: Server) -> None:
    """The same by plain keys; who waits may be killed and come back, who is late may not come."""
    size = f"/_etcd/registry/{TOKEN}/_config/size"
    flags = [
        "--initial-cluster=",
        f"--discovery-token={TOKEN}",
        f"--discovery-endpoints={host.client_url}",
    ]
    early = alone(cluster, our_program, "e", *flags)
    assert early.wait() == 1
    assert said(early) == ["failed to join discovery cluster (discovery: size key not found)"]
    assert put(host, size, "2")
    first = alone(cluster, our_program, "a", *flags)
    until(lambda: "waiting for more" in first.log())
    first.kill()
    first.spawn()
    second = alone(cluster, our_program, "b", *flags)
    for server in (first, second):
        server.wait_ready()
        assert names(server) == ["a", "b"]
    late = alone(cluster, our_program, "c", *flags, "--discovery-fallback=exit")
    assert late.wait() == 1
    assert said(late) == ["failed to join discovery cluster (discovery: cluster is full)"]
    registered = {f"{int(id_of(m)):x}": f"{m.name}={m.peer_url}" for m in (first, second)}
    for identity, value in registered.items():
        assert get(host, f"/_etcd/registry/{TOKEN}/members/{identity}") == value


def test_v3_discovery_proves_itself(cluster: Cluster, our_program: Program, tmp_path: Path) -> None:
    """By certificates, to a service that asks for them and for a password."""
    authority = Authority(tmp_path, "ca")
    cert, key = authority.issue("both", "member", "localhost")
    https = f"https://127.0.0.1:{free_port()}"
    host = Server(our_program, tmp_path / "host")
    host.flags = [
        f"--listen-client-urls={host.client_url},{https}", f"--cert-file={cert}",
        f"--key-file={key}", f"--trusted-ca-file={authority.file}", "--client-cert-auth",
    ]  # fmt: skip
    flags = [
        "--initial-cluster=", f"--discovery-token={TOKEN}", f"--discovery-endpoints={https}",
        "--discovery-insecure-transport=false", f"--discovery-cacert={authority.file}",
        f"--discovery-cert={cert}", f"--discovery-key={key}", "--discovery-user=root:secret",
    ]  # fmt: skip
    try:
        host.start()
        assert put(host, f"/_etcd/registry/{TOKEN}/_config/size", "1")
        for path, request in (
            ("auth/user/add", {"name": "root", "password": "secret"}),
            ("auth/user/grant", {"user": "root", "role": "root"}),
            ("auth/enable", {}),
        ):
            assert call(host, path, request)
        member = alone(cluster, our_program, "a", *flags)
        member.wait_ready()
        assert names(member) == ["a"]
    finally:
        host.kill()


@pytest.mark.parametrize("protocol", ["v2", "v3"])
def test_go_etcd_meets_ours_by_discovery(
    cluster: Cluster,
    our_program: Program,
    go_program: Program,
    our_server: Server,
    protocol: str,
    long: bool,
) -> None:
    """Both compute the same ids: 3.5.1 by v2 discovery, the newest by v3."""
    theirs = go_newest() if protocol == "v3" else go_program
    if not long or theirs is None:
        pytest.skip("with --long, where the newest Go etcd is built")
    if protocol == "v3":
        assert put(our_server, f"/_etcd/registry/{TOKEN}/_config/size", "2")
        endpoint = f"--discovery-endpoints={our_server.client_url}"
        flags = [f"--discovery-token={TOKEN}", endpoint, "--initial-cluster="]
    else:
        flags = [f"--discovery={announced(our_server, 2)}", "--initial-cluster="]
    servers = [alone(cluster, theirs, "a", *flags), alone(cluster, our_program, "b", *flags)]
    for server in servers:
        server.wait_ready()
        until(lambda server=server: names(server) == ["a", "b"])
    assert members(servers[0]) == members(servers[1])
