"""A cluster's first list from DNS: `_etcd-server-ssl._tcp` and `_etcd-server._tcp` of a domain."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from corum.membership.bootstrap import BootstrapError

SERVICES: Final = (("etcd-server-ssl", "https"), ("etcd-server", "http"))


def cluster(
    domain: str, suffix: str, name: str | None = None, peer_urls: Sequence[str] = ()
) -> str:
    """An `--initial-cluster`: ourselves under `name`, the others numbered. `name` None: we are none
    of them.

    Raises BootstrapError when there are no records, or none that leads to us.
    """
    mine = [_address(urlsplit(url).hostname, urlsplit(url).port) for url in peer_urls]
    found: list[str] = []
    problems: list[str] = []
    number = 0
    here = False
    for service, scheme in SERVICES:
        full = f"_{service}{'-' + suffix if suffix else ''}._tcp.{domain}"
        for host, port in _records(full, problems):
            url = f"{scheme}://{host}:{port}"
            address = _address(host, port)
            if address in mine and (url in peer_urls or not _named(peer_urls, host)):
                found.append(f"{name}={url}")
                here = True
            else:
                found.append(f"{number}={url}")
                number += 1
    if not found:
        why = "; ".join(problems) or "no SRV records"
        raise BootstrapError(f"error setting up initial cluster: {why}")
    if name is not None and not here:
        raise BootstrapError(f'cannot find local etcd member "{name}" in SRV records')
    return ",".join(found)


def _named(peer_urls: Sequence[str], host: str) -> bool:
    return any(urlsplit(url).hostname == host for url in peer_urls)


def _records(full: str, problems: list[str]) -> list[tuple[str, int]]:
    """(host, port) of each record, by priority."""
    import dns.exception
    import dns.resolver

    try:
        answer: Any = dns.resolver.resolve(full, "SRV")
    except dns.exception.DNSException as error:
        problems.append(f"error querying DNS SRV records for {full.partition('.')[0]} {error}")
        return []
    rows = sorted(answer, key=lambda one: (one.priority, -one.weight))
    return [(row.target.to_text().rstrip("."), row.port) for row in rows]


def _address(host: str | None, port: int | None) -> tuple[str, int] | None:
    """Where a host name leads; None when it is not known (yet)."""
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return None
    return str(info[0][4][0]), port or 0
