"""Where a member listens: every URL of its flags, for clients, peers and metrics."""

from __future__ import annotations

import os
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
    """Listen on all of them or on none, with `tls` where the URL says so; raises OSError."""
    listeners: list[Listener] = []
    for url in urls:
        try:
            listener = transport.listen(
                bind_url(url),
                tls=tls if is_secure(url) else None,
                grpc=grpc,
                http=http,
                streaming=streaming,
            )
        except OSError as error:
            for opened in listeners:
                opened.close()
            raise OSError(_why_not(url, error)) from error
        listeners.append(listener)
    return listeners


def _why_not(url: str, error: OSError) -> str:
    """Which address could not be had, and why, in Go's words."""
    where = urlsplit(url)
    if isinstance(error, socket.gaierror):
        return f"listen tcp: lookup {where.hostname}: no such host"
    why = os.strerror(error.errno).lower() if error.errno else str(error)
    kind = "unix" if where.scheme.startswith("unix") else "tcp"
    return f"listen {kind} {where.netloc or where.path}: bind: {why}"
