"""What must hold of authentication, judged by what the warden and the users were told.

That a refused request left nothing is `checkers`' matter, as of every refusal; that members have
the same users, roles and auth revision is compared at every step and at the end.
"""

from __future__ import annotations

from typing import Any

from corum.pb import rpc
from corum.sim.auth_model import OFF, READ, WRITE, Facts
from corum.sim.auth_workload import AuthWorkload
from corum.sim.checkers import FOREVER
from corum.sim.sessions import Operation
from corum.sim.world import Violation


def check_auth(auth: AuthWorkload) -> None:
    """Nothing was permitted after its end had been acknowledged. Raises Violation."""
    for user, attempt, token in auth.attempts:
        found_later = attempt.is_unknown and attempt.revision  # in the history
        if not (attempt.succeeded or found_later):
            continue
        end = attempt.returned if attempt.succeeded else FOREVER
        if attempt.name == "Auth/Authenticate":
            secret: str = attempt.request.password
            if not auth.facts.may_hold(("password", user, secret), attempt.invoked, end):
                raise Violation(f"with a password that is not: {attempt}")
            continue
        if getattr(attempt.request, "serializable", False):
            continue  # by the rights that the member knew
        for kind, keys in _needs(attempt.request):
            if not auth.facts.may_do(user, kind, keys, attempt.invoked, end):
                raise Violation(f"{user} had no right to {kind} {keys}: {attempt}")
        assert token is not None
        if not _may_be_valid(auth.facts, user, token, attempt, end):
            raise Violation(f"{user}'s token was not valid any more: {attempt}\n{token}")


def _needs(request: Any) -> list[tuple[str, tuple[str, str]]]:
    """What rights, on which keys."""
    keys = (request.key.decode(), request.range_end.decode() if _has_end(request) else "")
    if isinstance(request, rpc.RangeRequest):
        return [(READ, keys)]
    return [(WRITE, keys), (READ, keys)] if request.prev_kv else [(WRITE, keys)]


def _has_end(request: Any) -> bool:
    return not isinstance(request, rpc.PutRequest)


def _may_be_valid(facts: Facts, user: str, token: Operation, attempt: Operation, end: int) -> bool:
    return facts.may_hold(OFF, attempt.invoked, end) or not facts.ended_between(
        ("tokens", user), token.returned, attempt.invoked
    )
