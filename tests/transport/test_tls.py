"""TLS in both directions, with certificates made for the occasion."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from corum import _transport as transport
from oracle.certificates import Authority

from .conftest import EchoServer


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
def client() -> Iterator[transport.Transport]:
    with transport.Transport() as client:
        yield client


def serve(server: EchoServer, authority: Authority, **settings: Any) -> str:
    cert_file, key_file = authority.issue("server", "server", "localhost")
    tls = transport.ServerTls(cert_file=cert_file, key_file=key_file, **settings)
    return server.transport.listen("https://127.0.0.1:0", tls=tls).address


def channel_to(
    client: transport.Transport, address: str, backoff_max_ms: int = 0, **tls: Any
) -> transport.Channel:
    settings = transport.ChannelSettings(
        tls=transport.ClientTls(**tls), backoff_min_ms=0, backoff_max_ms=backoff_max_ms
    )
    return client.connect(f"https://{address}", settings)


def call(channel: transport.Channel) -> bytes:
    return channel.unary("/test.Echo/Unary", b"secret", timeout_ms=10_000)


def test_server_certificate(
    server: EchoServer, client: transport.Transport, authority: Authority, tmp_path: Path
) -> None:
    """Who trusts the authority gets through, who trusts another one does not."""
    address = serve(server, authority)
    assert call(channel_to(client, address, ca_file=authority.file)) == b"secret"
    assert call(channel_to(client, address, skip_verify=True)) == b"secret"
    other = Authority(tmp_path, "other")
    with pytest.raises(transport.RpcError) as caught:
        call(channel_to(client, address, ca_file=other.file))
    assert caught.value.code == 14
    assert "certificate" in caught.value.text
    with pytest.raises(transport.RpcError) as caught:
        call(channel_to(client, address, ca_file=authority.file, server_name="elsewhere"))
    assert caught.value.code == 14


def test_large_messages(
    server: EchoServer, client: transport.Transport, authority: Authority
) -> None:
    """Megabytes in both directions through TLS."""
    channel = channel_to(client, serve(server, authority), ca_file=authority.file)
    message = os.urandom(1000) * 3000
    for _ in range(3):
        assert channel.unary("/test.Echo/Unary", message, timeout_ms=20_000) == message


def test_foreign_clients(server: EchoServer, authority: Authority) -> None:
    """grpcio and Python's ssl module talk to the same TLS port, by HTTP/2 and HTTP/1.1."""
    address = serve(server, authority)
    credentials = grpc.ssl_channel_credentials(Path(authority.file).read_bytes())
    with grpc.secure_channel(address, credentials) as channel:
        message = b"x" * 300_000
        assert channel.unary_unary("/test.Echo/Unary")(message, timeout=10) == message
    context = ssl.create_default_context(cafile=authority.file)
    host, port = address.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        sock.sendall(b"GET /tls HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(4096), b""))
    assert answer.endswith(b"\r\n\r\n/tls")
    (event,) = server.wait_for(transport.HTTP)
    assert event[7].tls
    assert event[7].server_name == "localhost"
    assert event[7].common_name is None


def test_client_certificates(
    server: EchoServer, client: transport.Transport, authority: Authority, tmp_path: Path
) -> None:
    """A required certificate must be there and be signed by the authority; its names are known."""
    address = serve(server, authority, ca_file=authority.file, client_auth="required")
    cert_file, key_file = authority.issue("alice", "alice", "a.example", "b.example")
    trusted = channel_to(
        client, address, ca_file=authority.file, cert_file=cert_file, key_file=key_file
    )
    assert call(trusted) == b"secret"
    (unary,) = server.wait_for(transport.UNARY)
    peer = unary[4][3]
    assert peer.common_name == "alice"
    assert peer.dns_names == ["a.example", "b.example"]
    assert peer.ip_addresses == ["127.0.0.1"]
    assert x509.load_der_x509_certificate(peer.certificate).subject.rfc4514_string() == "CN=alice"
    with pytest.raises(transport.RpcError):
        call(channel_to(client, address, ca_file=authority.file))
    stranger = Authority(tmp_path, "stranger").issue("mallory", "mallory")
    with pytest.raises(transport.RpcError):
        call(
            channel_to(
                client,
                address,
                ca_file=authority.file,
                cert_file=stranger[0],
                key_file=stranger[1],
            )
        )


def test_optional_client_certificate(
    server: EchoServer, client: transport.Transport, authority: Authority
) -> None:
    """With "optional" a client without certificate is served, and has no name."""
    address = serve(server, authority, ca_file=authority.file, client_auth="optional")
    assert call(channel_to(client, address, ca_file=authority.file)) == b"secret"
    assert server.wait_for(transport.UNARY)[0][4][3].common_name is None


def peer_name(address: str, authority: Authority, name: str) -> str:
    """CN of the certificate that the server shows to a client asking for `name`."""
    context = ssl.create_default_context(cafile=authority.file)
    context.check_hostname = False
    host, port = address.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as sock,
    ):
        certificate = x509.load_der_x509_certificate(sock.getpeercert(True) or b"")
    return certificate.subject.rfc4514_string()


def test_sni_and_reload(server: EchoServer, authority: Authority) -> None:
    """The name asked for selects the certificate; changed files count from the next handshake."""
    special = authority.issue("special", "special", "special.example")
    address = serve(server, authority, sni=[("special.example", *special)])
    assert peer_name(address, authority, "special.example") == "CN=special"
    assert peer_name(address, authority, "other.example") == "CN=server"
    authority.issue("server", "renewed", "localhost")
    assert peer_name(address, authority, "other.example") == "CN=renewed"
    Path(authority.folder / "server.key").write_text("nonsense")
    with pytest.raises(OSError, match=r".*"):
        peer_name(address, authority, "other.example")
    authority.issue("server", "repaired", "localhost")
    assert peer_name(address, authority, "other.example") == "CN=repaired"


@pytest.mark.parametrize(
    ("settings", "version", "cipher"),
    [
        ({}, "TLSv1.3", None),
        ({"max_version": "1.2"}, "TLSv1.2", None),
        (
            {
                "max_version": "1.2",
                "cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
            },
            "TLSv1.2",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
        ),
    ],
)
def test_versions_and_suites(
    server: EchoServer,
    authority: Authority,
    settings: dict[str, Any],
    version: str,
    cipher: str | None,
) -> None:
    """The configured versions and suites are what is negotiated."""
    host, port = serve(server, authority, **settings).split(":")
    context = ssl.create_default_context(cafile=authority.file)
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        assert sock.version() == version
        used = sock.cipher()
        assert cipher is None or (used is not None and used[0] == cipher)


def test_bad_settings(authority: Authority) -> None:
    """Unknown names are refused when the settings are made, missing files when listening."""
    with pytest.raises(ValueError, match="cipher suite"):
        transport.ClientTls(cipher_suites=["TLS_NULL"])
    with pytest.raises(ValueError, match="version"):
        transport.ClientTls(min_version="1.3", max_version="1.2")
    with pytest.raises(ValueError, match="ca_file"):
        transport.ServerTls(cert_file="c", key_file="k", client_auth="required")
    with transport.Transport() as server:
        tls = transport.ServerTls(cert_file="/nowhere.crt", key_file="/nowhere.key")
        with pytest.raises(transport.TransportError, match=r"/nowhere\.crt"):
            server.listen("https://127.0.0.1:0", tls=tls)
        with pytest.raises(ValueError, match="tls"):
            server.listen("https://127.0.0.1:0")


@pytest.mark.parametrize(
    "begin", [b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM"]
)
def test_plain_text_on_the_tls_port(server: EchoServer, authority: Authority, begin: bytes) -> None:
    """Who speaks no TLS is closed without a word, as by Go's etcd: an alert would be noise."""
    host, port = serve(server, authority).split(":")
    with socket.create_connection((host, int(port)), timeout=10) as wire:
        wire.sendall(begin)
        try:
            assert wire.recv(100) == b""
        except ConnectionResetError:
            pass  # also without a word
    assert server.transport.stats()["tls_errors"] == 1
