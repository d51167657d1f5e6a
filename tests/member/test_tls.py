"""What the certificate flags make of the ports: files, rules, mistakes."""

import stat
from pathlib import Path
from typing import Any

import pytest

from corum import config
from corum.member import tls
from oracle.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


class Said:
    """Lines for operators."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, level: str, message: str, **fields: Any) -> None:
        self.lines.append(message)


def prepare(tmp_path: Path, **flags: Any) -> tuple[tls.PortTls | None, tls.PortTls | None]:
    given = {name.replace("_", "-"): word for name, word in flags.items()}
    return tls.prepare(config.of(given), str(tmp_path / "data"), Said())


def test_none_is_none(tmp_path: Path) -> None:
    """Without flags both ports are plain."""
    assert prepare(tmp_path) == (None, None)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"cert_file": "here"}, "KeyFile and CertFile must both be present[key: , cert: here]"),
        (
            {"cert_file": "nope", "key_file": "nope"},
            "open nope: no such file or directory",
        ),
        (
            {
                "listen_client_urls": ("https://127.0.0.1:2379",),
                "advertise_client_urls": ("https://127.0.0.1:2379",),
            },
            "TLS key/cert (--cert-file, --key-file) must be provided for client url "
            "https://127.0.0.1:2379 with HTTPS scheme",
        ),
        (
            {"listen_peer_urls": ("https://127.0.0.1:2380",)},
            "cannot listen on TLS for 127.0.0.1:2380: KeyFile and CertFile are not presented",
        ),
    ],
)
def test_mistakes(tmp_path: Path, flags: dict[str, Any], text: str) -> None:
    """Etcd's texts for what is missing."""
    with pytest.raises(tls.TlsError) as error:
        prepare(tmp_path, **flags)
    assert str(error.value) == text


def test_files_that_do_not_fit(tmp_path: Path, authority: Authority) -> None:
    """A key of another certificate, a file that is none, a suite we lack: told at the start."""
    cert, key = authority.issue("one", "one")
    _, other = authority.issue("two", "two")
    with pytest.raises(tls.TlsError, match="key values mismatch"):
        prepare(tmp_path, cert_file=cert, key_file=other)
    with pytest.raises(tls.TlsError, match="cannot be used"):
        prepare(tmp_path, cert_file=key, key_file=key)
    with pytest.raises(tls.TlsError, match="unknown cipher suite"):
        prepare(tmp_path, cert_file=cert, key_file=key, cipher_suites=("TLS_RSA_WITH_RC4_128_SHA",))


def test_calls_to_others_may_have_their_own_certificate(
    tmp_path: Path, authority: Authority
) -> None:
    """--peer-client-cert-file replaces --peer-cert-file in calls, not on the port."""
    cert, key = authority.issue("server", "server")
    client_cert, client_key = authority.issue("client", "client")
    _, peer = prepare(
        tmp_path,
        peer_cert_file=cert,
        peer_key_file=key,
        peer_client_cert_file=client_cert,
        peer_client_key_file=client_key,
    )
    assert peer is not None
    assert (peer.cert_file, peer.client_cert_file) == (cert, client_cert)
    assert not peer.self_signed


def test_self_made_certificates_stay(tmp_path: Path) -> None:
    """Made once, the key for its owner only; the next start finds them."""
    say = Said()
    folder = tmp_path / "data" / "fixtures" / "peer"
    made = tls.self_signed(folder, ["127.0.0.1", "etcd.local"], 1, say)
    assert say.lines == [
        "automatically generate certificates",
        "created cert file",
        "created key file",
    ]
    content = Path(made[0]).read_bytes()
    assert stat.S_IMODE(Path(made[1]).stat().st_mode) == 0o600
    assert tls.self_signed(folder, ["other"], 1, say) == made
    assert Path(made[0]).read_bytes() == content
    assert len(say.lines) == 3
    with pytest.raises(tls.TlsError, match="selfSignedCertValidity"):
        tls.self_signed(tmp_path / "elsewhere", [], 0, say)
