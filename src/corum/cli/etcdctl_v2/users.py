"""user, role and auth commands of the v2 API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corum.cli.etcdctl_v2.api import EXIT_BAD_ARGUMENTS, Answer, ApiError, Failure, Unavailable
from corum.cli.secret import secret

if TYPE_CHECKING:
    from corum.cli.etcdctl_v2.commands import Run

UNAUTHORIZED = 401


def _complain(text: str) -> Failure:
    return Failure(EXIT_BAD_ARGUMENTS, text)


def _ask(run: Run, verb: str, path: str, document: Any = None) -> Answer:
    """The answer; a refusal ends the program with the server's words."""
    try:
        return run.api.request(verb, f"/v2/auth/{path}", document=document)
    except ApiError as refusal:
        raise _complain(refusal.message) from None
    except Unavailable as problem:
        raise _complain(str(problem)) from None


def _name(run: Run, what: str) -> str:
    if len(run.arguments) != 1:
        raise _complain(f"Please provide a {what}")
    return run.arguments[0]


def _names(items: list[Any], field: str) -> list[str]:
    """Names of users or roles, which newer servers give as objects."""
    return [item[field] if isinstance(item, dict) else str(item) for item in items]


def list_users(run: Run) -> None:
    if run.arguments:
        raise _complain("No arguments accepted")
    for name in _names(_ask(run, "GET", "users").json().get("users") or [], "user"):
        print(name)


def add(run: Run) -> None:
    """Create a user; one that exists gets the password."""
    name, _, password = _name(run, "username").partition(":")
    password = password or secret("New password: ")
    _ask(run, "PUT", f"users/{name}", {"user": name, "password": password})
    print(f"User {name} created")


def remove(run: Run) -> None:
    name = _name(run, "username")
    _ask(run, "DELETE", f"users/{name}")
    print(f"User {name} removed")


def passwd(run: Run) -> None:
    name = _name(run, "username")
    _ask(run, "GET", f"users/{name}")
    _ask(run, "PUT", f"users/{name}", {"user": name, "password": secret("New password: ")})
    print("Password updated")


def get(run: Run) -> None:
    name = _name(run, "username")
    user = _ask(run, "GET", f"users/{name}").json()
    print(f"User: {user['user']}")
    print("Roles: " + "".join(f" {role}" for role in _names(user.get("roles") or [], "role")))


def grant(run: Run) -> None:
    _change_roles(run, "grant")


def revoke(run: Run) -> None:
    _change_roles(run, "revoke")


def _change_roles(run: Run, verb: str) -> None:
    roles = run.values.string("roles")
    if not roles:
        raise _complain("No roles specified; please use `--roles`")
    name = _name(run, "username")
    _ask(run, "GET", f"users/{name}")
    _ask(run, "PUT", f"users/{name}", {"user": name, verb: roles.split(",")})
    print(f"User {name} updated")


# Roles ---------------------------------------------------------------------------------------


def role_list(run: Run) -> None:
    if run.arguments:
        raise _complain("No arguments accepted")
    for name in _names(_ask(run, "GET", "roles").json().get("roles") or [], "role"):
        print(name)


def role_add(run: Run) -> None:
    name = _name(run, "role name")
    if _exists(run, name):
        raise _complain(f"Role {name} already exists")
    _ask(run, "PUT", f"roles/{name}", {"role": name, "permissions": _permissions([], [])})
    print(f"Role {name} created")


def _exists(run: Run, role: str) -> bool:
    try:
        run.api.request("GET", f"/v2/auth/roles/{role}")
    except ApiError as refusal:
        if refusal.status == UNAUTHORIZED:
            raise _complain(refusal.message) from None
        return False
    except Unavailable as problem:
        raise _complain(str(problem)) from None
    return True


def _permissions(read: list[str], write: list[str]) -> dict[str, Any]:
    return {"kv": {"read": read, "write": write}}


def role_remove(run: Run) -> None:
    name = _name(run, "role name")
    _ask(run, "DELETE", f"roles/{name}")
    print(f"Role {name} removed")


def role_get(run: Run) -> None:
    role = _ask(run, "GET", f"roles/{_name(run, 'role name')}").json()
    permitted = role.get("permissions", {}).get("kv", {})
    print(f"Role: {role['role']}")
    for title, field in (("KV Read:", "read"), ("KV Write:", "write")):
        print(title)
        paths: list[str] = permitted.get(field) or []
        for path in paths:
            print(f"\t{path}")


def role_grant(run: Run) -> None:
    _change_permissions(run, "grant")


def role_revoke(run: Run) -> None:
    _change_permissions(run, "revoke")


def _change_permissions(run: Run, verb: str) -> None:
    path = run.values.string("path")
    if not path:
        raise _complain("No path specified; please use `--path`")
    if not path.startswith("/"):
        raise _complain(f"Not canonical path; please use `--path=/{path}`")
    chosen = {n: run.values.boolean(n) for n in ("read", "write", "readwrite", "rw")}
    both = chosen["readwrite"] or chosen["rw"]
    if chosen["read"] + chosen["write"] + both != 1:
        raise _complain("Please specify exactly one of --read, --write or --readwrite")
    read = [path] if chosen["read"] or both else []
    write = [path] if chosen["write"] or both else []
    name = _name(run, "role name")
    _ask(run, "GET", f"roles/{name}")
    _ask(run, "PUT", f"roles/{name}", {"role": name, verb: _permissions(read, write)})
    print(f"Role {name} updated")


# auth ----------------------------------------------------------------------------------------


def enable(run: Run) -> None:
    _ask(run, "PUT", "enable")
    print("Authentication Enabled")


def disable(run: Run) -> None:
    _ask(run, "DELETE", "enable")
    print("Authentication Disabled")
