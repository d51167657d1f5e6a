"""Who may do what: the questions the API asks before anything is proposed or read (rpc §9).

Each question raises when the caller may not, and returns the bytes that the request's header
carries about the user (empty while authentication is off): what is replicated is asked about again
at apply, from the entry's own bytes, so that every member decides alike. Linearizable reads are
asked about when they are served, by the rights as they are then.

The node holds one of the two gates; turning authentication on or off swaps them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from corum import errors
from corum.auth import AuthStore, Identity
from corum.lease import Lessor
from corum.mvcc import txn
from corum.mvcc.txn import Plan, plan_of
from corum.pb import raft_internal, rpc
from corum.pb.lenient import internal_request
from corum.pb.wire import bytes_field, bytes_of, int_field
from corum.server import operations as op
from corum.server.reads import Read
from corum.values import LeaseId

_USER: Final = 2
_REVISION: Final = 3


class OpenGate:
    """Authentication is off: everybody may do everything."""

    enabled = False

    def serve(self, reads: list[Read]) -> None:
        """Answer reads whose turn it is."""
        for serve, call, request, _ in reads:
            serve(call, request)

    def any_user(self, meta: Any) -> bytes:
        """Any valid user."""
        return b""

    def admin(self, meta: Any) -> bytes:
        """Users with role root."""
        return b""

    def caller(self, meta: Any) -> bytes:
        """Whoever it is: apply decides."""
        return b""

    def own(self) -> bytes:
        """This member itself, for what it proposes unasked."""
        return b""

    def read(self, meta: Any, key: bytes, end: bytes) -> None:
        """READ on the whole range."""

    def put(self, meta: Any, request: Any) -> bytes:
        """WRITE on the key, READ too for prev_kv, WRITE on all keys of the lease."""
        return b""

    def delete(self, meta: Any, request: Any) -> bytes:
        """WRITE on the range, READ too for prev_kv."""
        return b""

    def txn(self, meta: Any, request: Any) -> bytes:
        """What each comparison and operation needs."""
        return b""

    def lease(self, meta: Any, lease: int, *, write: bool = True) -> bytes:
        """WRITE (or READ) on every key attached to the lease."""
        return b""

    def all_leases(self, meta: Any) -> None:
        """READ on every leased key."""


class Gate:
    """Authentication is on. Asks the same as `OpenGate`, and means it."""

    enabled = True

    def __init__(
        self,
        store: AuthStore,
        lessor: Lessor,
        who: Callable[[Any], Identity],
        refuse: Callable[[Any, errors.EtcdError], None],
    ) -> None:
        """`who(meta)` finds the caller, `refuse(call, error)` ends a read that may not be."""
        self._store = store
        self._lessor = lessor
        self._who = who
        self._refuse = refuse
        self._committed: dict[int, Callable[[Identity, Any], None]] = {
            op.RANGE: self._may_range,
            op.PUT: self._may_put,
            op.DELETE_RANGE: self._may_delete,
            op.TXN: self._may_txn,
            op.LEASE_REVOKE: self._may_revoke,
            op.AUTH_USER_GET: self._may_get_user,
            op.AUTH_ROLE_GET: self._may_get_role,
        } | dict.fromkeys(_ADMIN, self._may_all)
        self._served: dict[Any, Callable[[Identity, Any], None]] = {
            rpc.RangeRequest: self._may_range,
            bytes: self._may_read_key,
            Plan: self._may_txn,
        }

    # ---- at apply

    def check_committed(self, operation: int, data: bytes) -> None:
        """What apply asks about an entry, by nothing but its bytes; raises.

        These are the questions that etcd asks there, too: members must not differ.
        """
        check = self._committed.get(operation)
        if check is not None:
            whole = internal_request(data)
            header = whole.header
            who = Identity(header.username, header.auth_revision)
            check(who, getattr(whole, _FIELDS[operation]))

    # ---- of calls

    def serve(self, reads: list[Read]) -> None:
        """See `OpenGate`; reads of ranges and transactions need their permissions now."""
        for serve, call, request, meta in reads:
            check = self._served.get(type(request))
            try:
                if check is not None:
                    check(self._who(meta), request)
            except errors.EtcdError as error:
                self._refuse(call, error)
            else:
                serve(call, request)

    def any_user(self, meta: Any) -> bytes:
        """See `OpenGate`; an old revision of the rights will do, where no right is needed."""
        return mark(self._somebody(meta))

    def admin(self, meta: Any) -> bytes:
        """See `OpenGate`."""
        who = self._who(meta)
        self._store.check_admin(who)
        return mark(who)

    def caller(self, meta: Any) -> bytes:
        """See `OpenGate`."""
        return mark(self._who(meta))

    def own(self) -> bytes:
        """See `OpenGate`: root, as etcd has its lease expiry sign."""
        return mark(Identity("root", self._store.revision))

    def read(self, meta: Any, key: bytes, end: bytes) -> None:
        """See `OpenGate`."""
        self._store.check_read(self._who(meta), key, end)

    def put(self, meta: Any, request: Any) -> bytes:
        """See `OpenGate`."""
        who = self._who(meta)
        self._may_put(who, request)
        return mark(who)

    def delete(self, meta: Any, request: Any) -> bytes:
        """See `OpenGate`."""
        who = self._who(meta)
        self._may_delete(who, request)
        return mark(who)

    def txn(self, meta: Any, request: Any) -> bytes:
        """See `OpenGate`."""
        who = self._who(meta)
        self._may_txn(who, request)
        return mark(who)

    def lease(self, meta: Any, lease: int, *, write: bool = True) -> bytes:
        """See `OpenGate`."""
        who = self._somebody(meta)
        self._may_lease(who, lease, write)
        return mark(who)

    def all_leases(self, meta: Any) -> None:
        """See `OpenGate`."""
        who = self._somebody(meta)
        if not self._is_admin(who):
            for lease in self._lessor.leases():
                self._may_lease(who, lease, False)

    def _somebody(self, meta: Any) -> Identity:
        who = self._who(meta)
        if who.revision == 0:
            raise errors.USER_EMPTY()
        return who

    # ---- rights of an identity

    def _may_all(self, who: Identity, request: Any) -> None:
        self._store.check_admin(who)

    def _may_get_user(self, who: Identity, request: Any) -> None:
        self._store.check_user_get(who, request.name)

    def _may_get_role(self, who: Identity, request: Any) -> None:
        self._store.check_role_get(who, request.role)

    def _may_revoke(self, who: Identity, request: Any) -> None:
        self._may_lease(who, request.ID, True)

    def _may_range(self, who: Identity, request: Any) -> None:
        self._store.check_read(who, request.key, request.range_end)

    def _may_read_key(self, who: Identity, key: bytes) -> None:
        self._store.check_read(who, key, b"")

    def _may_put(self, who: Identity, request: Any) -> None:
        self._store.check_write(who, request.key, prev_kv=request.prev_kv)
        if request.lease:
            self._may_lease(who, request.lease, True)

    def _may_delete(self, who: Identity, request: Any) -> None:
        self._store.check_write(who, request.key, request.range_end, prev_kv=request.prev_kv)

    def _may_txn(self, who: Identity, request: Any) -> None:
        """Both branches count, whichever will be taken, and transactions inside them."""
        plan = request if isinstance(request, Plan) else plan_of(request)
        for compare in plan.compares:
            self._store.check_read(who, compare.key, compare.range_end)
        for kind, asked in (*plan.success, *plan.failure):
            _OF_KIND[kind](self, who, asked)

    def _may_lease(self, who: Identity, lease: int, write: bool) -> None:
        """A lease without keys is anybody's, and an admin's revision may be old (as etcd)."""
        keys = self._lessor.keys(LeaseId(lease)) if LeaseId(lease) in self._lessor else ()
        if keys and not self._is_admin(who):
            self._store.check_lease(who, keys, write=write)

    def _is_admin(self, who: Identity) -> bool:
        try:
            self._store.check_admin(who)
        except errors.EtcdError:
            return False
        return True


_OF_KIND: Final[dict[int, Callable[[Gate, Identity, Any], None]]] = {
    txn.RANGE: Gate._may_range,
    txn.PUT: Gate._may_put,
    txn.DELETE: Gate._may_delete,
    txn.TXN: Gate._may_txn,
}

_ADMIN: Final = (
    *(op.AUTH_ENABLE, op.AUTH_DISABLE),
    *(op.AUTH_USER_ADD, op.AUTH_USER_DELETE, op.AUTH_USER_CHANGE_PASSWORD, op.AUTH_USER_LIST),
    *(op.AUTH_USER_GRANT_ROLE, op.AUTH_USER_REVOKE_ROLE),
    *(op.AUTH_ROLE_ADD, op.AUTH_ROLE_DELETE, op.AUTH_ROLE_LIST),
    *(op.AUTH_ROLE_GRANT_PERMISSION, op.AUTH_ROLE_REVOKE_PERMISSION),
)
"""Operations that need role root when they are applied."""


_FIELDS: Final[dict[int, str]] = {
    field.number: field.name for field in raft_internal.InternalRaftRequest.DESCRIPTOR.fields
}


@lru_cache(1_024)
def mark(who: Identity) -> bytes:
    """What a RequestHeader says of the user: username (2), auth_revision (3)."""
    user = bytes_field(_USER, bytes_of(who.user)) if who.user else b""
    return user + int_field(_REVISION, who.revision)
