"""The standard services around etcd's own: health checking and reflection."""

from __future__ import annotations

from typing import Any

from corum import errors
from corum.api import reflection
from corum.api.v3.calls import Service, decoded
from corum.pb import health


class HealthService(Service):
    """`grpc.health.v1.Health`: the whole server ("") and each of its services."""

    PATH = "/grpc.health.v1.Health/"

    def unary(self) -> dict[str, Any]:
        """Handlers by method name."""
        return {"Check": self.check, "Watch": self.watch}

    def check(self, call: int, message: bytes, meta: Any) -> None:
        """SERVING, or NotFound for a service that is not known here."""
        request = decoded(health.HealthCheckRequest, message)
        if request.service:
            raise errors.EtcdError(errors.NOT_FOUND, "unknown service")
        self.node.out.replies.append((call, self._status()))

    def watch(self, call: int, message: bytes, meta: Any) -> None:
        """The status now; the stream stays open for changes."""
        decoded(health.HealthCheckRequest, message)
        self.node.out.messages.append((call, self._status()))

    def _status(self) -> bytes:
        status = health.HealthCheckResponse.SERVING
        return health.HealthCheckResponse(status=status).SerializeToString()


class ReflectionService(Service):
    """gRPC reflection for tools like grpcurl (Go etcd has none)."""

    def __init__(self, node: Any, version: str) -> None:
        super().__init__(node)
        self.PATH = f"/grpc.reflection.{version}.ServerReflection/"

    def streams(self) -> dict[str, Any]:
        """(open, message, end) by method name."""
        return {"ServerReflectionInfo": (self.opened, self.asked, self.node.out.finish)}

    def opened(self, call: int, meta: Any) -> None:
        """A stream began."""

    def asked(self, call: int, message: bytes, meta: Any) -> None:
        """One question."""
        self.node.out.messages.append((call, reflection.answer(message)))
