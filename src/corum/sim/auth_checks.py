"""What must hold of authentication, judged by what the warden and the users were told.

That a refused request left nothing is `checkers`' matter, as of every refusal; that members have
the same users, roles and auth revision is compared at every step and at the end.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, TypeAlias

from corum import errors
from corum.pb import rpc
from corum.sim.auth_model import KEYS, OFF, READ, WRITE, Facts
from corum.sim.auth_workload import KINDS, USERS, AuthWorkload
from corum.sim.checkers import FOREVER
from corum.sim.model import within
from corum.sim.sessions import Client, Later, Operation
from corum.sim.world import Violation
from corum.values import NS_PER_MS

CALM_NS: Final = 500 * NS_PER_MS
"""All members have applied what was answered so long ago."""
DENIED: Final = errors.AUTH_PERMISSION_DENIED.text


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


def probe(auth: AuthWorkload, client: Client) -> Generator[Later, Any, bool]:
    """When nothing fails, users may do what their rights say, and nothing else; False: ask again.

    Raises Violation.
    """
    yield from auth.enable(client)
    for user in USERS:
        yield from auth.change_password(client, user)
        yield client.sleep(CALM_NS)
        rights = yield from _rights_of(client, user)
        token = yield from auth.log_in(client, user, auth.passwords[user][-1])
        if rights is None or token is None:
            return False
        for key in KEYS:
            for kind, name, request in (
                (WRITE, "KV/Put", rpc.PutRequest(key=key.encode(), value=auth.new_value())),
                (READ, "KV/Range", rpc.RangeRequest(key=key.encode())),
            ):
                done = yield from auth.attempt(client, user, name, request, token)
                may = any(within(key.encode(), *each) for each in rights[kind])
                if done.succeeded != may and (done.succeeded or done.text == DENIED):
                    raise Violation(f"{user}'s rights are {rights}: {done}")
                if not (done.succeeded or done.text == DENIED):
                    return False
    return True


Rights: TypeAlias = dict[str, list[tuple[bytes, bytes]]]


def _rights_of(client: Client, user: str) -> Generator[Later, Any, Rights | None]:
    """The ranges that a user may read and write, as root is told."""
    found: Rights = {READ: [], WRITE: []}
    listed: Operation = yield client.ask("Auth/UserGet", rpc.AuthUserGetRequest(name=user))
    if listed.text == errors.USER_NOT_FOUND.text:
        yield client.ask("Auth/UserAdd", rpc.AuthUserAddRequest(name=user, password="new"))
    if not listed.succeeded:
        return None
    for role in listed.response.roles:
        told: Operation = yield client.ask("Auth/RoleGet", rpc.AuthRoleGetRequest(role=role))
        if not told.succeeded:
            return None
        for right in told.response.perm:
            for kind in KINDS[right.permType]:
                found[kind].append((right.key, right.range_end))
    return found
