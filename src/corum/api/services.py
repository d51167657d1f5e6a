"""The services of a member, made for one node."""

from __future__ import annotations

from corum.api.v3.auth import AuthService
from corum.api.v3.calls import Service
from corum.api.v3.cluster import ClusterService
from corum.api.v3.concurrency import ElectionService, LockService
from corum.api.v3.health import HealthService, ReflectionService
from corum.api.v3.kv import KvService
from corum.api.v3.lease import LeaseService
from corum.api.v3.maintenance import MaintenanceService
from corum.api.v3.watch import WatchService
from corum.server.node import Node


def services_of(node: Node) -> list[Service]:
    """All of them."""
    return [
        KvService(node),
        WatchService(node),
        LeaseService(node),
        ClusterService(node),
        MaintenanceService(node),
        AuthService(node),
        LockService(node),
        ElectionService(node),
        HealthService(node),
        ReflectionService(node, "v1"),
        ReflectionService(node, "v1alpha"),
    ]
