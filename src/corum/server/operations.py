"""Operations of a replicated request: the field numbers of `InternalRaftRequest` (rpc §2)."""

from __future__ import annotations

from typing import Final

V2_REQUEST: Final = 2
RANGE: Final = 3
PUT: Final = 4
DELETE_RANGE: Final = 5
TXN: Final = 6
COMPACTION: Final = 7
LEASE_GRANT: Final = 8
LEASE_REVOKE: Final = 9
ALARM: Final = 10
LEASE_CHECKPOINT: Final = 11
HEADER: Final = 100
AUTH_ENABLE: Final = 1000
AUTH_DISABLE: Final = 1011
AUTHENTICATE: Final = 1012
AUTH_STATUS: Final = 1013
AUTH_USER_ADD: Final = 1100
AUTH_USER_DELETE: Final = 1101
AUTH_USER_GET: Final = 1102
AUTH_USER_CHANGE_PASSWORD: Final = 1103
AUTH_USER_GRANT_ROLE: Final = 1104
AUTH_USER_REVOKE_ROLE: Final = 1105
AUTH_USER_LIST: Final = 1106
AUTH_ROLE_LIST: Final = 1107
AUTH_ROLE_ADD: Final = 1200
AUTH_ROLE_DELETE: Final = 1201
AUTH_ROLE_GET: Final = 1202
AUTH_ROLE_GRANT_PERMISSION: Final = 1203
AUTH_ROLE_REVOKE_PERMISSION: Final = 1204
CLUSTER_VERSION_SET: Final = 1300
CLUSTER_MEMBER_ATTR_SET: Final = 1301
DOWNGRADE_INFO_SET: Final = 1302
DOWNGRADE_VERSION_TEST: Final = 9900

NAMES: Final = {
    RANGE: "Range",
    PUT: "Put",
    DELETE_RANGE: "DeleteRange",
    TXN: "Txn",
    COMPACTION: "Compaction",
    LEASE_GRANT: "LeaseGrant",
    LEASE_REVOKE: "LeaseRevoke",
    LEASE_CHECKPOINT: "LeaseCheckpoint",
    ALARM: "Alarm",
    CLUSTER_VERSION_SET: "ClusterVersionSet",
    CLUSTER_MEMBER_ATTR_SET: "ClusterMemberAttrSet",
    DOWNGRADE_INFO_SET: "DowngradeInfoSet",
}
"""What etcd's metrics call them."""
