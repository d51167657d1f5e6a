"""HTTP requests that are waited for: bootstrap asks others before there is a loop."""

from __future__ import annotations

import time
from collections.abc import Sequence

from corum import _transport as wire
from corum.values import value

TIMEOUT_MS = 5_000


@value
class Answer:
    """A whole answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


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
    channel = transport.connect(url, wire.ChannelSettings(tls=tls))
    call = channel.http_request(verb, target, headers, body, timeout_ms)
    status, found, parts = 0, dict[str, str](), list[bytes]()
    until = time.monotonic() + timeout_ms / 1_000 + 1
    while not timeout_ms or time.monotonic() < until:
        for event in transport.poll(TIMEOUT_MS, 64):
            if event[1] != call:
                continue
            if event[0] == wire.RESPONSE_HEAD:
                status, found = event[2], {name.lower(): text for name, text in event[3]}
            elif event[0] == wire.RESPONSE_CHUNK:
                transport.consume(call, len(event[2]))
                parts.append(event[2])
            elif event[0] == wire.RESPONSE_END:
                return Answer(status, found, b"".join(parts)) if event[2] == 0 else None
    return None
