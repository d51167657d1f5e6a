"""A cluster's first list from a discovery service: etcd's v2 protocol over another etcd's v2 keys.

    <url>/_config/size      how many members, put there by whoever made the token
    <url>/<member id>       `name=url,name=url` of each that registered; the first `size` are in

A member registers once, waits until the others have, and goes on without the service from then on.
Who registered and then lost its data cannot come back with the same token: the others may count on
what it had.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import quote, urlsplit

from corum.member.asking import Answer
from corum.membership.bootstrap import BootstrapError, ClusterFull
from corum.membership.members import member_id
from corum.values import value

TIMEOUT_S: Final = 5.0
WAIT_S: Final = 60.0
"""For one long poll; then it is asked again."""
BACKOFF_EXPONENT_MAX: Final = 8

Say = Callable[..., None]
"""`say(level, message, **fields)`: a line for operators."""


def failed(reason: str) -> BootstrapError:
    """What etcd says when joining by a discovery service fails."""
    return BootstrapError(f"failed to join discovery cluster ({reason})")


@value
class Registered:
    """What is registered, and the store's index then."""

    members: list[str]
    index: int
    mine: int | None
    """Our place among them, from 0."""


class Discovery:
    """One token of one service.

    `proxy`: an HTTP proxy on the way; without one the environment's is used, as by any tool.
    """

    def __init__(self, url: str, proxy: str, say: Say) -> None:
        parts = urlsplit(url)
        if not parts.scheme:
            raise failed(f'parse "{url}": missing protocol scheme')
        if parts.scheme not in ("http", "https"):
            raise failed(f'unsupported protocol scheme "{parts.scheme}"')
        self._token = url
        self._say = say
        path = parts.path.rstrip("/")
        # A service that is an etcd is named by its keys; others answer under their own path.
        keys = path if path.startswith("/v2/keys") else f"/v2/keys{path}"
        self._base = f"{parts.scheme}://{parts.netloc}{keys}"
        self._proxy = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        # A proxy that the flag names is used whatever $NO_PROXY says.
        ways = urllib.request.ProxyHandler({} if proxy else None)
        self._opener = urllib.request.build_opener(ways)

    def size(self) -> int:
        """How many members there will be; raises BootstrapError."""
        answer = self._ask("GET", "/_config/size")
        if answer.status == 404:
            raise failed("discovery: size key not found")
        try:
            size = int(json.loads(answer.body)["node"]["value"])
        except (ValueError, KeyError, TypeError):
            size = 0
        if size <= 0:
            raise failed("discovery: size key is bad")
        return size

    def register(self, member: int, config: str) -> None:
        """Put ourselves on the list; raises BootstrapError when we have been there before."""
        body = f"value={quote(config, safe='')}".encode()
        answer = self._ask("PUT", f"/{member:x}?prevExist=false", body)
        if answer.status == 412:
            raise failed("discovery: found duplicate id")
        if answer.status != 201:
            raise failed("discovery: bad discovery endpoint")

    def registered(self, size: int, member: int) -> Registered:
        """Who is on the list, in the order of registration, `size` of them at most."""
        answer = self._ask("GET", "")
        if answer.status == 404:
            raise failed("discovery: token not found")
        try:
            listed: Any = json.loads(answer.body)["node"].get("nodes") or []
            nodes = sorted(listed, key=lambda one: one["createdIndex"])
            index = int(answer.headers["x-etcd-index"])
        except (ValueError, KeyError, TypeError):
            raise failed("discovery: bad discovery endpoint") from None
        nodes = [one for one in nodes if not one["key"].rsplit("/", 1)[1].startswith("_")]
        names = [one["key"].rsplit("/", 1)[1] for one in nodes]
        mine = names.index(f"{member:x}") if f"{member:x}" in names else None
        return Registered([one["value"] for one in nodes[:size]], index, mine)

    def wait(self, after: int) -> None:
        """Until something happens behind index `after`, or a minute."""
        try:
            target = f"?recursive=true&wait=true&waitIndex={after + 1}"
            self._once("GET", target, b"", WAIT_S)
        except (OSError, http.client.HTTPException):
            time.sleep(1)

    def _ask(self, verb: str, path: str, body: bytes = b"") -> Answer:
        """Until there is an answer: a service that is away comes back, or somebody stops us."""
        attempt = 0
        while True:
            try:
                answer = self._once(verb, path, body, TIMEOUT_S)
                problem = f"status {answer.status}"
                if answer.status < 500:
                    return answer
            except (OSError, http.client.HTTPException) as error:
                problem = str(error) or repr(error)
            attempt = min(attempt + 1, BACKOFF_EXPONENT_MAX)
            self._say(
                "warn",
                "failed to get from discovery server",
                discovery_url=self._token,
                path=path,
                error=problem,
                retry_interval=f"{2**attempt}s",
            )
            time.sleep(2**attempt)

    def _once(self, verb: str, path: str, body: bytes, timeout_s: float) -> Answer:
        request = urllib.request.Request(self._base + path, body or None, method=verb)
        if self._proxy.netloc:
            request.set_proxy(self._proxy.netloc, self._proxy.scheme)
        if body:
            request.add_header("Content-Type", "application/x-www-form-urlencoded")
        try:
            with self._opener.open(request, timeout=timeout_s) as got:
                return Answer(got.status, _lower(got.headers), got.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return Answer(refused.code, _lower(refused.headers), refused.read())


def _lower(headers: Any) -> dict[str, str]:
    return {str(name).lower(): str(text) for name, text in headers.items()}


def join(url: str, name: str, peer_urls: Sequence[str], proxy: str, say: Say) -> str:
    """Register under `url` and wait for the others: an `--initial-cluster` of all.

    Raises ClusterFull, BootstrapError.
    """
    service = Discovery(url, proxy, say)
    member = member_id(peer_urls, url)
    size = service.size()
    found = service.registered(size, member)
    if found.mine is None and len(found.members) >= size:
        raise full(found.members)
    service.register(member, entry(name, peer_urls))
    found = service.registered(size, member)
    while True:
        if found.mine is None or found.mine >= size:
            raise full(found.members)
        if len(found.members) >= size:
            break
        needed = size - len(found.members)
        say("info", "found peers; waiting for more", found_peers=len(found.members), needed=needed)
        service.wait(found.index)
        found = service.registered(size, member)
    _check_names(found.members)
    return ",".join(found.members)


def entry(name: str, peer_urls: Sequence[str]) -> str:
    """What a member registers of itself: a piece of an `--initial-cluster`."""
    return ",".join(f"{name}={url}" for url in peer_urls)


def full(members: Sequence[str]) -> ClusterFull:
    """All places are taken by `members`."""
    return ClusterFull(",".join(members))


def _check_names(members: Sequence[str]) -> None:
    names = [one.partition("=")[0] for one in members]
    if len(set(names)) != len(names):
        raise failed("discovery: found duplicate name")


def cluster(url: str, proxy: str, say: Say) -> str:
    """What is registered under `url`, for who is no member."""
    service = Discovery(url, proxy, say)
    return ",".join(service.registered(service.size(), 0).members)
