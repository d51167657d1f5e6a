"""Host names in peer URLs: two URLs are the same when they lead to the same place."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from corum.config.urls import is_ip

PATIENCE_S: Final = 30.0
"""A name may be known a little later than its member starts (etcd: the same)."""
RETRY_S: Final = 1.0

Warn = Callable[[str, str], None]
"""`warn(url, what was wrong)`: a name is not known yet."""


def nobody(url: str, problem: str) -> None:
    """Warns nobody."""


def resolver(warn: Warn = nobody, patience_s: float = PATIENCE_S) -> Callable[[str], str]:
    """A function from a URL to the same with an address for its host.

    All its calls together wait `patience_s` at most; then OSError says why. `localhost` stays, as
    with etcd.
    """
    until = time.monotonic() + patience_s

    def resolved(url: str) -> str:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme.startswith("unix") or host == "localhost" or is_ip(host):
            return url
        while True:
            try:
                info = socket.getaddrinfo(host, parts.port, type=socket.SOCK_STREAM)
            except OSError as error:
                warn(url, str(error))
                if time.monotonic() + RETRY_S > until:
                    raise
                time.sleep(RETRY_S)
                continue
            info.sort(key=lambda one: one[0] != socket.AF_INET)
            address = str(info[0][4][0])
            shown = f"[{address}]" if ":" in address else address
            return f"{parts.scheme}://{shown}:{parts.port}"

    return resolved
