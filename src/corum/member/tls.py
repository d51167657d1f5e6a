"""What the certificate flags ask for: how the ports prove themselves and whom they believe.

    config -> prepare -> PortTls of the client port and of the peer port -> ServerTls, ClientTls

With --auto-tls and --peer-auto-tls a member makes its own certificates below <data-dir>/fixtures,
as etcd does, and keeps them for the next start.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from corum._transport import ClientTls, ServerTls
from corum.config import Config
from corum.values import value

SECURE_SCHEMES: Final = ("https", "unixs")
KEY_MODE: Final = 0o600

Say = Callable[..., None]
Version = Literal["1.2", "1.3"]


class TlsError(Exception):
    """The certificate flags or files cannot be used; the text says which and why."""


@value
class PortTls:
    """One port's side of TLS, and that of calls to such ports of other members.

    Files are PEM paths, "" for none; `self_signed`: made by the member, so nobody can check them.
    """

    cert_file: str
    key_file: str
    client_cert_file: str
    client_key_file: str
    ca_file: str = ""
    client_auth: bool = False
    crl_file: str = ""
    allowed_common_names: tuple[str, ...] = ()
    allowed_host_names: tuple[str, ...] = ()
    min_version: Version = "1.2"
    max_version: Version = "1.3"
    cipher_suites: tuple[str, ...] = ()
    self_signed: bool = False

    def server(self, *, ask_clients: bool = True) -> ServerTls:
        """For listeners. As in etcd, a CA alone makes them demand certificates of clients, as
        --client-cert-auth does. `ask_clients` False: they never do (metrics listeners)."""
        wanted = ask_clients and bool(self.ca_file or self.client_auth)
        rules: dict[str, Any] = {}
        if wanted and self.allowed_common_names:
            rules["allowed_common_names"] = self.allowed_common_names
        if wanted and self.allowed_host_names:
            rules["allowed_host_names"] = self.allowed_host_names
        return ServerTls(
            cert_file=self.cert_file,
            key_file=self.key_file,
            ca_file=(self.ca_file or _system_bundle()) if wanted else None,
            client_auth="required" if wanted else "none",
            crl_file=(self.crl_file or None) if wanted else None,
            min_version=self.min_version,
            max_version=self.max_version,
            cipher_suites=self.cipher_suites,
            **rules,
        )

    def client(self) -> ClientTls:
        """For calls to the same kind of port of other members."""
        return ClientTls(
            ca_file=self.ca_file or None,
            cert_file=self.client_cert_file,
            key_file=self.client_key_file,
            skip_verify=self.self_signed,
            min_version=self.min_version,
            max_version=self.max_version,
            cipher_suites=self.cipher_suites,
        )


def is_secure(url: str) -> bool:
    """Whether a listen URL asks for TLS."""
    return urlsplit(url).scheme in SECURE_SCHEMES


def prepare(config: Config, data_dir: str, say: Say) -> tuple[PortTls | None, PortTls | None]:
    """(client port, peer port); None where no certificate is given. Raises TlsError."""
    fixtures = Path(data_dir) / "fixtures"
    peer = _port(
        config,
        (config.peer_cert_file, config.peer_key_file),
        (config.peer_client_cert_file, config.peer_client_key_file),
        ca_file=config.peer_trusted_ca_file,
        client_auth=config.peer_client_cert_auth,
        crl_file=config.peer_crl_file,
        allowed_common_names=config.peer_cert_allowed_cn,
        allowed_host_names=config.peer_cert_allowed_hostname,
        auto=_auto(config.peer_auto_tls, config.listen_peer_urls, fixtures / "peer", config, say),
    )
    client = _port(
        config,
        (config.cert_file, config.key_file),
        (config.client_cert_file, config.client_key_file),
        ca_file=config.trusted_ca_file,
        client_auth=config.client_cert_auth,
        crl_file=config.client_crl_file,
        allowed_host_names=config.client_cert_allowed_hostname,
        auto=_auto(config.auto_tls, config.listen_client_urls, fixtures / "client", config, say),
    )
    _check_urls(config, client, peer, say)
    return client, peer


def _check_urls(config: Config, client: PortTls | None, peer: PortTls | None, say: Say) -> None:
    """Every https URL has a certificate; certificates that serve nothing are told."""
    for url in config.listen_client_urls:
        if is_secure(url):
            if client is None:
                raise TlsError(
                    "TLS key/cert (--cert-file, --key-file) must be provided for client url "
                    f"{url} with HTTPS scheme"
                )
            continue
        field = {"client-url": url}
        if client is not None:
            text = (
                "scheme is HTTP while key and cert files are present; ignoring key and cert files"
            )
            say("warn", text, **field)
        if config.client_cert_auth:
            text = (
                "scheme is HTTP while --client-cert-auth is enabled; "
                "ignoring client cert auth for this URL"
            )
            say("warn", text, **field)
    for url in config.listen_peer_urls:
        if is_secure(url) and peer is None:
            raise TlsError(
                f"cannot listen on TLS for {urlsplit(url).netloc}: "
                "KeyFile and CertFile are not presented"
            )
        if not is_secure(url) and peer is not None:
            text = (
                "scheme is HTTP while key and cert files are present; ignoring key and cert files"
            )
            say("warn", text, **{"peer-url": url})


def _auto(
    wanted: bool, urls: Sequence[str], folder: Path, config: Config, say: Say
) -> tuple[str, str] | None:
    """The files of a self-made certificate, if the flags ask for one."""
    if not wanted:
        return None
    hosts = [urlsplit(url).hostname or "" for url in urls]
    return self_signed(folder, hosts, config.self_signed_cert_validity, say)


def _port(
    config: Config,
    pair: tuple[str, str],
    client_pair: tuple[str, str],
    *,
    ca_file: str,
    crl_file: str,
    auto: tuple[str, str] | None,
    **rules: Any,
) -> PortTls | None:
    """A port's rules, its files read once so that mistakes show at the start."""
    made = auto is not None and not any(pair)
    cert, key = auto if auto is not None and made else pair
    if not cert and not key:
        return None
    client_cert, client_key = client_pair if any(client_pair) else (cert, key)
    for one in ((cert, key), (client_cert, client_key)):
        _check_pair(*one)
    for path in (ca_file, crl_file):
        if path:
            _check_readable(path)
    low, high = config.tls_min_version, config.tls_max_version
    try:
        port = PortTls(
            cert, key, client_cert, client_key,
            ca_file=ca_file,
            crl_file=crl_file,
            min_version="1.3" if low == "TLS1.3" else "1.2",
            max_version="1.2" if high == "TLS1.2" else "1.3",
            cipher_suites=config.cipher_suites,
            self_signed=made,
            **rules,
        )  # fmt: skip
        port.server()
    except ValueError as error:
        raise TlsError(str(error)) from None
    return port


def _check_pair(cert: str, key: str) -> None:
    if not cert or not key:
        raise TlsError(f"KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")
    for path in (cert, key):
        _check_readable(path)
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).lower().replace("_", " ")
        raise TlsError(f"certificate {cert} and key {key} cannot be used: {reason}") from None


def _check_readable(path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise TlsError(f"open {path}: {(error.strerror or str(error)).lower()}") from None


def _system_bundle() -> str:
    """Who is trusted when no CA is named: whom the system trusts."""
    import ssl

    paths = ssl.get_default_verify_paths()
    found = paths.cafile or "/etc/ssl/certs/ca-certificates.crt"
    _check_readable(found)
    return found


def self_signed(
    folder: Path, hosts: Sequence[str], years: int, say: Say = lambda *_, **__: None
) -> tuple[str, str]:
    """(certificate, key) files in `folder`: those found there, or new ones for `hosts`.

    P-256 instead of etcd's P-521, which several TLS libraries refuse.
    """
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    if cert_path.exists() and key_path.exists():
        return str(cert_path), str(key_path)
    if years <= 0:
        raise TlsError("selfSignedCertValidity is invalid,it should be greater than 0")
    cert, key, until = _make(hosts, years)
    say(
        "warn",
        "automatically generate certificates",
        **{"certificate-validity-bound-not-after": until},
    )
    try:
        folder.parent.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        cert_path.write_bytes(cert)
        say("info", "created cert file", path=str(cert_path))
        with open(os.open(key_path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, KEY_MODE), "wb") as file:
            file.write(key)
        say("info", "created key file", path=str(key_path))
    except OSError as error:
        raise TlsError(f"cannot write certificates below {folder}: {error.strerror}") from None
    return str(cert_path), str(key_path)


def _make(hosts: Sequence[str], years: int) -> tuple[bytes, bytes, str]:
    """(certificate, key, end of validity) for `hosts`, names and addresses; PEM."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host or "localhost"))
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "etcd")])
    now = datetime.now(UTC)
    until = now + timedelta(days=365 * years)
    usage = x509.KeyUsage(
        digital_signature=True, key_encipherment=True, content_commitment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=False, crl_sign=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    server_auth = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(server_auth, critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), secret, until.isoformat()
