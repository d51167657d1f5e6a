"""HTTP/1.1 connections to one cluster: kept open, one call at a time on each.

Python's own `http.client` carries the bytes. A pool is what it lacks: idle connections are kept
here, per address, up to a bound.
"""

from __future__ import annotations

import http.client
import ssl
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Address = tuple[str, int]


class NeverSent(Exception):
    """The connection could not be made, so the member has not seen the call."""


class Answer:
    """Status, headers with lower-case names, and body."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Connections:
    """Calls by address. Safe for several threads."""

    def __init__(self, tls: ssl.SSLContext | None, idle_max: int, connect_timeout_s: float) -> None:
        self._tls = tls
        self._connect_timeout_s = connect_timeout_s
        self._idle_max = idle_max
        self._idle: dict[Address, list[http.client.HTTPConnection]] = {}
        self._lock = Lock()
        self._closed = False

    def call(
        self,
        address: Address,
        verb: str,
        target: str,
        body: str | None,
        headers: Mapping[str, str],
        timeout_s: float | None,
    ) -> Answer:
        """One exchange. Raises NeverSent, TimeoutError, OSError, http.client.HTTPException.

        An idle connection that the member has closed meanwhile is replaced, where the call can be
        repeated without harm (GET).
        """
        connection = self._take(address)
        if connection is not None:
            try:
                return self._exchange(address, connection, verb, target, body, headers, timeout_s)
            except TimeoutError:
                raise
            except (http.client.HTTPException, OSError):
                if verb != "GET":
                    raise
        connection = self._new(address)
        return self._exchange(address, connection, verb, target, body, headers, timeout_s)

    def close(self) -> None:
        """Close what is idle; what is in use closes when it has been used. Idempotent."""
        with self._lock:
            self._closed = True
            idle = [one for several in self._idle.values() for one in several]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _take(self, address: Address) -> http.client.HTTPConnection | None:
        """An idle connection that its other end has not closed."""
        while True:
            with self._lock:
                idle = self._idle.get(address)
                connection = idle.pop() if idle else None
            if connection is None or not _is_dropped(connection):
                return connection
            connection.close()

    def _new(self, address: Address) -> http.client.HTTPConnection:
        host, port = address
        timeout_s = self._connect_timeout_s
        if self._tls is None:
            connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        else:
            connection = http.client.HTTPSConnection(
                host, port, timeout=timeout_s, context=self._tls
            )
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise NeverSent(str(error)) from error
        return connection

    def _exchange(
        self,
        address: Address,
        connection: http.client.HTTPConnection,
        verb: str,
        target: str,
        body: str | None,
        headers: Mapping[str, str],
        timeout_s: float | None,
    ) -> Answer:
        try:
            connection.timeout = timeout_s
            if connection.sock is not None:
                connection.sock.settimeout(timeout_s)
            connection.request(verb, target, body, dict(headers))
            response = connection.getresponse()
            data = response.read()
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._give_back(address, connection)
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, data)

    def _give_back(self, address: Address, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            idle = self._idle.setdefault(address, [])
            if not self._closed and len(idle) < self._idle_max:
                idle.append(connection)
                return
        connection.close()


def _is_dropped(connection: http.client.HTTPConnection) -> bool:
    """Whether an idle connection has something to read, which can only be its end."""
    from select import POLLIN, poll

    if connection.sock is None:
        return True
    readable = poll()
    readable.register(connection.sock, POLLIN)
    return bool(readable.poll(0))
