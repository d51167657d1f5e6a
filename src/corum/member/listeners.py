"""Where a member listens: every URL of its flags, for clients, peers and metrics."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from corum.member.tls import is_secure

if TYPE_CHECKING:
    from corum._transport import Listener, ServerTls, Transport


def bind_url(url: str) -> str:
    """A listen URL with its host name resolved; the transport binds addresses (DESIGN: names may be
    given in listen URLs). Raises OSError for a name that is not known."""
    parts = urlsplit(url)
    if parts.scheme in ("unix", "unixs"):
        return url
    host, port = parts.hostname or "", parts.port or 0
    if not host:
        host = "::"
    info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    info.sort(key=lambda one: one[0] != socket.AF_INET)
    address = str(info[0][4][0])
    where = f"[{address}]" if ":" in address else address
    return f"{parts.scheme}://{where}:{port}"


def listen_all(
    transport: Transport,
    urls: Sequence[str],
    tls: ServerTls | None = None,
    *,
    grpc: bool = True,
    http: bool = True,
    streaming: Sequence[str] = (),
) -> list[Listener]:
    """Listen on all of them or on none, with `tls` where the URL says so; raises TransportError."""
    listeners: list[Listener] = []
    try:
        listeners.extend(
            transport.listen(
                bind_url(url),
                tls=tls if is_secure(url) else None,
                grpc=grpc,
                http=http,
                streaming=streaming,
            )
            for url in urls
        )
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners
