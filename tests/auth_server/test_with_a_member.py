"""Authentication of a whole member: over gRPC and the gateway, through restarts, in the log."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import corum
from auth_server.talk import PERM, Talk
from corum.auth import JwtTokens, SimpleTokens
from corum.pb import rpc
from corum.values import NS_PER_S
from oracle.rpc import Refused

pytestmark = pytest.mark.process

DENIED = Refused("PERMISSION_DENIED", "etcdserver: permission denied")
NO_USER = Refused("INVALID_ARGUMENT", "etcdserver: user name is empty")
BAD_TOKEN = Refused("UNAUTHENTICATED", "etcdserver: invalid auth token")


@pytest.fixture
def member() -> Iterator[corum.Member]:
    with corum.Member(bcrypt_cost=4) as member:
        yield member


@pytest.fixture
def talk(member: corum.Member) -> Iterator[Talk]:
    with Talk(member.endpoint) as talk:
        yield talk


def test_a_user_gets_what_the_role_gives(talk: Talk) -> None:
    """Reads and writes inside the range pass, outside they are denied, without token refused."""
    _, token = talk.with_users()
    assert talk.call("KV/Put", token, key=b"a", value=b"1").header.revision == 2
    assert talk.call("KV/Range", token, key=b"a").kvs[0].value == b"1"
    for serializable in (False, True):
        assert talk.call("KV/Range", token, key=b"x", serializable=serializable) == DENIED
        assert talk.call("KV/Range", key=b"a", serializable=serializable) == NO_USER
    assert talk.call("KV/Put", token, key=b"x") == DENIED
    assert talk.call("KV/Put", "nonsense", key=b"a") == BAD_TOKEN
    assert talk.call("KV/Range", "nonsense", key=b"a") == BAD_TOKEN


def test_wrong_passwords_and_unknown_users(talk: Talk) -> None:
    """Both are told the same; users without password cannot come by one."""
    talk.call("Auth/UserAdd", name="bare", options={"no_password": True})
    off = talk.call("Auth/Authenticate", name="root", password="x")
    assert off.text == "etcdserver: authentication is not enabled"
    talk.with_users()
    failed = Refused(
        "INVALID_ARGUMENT", "etcdserver: authentication failed, invalid user ID or password"
    )
    assert talk.call("Auth/Authenticate", name="u", password="wrong") == failed
    assert talk.call("Auth/Authenticate", name="ghost", password="x") == failed
    text = "auth: authentication failed, password was given for no password user"
    assert talk.call("Auth/Authenticate", name="bare", password="") == Refused("UNKNOWN", text)


def test_a_new_password_ends_old_tokens(talk: Talk) -> None:
    """And opens the door again."""
    root, token = talk.with_users()
    assert talk.call("Auth/UserChangePassword", token, name="u", password="x") == DENIED
    talk.call("Auth/UserChangePassword", root, name="u", password="new")
    assert talk.call("KV/Range", token, key=b"a") == BAD_TOKEN
    token = talk.token("u", "new")
    assert not isinstance(talk.call("KV/Range", token, key=b"a"), Refused)


def test_names_that_fit_nowhere_are_refused(talk: Talk) -> None:
    """A bucket's key has at most 511 bytes; etcd has no limit."""
    assert isinstance(talk.call("Auth/UserAdd", name="n" * 512, password="x"), Refused)
    assert isinstance(talk.call("Auth/RoleAdd", name="ü" * 256), Refused)
    assert not isinstance(talk.call("Auth/RoleAdd", name="n" * 511), Refused)
    assert list(talk.call("Auth/RoleList").roles) == ["n" * 511]


def test_leases_expire_under_authentication(talk: Talk) -> None:
    """The member revokes in root's name; a user may not revoke what has others' keys."""
    root, token = talk.with_users()
    lease = talk.call("Lease/LeaseGrant", root, TTL=1).ID
    talk.call("KV/Put", root, key=b"x", lease=lease)
    assert talk.call("Lease/LeaseRevoke", token, ID=lease) == DENIED
    assert talk.call("KV/Put", token, key=b"a", lease=lease) == DENIED
    assert talk.call("Lease/LeaseTimeToLive", token, ID=lease, keys=True) == DENIED
    watch = watch_from(talk, root, b"x")
    assert next(watch).created
    assert next(watch).events[0].type == 1
    watch.cancel()


def watch_from(talk: Talk, token: str | None, key: bytes) -> Any:
    """Answers of a watch on one key."""
    invoke = talk._channel.stream_stream(
        "/etcdserverpb.Watch/Watch",
        request_serializer=rpc.WatchRequest.SerializeToString,
        response_deserializer=rpc.WatchResponse.FromString,
    )
    create = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=key))
    metadata = [] if token is None else [("token", token)]
    return invoke(iter([create, *[rpc.WatchRequest()] * 0]), metadata=metadata, timeout=20)


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ("u", "rpc error: code = PermissionDenied desc = etcdserver: permission denied"),
        (None, "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"),
    ],
)
def test_watches_are_refused_on_the_stream(talk: Talk, who: str | None, reason: str) -> None:
    """The watch is cancelled, the stream stays."""
    _, token = talk.with_users()
    answer = next(watch_from(talk, token if who else None, b"x"))
    assert (answer.created, answer.canceled, answer.cancel_reason) == (True, True, reason)


def test_keep_alive_of_others_leases(talk: Talk) -> None:
    """Ends the stream with the refusal."""
    root, token = talk.with_users()
    lease = talk.call("Lease/LeaseGrant", root, TTL=60).ID
    talk.call("KV/Put", root, key=b"x", lease=lease)
    invoke = talk._channel.stream_stream(
        "/etcdserverpb.Lease/LeaseKeepAlive",
        request_serializer=rpc.LeaseKeepAliveRequest.SerializeToString,
        response_deserializer=rpc.LeaseKeepAliveResponse.FromString,
    )
    asked = [rpc.LeaseKeepAliveRequest(ID=lease)]
    with pytest.raises(grpc.RpcError) as error:
        list(invoke(iter(asked), metadata=[("token", token)], timeout=20))
    assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert len(list(invoke(iter(asked), metadata=[("token", root)], timeout=20))) == 1


def test_web_tokens_of_older_rights_are_refused() -> None:
    """Any change of users or roles makes a client with a web token come again."""

    def tokens() -> JwtTokens:
        return JwtTokens("HS256", b"", b"a secret of more than thirty-two bytes", 300)

    with corum.Member(bcrypt_cost=4, tokens=tokens) as member, Talk(member.endpoint) as talk:
        root, token = talk.with_users()
        assert not isinstance(talk.call("KV/Put", token, key=b"a"), Refused)
        talk.call("Auth/RoleAdd", root, name="new")
        old = Refused("INVALID_ARGUMENT", "etcdserver: revision of auth store is old")
        assert talk.call("KV/Put", token, key=b"a") == old
        assert talk.call("KV/Range", token, key=b"a") == old
        token = talk.token("u", "secret-u")
        assert not isinstance(talk.call("KV/Put", token, key=b"a"), Refused)


@pytest.mark.slow
def test_rights_survive_a_restart_and_passwords_never_reach_the_disk(tmp_path: Path) -> None:
    """Users, roles and the switch are in the backend; simple tokens are not; hashes are."""
    member = corum.Member(tmp_path, bcrypt_cost=4)
    with member, Talk(member.endpoint) as talk:
        root, token = talk.with_users()
        before = talk.call("Auth/AuthStatus", root).authRevision
    with member, Talk(member.endpoint) as talk:
        assert talk.call("KV/Range", key=b"a") == NO_USER
        assert talk.call("KV/Range", token, key=b"a") == BAD_TOKEN
        root = talk.token("root", "secret-r")
        assert talk.call("Auth/AuthStatus", root).authRevision == before
        assert list(talk.call("Auth/UserList", root).users) == ["root", "u"]
        assert [perm.range_end for perm in talk.call("Auth/RoleGet", root, role="r").perm] == [b"c"]
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        assert b"secret-" not in path.read_bytes(), path


def test_the_gateway_takes_the_token_as_header(member: corum.Member, talk: Talk) -> None:
    """With `Bearer` or without; errors come as the gateway's."""
    _, token = talk.with_users()
    body = json.dumps({"key": base64.b64encode(b"a").decode()})
    host, _, port = member.endpoint.rpartition(":")

    def put(**headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        connection.request("POST", "/v3/kv/put", body, headers)
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read())
        connection.close()
        return found

    assert put(Authorization=token)[0] == 200
    assert put(Authorization=f"Bearer {token}")[0] == 200
    assert put(Authorization="no")[1]["message"] == "etcdserver: invalid auth token"
    assert put(Authorization="no")[0] == 401
    assert put()[1]["message"] == "etcdserver: user name is empty"


def test_switching_off_lets_everybody_in_again(talk: Talk) -> None:
    """At once, with all that users and roles are kept for the next time."""
    root, token = talk.with_users()
    assert talk.call("Auth/AuthDisable", token) == DENIED
    talk.call("Auth/AuthDisable", root)
    assert not isinstance(talk.call("KV/Put", key=b"x"), Refused)
    assert [each.key for each in talk.call("Auth/RoleGet", role="r").perm] == [PERM["key"]]


def test_tokens_die_unused() -> None:
    """A simple token lives as long as it is used (`--auth-token-ttl`)."""
    ttl_ns = NS_PER_S // 20
    with (
        corum.Member(bcrypt_cost=4, tokens=lambda: SimpleTokens(ttl_ns), tick_ns=ttl_ns) as member,
        Talk(member.endpoint) as talk,
    ):
        root, _ = talk.with_users()
        for _ in range(1_000):
            if talk.call("Auth/AuthStatus").authRevision and not len(
                member._runtime.node.auth.tokens
            ):
                break
        assert talk.call("Auth/UserList", root) == BAD_TOKEN
