"""Users, roles and the switch of the v2 API's access control.

A user or role is an object of this program until `write` brings the server to what it says; `read`
goes the other way. These are the v2 API's own users: the v3 API's are another set.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from corum.client.v2.errors import EtcdException, EtcdKeyNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corum.client.v2.client import Client

READ, WRITE = "R", "W"


class Auth:
    """Whether the cluster asks who somebody is."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @property
    def active(self) -> bool:
        """Set it to switch access control on, for which a user "root" must exist, or off."""
        return bool(_ask(self.client, "GET", "enable")["enabled"])

    @active.setter
    def active(self, wanted: bool) -> None:
        if wanted != self.active:
            _ask(self.client, "PUT" if wanted else "DELETE", "enable")


class EtcdUser:
    """The user `name`. `password` is never told by the server; set it to give a new one."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self.password: str | None = None
        self._roles: set[str] = set()

    @property
    def roles(self) -> set[str]:
        """Names of the user's roles."""
        return self._roles

    @roles.setter
    def roles(self, names: Iterable[str]) -> None:
        self._roles = set(names)

    @property
    def names(self) -> list[str]:
        """All users."""
        return _names(_ask(self.client, "GET", "users")["users"], "user")

    def read(self) -> None:
        """Take over the server's roles. EtcdKeyNotFound: there is no such user."""
        found = _ask(self.client, "GET", _path("users", self.name))
        self._roles = set(_names(found.get("roles"), "role"))
        self.password = None

    def write(self) -> None:
        """Create the user, or change roles and (if one is set) password to what they are here."""
        path = _path("users", self.name)
        document: dict[str, Any] = {"user": self.name}
        if self.password is not None:
            document["password"] = self.password
        try:
            found = _ask(self.client, "GET", path)
        except EtcdKeyNotFound:
            _ask(self.client, "PUT", path, {**document, "roles": sorted(self._roles)})
        else:
            before = set(_names(found.get("roles"), "role"))
            document |= _changes(sorted(self._roles - before), sorted(before - self._roles))
            if len(document) > 1:
                _ask(self.client, "PUT", path, document)
        self.password = None

    def delete(self) -> None:
        """EtcdKeyNotFound: there is no such user."""
        _ask(self.client, "DELETE", _path("users", self.name))


class EtcdRole:
    """The role `name`. `acls` says by path ("/a" or, for all below, "/a/*") "R", "W" or "RW"."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self.acls: dict[str, str] = {}

    @property
    def names(self) -> list[str]:
        """All roles, "root" among them; "guest" is everybody's who does not say who they are."""
        return _names(_ask(self.client, "GET", "roles")["roles"], "role")

    def grant(self, path: str, permission: str) -> None:
        """Permit it, once the role is written."""
        self._set(path, set(self.acls.get(path, "")) | _permission(permission))

    def revoke(self, path: str, permission: str) -> None:
        """Forbid it, once the role is written."""
        self._set(path, set(self.acls.get(path, "")) - _permission(permission))

    def read(self) -> None:
        """Take over the server's permissions. EtcdKeyNotFound: there is no such role."""
        self.acls = _acls(_ask(self.client, "GET", _path("roles", self.name)))

    def write(self) -> None:
        """Create the role, or change its permissions to what they are here."""
        path = _path("roles", self.name)
        document: dict[str, Any] = {"role": self.name}
        wanted = {(key, kind) for key, kinds in self.acls.items() for kind in _permission(kinds)}
        try:
            found = _acls(_ask(self.client, "GET", path))
        except EtcdKeyNotFound:
            _ask(self.client, "PUT", path, {**document, "permissions": _as_json(wanted)})
            return
        before = {(key, kind) for key, kinds in found.items() for kind in kinds}
        document |= _changes(_as_json(wanted - before), _as_json(before - wanted))
        if wanted != before:
            _ask(self.client, "PUT", path, document)

    def delete(self) -> None:
        """EtcdKeyNotFound: there is no such role."""
        _ask(self.client, "DELETE", _path("roles", self.name))

    def _set(self, path: str, kinds: set[str]) -> None:
        if kinds:
            self.acls[path] = "".join(sorted(kinds))
        else:
            self.acls.pop(path, None)


def _ask(client: Client, verb: str, path: str, document: Any = None) -> dict[str, Any]:
    """The answer's JSON, {} for none."""
    answer = client.api_execute_json(f"{client.version_prefix}/auth/{path}", verb, document)
    return json.loads(answer.body) if answer.body.strip() else {}


def _path(kind: str, name: str) -> str:
    if not name:
        raise EtcdException("a user or role needs a name")
    return f"{kind}/{quote(name, safe='')}"


def _names(items: Iterable[Any] | None, field: str) -> list[str]:
    """Names in a list of names or, as newer servers give it, of objects."""
    return [item[field] if isinstance(item, dict) else item for item in items or ()]


def _changes(grant: Any, revoke: Any) -> dict[str, Any]:
    return {verb: what for verb, what in (("grant", grant), ("revoke", revoke)) if what}


def _permission(text: str) -> set[str]:
    kinds = set(text.upper())
    if not kinds <= {READ, WRITE}:
        raise ValueError(f'a permission is "R", "W" or "RW", not {text!r}')
    return kinds


def _acls(role: dict[str, Any]) -> dict[str, str]:
    """Permissions by path, as the server gives them."""
    permissions: dict[str, Any] = role.get("permissions") or {}
    kv: dict[str, Any] = permissions.get("kv") or {}
    read, write = set(kv.get("read") or ()), set(kv.get("write") or ())
    return {path: READ * (path in read) + WRITE * (path in write) for path in sorted(read | write)}


def _as_json(permissions: set[tuple[str, str]]) -> dict[str, Any]:
    kinds = (("read", READ), ("write", WRITE))
    return {
        "kv": {name: sorted(path for path, k in permissions if k == kind) for name, kind in kinds}
    }
