"""HTTP on the client port: health, version, metrics, and the JSON gateway to the gRPC handlers."""

from __future__ import annotations

from typing import Any

from corum._transport import Transport
from corum.api.router import Router
from corum.server.node import Node


class Front:
    """Gives HTTP requests to whoever answers their path."""

    def __init__(self, node: Node, router: Router, transport: Transport) -> None:
        self._node = node
        self._router = router
        self._transport = transport
        router.http = self.request

    def request(
        self,
        call: int,
        listener: int,
        verb: str,
        target: str,
        headers: list[tuple[str, str]],
        body: bytes,
        peer: Any,
    ) -> None:
        """One request."""
        self._transport.http_reply(
            call, 404, [("content-type", "text/plain; charset=utf-8")], b"404 page not found\n"
        )
