"""Who calls the v2 API, and what they may do there (v2-store §10): 401 or on with it.

bcrypt runs in workers; a password that was right is remembered by a keyed digest for as long as
its hash is stored, so that not every request costs 50 ms.
Bounds: `CHECKS_MAX` passwords at work, `REMEMBERED_MAX` digests.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import unquote

from corum import errors
from corum.api.http_rules import JSON, Answer
from corum.api.v2 import rights
from corum.api.v2.rights import INSUFFICIENT, ROOT, Document, Refused, Rights
from corum.auth import CheckPassword
from corum.server.node import Node
from corum.server.v2 import RIGHTS
from corum.v2store import NodeView, V2Error
from corum.v2store import errors as v2_errors

CHECKS_MAX: Final = 256
REMEMBERED_MAX: Final = 10_000

Then: TypeAlias = Callable[[], None]


class Answers(Protocol):
    """Where whole answers go."""

    def answer(self, call: int, answer: Answer) -> None: ...


class Access:
    """The rights of the v2 API as this member has them, and its callers."""

    def __init__(self, node: Node, front: Answers) -> None:
        self._node = node
        self._front = front
        self._cluster = ("x-etcd-cluster-id", f"{node.members.cluster:x}")
        self._rights = Rights(False, {}, {})
        self._salt = node.secrets.getrandbits(256).to_bytes(32, "big")
        self._right: dict[bytes, None] = {}
        """Digests of (stored hash, password) that matched."""
        self._open: set[int] = set()
        """Calls that wait for something; a client that leaves is taken out."""
        self._checks = 0

    @property
    def rights(self) -> Rights:
        """As this member has them now."""
        v2 = self._node.v2
        if v2.rights_moved:
            v2.rights_moved = False
            self._rights = self._load()
        return self._rights

    def with_root(self, call: int, headers: dict[str, str], peer: Any, then: Then) -> None:
        """`then()` if the caller has role root or nobody needs it, else 401."""

        def known(user: Document | None, malformed: bool) -> None:
            if user is None or ROOT not in (user.get("roles") or ()):
                self.error(call, Refused(401, INSUFFICIENT))
            else:
                then()

        if self.rights.enabled:
            self._identify(call, headers, peer, known)
        else:
            then()

    def with_key(
        self,
        call: int,
        verb: str,
        path: str,
        recursive: bool,
        headers: dict[str, str],
        peer: Any,
        then: Then,
    ) -> None:
        """`then()` if the caller may read or write (by `verb`) the key, else 401 with code 110."""
        key = unquote(path, errors="replace").removeprefix("/v2/keys")
        write = verb not in ("GET", "HEAD")

        def known(user: Document | None, malformed: bool) -> None:
            now = self.rights
            if malformed or not now.may(user, key, write=write, recursive=recursive):
                error = V2Error(v2_errors.UNAUTHORIZED, INSUFFICIENT)
                body = error.to_json("/1").encode("utf-8", "replace") + b"\n"
                headers = (JSON, self._cluster, ("x-etcd-index", "0"))
                self._front.answer(call, Answer(401, headers, body))
            else:
                then()

        if self.rights.enabled:
            self._identify(call, headers, peer, known)
        else:
            then()

    def waiting(self, call: int) -> Waiting:
        """To stand where the call stands in what is waited for; see `go_on`."""
        self._open.add(call)
        return Waiting(self, call)

    def closed(self, call: int) -> None:
        """A client went away."""
        self._open.discard(call)

    # ---- who calls

    def _identify(
        self,
        call: int,
        headers: dict[str, str],
        peer: Any,
        known: Callable[[Document | None, bool], None],
    ) -> None:
        """`known(user or None, was there a wrong Authorization header)`, perhaps later."""
        header = headers.get("authorization", "")
        if not header:
            name = peer.common_name if self._node.config.client_cert_auth and peer else None
            users = self.rights.users
            known(rights.with_root_role(users[name]) if name in users else None, False)
            return
        name, password = basic(header)
        stored = self.rights.users.get(name)
        if stored is None:
            known(None, True)
            return
        user = rights.with_root_role(stored)
        hashed = str(stored.get("password", "")).encode()
        digest = hashlib.blake2b(
            password.encode("utf-8", "surrogateescape") + b"\0" + hashed, key=self._salt
        ).digest()
        if digest in self._right:
            known(user, False)
            return

        def checked(matches: Any) -> None:
            if matches:
                if len(self._right) >= REMEMBERED_MAX:
                    self._right.clear()
                self._right[digest] = None
            known(user if matches else None, not matches)

        self.work(call, CheckPassword(password, hashed, 0).run, checked)

    def work(self, call: int, job: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """`then(result)` of a job, by a worker."""
        if self._checks >= CHECKS_MAX:
            self.error(call, errors.TOO_MANY_REQUESTS())
            return
        self._checks += 1

        def done(result: Any) -> None:
            self._checks -= 1
            if isinstance(result, BaseException):
                self.failed(call, result)
            else:
                self.go_on(call, lambda: then(result))

        self._open.add(call)
        self._node.ports.jobs.start(job, done)

    def go_on(self, call: int, then: Then) -> None:
        """What follows something that was waited for, if the client is still there."""
        if call in self._open:
            self._open.discard(call)
            try:
                then()
            except (Refused, errors.EtcdError) as error:
                self.error(call, error)

    # ---- the rights

    def _load(self) -> Rights:
        enabled = self._value("/enabled") == "true"
        users = self._documents("/users", rights.parse_user)
        roles = self._documents("/roles", rights.parse_role)
        return Rights(enabled, users, roles)

    def _documents(self, path: str, parse: Callable[[str], Document]) -> dict[str, Document]:
        """By name; what is none counts as missing."""
        found: dict[str, Document] = {}
        for name, text in self._files(path):
            try:
                found[name] = parse(text)
            except Refused:
                continue
        return found

    def get(self, path: str) -> NodeView | None:
        """A node below `RIGHTS`; None when it is not there."""
        try:
            event = self._node.v2.store.get(RIGHTS + path, recursive=False, ordered=False, now_ns=0)
        except V2Error:
            return None
        return event.node

    def _value(self, path: str) -> str:
        node = self.get(path)
        return "" if node is None else node.value or ""

    def _files(self, path: str) -> list[tuple[str, str]]:
        node = self.get(path)
        nodes = [] if node is None else node.nodes or []
        return [(one.key.rpartition("/")[2], one.value or "") for one in nodes]

    # ---- answers

    def reply(self, call: int, status: int, text: str) -> None:
        """A JSON answer."""
        self._front.answer(call, Answer(status, (JSON, self._cluster), text.encode()))

    def failed(self, call: int, error: Any) -> None:
        """What was waited for ended so, if the client is still there."""
        self.go_on(call, lambda: self.error(call, error))

    def error(self, call: int, error: Any) -> None:
        """End a call: with a Refused's own words, with 500 for anything else."""
        self._open.discard(call)
        status, text = 500, "Internal Server Error"
        if isinstance(error, Refused):
            status, text = error.status, error.text
        body = rights.dumps({"message": text})
        headers = (JSON,) if status == 401 else (JSON, self._cluster)
        self._front.answer(call, Answer(status, headers, body.encode()))


class Waiting:
    """Stands where a call stands, should what it waits for not be decided."""

    __slots__ = ("_access", "_call")

    def __init__(self, access: Access, call: int) -> None:
        self._access = access
        self._call = call

    def fail(self, error: errors.EtcdError) -> None:
        """See `Node.refuse`."""
        self._access.failed(self._call, error)


def basic(header: str) -> tuple[str, str]:
    """User and password of an Authorization header; two empty texts for what is none."""
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        decoded = b64decode(text, validate=True).decode("utf-8", "surrogateescape")
    except ValueError:
        return "", ""
    name, colon, password = decoded.partition(":")
    return (name, password) if colon else ("", "")
