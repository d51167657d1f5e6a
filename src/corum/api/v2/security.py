"""`/v2/auth`: the users and roles of the v2 API (v2-store §10).

They are nodes below `/2` of the v2 store, changed through the log, read from this member's state
behind a ReadIndex round.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from corum import errors
from corum.api.http_rules import not_found, wrong_verb
from corum.api.v2 import rights
from corum.api.v2.access import Access, Answers, Then
from corum.api.v2.rights import ROOT, Document, Refused, Rights, wrong
from corum.auth import HashPassword
from corum.server.node import Node
from corum.server.v2 import RIGHTS
from corum.v2store import Event, Request, V2Error
from corum.v2store import errors as v2_errors

PREFIX: Final = "/v2/auth"
_VERBS: Final = ("GET", "PUT", "DELETE")

Put: TypeAlias = tuple[Request, bool]
"""A change of the store, and whether it may fail because the node exists."""


class Security:
    """See the module's docstring."""

    def __init__(self, node: Node, front: Answers, access: Access) -> None:
        self._node = node
        self._front = front
        self._access = access

    def request(
        self,
        call: int,
        verb: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        peer: Any,
    ) -> None:
        """One request below `/v2/auth`."""
        parts = posixpath.normpath(unquote(path)).removeprefix(PREFIX).split("/")[1:]
        kind = parts[0] if parts else ""
        if kind == "enable" and path == PREFIX + "/enable":
            handle = self._switch(verb)
            free = verb == "GET"
        elif kind in ("users", "roles"):
            if len(parts) > 2:
                self._access.error(call, Refused(400, "Invalid path"))
                return
            name = parts[1] if len(parts) == 2 else ""
            handle = self._listed(kind) if not name else self._one(kind, name, verb, body)
            free = False
        else:
            self._front.answer(call, not_found())
            return
        allowed = _VERBS if kind == "enable" or len(parts) == 2 else ("GET",)
        if verb not in allowed:
            self._front.answer(call, wrong_verb(*allowed))
            return

        def read() -> None:
            waiting = self._access.waiting(call)
            self._node.reads.add(
                lambda *_: self._access.go_on(call, lambda: handle(call)), waiting, None
            )

        def begin() -> None:
            try:
                self._node.check_open(None)
                read()
            except errors.EtcdError as error:
                self._access.error(call, error)

        if free:
            begin()
        else:
            self._access.with_root(call, headers, peer, begin)

    def _switch(self, verb: str) -> Callable[[int], None]:
        def handle(call: int) -> None:
            enabled = self._access.rights.enabled
            if verb == "GET":
                self._access.reply(call, 200, rights.dumps({"enabled": enabled}) + "\n")
            elif verb == "PUT":
                self._enable(call)
            elif not enabled:
                raise wrong(409, "already disabled")
            else:
                change = Request("PUT", RIGHTS + "/enabled", "false", prev_exist=True)
                self._change(call, [(change, False)], lambda: self._access.reply(call, 200, ""))

        return handle

    def _enable(self, call: int) -> None:
        now = self._access.rights
        if now.enabled:
            raise wrong(409, "already enabled")
        if ROOT not in now.users:
            raise wrong(409, "No root user available, please create one")
        changes: list[Put] = []
        if rights.GUEST not in now.roles:
            changes += self._create("roles", rights.GUEST, rights.role_json(rights.GUEST_ROLE))
        changes.append((Request("PUT", RIGHTS + "/enabled", "true", prev_exist=True), False))
        self._change(call, changes, lambda: self._access.reply(call, 200, ""))

    def _listed(self, kind: str) -> Callable[[int], None]:
        def handle(call: int) -> None:
            now = self._access.rights
            if kind == "roles":
                found: Any = [rights.role_document(now.role(name)) for name in now.role_names()]
            else:
                found = [self._shown(now, now.user(name)) for name in sorted(now.users)] or None
            self._access.reply(call, 200, rights.dumps({kind: found}) + "\n")

        return handle

    def _shown(self, now: Rights, user: Document, *, strict: bool = False) -> Document:
        """A user with the whole of their roles; those that are gone are left out, or an error."""
        names = [
            name for name in user.get("roles") or () if strict or name == ROOT or name in now.roles
        ]
        roles = [rights.role_document(now.role(name)) for name in names]
        return {"user": user["user"], "roles": roles} if roles else {"user": user["user"]}

    def _one(self, kind: str, name: str, verb: str, body: bytes) -> Callable[[int], None]:
        """What is to be done with one user or role."""
        handlers: dict[tuple[str, str], Callable[[int], None]] = {
            ("roles", "GET"): lambda call: self._access.reply(
                call, 200, rights.role_json(self._access.rights.role(name)) + "\n"
            ),
            ("roles", "PUT"): lambda call: self._put_role(call, name, body),
            ("roles", "DELETE"): lambda call: self._delete_role(call, name),
            ("users", "GET"): lambda call: self._get_user(call, name),
            ("users", "PUT"): lambda call: self._put_user(call, name, body),
            ("users", "DELETE"): lambda call: self._delete_user(call, name),
        }
        return handlers.get((kind, verb), lambda call: None)

    # ---- roles

    def _put_role(self, call: int, name: str, body: bytes) -> None:
        asked = rights.parse_role(body)
        if asked.get("role", "") != name:
            raise Refused(400, "Role JSON name does not match the name in the URL")
        creates = rights.is_empty(asked, "grant") and rights.is_empty(asked, "revoke")
        if not creates and not rights.is_empty(asked, "permissions"):
            raise Refused(400, "Role JSON contains both permissions and grant/revoke")
        self._not_root(name)
        if creates:
            answer = rights.role_json(asked)
            changes = self._create("roles", name, answer)
            exists = wrong(409, f"Role {name} already exists.")
            self._change(
                call, changes, lambda: self._access.reply(call, 201, answer + "\n"), exists
            )
            return
        old = self._access.rights.roles.get(name)
        if old is None:
            raise wrong(404, f"Role {name} does not exist.")
        new = rights.merged_role(old, asked)
        if rights.role_document(new) == rights.role_document(old):
            raise wrong(400, "Role not updated. Use grant/revoke to update the role.")
        answer = rights.role_json(new)
        change = Request("PUT", f"{RIGHTS}/roles/{name}", answer, prev_exist=True)
        self._change(call, [(change, False)], lambda: self._access.reply(call, 200, answer + "\n"))

    def _delete_role(self, call: int, name: str) -> None:
        self._not_root(name)
        missing = wrong(404, f"Role {name} doesn't exist.")
        change = Request("DELETE", f"{RIGHTS}/roles/{name}")
        self._change(call, [(change, False)], lambda: self._access.reply(call, 200, ""), missing)

    def _not_root(self, name: str) -> None:
        if name == ROOT:
            raise wrong(403, f"Cannot modify role {name}: is root role.")

    # ---- users

    def _get_user(self, call: int, name: str) -> None:
        now = self._access.rights
        shown = self._shown(now, now.user(name), strict=True)
        self._access.reply(call, 200, rights.dumps(shown) + "\n")

    def _put_user(self, call: int, name: str, body: bytes) -> None:
        asked = rights.parse_user(body)
        if asked.get("user", "") != name:
            raise Refused(400, "User JSON name does not match the name in the URL")
        updates = bool(asked.get("grant") or asked.get("revoke"))
        if updates and asked.get("roles"):
            raise Refused(400, "User JSON contains both roles and grant/revoke")
        has_roles = bool(asked.get("roles"))
        if not has_roles:
            updates = updates or name in self._access.rights.users
        if updates and name not in self._access.rights.users:
            raise wrong(404, f"User {name} does not exist.")
        password = asked.get("password", "")
        if not password and not updates:
            raise wrong(400, f"Cannot create user {name} with an empty password")

        def carry_out() -> None:
            if updates:
                self._update_user(call, name, asked)
            else:
                self._create_user(call, name, asked, 200 if has_roles else 201)

        if not password:
            carry_out()
            return

        def hashed(result: Any) -> None:
            asked["password"] = result.decode()
            carry_out()

        self._access.work(call, HashPassword(password, self._node.config.bcrypt_cost).run, hashed)

    def _create_user(self, call: int, name: str, asked: Document, status: int) -> None:
        user = rights.with_root_role(asked)
        changes = self._create("users", name, rights.user_json(user))
        exists = wrong(409, f"User {name} already exists.")
        answer = rights.user_json({**user, "password": ""})
        self._change(call, changes, lambda: self._access.reply(call, status, answer + "\n"), exists)

    def _update_user(self, call: int, name: str, asked: Document) -> None:
        old = self._access.rights.user(name)
        new = rights.merged_user(old, asked)
        if new == {**old, "password": old.get("password", "")}:
            text = "User not updated. Use grant/revoke/password to update the user."
            raise wrong(400, text)
        change = Request("PUT", f"{RIGHTS}/users/{name}", rights.user_json(new), prev_exist=True)
        answer = rights.user_json({**new, "password": ""})
        self._change(call, [(change, False)], lambda: self._access.reply(call, 200, answer + "\n"))

    def _delete_user(self, call: int, name: str) -> None:
        if self._access.rights.enabled and name == ROOT:
            raise wrong(403, "Cannot delete root user while auth is enabled.")
        missing = wrong(404, f"User {name} does not exist")
        change = Request("DELETE", f"{RIGHTS}/users/{name}")
        self._change(call, [(change, False)], lambda: self._access.reply(call, 200, ""), missing)

    # ---- the store

    def _create(self, kind: str, name: str, text: str) -> list[Put]:
        """The changes that make a new document, and before the first one the places for all."""
        changes: list[Put] = [
            (Request("PUT", RIGHTS + folder, dir=True, prev_exist=False), True)
            for folder in ("", "/users", "/roles")
            if self._access.get(folder) is None
        ]
        if self._access.get("/enabled") is None:
            changes.append((Request("PUT", RIGHTS + "/enabled", "false", prev_exist=False), True))
        request = Request("PUT", f"{RIGHTS}/{kind}/{name}", text, prev_exist=False)
        return [*changes, (request, False)]

    def _change(
        self, call: int, changes: list[Put], done: Then, refusal: Refused | None = None
    ) -> None:
        """Replicate changes, one after the other; `refusal` is what the store's own means."""
        (request, may_exist), rest = changes[0], changes[1:]

        def answer(_: Any, result: Any) -> None:
            if isinstance(result, V2Error) and not (
                may_exist and result.code == v2_errors.NODE_EXISTS
            ):
                self._access.failed(call, refusal or result)
            elif isinstance(result, Event | V2Error):
                self._access.go_on(
                    call, (lambda: self._change(call, rest, done, refusal)) if rest else done
                )
            else:
                self._access.failed(call, result)

        self._node.v2.propose(request, self._access.waiting(call), answer)
