"""TLS as operators set it up: flags of real daemons, Go's tools on the other side."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from corum import Client, Tls
from corum.client.errors import ClientError
from oracle import servers
from oracle.certificates import Authority
from oracle.clusters import Cluster, call

pytestmark = [pytest.mark.compat, pytest.mark.process]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


class SecureServer(servers.Server):
    """A daemon with a second client URL, an https one; the plain one is for `wait_ready`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.https = f"https://127.0.0.1:{servers.free_port()}"

    def argv(self) -> list[str]:
        return [
            *super().argv(),
            f"--listen-client-urls={self.client_url},{self.https}",
            f"--advertise-client-urls={self.https}",
        ]


@pytest.fixture
def server(
    our_program: servers.Program, tmp_path: Path, authority: Authority
) -> Iterator[SecureServer]:
    cert, key = authority.issue("server", "server", "localhost")
    flags = (
        f"--cert-file={cert}", f"--key-file={key}", f"--trusted-ca-file={authority.file}",
        "--client-cert-auth", "--client-cert-allowed-hostname=good.local",
    )  # fmt: skip
    made = SecureServer(our_program, tmp_path / "server", flags)
    try:
        made.start()
        yield made
    finally:
        made.kill()


def go_get(
    server: SecureServer, authority: Authority, *flags: str
) -> subprocess.CompletedProcess[str]:
    tools = servers.go_tools()
    assert tools is not None
    return subprocess.run(
        [
            str(tools / "etcdctl"), f"--endpoints={server.https}", f"--cacert={authority.file}",
            "--command-timeout=3s", *flags, "get", "k",
        ],
        env=servers.plain_environment({"ETCDCTL_API": "3"}),
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


def test_clients_prove_themselves(server: SecureServer, authority: Authority) -> None:
    """Our client and Go's etcdctl with a good certificate; none, or one of a wrong name: no."""
    cert, key = authority.issue("good", "someone", "good.local")
    bad_cert, bad_key = authority.issue("bad", "someone", "bad.local")
    with Client(
        server.https, tls=Tls(ca_file=authority.file, cert_file=cert, key_file=key)
    ) as client:
        client.put("k", "v")
    assert go_get(server, authority, f"--cert={cert}", f"--key={key}").stdout == "k\nv\n"
    assert go_get(server, authority, f"--cert={bad_cert}", f"--key={bad_key}").returncode == 1
    assert go_get(server, authority).returncode == 1
    nameless = Tls(ca_file=authority.file, cert_file=bad_cert, key_file=bad_key)
    with (
        Client(server.https, tls=nameless, timeout_s=2) as client,
        pytest.raises(ClientError),
    ):
        client.get("k")


def test_peers_talk_over_tls_with_go_among_them(
    our_program: servers.Program,
    go_program: servers.Program,
    cluster: Cluster,
    authority: Authority,
) -> None:
    """Three members, one of them Go's, all demanding certificates; then one leaves and returns."""
    cert, key = authority.issue("member", "member", "localhost")
    flags = (
        f"--peer-cert-file={cert}", f"--peer-key-file={key}",
        f"--peer-trusted-ca-file={authority.file}", "--peer-client-cert-auth",
        "--peer-cert-allowed-cn=member",
    )  # fmt: skip
    for name, program in (("m1", our_program), ("m2", our_program), ("m3", go_program)):
        cluster.add(program, name, *flags).peer_scheme = "https"
    cluster.start(["m1", "m2", "m3"])
    members = list(cluster.members.values())
    assert call(members[0], "kv/put", {"key": "aw==", "value": "dg=="})["header"]["revision"]
    for member in members:
        assert call(member, "kv/range", {"key": "aw=="})["count"] == "1"
    members[1].stop()
    members[1].start()
    assert call(members[1], "kv/range", {"key": "aw=="})["count"] == "1"


def test_automatic_certificates(our_program: servers.Program, tmp_path: Path) -> None:
    """--auto-tls: https without a file given; who does not check is served."""
    server = SecureServer(our_program, tmp_path / "auto", ("--auto-tls", "--peer-auto-tls"))
    try:
        server.start()
        with Client(server.https, tls=Tls(skip_verify=True)) as client:
            client.put("k", "v")
            assert client.get("k").value == b"v"
        assert (server.data_dir / "fixtures" / "client" / "key.pem").exists()
    finally:
        server.kill()
