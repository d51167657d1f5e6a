"""`--proxy on|readonly`: forwards what clients of the v2 API ask to a cluster it is no member of.

Endpoints are the members' client URLs, asked of their peer URLs every `--proxy-refresh-interval`
and kept in `<data-dir>/proxy/cluster`, so that a restart finds a cluster that has moved since. An
endpoint that failed is left alone for `--proxy-failure-wait`.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from corum import _transport as wire
from corum import process_metrics
from corum.config import Config
from corum.config.urls import parse_cluster
from corum.values import NS_PER_MS

EVENTS_MAX: Final = 1_024
ASK_MS: Final = 2_000
UNKNOWN_NS: Final = 1_000 * NS_PER_MS
"""Between two looks for endpoints while none is known."""
HOP_BY_HOP: Final = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers")
) | {"transfer-encoding", "upgrade", "host", "content-length"}
JSON: Final = ("Content-Type", "application/json")
METRICS: Final = ("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
Headers = list[tuple[str, str]]
Say = Callable[..., None]
Listen = Callable[[wire.Transport], object]
"""Opens the client URLs; a proxy knows no member, which has its own."""


class Forwarded:
    """One client's request on its way through."""

    __slots__ = (
        "blocked", "body", "call", "headers", "left", "owed", "started", "target", "tried", "verb",
    )  # fmt: skip

    def __init__(self, call: int, verb: str, target: str, headers: Headers, body: bytes) -> None:
        self.call = call
        self.verb = verb
        self.target = target
        self.headers = headers
        self.body = body
        self.left: list[str] = []
        self.tried = 0
        self.started = False
        self.blocked = False  # the client does not keep up
        self.owed = 0  # bytes that the member will have room for once it does


class ProxyRuntime:
    """The proxy's process: sockets, endpoints, and the loop."""

    def __init__(
        self,
        config: Config,
        initial_cluster: str,
        say: Say,
        listen: Listen,
        dial_tls: wire.ClientTls | None = None,
    ) -> None:
        """Listens; raises TransportError. `dial_tls`: for calls to members, of both their ports."""
        self._dial_tls = dial_tls
        self._config = config
        self._say = say
        self._kept = Path(config.data_dir or f"{config.name}.etcd") / "proxy" / "cluster"
        self._peer_urls = self._load() or sorted(
            url for urls in parse_cluster(initial_cluster).values() for url in urls
        )
        self._transport = wire.Transport()
        self._channels: dict[str, wire.Channel] = {}
        self._endpoints: list[str] = []
        self._failed_until: dict[str, int] = {}
        self._requests: dict[int, Forwarded] = {}
        self._by_client: dict[int, int] = {}
        self._asking: dict[int, tuple[str, list[bytes]]] = {}
        self._refresh_ns = 0
        self._stop_wanted = False
        self.failure: BaseException | None = None
        listen(self._transport)

    # ---- who there is

    def _load(self) -> list[str]:
        try:
            return [str(url) for url in json.loads(self._kept.read_text())["PeerURLs"]]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def _keep(self) -> None:
        self._kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        building = self._kept.with_name("cluster.tmp")
        building.write_text(json.dumps({"PeerURLs": self._peer_urls}, separators=(",", ":")))
        building.replace(self._kept)

    def _channel(self, url: str) -> wire.Channel:
        found = self._channels.get(url)
        if found is None:
            dial_ms = self._config.proxy_dial_timeout or 20_000
            settings = wire.ChannelSettings(
                tls=self._dial_tls, connect_timeout_ms=dial_ms, backoff_max_ms=200
            )
            found = self._channels[url] = self._transport.connect(url, settings)
        return found

    def _usable(self, url: str) -> bool:
        """Is it an address? Members may name anything, such as port 99999."""
        try:
            self._channel(url)
        except ValueError:
            return False
        return True

    def _refresh(self, now_ns: int) -> None:
        """Ask every peer URL; each answer counts, also for the order of the endpoints."""
        known = self._config.proxy_refresh_interval * NS_PER_MS
        self._refresh_ns = now_ns + (known if self._endpoints else UNKNOWN_NS)
        for url in self._peer_urls:
            call = self._channel(url).http_request("GET", "/members", [], b"", ASK_MS)
            self._asking[call] = (url, [])

    def _told(self, parts: Sequence[bytes]) -> None:
        try:
            members: Any = json.loads(b"".join(parts))
            clients = sorted(url for one in members for url in one.get("clientURLs") or ())
            peers = sorted(url for one in members for url in one.get("peerURLs") or ())
        except (ValueError, AttributeError, TypeError):
            return
        clients, peers = ([url for url in urls if self._usable(url)] for urls in (clients, peers))
        if clients:
            if clients != sorted(self._endpoints):
                self._say("info", "endpoints found", endpoints=clients)
            random.shuffle(clients)  # the first one gets the requests: take turns
            self._endpoints = clients
        if peers and (peers != self._peer_urls or not self._kept.exists()):
            self._peer_urls = peers
            self._keep()

    # ---- requests

    def _request(self, event: tuple[Any, ...]) -> None:
        _, call, _, verb, target, headers, body, peer = event
        if target == "/metrics":
            page = "".join(f"{line}\n" for line in process_metrics.lines())
            self._transport.http_reply(call, 200, [METRICS], page.encode())
        elif self._config.proxy == "readonly" and verb != "GET":
            self._transport.http_reply(call, 501, [], b"")
        elif target == "/v2/config/local/proxy":
            self._own(call, verb)
        else:
            passed = [(name, text) for name, text in headers if name not in HOP_BY_HOP]
            address = peer.address.rpartition(":")[0]
            before = dict(headers).get("x-forwarded-for")
            passed = [one for one in passed if one[0] != "x-forwarded-for"]
            passed.append(("X-Forwarded-For", f"{before}, {address}" if before else address))
            request = Forwarded(call, verb, target, passed, body)
            request.left = self._available()
            self._forward(request)

    def _own(self, call: int, verb: str) -> None:
        """Which members it could ask now."""
        if verb == "GET":
            text = json.dumps({"endpoints": self._available()}, separators=(",", ":"))
            self._transport.http_reply(call, 200, [TEXT], f"{text}\n".encode())
        else:
            self._transport.http_reply(call, 405, [TEXT, ("Allow", "GET")], b"Method Not Allowed\n")

    def _available(self) -> list[str]:
        """Endpoints that have not failed lately."""
        now_ns = time.monotonic_ns()
        return [url for url in self._endpoints if self._failed_until.get(url, 0) <= now_ns]

    def _forward(self, request: Forwarded) -> None:
        """To the next endpoint; an error when there is none left."""
        if not request.left:
            text = "httpproxy: zero endpoints currently available"
            status = 503
            if request.tried:
                text = f"httpproxy: unable to get response from {request.tried} endpoint(s)"
                status = 502
            body = json.dumps({"message": text}, separators=(",", ":")).encode()
            self._transport.http_reply(request.call, status, [JSON], body)
            return
        request.tried += 1
        url = request.left[0]
        call = self._channel(url).http_request(
            request.verb,
            request.target,
            request.headers,
            request.body,
            self._config.proxy_read_timeout,
        )
        self._requests[call] = request
        self._by_client[request.call] = call

    def _head(self, event: tuple[Any, ...]) -> None:
        request = self._requests.get(event[1])
        if request is not None:
            request.started = True
            headers = [  # spelled as Go does it: there are clients that compare the letters
                (name.title(), text)
                for name, text in event[3]
                if name not in HOP_BY_HOP or name == "content-length"
            ]
            self._transport.http_start(request.call, event[2], headers)

    def _chunk(self, event: tuple[Any, ...]) -> None:
        _, call, data = event
        asked = self._asking.get(call)
        request = self._requests.get(call)
        if asked is not None:
            asked[1].append(data)
        elif request is not None:
            request.blocked |= self._transport.http_send(request.call, data)
            if request.blocked:
                request.owed += len(data)
                return
        self._transport.consume(call, len(data))

    def _writable(self, event: tuple[Any, ...]) -> None:
        """The client reads again: so may the member write."""
        call = self._by_client.get(event[1])
        request = self._requests.get(call) if call is not None else None
        if call is not None and request is not None:
            request.blocked = False
            owed, request.owed = request.owed, 0
            self._transport.consume(call, owed)

    def _end(self, event: tuple[Any, ...]) -> None:
        _, call, code, *_ = event
        asked = self._asking.pop(call, None)
        if asked is not None:
            if code == 0:
                self._told(asked[1])
            return
        request = self._requests.pop(call, None)
        if request is None:
            return
        self._by_client.pop(request.call, None)
        if code == 0:
            self._transport.http_finish(request.call)
        elif request.started:
            self._transport.http_abort(request.call)
        else:
            failed = request.left.pop(0)
            wait_ns = self._config.proxy_failure_wait * NS_PER_MS
            self._failed_until[failed] = time.monotonic_ns() + wait_ns
            self._say("warn", "marked endpoint unavailable", endpoint=failed)
            self._forward(request)

    def _gone(self, event: tuple[Any, ...]) -> None:
        """The client does not wait any longer."""
        call = self._by_client.pop(event[1], None)
        if call is not None:
            self._requests.pop(call, None)
            self._transport.cancel(call)

    # ---- the loop

    def run(self) -> None:
        """Serve until `stop`."""
        kinds = {
            wire.HTTP: self._request,
            wire.CANCELLED: self._gone,
            wire.WRITABLE: self._writable,
            wire.RESPONSE_HEAD: self._head,
            wire.RESPONSE_CHUNK: self._chunk,
            wire.RESPONSE_END: self._end,
        }
        with self._transport:
            while not self._stop_wanted:
                now_ns = time.monotonic_ns()
                if now_ns >= self._refresh_ns:
                    self._refresh(now_ns)
                left_ms = max(1, (self._refresh_ns - now_ns) // NS_PER_MS)
                for event in self._transport.poll(left_ms, EVENTS_MAX):
                    handler = kinds.get(event[0])
                    if handler is not None:
                        handler(event)

    def stop(self) -> None:
        """From any thread."""
        self._stop_wanted = True
        self._transport.post(None)
