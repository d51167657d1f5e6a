"""Every RPC the client calls: its path, its messages, and whether it may be repeated.

REPEATABLE calls change nothing, or change it only once however often they arrive. Anything else
whose fate is unknown is reported to the caller, never sent again (see `retry`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from corum.pb import rpc

    T = TypeVar("T", bound=Message)
else:
    T = TypeVar("T")


class Method(Generic[T]):
    """One RPC. `response` is the name of a message in `corum.pb.rpc`, loaded when first needed."""

    __slots__ = ("_parse", "path", "repeatable", "response")

    def __init__(self, path: str, response: str, *, repeatable: bool) -> None:
        self.path = f"/etcdserverpb.{path}"
        self.response = response
        self.repeatable = repeatable
        self._parse: Callable[[bytes], T] | None = None

    def decode(self, data: bytes) -> T:
        """The response message in `data`."""
        if self._parse is None:
            from corum.pb import rpc

            self._parse = getattr(rpc, self.response).FromString
        assert self._parse is not None
        return self._parse(data)


RANGE: Method[rpc.RangeResponse] = Method("KV/Range", "RangeResponse", repeatable=True)
RANGE_STREAM: Method[rpc.RangeStreamResponse] = Method(
    "KV/RangeStream", "RangeStreamResponse", repeatable=True
)
PUT: Method[rpc.PutResponse] = Method("KV/Put", "PutResponse", repeatable=False)
DELETE_RANGE: Method[rpc.DeleteRangeResponse] = Method(
    "KV/DeleteRange", "DeleteRangeResponse", repeatable=False
)
TXN: Method[rpc.TxnResponse] = Method("KV/Txn", "TxnResponse", repeatable=False)
TXN_READ_ONLY: Method[rpc.TxnResponse] = Method("KV/Txn", "TxnResponse", repeatable=True)
COMPACT: Method[rpc.CompactionResponse] = Method(
    "KV/Compact", "CompactionResponse", repeatable=False
)

WATCH: Method[rpc.WatchResponse] = Method("Watch/Watch", "WatchResponse", repeatable=True)

LEASE_GRANT: Method[rpc.LeaseGrantResponse] = Method(
    "Lease/LeaseGrant", "LeaseGrantResponse", repeatable=False
)
LEASE_REVOKE: Method[rpc.LeaseRevokeResponse] = Method(
    "Lease/LeaseRevoke", "LeaseRevokeResponse", repeatable=False
)
LEASE_KEEP_ALIVE: Method[rpc.LeaseKeepAliveResponse] = Method(
    "Lease/LeaseKeepAlive", "LeaseKeepAliveResponse", repeatable=True
)
LEASE_TIME_TO_LIVE: Method[rpc.LeaseTimeToLiveResponse] = Method(
    "Lease/LeaseTimeToLive", "LeaseTimeToLiveResponse", repeatable=True
)
LEASE_LEASES: Method[rpc.LeaseLeasesResponse] = Method(
    "Lease/LeaseLeases", "LeaseLeasesResponse", repeatable=True
)

MEMBER_LIST: Method[rpc.MemberListResponse] = Method(
    "Cluster/MemberList", "MemberListResponse", repeatable=True
)
MEMBER_ADD: Method[rpc.MemberAddResponse] = Method(
    "Cluster/MemberAdd", "MemberAddResponse", repeatable=False
)
MEMBER_REMOVE: Method[rpc.MemberRemoveResponse] = Method(
    "Cluster/MemberRemove", "MemberRemoveResponse", repeatable=False
)
MEMBER_UPDATE: Method[rpc.MemberUpdateResponse] = Method(
    "Cluster/MemberUpdate", "MemberUpdateResponse", repeatable=False
)
MEMBER_PROMOTE: Method[rpc.MemberPromoteResponse] = Method(
    "Cluster/MemberPromote", "MemberPromoteResponse", repeatable=False
)

ALARM: Method[rpc.AlarmResponse] = Method("Maintenance/Alarm", "AlarmResponse", repeatable=True)
STATUS: Method[rpc.StatusResponse] = Method("Maintenance/Status", "StatusResponse", repeatable=True)
DEFRAGMENT: Method[rpc.DefragmentResponse] = Method(
    "Maintenance/Defragment", "DefragmentResponse", repeatable=False
)
HASH: Method[rpc.HashResponse] = Method("Maintenance/Hash", "HashResponse", repeatable=True)
HASH_KV: Method[rpc.HashKVResponse] = Method(
    "Maintenance/HashKV", "HashKVResponse", repeatable=True
)
SNAPSHOT: Method[rpc.SnapshotResponse] = Method(
    "Maintenance/Snapshot", "SnapshotResponse", repeatable=True
)
MOVE_LEADER: Method[rpc.MoveLeaderResponse] = Method(
    "Maintenance/MoveLeader", "MoveLeaderResponse", repeatable=False
)
DOWNGRADE: Method[rpc.DowngradeResponse] = Method(
    "Maintenance/Downgrade", "DowngradeResponse", repeatable=False
)

AUTHENTICATE: Method[rpc.AuthenticateResponse] = Method(
    "Auth/Authenticate", "AuthenticateResponse", repeatable=True
)
AUTH_ENABLE: Method[rpc.AuthEnableResponse] = Method(
    "Auth/AuthEnable", "AuthEnableResponse", repeatable=False
)
AUTH_DISABLE: Method[rpc.AuthDisableResponse] = Method(
    "Auth/AuthDisable", "AuthDisableResponse", repeatable=False
)
AUTH_STATUS: Method[rpc.AuthStatusResponse] = Method(
    "Auth/AuthStatus", "AuthStatusResponse", repeatable=True
)
USER_ADD: Method[rpc.AuthUserAddResponse] = Method(
    "Auth/UserAdd", "AuthUserAddResponse", repeatable=False
)
USER_GET: Method[rpc.AuthUserGetResponse] = Method(
    "Auth/UserGet", "AuthUserGetResponse", repeatable=True
)
USER_LIST: Method[rpc.AuthUserListResponse] = Method(
    "Auth/UserList", "AuthUserListResponse", repeatable=True
)
USER_DELETE: Method[rpc.AuthUserDeleteResponse] = Method(
    "Auth/UserDelete", "AuthUserDeleteResponse", repeatable=False
)
USER_CHANGE_PASSWORD: Method[rpc.AuthUserChangePasswordResponse] = Method(
    "Auth/UserChangePassword", "AuthUserChangePasswordResponse", repeatable=False
)
USER_GRANT_ROLE: Method[rpc.AuthUserGrantRoleResponse] = Method(
    "Auth/UserGrantRole", "AuthUserGrantRoleResponse", repeatable=False
)
USER_REVOKE_ROLE: Method[rpc.AuthUserRevokeRoleResponse] = Method(
    "Auth/UserRevokeRole", "AuthUserRevokeRoleResponse", repeatable=False
)
ROLE_ADD: Method[rpc.AuthRoleAddResponse] = Method(
    "Auth/RoleAdd", "AuthRoleAddResponse", repeatable=False
)
ROLE_GET: Method[rpc.AuthRoleGetResponse] = Method(
    "Auth/RoleGet", "AuthRoleGetResponse", repeatable=True
)
ROLE_LIST: Method[rpc.AuthRoleListResponse] = Method(
    "Auth/RoleList", "AuthRoleListResponse", repeatable=True
)
ROLE_DELETE: Method[rpc.AuthRoleDeleteResponse] = Method(
    "Auth/RoleDelete", "AuthRoleDeleteResponse", repeatable=False
)
ROLE_GRANT_PERMISSION: Method[rpc.AuthRoleGrantPermissionResponse] = Method(
    "Auth/RoleGrantPermission", "AuthRoleGrantPermissionResponse", repeatable=False
)
ROLE_REVOKE_PERMISSION: Method[rpc.AuthRoleRevokePermissionResponse] = Method(
    "Auth/RoleRevokePermission", "AuthRoleRevokePermissionResponse", repeatable=False
)
