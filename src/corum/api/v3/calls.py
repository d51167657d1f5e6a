"""What every service shares: its node, and decoding with gRPC's error for bytes that are no
message."""

from __future__ import annotations

from typing import Any, TypeVar

from corum import errors
from corum.server.node import Node

M = TypeVar("M")


class Service:
    """A gRPC service: `PATH` + method name -> handler."""

    PATH = ""

    def __init__(self, node: Node) -> None:
        self.node = node

    def unary(self) -> dict[str, Any]:
        """`handler(call, message, meta)` of unary and server-streaming methods, by name."""
        return {}

    def streams(self) -> dict[str, Any]:
        """`(opened, message, half_closed)` of client-streaming and bidirectional methods, by
        name."""
        return {}


def decoded(kind: type[M], message: bytes) -> M:
    """`message` as a `kind`; raises Internal with grpc-go's words when it is none."""
    try:
        return kind.FromString(message)  # type: ignore[attr-defined]
    except Exception as error:  # upb raises DecodeError, which is a plain Exception
        raise errors.EtcdError(
            errors.INTERNAL, f"grpc: error unmarshalling request: {error}"
        ) from None
