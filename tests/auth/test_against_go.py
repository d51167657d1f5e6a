"""Random changes and questions: our store and Go etcd 3.5.1 give the same answers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import grpc
import pytest

from corum import errors
from corum.auth import AuthStore, Identity, Permission
from corum.backend.memory_backend import MemoryBackend
from corum.pb import rpc
from oracle import servers

KEYS = [b"a", b"b", b"c", b"d", b"e"]
NAMES = ["u", "v", "root", "ghost"]
ROLES = ["r", "s", "root", "none"]


class Silent:
    def forget_user(self, user: str) -> None: ...

    def forget_all(self) -> None: ...


class Go:
    """Calls of the Auth and KV services, as a user when `token` is given."""

    def __init__(self, endpoint: str) -> None:
        self.channel = grpc.insecure_channel(endpoint)

    def call(self, method: str, token: str = "", **fields: Any) -> Any:
        service, name = method.split("/")
        prefix = {"Auth": "Auth", "KV": ""}[service]
        if name in ("Authenticate", "AuthEnable", "AuthStatus"):
            prefix = ""
        request = getattr(rpc, f"{prefix}{name}Request")(**fields)
        answer = getattr(rpc, f"{prefix}{name}Response")
        invoke = self.channel.unary_unary(
            f"/etcdserverpb.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        metadata = [("token", token)] if token else []
        try:
            return invoke(request, timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            return error.details()


def outcome(action: Any) -> Any:
    """What our store returns, or the text of its error."""
    try:
        return action()
    except errors.EtcdError as error:
        return error.text


def any_bounds(dice: random.Random) -> tuple[bytes, bytes]:
    """A valid range."""
    low, high = sorted(dice.sample(KEYS, 2))
    return low, dice.choice([b"", high, high, b"\0"])


def change(dice: random.Random, go: Go, store: AuthStore, token: str) -> tuple[Any, Any, str]:
    """One random change: (ours, Go's, what it was). Successes are None on both sides."""
    user, role = dice.choice(NAMES), dice.choice(ROLES)
    key, end = any_bounds(dice)
    kind = dice.randint(0, 2)
    what = dice.choice(["add", "grant", "revoke", "role", "drop", "perm", "perm", "unperm", "off"])
    if what == "add":
        pair = ("UserAdd", {"name": user, "options": {"no_password": True}})
        ours = outcome(lambda: store.user_add(user, b"", no_password=True))
    elif what == "grant":
        pair = ("UserGrantRole", {"user": user, "role": role})
        ours = outcome(lambda: store.user_grant_role(user, role))
    elif what == "revoke":
        pair = ("UserRevokeRole", {"name": user, "role": role})
        ours = outcome(lambda: store.user_revoke_role(user, role))
    elif what == "role":
        pair = ("RoleAdd", {"name": role})
        ours = outcome(lambda: store.role_add(role))
    elif what == "drop":
        pair = ("RoleDelete", {"role": role})
        ours = outcome(lambda: store.role_delete(role))
    elif what == "perm":
        perm = {"permType": kind, "key": key, "range_end": end}
        pair = ("RoleGrantPermission", {"name": role, "perm": perm})
        ours = outcome(lambda: store.role_grant_permission(role, Permission(kind, key, end)))
    elif what == "unperm":
        pair = ("RoleRevokePermission", {"role": role, "key": key, "range_end": end})
        ours = outcome(lambda: store.role_revoke_permission(role, key, end))
    else:
        pair = ("UserDelete", {"name": dice.choice(["ghost", "root"])})
        ours = outcome(lambda: store.user_delete(pair[1]["name"]))
    theirs = go.call(f"Auth/{pair[0]}", token, **pair[1])
    return ours, theirs if isinstance(theirs, str) else None, f"{pair}"


def same_roles(go: Go, store: AuthStore, token: str) -> None:
    for role in set(store.role_list()) - {"root"}:  # 3.5.1 does not yet show root as everything
        answer = go.call("Auth/RoleGet", token, role=role)
        shown = [(each.permType, each.key, each.range_end) for each in answer.perm]
        ours = [(each.kind, each.key, each.range_end) for each in store.role_get(role)]
        assert sorted(shown) == sorted(ours)
    assert list(go.call("Auth/RoleList", token).roles) == store.role_list()


@pytest.mark.process
@pytest.mark.compat
@pytest.mark.slow
def test_same_changes_and_permissions(go_program: servers.Program, tmp_path: Path) -> None:
    """250 changes with authentication on, and what three users may do in between."""
    dice = random.Random(5)
    store = AuthStore(MemoryBackend(), Silent())
    with servers.running(go_program, tmp_path, "--bcrypt-cost=4") as server:
        go = Go(server.endpoint)
        for name in ("root", "p", "q"):
            store.user_add(name, b"")
            go.call("Auth/UserAdd", name=name, password="pw")
        for name, role in (("root", "root"), ("p", "r"), ("q", "r"), ("q", "s")):
            if role not in ("root", *store.role_list()):
                store.role_add(role)
                go.call("Auth/RoleAdd", name=role)
            store.user_grant_role(name, role)
            go.call("Auth/UserGrantRole", user=name, role=role)
        store.enable()
        go.call("Auth/AuthEnable")
        tokens = {
            name: go.call("Auth/Authenticate", name=name, password="pw").token
            for name in ("root", "p", "q")
        }
        for _ in range(250):
            ours, theirs, what = change(dice, go, store, tokens["root"])
            assert ours == theirs, what
            ask(dice, go, store, tokens)
        same_roles(go, store, tokens["root"])
        status = go.call("Auth/AuthStatus", tokens["root"])
        assert status.authRevision == store.revision


def ask(dice: random.Random, go: Go, store: AuthStore, tokens: dict[str, str]) -> None:
    """One range and one put by a user."""
    name = dice.choice(["p", "q"])
    me = Identity(name, store.revision)
    key, end = any_bounds(dice)
    theirs = go.call("KV/Range", tokens[name], key=key, range_end=end)
    ours = outcome(lambda: store.check_read(me, key, end))
    assert ours == (theirs if isinstance(theirs, str) else None), (name, key, end)
    theirs = go.call("KV/Put", tokens[name], key=key, prev_kv=True)
    ours = outcome(lambda: store.check_write(me, key, prev_kv=True))
    assert ours == (theirs if isinstance(theirs, str) else None), (name, key)
