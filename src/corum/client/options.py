"""How a client reaches its cluster: endpoints, TLS, credentials, times. Pure values."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_ENDPOINT = "127.0.0.1:2379"
TIMEOUT_S = 5.0
DIAL_TIMEOUT_S = 2.0
DEFAULT = -1.0  # as a timeout: the session's own; None means for ever
RECV_MAX_BYTES = 2**31 - 1


class Tls:
    """How to check the server's certificate and prove oneself; all files are PEM."""

    __slots__ = ("ca_file", "cert_file", "key_file", "server_name", "skip_verify")

    def __init__(
        self,
        *,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        server_name: str | None = None,
        skip_verify: bool = False,
    ) -> None:
        self.ca_file = ca_file
        self.cert_file = cert_file
        self.key_file = key_file
        self.server_name = server_name
        self.skip_verify = skip_verify


class Options:
    """Everything a session needs to know. Times are seconds.

    timeout_s: how long a call may take in all, with every retry; None: for ever.
    keepalive_s: ping a silent connection that often, and give it up when there is no answer within
        `keepalive_timeout_s`; 0: never. etcd refuses clients below 5 s.
    prefer_leader: of several endpoints use the leader's; asked for at the start, after failures,
        and with the first call after ten seconds, in case it has moved.
    """

    __slots__ = (
        "dial_timeout_s", "endpoints", "keepalive_s", "keepalive_timeout_s", "password",
        "prefer_leader", "recv_max_bytes", "timeout_s", "tls", "token", "user",
    )  # fmt: skip

    def __init__(
        self,
        endpoints: str | Sequence[str] = DEFAULT_ENDPOINT,
        *,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        tls: Tls | None = None,
        timeout_s: float | None = TIMEOUT_S,
        dial_timeout_s: float = DIAL_TIMEOUT_S,
        keepalive_s: float = 0,
        keepalive_timeout_s: float = 6,
        recv_max_bytes: int = RECV_MAX_BYTES,
        prefer_leader: bool = False,
    ) -> None:
        given = endpoints.split(",") if isinstance(endpoints, str) else endpoints
        self.endpoints = tuple(e.strip() for e in given if e.strip())
        if not self.endpoints:
            raise ValueError("no endpoints")
        self.user = user
        self.password = password
        self.token = token
        self.tls = tls
        self.timeout_s = timeout_s
        self.dial_timeout_s = dial_timeout_s
        self.keepalive_s = keepalive_s
        self.keepalive_timeout_s = keepalive_timeout_s
        self.recv_max_bytes = recv_max_bytes
        self.prefer_leader = prefer_leader


def target(endpoint: str, *, tls: bool) -> str:
    """The address to connect to: "http(s)://host:port" or "unix(s)://path".

    An endpoint's own scheme decides; without one `tls` does. A path behind host:port is dropped,
    as the endpoints of etcd's commands are often copied from URLs.
    """
    scheme, found, rest = endpoint.partition("://")
    if not found:
        if endpoint.startswith(("unix:", "unixs:")):
            scheme, _, rest = endpoint.partition(":")
        else:
            return f"{'https' if tls else 'http'}://{endpoint.rstrip('/')}"
    if scheme in ("unix", "unixs"):
        return f"{scheme}://{rest}"
    return f"{scheme}://{rest.split('/', 1)[0]}"
