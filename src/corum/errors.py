"""THE table of errors that clients see: name, gRPC code, etcd's exact text.

Clients match on the texts, so they are API. A *kind* is a subclass of `EtcdError`: `raise
errors.COMPACTED()`, `except errors.COMPACTED`, `errors.COMPACTED.text`. Kinds carry etcd's own
names (ErrGRPCCompacted). What has no row here (an internal error's text) travels as
`EtcdError(errors.UNKNOWN, text)`. `by_text` finds the kind of a text that came from a server.

Source: etcd api/v3rpc/rpctypes, 3.3 to 3.7; where the code changed between versions, the newest.
"""

from __future__ import annotations

from typing import Final

# gRPC's status codes (grpc/doc/statuscodes.md).
OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
ALREADY_EXISTS: Final = 6
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
FAILED_PRECONDITION: Final = 9
ABORTED: Final = 10
OUT_OF_RANGE: Final = 11
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
DATA_LOSS: Final = 15
UNAUTHENTICATED: Final = 16

_CODE_NAMES: Final = (
    *("OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound"),
    *("AlreadyExists", "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted"),
    *("OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated"),
)

# The gateway's HTTP status of each code, since 3.6 (up to 3.5 Canceled was 408).
_HTTP: Final = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)


def code_name(code: int) -> str:
    """Go's name of a gRPC code ("InvalidArgument"); "Code(42)" for one that does not exist."""
    return _CODE_NAMES[code] if 0 <= code < len(_CODE_NAMES) else f"Code({code})"


def http_status(code: int) -> int:
    """The JSON gateway's HTTP status for a gRPC code."""
    return _HTTP[code] if 0 <= code < len(_HTTP) else 500


class EtcdError(Exception):
    """A refusal that goes to the client as it is: gRPC status `code` with description `text`."""

    code: int = UNKNOWN
    text: str = ""

    def __init__(self, code: int | None = None, text: str | None = None) -> None:
        """Without arguments: this kind's own code and text."""
        if code is not None:
            self.code = code
        if text is not None:
            self.text = text
        super().__init__(self.text)

    @property
    def http(self) -> int:
        """The JSON gateway's HTTP status."""
        return http_status(self.code)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({code_name(self.code)}, {self.text!r})"


KINDS: Final[dict[str, type[EtcdError]]] = {}
"""Every kind by its name."""

_BY_TEXT: Final[dict[str, type[EtcdError]]] = {}


def _kind(name: str, code: int, text: str) -> type[EtcdError]:
    kind = type(name, (EtcdError,), {"code": code, "text": text, "__module__": __name__})
    KINDS[name] = kind
    _BY_TEXT[text] = kind
    return kind


def _etcd(name: str, code: int, text: str) -> type[EtcdError]:
    return _kind(name, code, f"etcdserver: {text}")


def by_text(text: str) -> type[EtcdError] | None:
    """The kind whose text this is, byte for byte; None for any other text."""
    return _BY_TEXT.get(text)


# Keys, transactions, revisions.
EMPTY_KEY = _etcd("EMPTY_KEY", INVALID_ARGUMENT, "key is not provided")
KEY_NOT_FOUND = _etcd("KEY_NOT_FOUND", INVALID_ARGUMENT, "key not found")
VALUE_PROVIDED = _etcd("VALUE_PROVIDED", INVALID_ARGUMENT, "value is provided")
LEASE_PROVIDED = _etcd("LEASE_PROVIDED", INVALID_ARGUMENT, "lease is provided")
TOO_MANY_OPS = _etcd("TOO_MANY_OPS", INVALID_ARGUMENT, "too many operations in txn request")
DUPLICATE_KEY = _etcd("DUPLICATE_KEY", INVALID_ARGUMENT, "duplicate key given in txn request")
INVALID_CLIENT_API_VERSION = _etcd(
    "INVALID_CLIENT_API_VERSION", INVALID_ARGUMENT, "invalid client api version"
)
INVALID_SORT_OPTION = _etcd("INVALID_SORT_OPTION", INVALID_ARGUMENT, "invalid sort option")
COMPACTED = _etcd("COMPACTED", OUT_OF_RANGE, "mvcc: required revision has been compacted")
FUTURE_REV = _etcd("FUTURE_REV", OUT_OF_RANGE, "mvcc: required revision is a future revision")
NO_SPACE = _etcd("NO_SPACE", RESOURCE_EXHAUSTED, "mvcc: database space exceeded")
REQUEST_TOO_LARGE = _etcd("REQUEST_TOO_LARGE", INVALID_ARGUMENT, "request is too large")
# Declared ResourceExhausted; servers answer Unknown, because they return the client-side error.
TOO_MANY_REQUESTS = _etcd("TOO_MANY_REQUESTS", UNKNOWN, "too many requests")

# Leases and watches.
LEASE_NOT_FOUND = _etcd("LEASE_NOT_FOUND", NOT_FOUND, "requested lease not found")
LEASE_EXIST = _etcd("LEASE_EXIST", FAILED_PRECONDITION, "lease already exists")
LEASE_TTL_TOO_LARGE = _etcd("LEASE_TTL_TOO_LARGE", OUT_OF_RANGE, "too large lease TTL")
WATCH_CANCELED = _etcd("WATCH_CANCELED", CANCELLED, "watch canceled")

# Membership.
MEMBER_EXIST = _etcd("MEMBER_EXIST", FAILED_PRECONDITION, "member ID already exist")
PEER_URL_EXIST = _etcd("PEER_URL_EXIST", FAILED_PRECONDITION, "Peer URLs already exists")
# Declared FailedPrecondition; Unknown on the wire, as TOO_MANY_REQUESTS.
MEMBER_NOT_ENOUGH_STARTED = _etcd(
    "MEMBER_NOT_ENOUGH_STARTED",
    UNKNOWN,
    "re-configuration failed due to not enough started members",
)
MEMBER_BAD_URLS = _etcd("MEMBER_BAD_URLS", INVALID_ARGUMENT, "given member URLs are invalid")
MEMBER_NOT_FOUND = _etcd("MEMBER_NOT_FOUND", NOT_FOUND, "member not found")
MEMBER_NOT_LEARNER = _etcd(
    "MEMBER_NOT_LEARNER", FAILED_PRECONDITION, "can only promote a learner member"
)
LEARNER_NOT_READY = _etcd(
    "LEARNER_NOT_READY",
    FAILED_PRECONDITION,
    "can only promote a learner member which is in sync with leader",
)
TOO_MANY_LEARNERS = _etcd(
    "TOO_MANY_LEARNERS", FAILED_PRECONDITION, "too many learner members in cluster"
)
CLUSTER_ID_MISMATCH = _etcd("CLUSTER_ID_MISMATCH", FAILED_PRECONDITION, "cluster ID mismatch")

# Auth.
ROOT_USER_NOT_EXIST = _etcd("ROOT_USER_NOT_EXIST", FAILED_PRECONDITION, "root user does not exist")
ROOT_ROLE_NOT_EXIST = _etcd(
    "ROOT_ROLE_NOT_EXIST", FAILED_PRECONDITION, "root user does not have root role"
)
USER_ALREADY_EXIST = _etcd("USER_ALREADY_EXIST", FAILED_PRECONDITION, "user name already exists")
USER_EMPTY = _etcd("USER_EMPTY", INVALID_ARGUMENT, "user name is empty")
USER_NOT_FOUND = _etcd("USER_NOT_FOUND", FAILED_PRECONDITION, "user name not found")
ROLE_ALREADY_EXIST = _etcd("ROLE_ALREADY_EXIST", FAILED_PRECONDITION, "role name already exists")
ROLE_NOT_FOUND = _etcd("ROLE_NOT_FOUND", FAILED_PRECONDITION, "role name not found")
ROLE_EMPTY = _etcd("ROLE_EMPTY", INVALID_ARGUMENT, "role name is empty")
AUTH_FAILED = _etcd(
    "AUTH_FAILED", INVALID_ARGUMENT, "authentication failed, invalid user ID or password"
)
PERMISSION_NOT_GIVEN = _etcd("PERMISSION_NOT_GIVEN", INVALID_ARGUMENT, "permission not given")
# etcd: ErrGRPCPermissionDenied; that name is the code's here.
AUTH_PERMISSION_DENIED = _etcd("AUTH_PERMISSION_DENIED", PERMISSION_DENIED, "permission denied")
ROLE_NOT_GRANTED = _etcd("ROLE_NOT_GRANTED", FAILED_PRECONDITION, "role is not granted to the user")
PERMISSION_NOT_GRANTED = _etcd(
    "PERMISSION_NOT_GRANTED", FAILED_PRECONDITION, "permission is not granted to the role"
)
AUTH_NOT_ENABLED = _etcd("AUTH_NOT_ENABLED", FAILED_PRECONDITION, "authentication is not enabled")
INVALID_AUTH_TOKEN = _etcd("INVALID_AUTH_TOKEN", UNAUTHENTICATED, "invalid auth token")
INVALID_AUTH_MGMT = _etcd("INVALID_AUTH_MGMT", INVALID_ARGUMENT, "invalid auth management")
AUTH_OLD_REVISION = _etcd("AUTH_OLD_REVISION", INVALID_ARGUMENT, "revision of auth store is old")

# The cluster's state.
NO_LEADER = _etcd("NO_LEADER", UNAVAILABLE, "no leader")
NOT_LEADER = _etcd("NOT_LEADER", FAILED_PRECONDITION, "not leader")
LEADER_CHANGED = _etcd("LEADER_CHANGED", UNAVAILABLE, "leader changed")
NOT_CAPABLE = _etcd("NOT_CAPABLE", FAILED_PRECONDITION, "not capable")
STOPPED = _etcd("STOPPED", UNAVAILABLE, "server stopped")
TIMEOUT = _etcd("TIMEOUT", UNAVAILABLE, "request timed out")
TIMEOUT_DUE_TO_LEADER_FAIL = _etcd(
    "TIMEOUT_DUE_TO_LEADER_FAIL",
    UNAVAILABLE,
    "request timed out, possibly due to previous leader failure",
)
TIMEOUT_DUE_TO_CONNECTION_LOST = _etcd(
    "TIMEOUT_DUE_TO_CONNECTION_LOST",
    UNAVAILABLE,
    "request timed out, possibly due to connection lost",
)
TIMEOUT_WAIT_APPLIED_INDEX = _etcd(
    "TIMEOUT_WAIT_APPLIED_INDEX",
    UNAVAILABLE,
    "request timed out, waiting for the applied index took too long",
)
UNHEALTHY = _etcd("UNHEALTHY", UNAVAILABLE, "unhealthy cluster")
CORRUPT = _etcd("CORRUPT", DATA_LOSS, "corrupt cluster")
NOT_SUPPORTED_FOR_LEARNER = _etcd(
    "NOT_SUPPORTED_FOR_LEARNER", FAILED_PRECONDITION, "rpc not supported for learner"
)
BAD_LEADER_TRANSFEREE = _etcd("BAD_LEADER_TRANSFEREE", FAILED_PRECONDITION, "bad leader transferee")

# Downgrade.
WRONG_DOWNGRADE_VERSION_FORMAT = _etcd(
    "WRONG_DOWNGRADE_VERSION_FORMAT", INVALID_ARGUMENT, "wrong downgrade target version format"
)
INVALID_DOWNGRADE_TARGET_VERSION = _etcd(
    "INVALID_DOWNGRADE_TARGET_VERSION", INVALID_ARGUMENT, "invalid downgrade target version"
)
CLUSTER_VERSION_UNAVAILABLE = _etcd(
    "CLUSTER_VERSION_UNAVAILABLE", FAILED_PRECONDITION, "cluster version not found during downgrade"
)
DOWNGRADE_IN_PROCESS = _etcd(
    "DOWNGRADE_IN_PROCESS", FAILED_PRECONDITION, "cluster has a downgrade job in progress"
)
NO_INFLIGHT_DOWNGRADE = _etcd(
    "NO_INFLIGHT_DOWNGRADE", FAILED_PRECONDITION, "no inflight downgrade job"
)

# Ends of calls.
CANCELED_REQUEST = _etcd("CANCELED_REQUEST", CANCELLED, "request canceled")
# etcd: ErrGRPCDeadlineExceeded; that name is the code's here.
CONTEXT_DEADLINE_EXCEEDED = _etcd(
    "CONTEXT_DEADLINE_EXCEEDED", DEADLINE_EXCEEDED, "context deadline exceeded"
)

# Texts without etcd's prefix, as they reach the wire from below the RPC layer.
DEADLINE_PASSED = _kind("DEADLINE_PASSED", DEADLINE_EXCEEDED, "context deadline exceeded")
CLIENT_CANCELED = _kind("CLIENT_CANCELED", CANCELLED, "context canceled")
NO_PASSWORD_USER = _kind(
    "NO_PASSWORD_USER",
    UNKNOWN,
    "auth: authentication failed, password was given for no password user",
)
NOT_PRIMARY_LESSOR = _kind("NOT_PRIMARY_LESSOR", UNKNOWN, "not a primary lessor")
ELECTION_NO_LEADER = _kind("ELECTION_NO_LEADER", UNKNOWN, "election: no leader")
ELECTION_NOT_LEADER = _kind("ELECTION_NOT_LEADER", UNKNOWN, "election: not leader")
ELECTION_MISSING_LEADER_KEY = _kind(
    "ELECTION_MISSING_LEADER_KEY", UNKNOWN, '"leader" field must be provided'
)
