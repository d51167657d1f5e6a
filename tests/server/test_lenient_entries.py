"""Names in the log that are no UTF-8, as Go members let them in."""

from typing import Any

from corum.auth import AuthStore, SimpleTokens
from corum.backend import schema
from corum.pb import authpb, raft_internal, rpc
from corum.raft import Entry
from corum.server import operations as op
from server.lone import Lone


def spoilt(name: str, request: Any, username: str = "") -> bytes:
    """An entry with `request`, each Q in it a byte that UTF-8 does not know."""
    header = raft_internal.RequestHeader(ID=5, username=username, auth_revision=1)
    whole = raft_internal.InternalRaftRequest(header=header, **{name: request})
    return whole.SerializeToString().replace(b"Q", b"\xff")


def test_users_and_roles_of_any_bytes() -> None:
    """They are made, used, found again after a restart and told as they are."""
    lone = Lone()
    node = lone.node
    permission = authpb.Permission(
        permType=authpb.Permission.READWRITE, key=b"k\xff", range_end=b""
    )
    entries = [
        spoilt("auth_role_add", rpc.AuthRoleAddRequest(name="rQ")),
        spoilt(
            "auth_role_grant_permission",
            rpc.AuthRoleGrantPermissionRequest(name="rQ", perm=permission),
        ),
        spoilt("auth_user_add", rpc.AuthUserAddRequest(name="uQ", hashedPassword="aGFzaA==")),
        spoilt("auth_user_grant_role", rpc.AuthUserGrantRoleRequest(user="uQ", role="rQ")),
    ]
    term, first = node.applied_term, node.applied_index + 1
    node.apply([Entry(term, first + n, data=data) for n, data in enumerate(entries)])
    store = node.auth.store
    assert store.user_get("u\udcff") == ["r\udcff"]
    assert store.role_get("r\udcff")[0].key == b"k\xff"
    assert [key for key, _ in node.backend.range(schema.AUTH_USERS)] == [b"u\xff"]
    again = AuthStore(node.backend, SimpleTokens())
    assert again.user_get("u\udcff") == ["r\udcff"]
    answer = node.applier.operations[op.AUTH_USER_LIST](rpc.AuthUserListRequest())
    assert b"u\xff" in answer


def test_requests_of_such_a_user() -> None:
    """The header of every request tells who asked."""
    node = Lone().node
    put = rpc.PutRequest(key=b"k", value=b"v")
    data = spoilt("put", put, username="uQ")
    node.apply([Entry(node.applied_term, node.applied_index + 1, data=data)])
    assert node.store.get(b"k") is not None
