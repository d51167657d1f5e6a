"""HTTP requests that are waited for: bootstrap asks others before there is a loop."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

from corum import _transport as wire
from corum.values import value

TIMEOUT_MS: Final = 5_000
POLL_MS: Final = 1_000


@value
class Answer:
    """A whole answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Collecting:
    """An answer that is arriving."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.parts: list[bytes] = []


def ask(
    transport: wire.Transport,
    verb: str,
    url: str,
    target: str,
    body: bytes = b"",
    headers: Sequence[tuple[str, str]] = (),
    timeout_ms: int = TIMEOUT_MS,
    tls: wire.ClientTls | None = None,
) -> Answer | None:
    """One request, on a transport that does nothing else; None when there was no answer.

    `timeout_ms` 0 waits without end.
    """
    asked = ask_all(transport, verb, [url], target, body, headers, timeout_ms, tls)
    return next(asked, (0, None))[1]


def ask_all(
    transport: wire.Transport,
    verb: str,
    urls: Sequence[str],
    target: str,
    body: bytes = b"",
    headers: Sequence[tuple[str, str]] = (),
    timeout_ms: int = TIMEOUT_MS,
    tls: wire.ClientTls | None = None,
) -> Iterator[tuple[int, Answer]]:
    """The same of several at once: (place in `urls`, answer), whoever answers first first."""
    calls: dict[int, tuple[int, _Collecting]] = {}
    for place, url in enumerate(urls):
        channel = transport.connect(url, wire.ChannelSettings(tls=tls))
        call = channel.http_request(verb, target, headers, body, timeout_ms)
        calls[call] = place, _Collecting()
    until = time.monotonic() + timeout_ms / 1_000 + 1
    while calls and (not timeout_ms or time.monotonic() < until):
        for event in transport.poll(POLL_MS, 64):
            place, found = calls.get(event[1], (0, None))
            if found is None:
                continue
            if event[0] == wire.RESPONSE_HEAD:
                found.status = event[2]
                found.headers = {name.lower(): text for name, text in event[3]}
            elif event[0] == wire.RESPONSE_CHUNK:
                transport.consume(event[1], len(event[2]))
                found.parts.append(event[2])
            elif event[0] == wire.RESPONSE_END:
                del calls[event[1]]
                if event[2] == 0:
                    yield place, Answer(found.status, found.headers, b"".join(found.parts))
