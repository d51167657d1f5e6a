"""Every gRPC method that is served, in the order the transport numbers them (rpc §1)."""

from __future__ import annotations

from typing import Final, Literal

Kind = Literal["unary", "server_stream", "client_stream", "bidi"]

_SERVICES: Final[dict[str, str]] = {
    "etcdserverpb.KV": "Range Put DeleteRange Txn Compact",
    "etcdserverpb.Lease": "LeaseGrant LeaseRevoke LeaseTimeToLive LeaseLeases",
    "etcdserverpb.Cluster": "MemberAdd MemberRemove MemberUpdate MemberList MemberPromote",
    "etcdserverpb.Maintenance": "Alarm Status Defragment Hash HashKV MoveLeader Downgrade",
    "etcdserverpb.Auth": (
        "AuthEnable AuthDisable AuthStatus Authenticate UserAdd UserGet UserList UserDelete "
        "UserChangePassword UserGrantRole UserRevokeRole RoleAdd RoleGet RoleList RoleDelete "
        "RoleGrantPermission RoleRevokePermission"
    ),
    "v3lockpb.Lock": "Lock Unlock",
    "v3electionpb.Election": "Campaign Proclaim Leader Resign",
    "grpc.health.v1.Health": "Check",
}

_STREAMS: Final[tuple[tuple[str, Kind], ...]] = (
    ("/etcdserverpb.KV/RangeStream", "server_stream"),
    ("/etcdserverpb.Watch/Watch", "bidi"),
    ("/etcdserverpb.Lease/LeaseKeepAlive", "bidi"),
    ("/etcdserverpb.Maintenance/Snapshot", "server_stream"),
    ("/v3electionpb.Election/Observe", "server_stream"),
    ("/grpc.health.v1.Health/Watch", "server_stream"),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "bidi"),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "bidi"),
)

METHODS: Final[tuple[tuple[str, Kind], ...]] = (
    *(
        (f"/{service}/{name}", "unary")
        for service, names in _SERVICES.items()
        for name in names.split()
    ),
    *_STREAMS,
)
