"""What to do after a call failed. Pure; the rules are those of Go's clientv3 (errors page, §1).

A call that changes nothing is repeated elsewhere when the member is unavailable. Any other call is
repeated only when it certainly never left this machine; if its fate is unknown the caller is told.
A refused token is renewed once, and the call sent again: it was refused, so nothing happened.
"""

from __future__ import annotations

from corum.client.errors import UNAUTHENTICATED, UNAVAILABLE

FAIL = 0  # tell the caller
ELSEWHERE = 1  # the next endpoint, as long as there is time
NEW_TOKEN = 2  # authenticate again, then the same call

_NEVER_SENT = (
    "connection error",
    "there is no address available",
    "there is no connection available",
)
_STALE_TOKEN = "etcdserver: revision of auth store is old"
_INVALID_TOKEN = "etcdserver: invalid auth token"
_NO_USER = "etcdserver: user name is empty"
_DENIED = "etcdserver: permission denied"


def never_sent(code: int, text: str) -> bool:
    """Whether the failure proves that the server has not seen the call."""
    return code == UNAVAILABLE and text.startswith(_NEVER_SENT)


def decide(code: int, text: str, *, repeatable: bool, renewable: bool) -> int:
    """FAIL, ELSEWHERE or NEW_TOKEN for a call that ended with `code` and `text`.

    renewable: the client has a user and has not renewed its token for this call yet.
    """
    if code == UNAVAILABLE:
        return ELSEWHERE if repeatable or never_sent(code, text) else FAIL
    if renewable:
        if code == UNAUTHENTICATED and text == _INVALID_TOKEN:
            return NEW_TOKEN
        if text in (_STALE_TOKEN, _NO_USER):
            return NEW_TOKEN
    return FAIL


def may_need_token(text: str) -> bool:
    """Whether a watch that was refused with `text` may be granted with a new token.

    Servers up to 3.5 say "permission denied" also of a token that has expired.
    """
    reason = text.rpartition(" desc = ")[2]  # Go's servers quote the whole status
    return reason in (_INVALID_TOKEN, _STALE_TOKEN, _NO_USER, _DENIED)
