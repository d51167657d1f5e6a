"""Users and roles of the v2 API as documents, and what they allow (v2-store §10). Pure.

A document is etcd's JSON, key for key: what is stored below `/2`, and what clients send and get.
`None` and `[]` differ, as Go's nil and empty slices do. Refusals are `Refused` with etcd's words.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeAlias, cast

from corum.v2store.gojson import quote
from corum.values import value

ROOT: Final = "root"
GUEST: Final = "guest"
Document: TypeAlias = dict[str, Any]

_WORDS: Final = "words"
_TEXT: Final = "text"
_KV: Final = {"read": _WORDS, "write": _WORDS}
_PERMISSIONS: Final = {"kv": _KV}
_USER: Final = {
    "user": _TEXT,
    "password": _TEXT,
    "roles": _WORDS,
    "grant": _WORDS,
    "revoke": _WORDS,
}
_ROLE: Final = {
    "role": _TEXT,
    "permissions": _PERMISSIONS,
    "grant": _PERMISSIONS,
    "revoke": _PERMISSIONS,
}


class Refused(Exception):
    """An answer of the security API that is an error: HTTP status and message."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def wrong(status: int, text: str) -> Refused:
    """An error of etcd's auth package, whose texts have its name in front."""
    return Refused(status, f"auth: {text}")


INSUFFICIENT: Final = "Insufficient credentials"


def parse_user(body: bytes | str) -> Document:
    """A user as a client or the store has it; raises Refused."""
    return _shaped(_decoded(body), _USER)


def parse_role(body: bytes | str) -> Document:
    """A role as a client or the store has it; raises Refused."""
    return _shaped(_decoded(body), _ROLE)


def _decoded(body: bytes | str) -> Any:
    """The first JSON value; what follows is not looked at, as Go's decoder does."""
    try:
        text = body.decode() if isinstance(body, bytes) else body
        return json.JSONDecoder().raw_decode(text.lstrip())[0]
    except ValueError:
        raise _bad_json() from None


def _bad_json() -> Refused:
    return Refused(400, "Invalid JSON in request body.")


def _shaped(found: Any, shape: dict[str, Any]) -> Document:
    """The fields of `shape`, of their kinds; others are left out. Raises Refused."""
    if found is None:
        found = {}
    if not isinstance(found, dict):
        raise _bad_json()
    document: Document = {}
    for name, item in cast("dict[str, Any]", found).items():
        kind = shape.get(name)
        if kind is None or item is None:
            continue
        if isinstance(kind, dict):
            document[name] = _shaped(item, cast("dict[str, Any]", kind))
        elif kind is _TEXT and isinstance(item, str):
            document[name] = item
        elif kind is _WORDS and isinstance(item, list):
            words = cast("list[Any]", item)
            if not all(isinstance(word, str) for word in words):
                raise _bad_json()
            document[name] = words
        else:
            raise _bad_json()
    return document


# ---- as etcd writes them


def user_json(user: Document) -> str:
    """As stored, and as answered once the password is gone."""
    shown: Document = {"user": user.get("user", "")}
    if user.get("password"):
        shown["password"] = user["password"]
    shown["roles"] = user.get("roles")
    for name in ("grant", "revoke"):
        if user.get(name):
            shown[name] = user[name]
    return dumps(shown)


def role_json(role: Document) -> str:
    """As stored, and as answered."""
    return dumps(role_document(role))


def role_document(role: Document) -> Document:
    """All its fields, in etcd's order."""
    shown: Document = {
        "role": role.get("role", ""),
        "permissions": _permissions(role, "permissions"),
    }
    for name in ("grant", "revoke"):
        if name in role:
            shown[name] = _permissions(role, name)
    return shown


def _permissions(role: Document, name: str) -> Document:
    kv = role.get(name, {}).get("kv", {})
    return {"kv": {"read": kv.get("read"), "write": kv.get("write")}}


def dumps(found: Any) -> str:
    """JSON with Go's escapes and no blanks."""
    if isinstance(found, str):
        return quote(found)
    if isinstance(found, dict):
        pairs = cast("dict[str, Any]", found).items()
        return "{" + ",".join(f"{quote(name)}:{dumps(item)}" for name, item in pairs) + "}"
    if isinstance(found, list):
        return "[" + ",".join(dumps(item) for item in cast("list[Any]", found)) + "]"
    return json.dumps(found)


# ---- roles

ROOT_ROLE: Final[Document] = {
    "role": ROOT,
    "permissions": {"kv": {"read": ["/*"], "write": ["/*"]}},
}
GUEST_ROLE: Final[Document] = {**ROOT_ROLE, "role": GUEST}


def is_empty(role: Document, name: str) -> bool:
    """Does `permissions`, `grant` or `revoke` say nothing?"""
    kv = role.get(name, {}).get("kv", {})
    return not kv.get("read") and not kv.get("write")


def merged_role(old: Document, asked: Document) -> Document:
    """What a role is after a grant and a revocation; raises Refused."""
    if old.get("role") != asked.get("role"):
        names = f"{old.get('role')} {asked.get('role')}"
        raise wrong(409, f"Merging role with conflicting names: {names}")
    kv: Document = {}
    before = old.get("permissions", {}).get("kv", {})
    for access in ("read", "write"):
        patterns = set(before.get(access) or ())
        if "grant" not in asked and "revoke" not in asked:
            kv[access] = before.get(access)
            continue
        for pattern in asked.get("grant", {}).get("kv", {}).get(access) or ():
            if pattern in patterns:
                raise wrong(409, f"Granting duplicate {access} permission {pattern}")
            patterns.add(pattern)
        patterns -= set(asked.get("revoke", {}).get("kv", {}).get(access) or ())
        kv[access] = sorted(patterns)
    return {"role": old["role"], "permissions": {"kv": kv}}


def allows(role: Document, key: str, *, write: bool, recursive: bool) -> bool:
    """Does a role cover a key, or (`recursive`) all that begins with it?"""
    if role.get("role") == ROOT:
        return True
    kv = role.get("permissions", {}).get("kv", {})
    for pattern in kv.get("write" if write else "read") or ():
        if pattern.endswith("*"):
            if key.startswith(pattern[:-1]):
                return True
        elif pattern == key and not recursive:
            return True
    return False


# ---- users


def with_root_role(user: Document) -> Document:
    """User root has role root, whatever is stored."""
    roles: list[str] = user.get("roles") or []
    if user.get("user") != ROOT or ROOT in roles:
        return user
    return {**user, "roles": [*roles, ROOT]}


def merged_user(old: Document, asked: Document) -> Document:
    """What a user is after grants and revocations; `asked`'s password is a hash already."""
    name = asked.get("user", "")
    if old.get("user") != name:
        raise wrong(409, f"Merging user data with conflicting usernames: {old.get('user')} {name}")
    roles = set(old.get("roles") or ())
    for role in asked.get("grant") or ():
        if role in roles:
            raise wrong(409, f"Granting duplicate role {role} for user {name}")
        roles.add(role)
    for role in asked.get("revoke") or ():
        if role not in roles:
            raise wrong(409, f"Revoking ungranted role {role} for user {name}")
        roles.discard(role)
    password = asked.get("password") or old.get("password", "")
    return {"user": name, "password": password, "roles": sorted(roles)}


@value
class Rights:
    """All users and roles at one moment."""

    enabled: bool
    users: dict[str, Document]
    roles: dict[str, Document]

    def role(self, name: str) -> Document:
        """Role root is not stored; raises Refused."""
        if name == ROOT:
            return ROOT_ROLE
        if name not in self.roles:
            raise wrong(404, f"Role {name} does not exist.")
        return self.roles[name]

    def user(self, name: str) -> Document:
        """Raises Refused."""
        if name not in self.users:
            raise wrong(404, f"User {name} does not exist.")
        return with_root_role(self.users[name])

    def role_names(self) -> list[str]:
        """Sorted, role root among them."""
        return sorted([*self.roles, ROOT])

    def may(self, user: Document | None, key: str, *, write: bool, recursive: bool) -> bool:
        """Of a user's roles any; of nobody's the guest's, who is not asked about recursion."""
        if user is None:
            guest = self.roles.get(GUEST)
            return guest is not None and allows(guest, key, write=write, recursive=False)
        for name in user.get("roles") or ():
            role = ROOT_ROLE if name == ROOT else self.roles.get(name)
            if role is not None and allows(role, key, write=write, recursive=recursive):
                return True
        return False
