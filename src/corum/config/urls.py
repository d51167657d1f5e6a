"""URL lists of flags, checked with etcd's words. Pure; nothing here resolves a name."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

_NO_HOST: Final = re.compile(r"[\s<>^`{}|\\]")
"""What a host's name cannot hold (Go's net/url)."""
_SCHEMES: Final = ("http", "https", "unix", "unixs")


class BadUrl(ValueError):
    """A URL that etcd refuses; `str()` is its reason."""


def parse_list(text: str) -> tuple[str, ...]:
    """The comma separated URLs of `text`, each once, sorted; raises BadUrl for a bad one."""
    return tuple(sorted({check(word.strip()) for word in text.split(",")}))


def check(url: str) -> str:
    """`url` itself if etcd takes it as an address of a server; raises BadUrl."""
    parts = _split(url)
    if parts.scheme not in _SCHEMES:
        raise BadUrl(f"URL scheme must be http, https, unix, or unixs: {url}")
    if parts.scheme.startswith("unix"):
        return url
    if host_port(parts.netloc) is None:
        raise BadUrl(f'URL address does not have the form "host:port": {url}')
    if parts.path:
        raise BadUrl(f"URL must not contain a path: {url}")
    return url


def _split(url: str) -> SplitResult:
    first = url.partition("/")[0]
    if first.startswith(":"):
        raise BadUrl(f'parse "{url}": missing protocol scheme')
    if ":" in first and not first[0].isalpha():
        raise BadUrl(f'parse "{url}": first path segment in URL cannot contain colon')
    try:
        parts = urlsplit(url)
    except ValueError:
        raise BadUrl(f'parse "{url}": invalid URL') from None
    host, colon, port = parts.netloc.rpartition("@")[2].rpartition(":")
    if colon and not port.isdecimal() and port and "]" not in port:
        raise BadUrl(f'parse "{url}": invalid port ":{port}" after host')
    bad = _NO_HOST.search(host)
    if bad is not None:
        raise BadUrl(f'parse "{url}": invalid character "{bad[0]}" in host name')
    return parts


def host_port(netloc: str) -> tuple[str, str] | None:
    """("::1", "2379") of "[::1]:2379"; None unless it is a host (maybe empty), a colon, a port."""
    host, colon, port = netloc.rpartition(":")
    if not colon or not port.isascii() or (port and not port.isdigit()):
        return None
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], port
    return None if ":" in host else (host, port)


def host_of(url: str) -> str:
    """The host of a checked URL; "" for a unix socket."""
    parts = _split(url)
    found = None if parts.scheme.startswith("unix") else host_port(parts.netloc)
    return found[0] if found else ""


def refuse_unbindable(urls: tuple[str, ...]) -> None:
    """A listener needs a host, by address or (other than etcd) by name; raises BadUrl for the first
    that has none. Names are looked up when the listener is opened."""
    for url in urls:
        if not url.startswith("unix") and not host_of(url):
            raise BadUrl(f"expected IP in URL for binding ({url})")


def refuse_empty_host(urls: tuple[str, ...]) -> None:
    """What is told to others must name a host; raises BadUrl for the first that does not."""
    for url in urls:
        if not url.startswith("unix") and not host_of(url):
            raise BadUrl(f"unexpected empty host ({url})")


def is_ip(host: str) -> bool:
    """Is `host` an IPv4 or IPv6 address (a zone is tolerated)?"""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def parse_cluster(text: str) -> dict[str, tuple[str, ...]]:
    """`--initial-cluster`: name -> sorted URLs; a name may stand there several times."""
    found: dict[str, list[str]] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, url = item.partition("=")
        found.setdefault(name.strip(), []).append(check(url.strip()))
    return {name: tuple(sorted(listed)) for name, listed in found.items()}
