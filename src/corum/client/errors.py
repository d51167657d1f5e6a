"""What a client's call can raise: one class per gRPC code, all below `ClientError`.

`code` is the gRPC code, `text` the server's own words ("etcdserver: permission denied"). An error
that etcd has a name for is of that kind, too: `except errors.LEASE_NOT_FOUND` (see `corum.errors`)
works like `except NotFound`. A timeout is `DeadlineExceeded` wherever it passed; what kept the call
from being answered before is its `detail`.
"""

from __future__ import annotations

from functools import cache
from typing import TypeVar, cast

from corum.errors import EtcdError, by_text, code_name

OK = 0
CANCELED = 1
UNKNOWN = 2
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
ALREADY_EXISTS = 6
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
ABORTED = 10
OUT_OF_RANGE = 11
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14
DATA_LOSS = 15
UNAUTHENTICATED = 16

COMPACTED_TEXT = "etcdserver: mvcc: required revision has been compacted"
DEADLINE_TEXT = "context deadline exceeded"


class ClientError(EtcdError):
    """A call that did not succeed."""

    code = UNKNOWN

    def __init__(self, text: str, code: int | None = None, *, detail: str = "") -> None:
        super().__init__(code, text)
        self.detail = detail

    @property
    def code_name(self) -> str:
        """Go's name of the code: "InvalidArgument"."""
        return code_name(self.code)

    def go_text(self) -> str:
        """The text as Go's clients show it: etcd's own texts bare, others with their code."""
        if self.text.startswith("etcdserver: ") or isinstance(self, DeadlineExceeded):
            return self.text
        if self.code == CANCELED:
            return "context canceled"
        return f"rpc error: code = {self.code_name} desc = {self.text}"


class Canceled(ClientError):
    code = CANCELED


class InvalidArgument(ClientError):
    code = INVALID_ARGUMENT


class DeadlineExceeded(ClientError, TimeoutError):
    """The time for the call is over; whether a write took place is unknown."""

    code = DEADLINE_EXCEEDED


class NotFound(ClientError):
    code = NOT_FOUND


class PermissionDenied(ClientError):
    code = PERMISSION_DENIED


class ResourceExhausted(ClientError):
    code = RESOURCE_EXHAUSTED


class FailedPrecondition(ClientError):
    code = FAILED_PRECONDITION


class OutOfRange(ClientError):
    """A revision that is compacted already, or not there yet."""

    code = OUT_OF_RANGE


class Compacted(OutOfRange):
    """The revision asked for is compacted; `revision` is the oldest one left, 0 if not told."""

    revision = 0


class Unimplemented(ClientError):
    code = UNIMPLEMENTED


class Unavailable(ClientError, ConnectionError):
    """No member could serve the call now; a write may or may not have taken place."""

    code = UNAVAILABLE


class DataLoss(ClientError):
    code = DATA_LOSS


class Unauthenticated(ClientError):
    code = UNAUTHENTICATED


class WatchCanceled(ClientError):
    """The server ended a watch, for the reason in `text`."""

    code = CANCELED


_BY_CODE: dict[int, type[ClientError]] = {
    c.code: c
    for c in (
        Canceled, InvalidArgument, DeadlineExceeded, NotFound, PermissionDenied,
        ResourceExhausted, FailedPrecondition, OutOfRange, Unimplemented, Unavailable,
        DataLoss, Unauthenticated,
    )
}  # fmt: skip


def from_status(code: int, text: str, *, detail: str = "") -> ClientError:
    """The exception for a call that ended with `code` and `text`."""
    if text == COMPACTED_TEXT:
        return compacted()
    category = _BY_CODE.get(code, ClientError)
    return _named(category, by_text(text))(text, code, detail=detail)


def compacted(revision: int = 0) -> Compacted:
    """The exception for a revision that is gone; `revision` is the oldest one left, if told."""
    error = _named(Compacted, by_text(COMPACTED_TEXT))(COMPACTED_TEXT)
    error.revision = revision
    return error


_E = TypeVar("_E", bound=ClientError)


@cache
def _named(category: type[_E], kind: type[EtcdError] | None) -> type[_E]:
    """`category`, and also etcd's own kind if there is one."""
    if kind is None:
        return category
    return cast("type[_E]", type(kind.__name__, (category, kind), {"__module__": __name__}))
