"""The gate's questions: what each request needs, when it is asked, and by whose word."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from auth_server.talk import delete, get, nested, put
from corum import errors
from corum.auth import NOBODY, READ, WRITE, AuthStore, Identity, Permission
from corum.backend.memory_backend import MemoryBackend
from corum.lease import Lessor
from corum.pb import raft_internal, rpc
from corum.server import operations as op
from corum.server.gate import Gate, mark
from corum.values import LeaseId

MINE, YOURS = LeaseId(7), LeaseId(8)


class Doors:
    """A gate over real users; meta is the caller's name, None for nobody."""

    def __init__(self) -> None:
        tokens = SimpleNamespace(forget_user=lambda user: None, forget_all=lambda: None)
        self.store = AuthStore(MemoryBackend(), tokens)
        self.lessor = Lessor(1)
        self.refused: list[tuple[Any, str]] = []
        self.gate = Gate(self.store, self.lessor, self.who, self.refuse)
        store = self.store
        for name in ("root", "u"):
            store.user_add(name, b"", no_password=True)
            store.role_add(name)
            store.user_grant_role(name, name)
        store.role_grant_permission("u", Permission(READ, b"r", b"t"))  # may read [r, t)
        store.role_grant_permission("u", Permission(WRITE, b"s", b"u"))  # may write [s, u)
        store.enable()
        for lease, key in ((MINE, b"s1"), (YOURS, b"x")):
            self.lessor.grant(lease, 60, 0)
            self.lessor.attach(lease, key)

    def who(self, name: str | None) -> Identity:
        return NOBODY if name is None else Identity(name, self.store.revision)

    def refuse(self, call: Any, error: errors.EtcdError) -> None:
        self.refused.append((call, error.text))

    def entry(
        self, field: str, request: Any, name: str | None, revision: int | None = None
    ) -> bytes:
        """A log entry as some member proposed it."""
        whole = raft_internal.InternalRaftRequest(**{field: request})
        whole.header.ID = 1
        if name is not None:
            whole.header.username = name
            whole.header.auth_revision = self.store.revision if revision is None else revision
        return whole.SerializeToString()


@pytest.fixture
def doors() -> Doors:
    return Doors()


def txn(*ops: Any, **more: Any) -> Any:
    return rpc.TxnRequest(success=ops, **more)


MAY = [
    ("put", rpc.PutRequest(key=b"t")),
    ("put", rpc.PutRequest(key=b"s", prev_kv=True)),
    ("put", rpc.PutRequest(key=b"s", lease=MINE)),
    ("put", rpc.PutRequest(key=b"s", lease=99)),
    ("delete", rpc.DeleteRangeRequest(key=b"s", range_end=b"u")),
    ("delete", rpc.DeleteRangeRequest(key=b"s", prev_kv=True)),
    ("txn", txn(get(b"r", range_end=b"t"), put(b"s", prev_kv=True), delete(b"t"))),
    ("txn", txn()),
]
MAY_NOT = [
    ("put", rpc.PutRequest(key=b"r")),
    ("put", rpc.PutRequest(key=b"t", prev_kv=True)),
    ("put", rpc.PutRequest(key=b"s", lease=YOURS)),
    ("delete", rpc.DeleteRangeRequest(key=b"s", range_end=b"v")),
    ("delete", rpc.DeleteRangeRequest(key=b"t", prev_kv=True)),
    ("txn", txn(get(b"t"))),
    ("txn", txn(put(b"t", prev_kv=True))),
    ("txn", txn(put(b"s", lease=YOURS))),
    ("txn", txn(delete(b"t", prev_kv=True))),
    ("txn", txn(nested(nested(put(b"x"))))),
    ("txn", rpc.TxnRequest(failure=[put(b"x")])),
    ("txn", rpc.TxnRequest(compare=[rpc.Compare(key=b"t")])),
]
OPERATIONS = {"put": op.PUT, "delete": op.DELETE_RANGE, "txn": op.TXN}
FIELDS = {"put": "put", "delete": "delete_range", "txn": "txn"}


@pytest.mark.parametrize(("question", "request_"), MAY)
def test_what_is_covered_passes(doors: Doors, question: str, request_: Any) -> None:
    """A user's requests within their ranges carry their name, and pass again at apply."""
    marked = getattr(doors.gate, question)("u", request_)
    header = raft_internal.RequestHeader.FromString(marked)
    assert (header.username, header.auth_revision) == ("u", doors.store.revision)
    entry = doors.entry(FIELDS[question], request_, "u")
    doors.gate.check_committed(OPERATIONS[question], entry)


@pytest.mark.parametrize(("question", "request_"), MAY_NOT)
def test_what_is_not_covered_is_denied_twice(doors: Doors, question: str, request_: Any) -> None:
    """Before it is proposed, and at apply, should another member have let it pass."""
    with pytest.raises(errors.AUTH_PERMISSION_DENIED):
        getattr(doors.gate, question)("u", request_)
    entry = doors.entry(FIELDS[question], request_, "u")
    with pytest.raises(errors.AUTH_PERMISSION_DENIED):
        doors.gate.check_committed(OPERATIONS[question], entry)


@pytest.mark.parametrize(("question", "request_"), [*MAY[:-1], *MAY_NOT])
def test_root_may_everything_nobody_nothing(doors: Doors, question: str, request_: Any) -> None:
    """Role root needs no permissions; a call without token has none."""
    getattr(doors.gate, question)("root", request_)
    with pytest.raises(errors.USER_EMPTY):
        getattr(doors.gate, question)(None, request_)


def test_rights_that_moved_meanwhile(doors: Doors) -> None:
    """An entry proposed under an older auth revision is refused: its rights may be others now."""
    request = rpc.PutRequest(key=b"s")
    entry = doors.entry("put", request, "u", doors.store.revision - 1)
    with pytest.raises(errors.AUTH_OLD_REVISION):
        doors.gate.check_committed(op.PUT, entry)


def test_an_unsigned_entry_is_nobodys(doors: Doors) -> None:
    """What was proposed before authentication was on, and is applied after, is refused."""
    with pytest.raises(errors.USER_EMPTY):
        doors.gate.check_committed(op.PUT, doors.entry("put", rpc.PutRequest(key=b"s"), None))


@pytest.mark.parametrize(
    ("operation", "field", "request_"),
    [
        (op.COMPACTION, "compaction", rpc.CompactionRequest(revision=1)),
        (op.LEASE_GRANT, "lease_grant", rpc.LeaseGrantRequest(ID=1, TTL=1)),
        (op.ALARM, "alarm", rpc.AlarmRequest()),
        (op.AUTH_STATUS, "auth_status", rpc.AuthStatusRequest()),
        (op.LEASE_REVOKE, "lease_revoke", rpc.LeaseRevokeRequest(ID=99)),
    ],
)
def test_members_ask_no_more_than_etcd_at_apply(
    doors: Doors, operation: int, field: str, request_: Any
) -> None:
    """Go members carry these out unasked; one that refused them would differ from the others."""
    doors.gate.check_committed(operation, doors.entry(field, request_, None))


def test_revoking_needs_write_on_every_key(doors: Doors) -> None:
    """At the door and at apply; the member's own expiries are signed by root and pass."""
    doors.gate.lease("u", MINE)
    revoke = rpc.LeaseRevokeRequest(ID=YOURS)
    with pytest.raises(errors.AUTH_PERMISSION_DENIED):
        doors.gate.lease("u", YOURS)
    with pytest.raises(errors.AUTH_PERMISSION_DENIED):
        doors.gate.check_committed(op.LEASE_REVOKE, doors.entry("lease_revoke", revoke, "u"))
    doors.gate.check_committed(op.LEASE_REVOKE, doors.entry("lease_revoke", revoke, "root"))
    header = raft_internal.RequestHeader.FromString(doors.gate.own())
    assert header.username == "root"


def test_an_expiry_is_not_stopped_by_changed_rights(doors: Doors) -> None:
    """An admin's revision may be old where only leases are concerned, as in etcd."""
    revoke = rpc.LeaseRevokeRequest(ID=YOURS)
    doors.gate.check_committed(op.LEASE_REVOKE, doors.entry("lease_revoke", revoke, "root", 1))


def test_seeing_leases_needs_read_on_their_keys(doors: Doors) -> None:
    """Of one lease, and of all; root sees them, nobody does not."""
    with pytest.raises(errors.AUTH_PERMISSION_DENIED):
        doors.gate.all_leases("u")
    doors.gate.all_leases("root")
    doors.lessor.revoke(YOURS)
    doors.gate.all_leases("u")
    doors.gate.lease("u", MINE, write=False)
    for ask in (doors.gate.all_leases, doors.gate.any_user):
        with pytest.raises(errors.USER_EMPTY):
            ask(None)


@pytest.mark.parametrize(
    ("operation", "field", "request_", "who"),
    [
        (op.AUTH_USER_ADD, "auth_user_add", rpc.AuthUserAddRequest(name="x"), "u"),
        (op.AUTH_ENABLE, "auth_enable", rpc.AuthEnableRequest(), "u"),
        (op.AUTH_USER_GET, "auth_user_get", rpc.AuthUserGetRequest(name="root"), "u"),
        (op.AUTH_ROLE_GET, "auth_role_get", rpc.AuthRoleGetRequest(role="root"), "u"),
    ],
)
def test_admins_only(doors: Doors, operation: int, field: str, request_: Any, who: str) -> None:
    """Changes of users and roles, and looking at those of others."""
    with pytest.raises(errors.AUTH_PERMISSION_DENIED):
        doors.gate.check_committed(operation, doors.entry(field, request_, who))
    doors.gate.check_committed(operation, doors.entry(field, request_, "root"))


def test_everybody_may_look_at_themselves(doors: Doors) -> None:
    """One's own user, and a role one has."""
    user = doors.entry("auth_user_get", rpc.AuthUserGetRequest(name="u"), "u")
    role = doors.entry("auth_role_get", rpc.AuthRoleGetRequest(role="u"), "u")
    doors.gate.check_committed(op.AUTH_USER_GET, user)
    doors.gate.check_committed(op.AUTH_ROLE_GET, role)


def test_reads_are_asked_about_when_they_are_served(doors: Doors) -> None:
    """A right that was taken away while the read waited for its index is gone."""
    served: list[int] = []
    read = (lambda call, request: served.append(call), 1, rpc.RangeRequest(key=b"r"), "u")
    doors.gate.serve([read])
    doors.store.user_revoke_role("u", "u")
    doors.gate.serve([read])
    assert served == [1]
    assert doors.refused == [(1, "etcdserver: permission denied")]


def test_a_refused_read_does_not_stop_the_next(doors: Doors) -> None:
    """One round serves reads of many callers; those that ask nothing of keys need no right."""
    served: list[int] = []

    def serve(call: int, request: Any) -> None:
        served.append(call)

    bad = (serve, 1, rpc.RangeRequest(key=b"x"), "u")
    doors.gate.serve([bad, (serve, 2, rpc.RangeRequest(key=b"r"), "u"), (serve, 3, None, None)])
    assert served == [2, 3]
    assert [call for call, _ in doors.refused] == [1]


def test_the_mark_is_empty_for_nobody() -> None:
    """While authentication is off nothing is said of the user."""
    assert mark(NOBODY) == b""
