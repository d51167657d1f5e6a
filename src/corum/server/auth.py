"""Authentication of a member: users and roles applied from the log, tokens, and the gate (rpc §9).

A committed change of users or roles moves the auth revision; enabling and disabling swap the node's
gate. Tokens are this member's own: every member that applied an Authenticate entry knows its token.
Bounds: `CHECKS_MAX` passwords being checked or hashed, `EARLY_MAX` calls that wait for their token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from corum import errors
from corum.auth import (
    NOBODY,
    AuthStore,
    CheckPassword,
    HashPassword,
    Identity,
    JwtTokens,
    Permission,
    SimpleTokens,
    draw_prefix,
    index_of,
    pack_hash,
    unpack_hash,
)
from corum.auth.passwords import COST_DEFAULT, COST_MAX, COST_MIN
from corum.auth.records import encode_permission
from corum.pb import raft_internal
from corum.pb.wire import bytes_field, bytes_of, int_field
from corum.server import operations as op
from corum.server.gate import Gate, OpenGate
from corum.values import NS_PER_S

if TYPE_CHECKING:
    from corum.raft import Entry
    from corum.server.node import Node

CHECKS_MAX: Final = 256
EARLY_MAX: Final = 10_000
TOKEN, AUTHORIZATION, PEER = 0, 1, 5
"""Where `meta` holds what a caller says of itself."""

Tokens: TypeAlias = SimpleTokens | JwtTokens
Again: TypeAlias = Callable[[errors.EtcdError | None], None]
"""`again(None)` does a call anew, `again(error)` refuses it."""


class EarlyToken(errors.EtcdError):
    """A token of a log entry that this member has not applied yet: worth asking again when it has.

    To whoever does not ask again it is an invalid token.
    """

    def __init__(self, index: int) -> None:
        super().__init__(errors.INVALID_AUTH_TOKEN.code, errors.INVALID_AUTH_TOKEN.text)
        self.index = index


class Auth:
    """The node's users, roles and tokens."""

    def __init__(self, node: Node) -> None:
        config = node.config
        self._node = node
        self.tokens: Tokens = config.tokens()
        self.store = AuthStore(node.backend, self.tokens)
        self._open = OpenGate()
        self._gate = Gate(self.store, node.lessor, self.identify, node.refuse)
        cost = config.bcrypt_cost
        self._cost = cost if COST_MIN <= cost <= COST_MAX else COST_DEFAULT
        self._checks = 0
        self._index = 0
        self.early: list[tuple[int, int, Again]] = []
        """(index to wait for, deadline, again)."""
        changes: dict[int, Callable[[Any], bytes]] = {
            op.AUTH_ENABLE: self._enable,
            op.AUTH_DISABLE: self._disable,
            op.AUTH_STATUS: self._status,
            op.AUTHENTICATE: self._authenticate,
            op.AUTH_USER_ADD: self._user_add,
            op.AUTH_USER_DELETE: lambda r: _done(self.store.user_delete(r.name)),
            op.AUTH_USER_GET: lambda r: _strings(self.store.user_get(r.name)),
            op.AUTH_USER_CHANGE_PASSWORD: self._user_change_password,
            op.AUTH_USER_GRANT_ROLE: lambda r: _done(self.store.user_grant_role(r.user, r.role)),
            op.AUTH_USER_REVOKE_ROLE: lambda r: _done(self.store.user_revoke_role(r.name, r.role)),
            op.AUTH_USER_LIST: lambda r: _strings(self.store.user_list()),
            op.AUTH_ROLE_LIST: lambda r: _strings(self.store.role_list()),
            op.AUTH_ROLE_ADD: lambda r: _done(self.store.role_add(r.name)),
            op.AUTH_ROLE_DELETE: lambda r: _done(self.store.role_delete(r.role)),
            op.AUTH_ROLE_GET: self._role_get,
            op.AUTH_ROLE_GRANT_PERMISSION: self._role_grant,
            op.AUTH_ROLE_REVOKE_PERMISSION: lambda r: _done(
                self.store.role_revoke_permission(r.role, r.key, r.range_end)
            ),
        }
        node.applier.operations |= {each: self._applied(do) for each, do in changes.items()}

    @property
    def gate(self) -> Gate | OpenGate:
        """The gate that the node is to have now."""
        return self._gate if self.store.enabled else self._open

    # ---- callers

    def identify(self, meta: Any) -> Identity:
        """Who calls: by token, else by client certificate, else nobody.

        Raises INVALID_AUTH_TOKEN, EarlyToken.
        """
        if meta is None:
            return NOBODY
        token = meta[TOKEN]
        if token is None:
            token = meta[AUTHORIZATION]
            if token is None:
                return self._certified(meta[PEER])
        tokens, node = self.tokens, self._node
        if isinstance(tokens, JwtTokens):
            who = tokens.identify(token, node.ports.unix_time_ns() // NS_PER_S)
        else:
            who = tokens.identify(token, self.store.revision, node.now_ns)
            if who is None:
                self._may_be_early(token)
        if who is None:
            raise errors.INVALID_AUTH_TOKEN()
        return who

    def _certified(self, peer: Any) -> Identity:
        if not self._node.config.client_cert_auth or peer is None:
            return NOBODY
        name = peer.common_name
        return NOBODY if name is None else Identity(name, self.store.revision)

    def _may_be_early(self, token: str) -> None:
        """Another member has applied the token's entry before this one did."""
        node, index = self._node, index_of(token)
        if index is None or index <= node.applied_index or len(self.early) >= EARLY_MAX:
            return
        if index <= node.committed or not node.is_leader:
            raise EarlyToken(index)

    def wait(self, early: EarlyToken, again: Again) -> None:
        """Do a call again when its token is known, or refuse it when that takes too long."""
        deadline_ns = self._node.now_ns + self._node.config.timeout_ns
        self.early.append((early.index, deadline_ns, again))

    def resume(self) -> None:
        """Calls whose token must be known by now; asked every turn while any wait."""
        applied = self._node.applied_index
        due = [again for index, _, again in self.early if index <= applied]
        if due:
            self.early = [each for each in self.early if each[0] > applied]
            for again in due:
                again(None)

    def tick(self, now_ns: int) -> None:
        """Tokens that nobody used and calls that waited long enough are gone."""
        if isinstance(self.tokens, SimpleTokens):
            self.tokens.expire(now_ns)
        if self.early:
            late = [again for _, deadline_ns, again in self.early if deadline_ns <= now_ns]
            self.early = [each for each in self.early if each[1] > now_ns]
            for again in late:
                again(errors.INVALID_AUTH_TOKEN())

    # ---- passwords

    def hash_password(self, call: int, password: str, then: Callable[[str], None]) -> None:
        """`then(hashedPassword)`, by a worker. Raises TOO_MANY_REQUESTS."""
        self._work(call, HashPassword(password, self._cost), lambda done: then(pack_hash(done)))

    def authenticate(self, call: int, request: Any) -> None:
        """Answer an AuthenticateRequest: check the password, then have a token assigned by all.

        If the rights change meanwhile, the password is checked anew.
        """
        job = self.store.password_check(request.name, request.password)

        def checked(matches: Any) -> None:
            if not matches:
                raise errors.AUTH_FAILED()
            node = self._node
            prefix = draw_prefix(node.secrets) if isinstance(self.tokens, SimpleTokens) else ""
            internal = raft_internal.InternalAuthenticateRequest(
                name=request.name, simple_token=prefix
            )
            message = internal.SerializeToString()
            node.propose(op.AUTHENTICATE, message, internal, call, answer=answer)

        def answer(_: Any, result: Any) -> None:
            if self.store.revision == job.revision or isinstance(result, errors.EtcdError):
                self._node.out.answer(call, result)
            else:
                self._guarded(call, lambda: self.authenticate(call, request))

        self._work(call, job, checked)

    def _work(
        self, call: int, job: CheckPassword | HashPassword, then: Callable[[Any], None]
    ) -> None:
        if self._checks >= CHECKS_MAX:
            raise errors.TOO_MANY_REQUESTS()
        self._checks += 1

        def done(result: Any) -> None:
            self._checks -= 1
            if isinstance(result, BaseException):
                self._node.out.error(call, result)
            else:
                self._guarded(call, lambda: then(result))

        self._node.ports.jobs.start(job.run, done)

    def _guarded(self, call: int, do: Callable[[], None]) -> None:
        """What is done outside of a handler ends the call itself when it fails."""
        try:
            self._node.check_open(None)
            do()
        except errors.EtcdError as error:
            self._node.out.error(call, error)

    # ---- applied

    def refusal(self, entry: Entry, operation: int) -> errors.EtcdError | None:
        """Why a committed request may not be carried out; only while authentication is on."""
        self._index = entry.index
        try:
            self._gate.check_committed(operation, entry.data)
        except errors.EtcdError as error:
            return error
        return None

    def _applied(self, change: Callable[[Any], bytes]) -> Callable[[Any], Any]:
        """`change` as an operation of the applier: response bytes, or the error."""
        applier = self._node.applier

        def apply(request: Any) -> Any:
            try:
                body = change(request)
            except errors.EtcdError as error:
                return error
            return applier.headers.at(applier.store.revision) + body

        return apply

    def _enable(self, request: Any) -> bytes:
        self.store.enable()
        self._node.gate = self.gate
        return b""

    def _disable(self, request: Any) -> bytes:
        self.store.disable()
        self._node.gate = self.gate
        return b""

    def _status(self, request: Any) -> bytes:
        return int_field(2, self.store.enabled) + int_field(3, self.store.revision)

    def _authenticate(self, request: Any) -> bytes:
        self.store.may_have_token(request.name)
        node, tokens = self._node, self.tokens
        if isinstance(tokens, JwtTokens):
            now_s = node.ports.unix_time_ns() // NS_PER_S
            token = tokens.assign(request.name, self.store.revision, now_s)
        else:
            token = tokens.assign(request.name, request.simple_token, self._index, node.now_ns)
        return bytes_field(2, token.encode())

    def _user_add(self, request: Any) -> bytes:
        if request.options.no_password:
            self.store.user_add(request.name, b"", no_password=True)
        else:
            self.store.user_add(request.name, self._hash_of(request))
        return b""

    def _user_change_password(self, request: Any) -> bytes:
        self.store.user_change_password(request.name, self._hash_of(request))
        return b""

    def _hash_of(self, request: Any) -> bytes:
        """etcd up to 3.4 proposes the password itself, and every member hashes it."""
        if request.password and not request.hashedPassword:
            return HashPassword(request.password, self._cost).run()
        return unpack_hash(request.hashedPassword)

    def _role_get(self, request: Any) -> bytes:
        permissions = self.store.role_get(request.role)
        return b"".join([bytes_field(2, encode_permission(each)) for each in permissions])

    def _role_grant(self, request: Any) -> bytes:
        permission = None
        if request.HasField("perm"):
            perm = request.perm
            permission = Permission(perm.permType, perm.key, perm.range_end)
        self.store.role_grant_permission(request.name, permission)
        return b""


def _strings(names: list[str]) -> bytes:
    """Field 2 of an answer, repeated."""
    return b"".join([bytes_field(2, bytes_of(name)) for name in names])


def _done(_: None) -> bytes:
    """The empty rest of an answer."""
    return b""
