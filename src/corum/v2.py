"""etcd's v2 API with python-etcd's vocabulary: `corum.v2.Client`, its results, errors, lock,
users and roles.

with corum.v2.Client(port=2379) as client:
    client.write("/nodes/n1", "up", ttl=60)
    for change in client.eternal_watch("/nodes", recursive=True): ...
"""

from corum.client.v2.auth import Auth, EtcdRole, EtcdUser
from corum.client.v2.client import Client
from corum.client.v2.errors import (
    EtcdAlreadyExist,
    EtcdClusterIdChanged,
    EtcdCompareFailed,
    EtcdConnectionFailed,
    EtcdDirNotEmpty,
    EtcdEventIndexCleared,
    EtcdException,
    EtcdInsufficientPermissions,
    EtcdKeyError,
    EtcdKeyNotFound,
    EtcdLeaderElectionInProgress,
    EtcdLockExpired,
    EtcdNotDir,
    EtcdNotFile,
    EtcdRootReadOnly,
    EtcdValueError,
    EtcdWatcherCleared,
    EtcdWatchTimedOut,
)
from corum.client.v2.lock import Lock
from corum.client.v2.results import EtcdResult

__all__ = [
    "Auth",
    "Client",
    "EtcdAlreadyExist",
    "EtcdClusterIdChanged",
    "EtcdCompareFailed",
    "EtcdConnectionFailed",
    "EtcdDirNotEmpty",
    "EtcdEventIndexCleared",
    "EtcdException",
    "EtcdInsufficientPermissions",
    "EtcdKeyError",
    "EtcdKeyNotFound",
    "EtcdLeaderElectionInProgress",
    "EtcdLockExpired",
    "EtcdNotDir",
    "EtcdNotFile",
    "EtcdResult",
    "EtcdRole",
    "EtcdRootReadOnly",
    "EtcdUser",
    "EtcdValueError",
    "EtcdWatchTimedOut",
    "EtcdWatcherCleared",
    "Lock",
]
