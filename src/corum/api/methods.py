"""Every gRPC method, in the order in which the transport numbers them."""

from __future__ import annotations

from typing import Final

from corum.pb.methods import Kind, methods

METHODS: Final[tuple[tuple[str, Kind], ...]] = tuple(
    (method.path, method.kind) for method in methods().values()
)
