"""The v2 client: keys and directories, conditions, waits, members and statistics."""

from __future__ import annotations

import http.client
import json
import ssl
from base64 import b64encode
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote, urlencode, urlsplit

from corum.client.v2.connections import Address, Answer, Connections, NeverSent
from corum.client.v2.errors import (
    EtcdClusterIdChanged,
    EtcdConnectionFailed,
    EtcdException,
    EtcdInsufficientPermissions,
    EtcdKeyNotFound,
    EtcdWatchTimedOut,
    from_answer,
)
from corum.client.v2.results import EtcdResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Param = str | int | bool | None

CLUSTER_ID: Final = "x-etcd-cluster-id"
REDIRECTS: Final = (301, 302, 307)
REDIRECTS_MAX: Final = 5
DEFAULT: Final = -1.0  # as a timeout: the client's own
_REFUSALS: Final[dict[int, type[EtcdException]]] = {
    401: EtcdInsufficientPermissions,
    403: EtcdInsufficientPermissions,
    404: EtcdKeyNotFound,
    410: EtcdKeyNotFound,  # a member that was removed
}


class Client:
    """A cluster's v2 API. Close it, or use it as a context manager.

    host: a name, or pairs (host, port) that are tried in order. read_timeout: seconds a member may
    take; waits have their own. cert, ca_cert: PEM files for `protocol="https"`; `cert` may be a
    pair (certificate, key). allow_reconnect: when a member fails, go on with the other ones it has
    named; a write is repeated only if it certainly was not sent.
    """

    def __init__(
        self,
        host: str | Sequence[tuple[str, int]] = "127.0.0.1",
        port: int = 2379,
        *,
        version_prefix: str = "/v2",
        read_timeout: float = 60,
        allow_redirect: bool = True,
        protocol: str = "http",
        cert: str | tuple[str, str] | None = None,
        ca_cert: str | None = None,
        username: str | None = None,
        password: str | None = None,
        allow_reconnect: bool = False,
        expected_cluster_id: str | None = None,
        per_host_pool_size: int = 10,
        lock_prefix: str = "/_locks",
    ) -> None:
        given = [(host, port)] if isinstance(host, str) else [(h, int(p)) for h, p in host]
        if not given:
            raise ValueError("no hosts")
        self.protocol = protocol
        self.version_prefix = version_prefix
        self.read_timeout = read_timeout
        self.allow_redirect = allow_redirect
        self.allow_reconnect = allow_reconnect
        self.expected_cluster_id = expected_cluster_id
        self.lock_prefix = lock_prefix
        self._addresses: list[Address] = given
        self._current = given[0]
        self._lock = Lock()  # around the two above
        tls = _tls(cert, ca_cert) if protocol == "https" else None
        self._connections = Connections(tls, per_host_pool_size, read_timeout)
        self._headers: dict[str, str] = {}
        if username and password is not None:
            word = b64encode(f"{username}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {word}"
        if allow_reconnect:
            self._learn_machines()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connections.close()

    @property
    def host(self) -> str:
        return self._current[0]

    @property
    def port(self) -> int:
        return self._current[1]

    @property
    def base_uri(self) -> str:
        return f"{self.protocol}://{_netloc(self._current)}"

    @property
    def key_endpoint(self) -> str:
        return self.version_prefix + "/keys"

    # Keys ------------------------------------------------------------------------------------

    def read(
        self,
        key: str,
        *,
        recursive: bool | None = None,
        sorted: bool | None = None,
        quorum: bool | None = None,
        wait: bool | None = None,
        waitIndex: int | None = None,
        timeout: float | None = DEFAULT,
    ) -> EtcdResult:
        """A key, or a directory with what it holds (`recursive`: everything below).

        quorum: agreed upon, not this member's own view. wait: return the next change instead, or
        the first one from `waitIndex` on. timeout: seconds; 0 or None waits for ever.
        """
        params: dict[str, Param] = {
            "recursive": recursive,
            "sorted": sorted,
            "quorum": quorum,
            "wait": wait,
            "waitIndex": waitIndex,
        }
        return self._keys("GET", key, params, timeout)

    def get(self, key: str) -> EtcdResult:
        return self.read(key)

    def write(
        self,
        key: str,
        value: str | int | None,
        ttl: int | None = None,
        dir: bool = False,
        append: bool = False,
        *,
        prevValue: str | None = None,
        prevIndex: int | None = None,
        prevExist: bool | None = None,
        refresh: bool | None = None,
        timeout: float | None = DEFAULT,
    ) -> EtcdResult:
        """Set a key, or make a directory; append: make a key in order below the directory `key`.

        prevValue, prevIndex, prevExist: only if that is how it is now (EtcdCompareFailed,
        EtcdAlreadyExist, EtcdKeyNotFound). ttl: seconds until it goes by itself.
        """
        if append and (prevValue, prevIndex, prevExist) != (None, None, None):
            raise EtcdException("a key that is appended has no previous one")
        if dir and value is not None and value != "":
            raise EtcdException("a directory has no value")
        params: dict[str, Param] = {
            "value": None if dir else value,
            "ttl": ttl,
            "dir": dir or None,
            "prevValue": prevValue,
            "prevIndex": prevIndex,
            "prevExist": prevExist,
            "refresh": refresh,
        }
        return self._keys("POST" if append else "PUT", key, params, timeout)

    def set(self, key: str, value: str | int, ttl: int | None = None) -> EtcdResult:
        return self.write(key, value, ttl=ttl)

    def test_and_set(
        self, key: str, value: str | int, prev_value: str, ttl: int | None = None
    ) -> EtcdResult:
        """Set the key if its value is `prev_value`, else EtcdCompareFailed."""
        return self.write(key, value, ttl=ttl, prevValue=prev_value)

    def update(self, obj: EtcdResult) -> EtcdResult:
        """Write back a node that was read and changed; EtcdCompareFailed if others changed it."""
        assert obj.key is not None, "a node without a key was not read"
        index = None if obj.dir else obj.modifiedIndex
        value = None if obj.dir else obj.value
        return self.write(obj.key, value, ttl=obj.ttl, dir=obj.dir, prevExist=True, prevIndex=index)

    def refresh(self, key: str, ttl: int) -> EtcdResult:
        """Let a key live for `ttl` seconds more, without waking who waits for its changes."""
        return self.write(key, None, ttl=ttl, prevExist=True, refresh=True)

    def delete(
        self,
        key: str,
        recursive: bool | None = None,
        dir: bool | None = None,
        *,
        prevValue: str | None = None,
        prevIndex: int | None = None,
        timeout: float | None = DEFAULT,
    ) -> EtcdResult:
        """Delete a key, an empty directory (`dir`), or a directory with its content."""
        params: dict[str, Param] = {
            "recursive": recursive,
            "dir": dir,
            "prevValue": prevValue,
            "prevIndex": prevIndex,
        }
        return self._keys("DELETE", key, params, timeout)

    def pop(
        self, key: str, recursive: bool | None = None, dir: bool | None = None
    ) -> EtcdResult | None:
        """Delete, and give what was there."""
        return self.delete(key, recursive, dir).prev_node

    def __contains__(self, key: str) -> bool:
        try:
            self.get(key)
        except EtcdKeyNotFound:
            return False
        return True

    # Waiting ---------------------------------------------------------------------------------

    def watch(
        self,
        key: str,
        index: int | None = None,
        timeout: float | None = DEFAULT,
        recursive: bool | None = None,
    ) -> EtcdResult:
        """The next change, or the first one from `index` on. EtcdWatchTimedOut after `timeout`."""
        return self.read(key, wait=True, waitIndex=index, recursive=recursive, timeout=timeout)

    def eternal_watch(
        self, key: str, index: int | None = None, recursive: bool | None = None
    ) -> Iterator[EtcdResult]:
        """Every change from `index` (or from now) on, none left out.

        EtcdEventIndexCleared when the events since have been dropped: etcd keeps a thousand.
        """
        while True:
            try:
                result = self.watch(key, index=index, timeout=0, recursive=recursive)
            except EtcdWatchTimedOut:  # the member ended a long wait without an event
                continue
            if result.modifiedIndex is not None:
                index = result.modifiedIndex + 1
            yield result

    # The cluster -----------------------------------------------------------------------------

    @property
    def machines(self) -> list[str]:
        """Client URLs of all members."""
        answer = self._call("GET", f"{self.version_prefix}/machines", {}, self.read_timeout)
        return [url.strip() for url in answer.body.decode().split(",") if url.strip()]

    @property
    def members(self) -> dict[str, dict[str, Any]]:
        """Members by id: {"id", "name", "peerURLs", "clientURLs"}."""
        found = self._json(f"{self.version_prefix}/members")
        return {member["id"]: member for member in found.get("members") or ()}

    def add_member(self, *peer_urls: str) -> dict[str, Any]:
        """Announce a member that will be found at these URLs; as in `members`, without a name."""
        path = f"{self.version_prefix}/members"
        return _decoded(self.api_execute_json(path, "POST", {"peerURLs": peer_urls}))

    def update_member(self, member_id: str, *peer_urls: str) -> None:
        """Tell where a member is to be found from now on. EtcdKeyNotFound: it is none."""
        path = f"{self.version_prefix}/members/{quote(member_id, safe='')}"
        self.api_execute_json(path, "PUT", {"peerURLs": peer_urls})

    def remove_member(self, member_id: str) -> None:
        """Take a member out of the cluster, for ever. EtcdKeyNotFound: it is none."""
        self.api_execute_json(
            f"{self.version_prefix}/members/{quote(member_id, safe='')}", "DELETE"
        )

    @property
    def leader(self) -> dict[str, Any]:
        """The member that leads, as in `members`."""
        return self._json(f"{self.version_prefix}/members/leader")

    @property
    def stats(self) -> dict[str, Any]:
        """What the member says of itself."""
        return self._json(f"{self.version_prefix}/stats/self")

    @property
    def leader_stats(self) -> dict[str, Any]:
        """What the leader says of its followers."""
        return self._json(f"{self.version_prefix}/stats/leader")

    @property
    def store_stats(self) -> dict[str, Any]:
        """How many operations of which kind there were."""
        return self._json(f"{self.version_prefix}/stats/store")

    # Calls -----------------------------------------------------------------------------------

    def api_execute(
        self,
        path: str,
        method: str,
        params: Mapping[str, Param] | None = None,
        timeout: float | None = DEFAULT,
    ) -> Answer:
        """Any call of the API: parameters go into the query, or into the form of a write."""
        return self._call(method, path, params or {}, self._timeout(timeout))

    def api_execute_json(
        self, path: str, method: str, params: Any = None, timeout: float | None = DEFAULT
    ) -> Answer:
        """As `api_execute` for the parts of the API that are written in JSON."""
        body = None if params is None else json.dumps(params)
        headers = {} if body is None else {"Content-Type": "application/json"}
        return self._ask(method, path, body, headers, self._timeout(timeout), waits=False)

    def _keys(
        self, verb: str, key: str, params: Mapping[str, Param], timeout: float | None
    ) -> EtcdResult:
        path = self.key_endpoint + quote("/" + key.strip("/"))
        answer = self._call(verb, path, params, self._timeout(timeout))
        if not answer.body:  # a wait that the member gave up
            raise EtcdWatchTimedOut("the member ended the wait")
        found = _decoded(answer)
        result = EtcdResult(found.get("action"), found.get("node"), found.get("prevNode"))
        result.parse_headers(answer.status, answer.headers)
        return result

    def _json(self, path: str) -> dict[str, Any]:
        return _decoded(self._call("GET", path, {}, self.read_timeout))

    def _timeout(self, timeout: float | None) -> float | None:
        return self.read_timeout if timeout == DEFAULT else timeout or None

    def _call(
        self, verb: str, path: str, params: Mapping[str, Param], timeout: float | None
    ) -> Answer:
        """The answer of a member. Raises what it refused with, or EtcdConnectionFailed."""
        words = urlencode({k: _word(v) for k, v in params.items() if v is not None})
        waits = bool(params.get("wait"))
        if verb in ("PUT", "POST"):
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return self._ask(verb, path, words, headers, timeout, waits=waits)
        target = f"{path}?{words}" if words else path
        return self._ask(verb, target, None, {}, timeout, waits=waits)

    def _ask(
        self,
        verb: str,
        target: str,
        body: str | None,
        headers: Mapping[str, str],
        timeout: float | None,
        *,
        waits: bool,
    ) -> Answer:
        headers = {**self._headers, **headers}
        answer = self._somewhere(verb, target, body, headers, timeout, waits)
        for _ in range(REDIRECTS_MAX if self.allow_redirect else 0):
            if answer.status not in REDIRECTS:
                break
            location = urlsplit(answer.headers.get("location", ""))
            self._go_to((location.hostname or self.host, location.port or self.port))
            answer = self._somewhere(verb, target, body, headers, timeout, waits)
        self._check_cluster(answer)
        if answer.status >= 400:
            raise _refusal(answer)
        return answer

    def _somewhere(
        self,
        verb: str,
        target: str,
        body: str | None,
        headers: Mapping[str, str],
        timeout: float | None,
        waits: bool,
    ) -> Answer:
        """Try the present member, and with `allow_reconnect` the others."""
        cause: Exception
        tries = len(self._addresses) if self.allow_reconnect else 1
        address = self._current
        while True:
            try:
                return self._connections.call(address, verb, target, body, headers, timeout)
            except TimeoutError as error:
                if waits:
                    raise EtcdWatchTimedOut(f"nothing within {timeout} s", cause=error) from None
                cause, again = error, verb == "GET"
            except NeverSent as error:
                cause, again = error, True
            except (OSError, http.client.HTTPException) as error:
                cause, again = error, verb == "GET"
            tries -= 1
            if not again or tries <= 0:
                raise EtcdConnectionFailed(
                    f"no answer from {_netloc(address)}: {cause}", cause=cause
                ) from cause
            address = self._next(address)

    def _next(self, failed: Address) -> Address:
        """Leave a member that failed, unless another thread has done so."""
        with self._lock:
            if self._current == failed:
                at = self._addresses.index(failed) if failed in self._addresses else -1
                self._current = self._addresses[(at + 1) % len(self._addresses)]
            return self._current

    def _go_to(self, address: Address) -> None:
        with self._lock:
            if address not in self._addresses:
                self._addresses.append(address)
            self._current = address

    def _learn_machines(self) -> None:
        """More addresses from the cluster itself; if nobody answers, the ones given must do."""
        try:
            machines = self.machines
        except EtcdException:
            return
        with self._lock:
            for url in machines:
                parts = urlsplit(url)
                address = (parts.hostname or "", parts.port or 2379)
                if address[0] and address not in self._addresses:
                    self._addresses.append(address)

    def _check_cluster(self, answer: Answer) -> None:
        found = answer.headers.get(CLUSTER_ID)
        if self.expected_cluster_id and found and found != self.expected_cluster_id:
            raise EtcdClusterIdChanged(f"expected cluster {self.expected_cluster_id}, not {found}")


def _refusal(answer: Answer) -> EtcdException:
    try:
        payload = _decoded(answer)
    except EtcdException:
        payload = {}
    if "errorCode" in payload:
        return from_answer(payload)
    if "message" in payload:  # of users, roles and members
        kind = _REFUSALS.get(answer.status, EtcdException)
        return kind(str(payload["message"]), payload)
    if answer.status in (401, 403):
        return EtcdInsufficientPermissions("", payload)
    text = answer.body.decode(errors="replace").strip()
    return EtcdException(f"HTTP {answer.status}: {text}", payload)


def _decoded(answer: Answer) -> dict[str, Any]:
    try:
        found: object = json.loads(answer.body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise EtcdException(f"not an answer of etcd: {answer.body[:100]!r}")
    return cast("dict[str, Any]", found)


def _word(value: Param) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _netloc(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _tls(cert: str | tuple[str, str] | None, ca_cert: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_cert)
    if cert is not None:
        files = (cert, None) if isinstance(cert, str) else cert
        context.load_cert_chain(*files)
    return context
