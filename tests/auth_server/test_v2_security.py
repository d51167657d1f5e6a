"""The v2 API's users and roles: what patterns cover, and one conversation with Go etcd."""

from __future__ import annotations

import base64
import http.client
import json
import re
from pathlib import Path
from typing import Any

import pytest

import corum
from corum.api.v2 import rights
from corum.api.v2.access import basic
from corum.api.v2.rights import Refused, Rights
from oracle import servers

V2 = "/v2/auth"
FORM = "application/x-www-form-urlencoded"


def role(name: str, *patterns: str) -> rights.Document:
    """One that may read these."""
    return {"role": name, "permissions": {"kv": {"read": list(patterns), "write": []}}}


@pytest.mark.parametrize(
    ("pattern", "key", "recursive", "covered"),
    [
        ("/a", "/a", False, True),
        ("/a", "/a/b", False, False),
        ("/a", "/a", True, False),
        ("/a/*", "/a/b/c", False, True),
        ("/a/*", "/a", False, False),
        ("/a*", "/ab", True, True),
        ("/*", "", False, False),
        ("*", "", True, True),
        ("", "", False, True),
    ],
)
def test_patterns(pattern: str, key: str, recursive: bool, covered: bool) -> None:
    """A star at the end covers whatever begins so; only such a one covers recursion."""
    made = role("r", pattern)
    assert rights.allows(made, key, write=False, recursive=recursive) == covered
    assert not rights.allows(made, key, write=True, recursive=recursive)


def test_any_role_of_a_user_will_do_and_guests_have_theirs() -> None:
    """Roles that are gone count for nothing; user root has role root without being given it."""
    users = {
        "root": {"user": "root", "roles": None},
        "joe": {"user": "joe", "roles": ["gone", "a", "b"]},
    }
    now = Rights(True, users, {"a": role("a", "/a"), "b": role("b", "/b")})
    joe, root = now.user("joe"), now.user("root")
    assert now.may(joe, "/b", write=False, recursive=False)
    assert not now.may(joe, "/b", write=True, recursive=False)
    assert now.may(root, "/x", write=True, recursive=True)
    assert not now.may(None, "/a", write=False, recursive=False)
    now.roles["guest"] = role("guest", "/a")
    assert now.may(None, "/a", write=False, recursive=True)  # guests are not asked, as in etcd


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"[]", b'"x"', b'{"user":1}', b'{"roles":"x"}', b'{"roles":[1]}', b"\xff"],
)
def test_bodies_that_are_no_users(body: bytes) -> None:
    """Are refused in etcd's words."""
    with pytest.raises(Refused, match=re.escape("Invalid JSON in request body.")):
        rights.parse_user(body)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("Basic am9lOnB3", ("joe", "pw")),
        ("bAsIc am9lOnA6dw==", ("joe", "p:w")),
        ("Basic", ("", "")),
        ("Basic am9l", ("", "")),
        ("Basic !!!", ("", "")),
        ("Basic \xe9", ("", "")),
        ("Bearer am9lOnB3", ("", "")),
    ],
)
def test_credentials(header: str, found: tuple[str, str]) -> None:
    """The first colon parts name and password; anything else is nobody."""
    assert basic(header) == found


class Talk:
    """Requests and what was answered to them."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.said: list[Any] = []

    def __call__(self, verb: str, path: str, body: Any = None, auth: str | None = None) -> Any:
        headers = {"Content-Type": FORM if isinstance(body, str) else "application/json"}
        if auth is not None:
            words = "Basic " + base64.b64encode(auth.encode()).decode()
            headers["Authorization"] = auth if " " in auth else words
        text = body if body is None or isinstance(body, str) else json.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(verb, path, text, headers)
        answer = connection.getresponse()
        found = settled(answer.read().decode())
        connection.close()
        kept = {name: answer.headers[name] for name in ("Content-Type", "X-Etcd-Index", "Allow")}
        self.said.append((verb, path, body, auth, answer.status, kept, found))
        return found


def settled(text: str) -> str:
    """Unsorted listings come in the order of Go's maps, which is chance."""
    if '"nodes"' not in text:
        return text
    body = json.loads(text)

    def sort(node: Any) -> None:
        node["nodes"] = sorted(node.get("nodes", ()), key=lambda one: one["key"])
        for one in node["nodes"]:
            sort(one)

    sort(body["node"])
    return json.dumps(body)


def kv(read: Any = None, write: Any = None) -> Any:
    return {"kv": {"read": read, "write": write}}


def before(do: Talk) -> None:
    """While security is off: users and roles come and go."""
    for verb in ("GET", "PUT", "DELETE", "POST"):
        do(verb, V2 + "/enable")
    for path in ("", "/", "/x", "/enable/", "/enable/x", "/users", "/users/", "/roles"):
        do("GET", V2 + path)
    for path in ("/roles/x", "/users/x", "/users/a/b"):
        do("GET", V2 + path)
    do("PUT", V2 + "/users")
    do("POST", V2 + "/users/x")
    bodies: list[Any] = [[], {"user": 1}, {"user": "y"}, {"user": "x"}]
    for body in (*bodies, {"user": "x", "grant": ["r"]}):
        do("PUT", V2 + "/users/x", body)
    do("DELETE", V2 + "/users/x")
    root = {"user": "root"}
    for more in ({"password": "pw"}, {"password": "pw2"}, {}, {"password": "x", "roles": ["x"]}):
        do("PUT", V2 + "/users/root", root | more)
    do("PUT", V2 + "/users/root", root | {"password": "pw"})
    do("PUT", V2 + "/users/j<&>", {"user": "j<&>", "password": "pw"})
    joe: dict[str, Any] = {"user": "joe"}
    for more in ({"password": "pw"}, {}, {}, {"grant": ["reader"]}, {"grant": ["reader"]}):
        do("PUT", V2 + "/users/joe", joe | more)
    do("PUT", V2 + "/users/joe", joe | {"revoke": ["none"]})
    do("PUT", V2 + "/users/joe", joe | {"revoke": ["none"], "roles": ["x"]})
    for _ in range(2):
        do("PUT", V2 + "/users/ann", {"user": "ann", "password": "pw", "roles": ["b", "a"]})
    for path in ("/users", "/users/joe", "/users/ann", "/users/root"):
        do("GET", V2 + path)


def roles(do: Talk) -> None:
    """Permissions are granted and revoked."""
    do("PUT", V2 + "/roles/reader", {"role": "x"})
    for more in (
        *({}, {}),
        {"grant": kv(["/pub/*", "/a"], ["/w/*"])},
        {"grant": kv(["/pub/*"])},
        {"grant": kv(None, ["/w/*"])},
        {"revoke": kv(["/none"])},
        {"revoke": kv(None, ["/x"]), "permissions": kv(["x"])},
    ):
        do("PUT", V2 + "/roles/reader", {"role": "reader"} | more)
    for more in (
        {"permissions": kv(["/e*"], [])},
        {"grant": kv(["/f"])},
        {"revoke": kv(["/f", "/e*"])},
    ):
        do("PUT", V2 + "/roles/empty", {"role": "empty"} | more)
    do("PUT", V2 + "/roles/none", {"role": "none", "grant": kv(["/f"])})
    do("PUT", V2 + "/roles/root", {"role": "root"})
    for name in ("none", "root"):
        do("DELETE", V2 + "/roles/" + name)
    for path in ("/roles", "/roles/root", "/roles/reader", "/users/joe", "/users"):
        do("GET", V2 + path)
    do("PUT", "/v2/keys/pub/a", "value=1")
    do("PUT", "/v2/keys/other", "value=1")


def after(do: Talk) -> None:
    """With security on: who may do what."""
    for _ in range(2):
        do("PUT", V2 + "/enable")
    for auth in ("root:pw", "root:no"):
        do("PUT", V2 + "/enable", auth=auth)
    for auth in (None, "joe:pw", "root:pw"):
        do("GET", V2 + "/users", auth=auth)
    do("GET", V2 + "/enable")
    do("GET", V2 + "/users/a/b")
    do("POST", V2 + "/users/x")
    for path in ("/pub/a", "", "/", "/?recursive=true"):
        do("GET", "/v2/keys" + path)
    revoke = {"role": "guest", "revoke": kv(["/*"], ["/*"])}
    do("PUT", V2 + "/roles/guest", revoke, auth="root:pw")
    do("GET", "/v2/keys/pub/a?sorted=x")
    callers = [
        "joe:pw",
        "joe:no",
        "ghost:x",
        "root:pw",
        "ann:pw",
        "Basic ",
        "Basic !!!",
        "Bearer x",
    ]
    for auth in (None, *callers):
        do("GET", "/v2/keys/pub/a", auth=auth)
        do("GET", "/v2/keys/other", auth=auth)
        do("PUT", "/v2/keys/w/x", "value=2", auth=auth)
    for path in ("/pub?recursive=true", "/pub/?recursive=true", "/a?recursive=true", "/a"):
        do("GET", "/v2/keys" + path, auth="joe:pw")
    for path in ("/w?recursive=true&dir=true", "/w/?recursive=true&dir=true"):
        do("DELETE", "/v2/keys" + path, auth="joe:pw")
    do("POST", "/v2/members", {"peerURLs": ["http://127.0.0.1:1"]})
    for auth in ("joe:pw", "root:pw"):
        do("DELETE", "/v2/members/1", auth=auth)
    for path in ("/users/root", "/users/joe", "/roles/reader"):
        do("DELETE", V2 + path, auth="root:pw")
    do("PUT", V2 + "/users/root", {"user": "root", "password": "new"}, auth="root:pw")
    for auth in ("root:pw", "root:new"):
        do("GET", V2 + "/users", auth=auth)
    for auth in (None, "root:new", None):
        do("DELETE", V2 + "/enable", auth=auth)
    do("GET", "/v2/keys/other")


def said(program: servers.Program, folder: Path, *flags: str) -> list[Any]:
    with servers.running(program, folder, "--enable-v2=true", *flags) as server:
        do = Talk(server.client_port)
        for part in (before, roles, after):
            part(do)
        return do.said


@pytest.mark.compat
@pytest.mark.process
@pytest.mark.slow
def test_the_same_as_go(
    go_program: servers.Program, our_program: servers.Program, tmp_path: Path
) -> None:
    """Statuses, bodies, indexes: the store behind it changes alike, too."""
    theirs = said(go_program, tmp_path / "go")
    ours = said(our_program, tmp_path / "ours", "--bcrypt-cost=4")
    assert [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]] == []


@pytest.mark.process
def test_a_password_is_checked_once_and_forgotten_with_its_hash(tmp_path: Path) -> None:
    """bcrypt costs 50 ms: the second request of a user does without; a new password does not."""
    with corum.Member(tmp_path, bcrypt_cost=4) as member:
        do = Talk(int(member.endpoint.rpartition(":")[2]))
        do("PUT", V2 + "/users/root", {"user": "root", "password": "secret-r"})
        do("PUT", V2 + "/enable")
        jobs: list[Any] = []
        pool = member._runtime.jobs
        start = pool.start
        pool.start = lambda run, done: (jobs.append(run), start(run, done))
        for _ in range(3):
            do("GET", V2 + "/users", auth="root:secret-r")
        assert sum("CheckPassword" in repr(run) for run in jobs) == 1
        do("PUT", V2 + "/users/root", {"user": "root", "password": "new"}, auth="root:secret-r")
        do("GET", V2 + "/users", auth="root:secret-r")
        assert do.said[-1][4] == 401
        assert "joe" not in do("GET", V2 + "/users", auth="root:new")
        assert do.said[-1][4] == 200
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        assert b"secret-r" not in path.read_bytes(), path


@pytest.mark.process
def test_a_handler_that_fails_costs_its_request_only() -> None:
    """Whatever an HTTP handler raises is answered with 500, said, and the member goes on."""
    said: list[Any] = []
    with corum.Member(
        log=lambda level, message, **fields: said.append((message, fields))
    ) as member:
        do = Talk(int(member.endpoint.rpartition(":")[2]))
        admin = member._runtime.front._admin
        admin.request = lambda *_: 1 // 0
        do("GET", "/v2/machines")
        assert do.said[-1][4] == 500
        assert ("failed to handle a request", "/v2/machines") in [
            (message, fields.get("method")) for message, fields in said
        ]
        do("GET", V2 + "/enable")
        assert do.said[-1][4] == 200
