"""A cluster's first list from a discovery service: etcd's v2 protocol over another etcd's v2 keys.

    <url>/_config/size      how many members, put there by whoever made the token
    <url>/<member id>       `name=url,url`, one for each that registered; the first `size` are in

A member registers once, waits until the others have, and goes on without the service from then on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from corum import _transport as wire
from corum.member.asking import Answer, ask
from corum.membership.bootstrap import BootstrapError, ClusterFull
from corum.membership.members import member_id
from corum.values import value

FORM: Final = ("Content-Type", "application/x-www-form-urlencoded")
RETRY_S: Final = 2.0
RETRIES_MAX: Final = 4
"""Without an answer; then the service counts as gone."""
WAIT_MS: Final = 30_000


@value
class Registered:
    """What is registered, and the store's index then."""

    members: list[str]
    index: int
    mine: int | None
    """Our place among them, from 0."""


class Discovery:
    """One token of one service."""

    def __init__(self, transport: wire.Transport, url: str) -> None:
        parts = urlsplit(url)
        self._transport = transport
        self._base = f"{parts.scheme}://{parts.netloc}"
        path = parts.path.rstrip("/")
        # A service that is an etcd is named by its keys; others answer under their own path.
        self._path = path if path.startswith("/v2/keys") else f"/v2/keys{path}"

    def size(self) -> int:
        """How many members there will be; raises BootstrapError."""
        answer = self._ask("GET", "/_config/size")
        if answer.status == 404:
            raise BootstrapError("discovery: size key not found")
        try:
            size = int(json.loads(answer.body)["node"]["value"])
        except (ValueError, KeyError, TypeError):
            size = 0
        if size <= 0:
            raise BootstrapError("discovery: size key is bad")
        return size

    def register(self, member: int, config: str) -> None:
        """Put ourselves on the list; a second time changes nothing."""
        body = f"value={config}".encode()
        answer = self._ask("PUT", f"/{member:x}?prevExist=false", body)
        if answer.status not in (201, 412):
            raise BootstrapError("discovery: duplicate ID" if answer.status == 403 else "discovery")

    def registered(self, size: int, member: int) -> Registered:
        """Who is on the list, in the order of registration, `size` of them at most."""
        answer = self._ask("GET", "")
        listed: Any = json.loads(answer.body) if answer.status == 200 else {"node": {}}
        nodes = sorted(listed["node"].get("nodes") or [], key=lambda one: one["createdIndex"])
        nodes = [one for one in nodes if not one["key"].rsplit("/", 1)[1].startswith("_")]
        names = [one["key"].rsplit("/", 1)[1] for one in nodes]
        mine = names.index(f"{member:x}") if f"{member:x}" in names else None
        index = int(answer.headers.get("x-etcd-index", "0"))
        return Registered([one["value"] for one in nodes[:size]], index, mine)

    def wait(self, after: int) -> None:
        """Until something happens behind index `after`, or half a minute."""
        target = f"{self._path}?recursive=true&wait=true&waitIndex={after + 1}"
        ask(self._transport, "GET", self._base, target, timeout_ms=WAIT_MS)

    def _ask(self, verb: str, path: str, body: bytes = b"") -> Answer:
        for left in range(RETRIES_MAX, -1, -1):
            answer = ask(self._transport, verb, self._base, self._path + path, body, [FORM])
            if answer is not None and answer.status < 500:
                return answer
            if left:
                time.sleep(RETRY_S)
        raise BootstrapError("discovery: too many retries")


def join(url: str, name: str, peer_urls: Sequence[str]) -> str:
    """Register under `url` and wait for the others: an `--initial-cluster` of all.

    Raises ClusterFull, BootstrapError.
    """
    with wire.Transport() as transport:
        service = Discovery(transport, url)
        member = member_id(peer_urls, url)
        size = service.size()
        found = service.registered(size, member)
        if found.mine is None:
            if len(found.members) >= size:
                raise ClusterFull(",".join(_entries(found.members)))
            service.register(member, f"{name}={','.join(peer_urls)}")
            found = service.registered(size, member)
        if found.mine is None or found.mine >= size:
            raise ClusterFull(",".join(_entries(found.members)))
        while len(found.members) < size:
            service.wait(found.index)
            found = service.registered(size, member)
        return ",".join(_entries(found.members))


def cluster(url: str) -> str:
    """What is registered under `url`, for who is no member."""
    with wire.Transport() as transport:
        service = Discovery(transport, url)
        return ",".join(_entries(service.registered(service.size(), 0).members))


def _entries(registered: Sequence[str]) -> list[str]:
    """`a=x,y` -> `a=x`, `a=y`."""
    found: list[str] = []
    for one in registered:
        name, _, urls = one.partition("=")
        found += [f"{name}={url.removeprefix(f'{name}=')}" for url in urls.split(",")]
    return found
