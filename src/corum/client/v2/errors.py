"""What a v2 call can raise: etcd's error numbers as exceptions with python-etcd's names."""

from __future__ import annotations

from typing import Any, Final


class EtcdException(Exception):
    """A call that did not succeed. `payload` is etcd's own answer, as far as there was one."""

    def __init__(self, message: str = "", payload: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.payload: dict[str, Any] = payload or {}


class EtcdValueError(EtcdException, ValueError):
    """A value that etcd does not take."""


class EtcdCompareFailed(EtcdValueError):
    """prevValue or prevIndex is not what the key has."""


class EtcdDirNotEmpty(EtcdValueError):
    """A directory with keys is deleted only recursively."""


class EtcdKeyError(EtcdException):
    """Something about the key."""


class EtcdKeyNotFound(EtcdKeyError):
    """There is no such key."""


class EtcdNotFile(EtcdKeyError):
    """The key is a directory."""


class EtcdNotDir(EtcdKeyError):
    """The key is no directory."""


class EtcdAlreadyExist(EtcdKeyError):
    """The key was to be created, and is there."""


class EtcdRootReadOnly(EtcdKeyError):
    """The root cannot be changed."""


class EtcdInsufficientPermissions(EtcdException):
    """The user may not do this."""


class EtcdEventIndexCleared(EtcdException):
    """The events from this index on are not kept any more; read, and watch from there."""


class EtcdWatcherCleared(EtcdException):
    """The member has ended the watch."""


class EtcdLeaderElectionInProgress(EtcdException):
    """No leader for the moment."""


class EtcdConnectionFailed(EtcdException):
    """No member answered. A write may or may not have taken place; `cause` is the last reason."""

    def __init__(
        self,
        message: str = "",
        payload: dict[str, Any] | None = None,
        cause: Exception | None = None,
    ) -> None:
        super().__init__(message, payload)
        self.cause = cause


class EtcdWatchTimedOut(EtcdConnectionFailed):
    """Nothing happened in time."""


class EtcdClusterIdChanged(EtcdException):
    """The member belongs to another cluster than the one that was expected."""


class EtcdLockExpired(EtcdException):
    """The lock ran out before it was renewed."""


_BY_CODE: Final[dict[int, type[EtcdException]]] = {
    100: EtcdKeyNotFound,
    101: EtcdCompareFailed,
    102: EtcdNotFile,
    104: EtcdNotDir,
    105: EtcdAlreadyExist,
    106: EtcdKeyError,
    107: EtcdRootReadOnly,
    108: EtcdDirNotEmpty,
    110: EtcdInsufficientPermissions,
    **dict.fromkeys(range(200, 300), EtcdValueError),
    301: EtcdLeaderElectionInProgress,
    400: EtcdWatcherCleared,
    401: EtcdEventIndexCleared,
}


def from_answer(payload: dict[str, Any]) -> EtcdException:
    """The exception for etcd's {"errorCode": .., "message": .., "cause": .., "index": ..}."""
    kind = _BY_CODE.get(int(payload.get("errorCode", 0)), EtcdException)
    message, cause = payload.get("message", "unknown error"), payload.get("cause", "")
    return kind(f"{message} : {cause}" if cause else str(message), payload)
