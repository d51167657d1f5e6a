"""A cluster's first list from a discovery service: etcd's v3 protocol, plain keys of another etcd.

    /_etcd/registry/<token>/_config/size        how many members, put there by an operator
    /_etcd/registry/<token>/members/<id>        `name=url,name=url`, one for each that registered

The first `size` by creation are in. A member registers, waits until the others have, and goes on
without the service from then on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from corum.client import methods, requests
from corum.client._sync.session import Session
from corum.client._sync.watching import Watching
from corum.client.errors import ClientError
from corum.client.options import Options, Tls
from corum.client.watch_state import WatchState
from corum.member.discovery import BACKOFF_EXPONENT_MAX, Say, entry, failed, full
from corum.membership.members import member_id
from corum.pb import rpc
from corum.values import NS_PER_S, value

if TYPE_CHECKING:
    from corum.config import Config

WAIT_S: Final = 60.0
"""Without news the list is read again: a watch that lost its server may have missed some."""


@value
class Registered:
    """What is registered, oldest first, and the service's revision then."""

    ids: list[int]
    members: list[str]
    revision: int


class Registry:
    """One token of one service."""

    def __init__(self, session: Session, token: str, say: Say) -> None:
        self._session = session
        self._say = say
        self._size = f"/_etcd/registry/{token}/_config/size"
        self._members = f"/_etcd/registry/{token}/members"

    def size(self) -> int:
        """How many members there will be; raises BootstrapError."""
        request = requests.range_request(self._size)
        found = self._ask("get the cluster size", lambda: self._call(methods.RANGE, request))
        if not found.kvs:
            raise failed("discovery: size key not found")
        try:
            size = int(found.kvs[0].value)
        except ValueError:
            size = 0
        if size <= 0:
            raise failed("discovery: size key is bad")
        return size

    def register(self, member: int, config: str) -> None:
        """Put ourselves on the list; again while nobody answers: a second time changes nothing."""
        request = rpc.PutRequest(key=f"{self._members}/{member:x}".encode(), value=config.encode())
        self._ask("register", lambda: self._call(methods.PUT, request))

    def registered(self) -> Registered:
        """Everybody on the list, in the order of registration."""
        request = requests.range_request(self._members, prefix=True)
        found = self._ask("list members", lambda: self._call(methods.RANGE, request))
        ids: list[int] = []
        for kv in sorted(found.kvs, key=lambda one: one.create_revision):
            try:
                ids.append(int(kv.key.removeprefix(f"{self._members}/".encode()), 16))
            except ValueError:
                raise failed("invalid peer registry key") from None
        rows = sorted(found.kvs, key=lambda one: one.create_revision)
        return Registered(ids, [kv.value.decode() for kv in rows], found.header.revision)

    def wait(self, after: int) -> None:
        """Until the list changes behind revision `after`, or a minute."""
        begin, end = requests.key_range(self._members, None, prefix=True, from_key=False)
        request = rpc.WatchCreateRequest(key=begin, range_end=end, start_revision=after + 1)
        with Watching(self._session, WatchState(request)) as watch:
            try:
                watch.receive(WAIT_S)
            except TimeoutError:
                pass
            except ClientError as error:
                self._say("warn", "lost the watch of the discovery service", error=str(error))
                time.sleep(1)

    def _call(self, method: Any, request: Any) -> Any:
        return self._session.call(method, request)

    def _ask(self, what: str, call: Callable[[], Any]) -> Any:
        """Until there is an answer, as with the v2 protocol."""
        attempt = 0
        while True:
            try:
                return call()
            except (ClientError, OSError) as error:
                attempt = min(attempt + 1, BACKOFF_EXPONENT_MAX)
                self._say(
                    "warn",
                    "failed to reach the discovery service",
                    operation=what,
                    error=str(error),
                    retry_interval=f"{2**attempt}s",
                )
                time.sleep(2**attempt)


def options_of(config: Config) -> Options:
    """How --discovery-* say that the service is reached."""
    user, colon, password = config.discovery_user.partition(":")
    skip = config.discovery_insecure_skip_tls_verify
    secure = skip or config.discovery_cacert or config.discovery_cert
    return Options(
        config.discovery_endpoints,
        user=user or None,
        password=(password if colon else config.discovery_password) or None,
        tls=Tls(
            ca_file=config.discovery_cacert or None,
            cert_file=config.discovery_cert or None,
            key_file=config.discovery_key or None,
            skip_verify=skip,
        )
        if secure or not config.discovery_insecure_transport
        else None,
        timeout_s=config.discovery_request_timeout / NS_PER_S,
        dial_timeout_s=config.discovery_dial_timeout / NS_PER_S,
        keepalive_s=config.discovery_keepalive_time / NS_PER_S,
        keepalive_timeout_s=config.discovery_keepalive_timeout / NS_PER_S,
    )


def join(options: Options, token: str, name: str, peer_urls: Sequence[str], say: Say) -> str:
    """Register under `token` and wait for the others: an `--initial-cluster` of all.

    Raises ClusterFull, BootstrapError.
    """
    member = member_id(peer_urls, token)
    with Session(options) as session:
        registry = Registry(session, token, say)
        size = registry.size()
        found = registry.registered()
        _check_place(found, member, size, is_registered=False)
        registry.register(member, entry(name, peer_urls))
        found = registry.registered()
        while True:
            _check_place(found, member, size, is_registered=True)
            if len(found.members) >= size:
                return _checked(found.members[:size])
            needed = size - len(found.members)
            found_peers = len(found.members)
            say("info", "found peers; waiting for more", found_peers=found_peers, needed=needed)
            registry.wait(found.revision)
            found = registry.registered()


def _check_place(found: Registered, member: int, size: int, *, is_registered: bool) -> None:
    """Raises ClusterFull when others took all the places."""
    if member in found.ids[:size]:
        return
    if is_registered or len(found.ids) >= size:
        raise full(found.members[:size])


def _checked(members: Sequence[str]) -> str:
    """All that was registered; raises BootstrapError for what cannot be members."""
    names: set[str] = set()
    for one in members:
        pieces = [piece.partition("=") for piece in one.split(",")]
        if not all(name and url for name, _, url in pieces):
            raise failed("invalid peer info returned from discovery service")
        if pieces[0][0] in names:
            raise failed("found duplicate peer from discovery service")
        names.add(pieces[0][0])
    return ",".join(members)
