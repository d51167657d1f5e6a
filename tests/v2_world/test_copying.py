"""v2 keys become v3 keys, offline and online; TTLs become leases."""

import json
import time
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from corum.cli import command
from corum.cli.corum import program
from corum.cli.etcdutl.commands import PROGRAM
from corum.v2store import KEYS_PREFIX, Store
from corum.v2store.copying import Copied, end_s, leases, of_json, of_tree
from oracle.servers import Program, Server

NOW = 1_700_000_000_000_000_000
S = 1_000_000_000


def store() -> Store:
    """Files, hidden files, directories that end before and after what is in them."""
    made = Store()
    made.set("/1/plain", "p", now_ns=NOW)
    made.set("/1/_hidden/x", "h", now_ns=NOW)
    made.set("/1/own", "o", expire_ns=NOW + 5 * S + 1, now_ns=NOW)
    made.set("/1/soon", "", directory=True, expire_ns=NOW + 3 * S, now_ns=NOW)
    made.set("/1/soon/late", "l", expire_ns=NOW + 9 * S, now_ns=NOW)
    made.set("/1/soon/ever", "e", now_ns=NOW)
    made.set("/1/empty", "", directory=True, now_ns=NOW)
    made.set("/1/plain", "again", now_ns=NOW)
    return made


def test_files_of_a_tree_end_with_the_first_of_their_directories() -> None:
    """In the order of their last changes, each with the earliest of all ends above it."""
    found = of_tree(store().tree.find(KEYS_PREFIX, 0), KEYS_PREFIX)
    assert found == [
        Copied("/_hidden/x", "h", 2, 0),
        Copied("/own", "o", 3, NOW + 5 * S + 1),
        Copied("/soon/late", "l", 5, NOW + 3 * S),
        Copied("/soon/ever", "e", 6, NOW + 3 * S),
        Copied("/plain", "again", 8, 0),
    ]
    assert leases(found) == [NOW // S + 3, NOW // S + 6], "never before the file would end"
    assert end_s(found[1]) == NOW // S + 6


def test_the_apis_answer_tells_the_same_but_for_hidden_files() -> None:
    """Both ways give equal copies."""
    made = store()
    event = made.get("/1", recursive=True, ordered=False, now_ns=NOW)
    answer = json.loads(event.to_json(KEYS_PREFIX))
    tree = of_tree(made.tree.find(KEYS_PREFIX, 0), KEYS_PREFIX)
    assert of_json(answer["node"]) == [key for key in tree if "/_" not in key.path]


# ---- real members


def v2(server: Server, key: str, form: str) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    url = f"{server.client_url}/v2/keys{quote(key)}"
    request = urllib.request.Request(url, form.encode(), headers, method="PUT")
    urllib.request.urlopen(request, timeout=20).close()


def v3(server: Server, path: str, body: dict[str, Any]) -> dict[str, Any]:
    status, answer = server.http("POST", f"/v3/{path}", json.dumps(body).encode())
    assert status == 200, answer
    return json.loads(answer)


def b(text: str) -> str:
    return b64encode(text.encode()).decode()


def keys(server: Server) -> dict[str, tuple[str, int]]:
    """v3 keys with value and lease."""
    found = v3(server, "kv/range", {"key": b("\0"), "range_end": b("\0")}).get("kvs", [])
    return {
        b64decode(kv["key"]).decode(): (
            b64decode(kv.get("value", "")).decode(), int(kv.get("lease", 0)),
        )
        for kv in found
    }  # fmt: skip


def fill(server: Server) -> None:
    v2(server, "/app/name", "value=corum")
    v2(server, "/app/ä", "value=%E2%82%AC")
    v2(server, "/there", "value=v2")
    v2(server, "/brief", "value=x&ttl=6")
    v2(server, "/long", "value=y&ttl=600")
    v3(server, "kv/put", {"key": b("/there"), "value": b("v3")})


def check(server: Server) -> None:
    """All keys are there, those that were there are unchanged, and only the brief one goes."""
    found = keys(server)
    assert found["/app/name"] == ("corum", 0)
    assert found["/app/ä"] == ("€", 0)
    assert found["/there"] == ("v3", 0)
    text, lease = found["/long"]
    left = v3(server, "lease/timetolive", {"ID": str(lease), "keys": True})
    assert text == "y"
    assert 500 < int(left["TTL"]) <= 601
    assert [b64decode(key).decode() for key in left["keys"]] == ["/long"]
    end = time.monotonic() + 30
    while "/brief" in keys(server):
        assert time.monotonic() < end, "a key with a TTL outlived it"
        time.sleep(0.1)


@pytest.mark.process
@pytest.mark.slow
def test_online(our_server: Server) -> None:
    """`corum copy-v2` says what it did; a second run changes nothing, --overwrite does."""
    fill(our_server)
    words = ["copy-v2", "--endpoint", our_server.client_url]
    ran = CliRunner().invoke(program, words)
    assert ran.output == "copied 4 keys, 2 leases; 1 keys were there already\n"
    before = keys(our_server)
    again = CliRunner().invoke(program, [*words, "--from", "/app"])
    assert again.output == "copied 0 keys, 0 leases; 2 keys were there already\n"
    assert keys(our_server) == before
    assert "copied 0 keys, 0 leases; " in CliRunner().invoke(program, words).output
    moved = CliRunner().invoke(program, [*words, "--from", "/app/", "--prefix", "new"])
    assert moved.output == "copied 2 keys, 0 leases\n"
    assert keys(our_server)["new/app/name"] == ("corum", 0)
    check(our_server)
    there = CliRunner().invoke(program, [*words, "--from", "/there", "--overwrite"])
    assert there.output == "copied 1 keys, 0 leases\n"
    assert keys(our_server)["/there"] == ("v2", 0)
    missing = CliRunner().invoke(program, [*words, "--from", "/none"])
    assert missing.exit_code == 1
    assert "Key not found" in missing.output


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["our_program", "go_program"])
def test_offline(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`etcdutl copy-v2` writes into the backend of either kind, and the member goes on with it."""
    program: Program = request.getfixturevalue(kind)
    server = Server(program, tmp_path / "member", ["--enable-v2"])
    try:
        server.start()
        fill(server)
        server.stop()
        capfd.readouterr()
        words = ["copy-v2", "--data-dir", str(server.data_dir)]
        assert command.run(PROGRAM, words) == 0
        assert capfd.readouterr().out == "copied 4 keys, 2 leases; 1 keys were there already\n"
        server.start()
        check(server)
        put = v3(server, "kv/put", {"key": b("later"), "value": b("z")})
        assert int(put["header"]["revision"]) >= 7
        server.stop()
        server.start()
        assert keys(server)["later"] == ("z", 0)
    finally:
        server.kill()


@pytest.mark.process
@pytest.mark.slow
def test_a_running_member_is_not_written_to(
    our_server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its lock holds."""
    capfd.readouterr()
    words = ["copy-v2", "--data-dir", str(our_server.data_dir), "--timeout", "200ms"]
    assert command.run(PROGRAM, words) == 1
    assert "is used by another process" in capfd.readouterr().err


# ---- discovery


@pytest.mark.process
@pytest.mark.slow
def test_three_members_find_each_other_by_a_token(
    our_server: Server, our_program: Program, tmp_path: Path
) -> None:
    """`corum discovery new` prints a URL; the members that are given it form one cluster."""
    made = CliRunner().invoke(
        program, ["discovery", "new", "--size", "3", "--endpoint", our_server.client_url]
    )
    assert made.exit_code == 0, made.output
    url = made.output.strip()
    assert url.startswith(f"{our_server.client_url}/v2/keys/_etcd/registry/")
    members = [
        Server(
            our_program, tmp_path / name, ["--initial-cluster=", f"--discovery={url}"], name=name
        )
        for name in ("a", "b", "c")
    ]
    try:
        for member in members:
            member.spawn()
        for member in members:
            member.wait_ready(60)
        lists = [listed(member) for member in members]
        assert lists[0] == lists[1] == lists[2]
        assert sorted(lists[0]) == sorted(member.peer_url for member in members)
    finally:
        for member in members:
            member.kill()


def listed(server: Server) -> list[str]:
    status, body = server.http("GET", "/v2/members")
    assert status == 200, body
    return sorted(member["peerURLs"][0] for member in json.loads(body)["members"])


def test_a_size_that_makes_no_cluster_is_refused() -> None:
    """Before anything is asked."""
    run: Callable[..., Any] = CliRunner().invoke
    assert run(program, ["discovery", "new", "--size", "0"]).exit_code == 2
    ran = run(program, ["discovery", "new", "--endpoint", "http://127.0.0.1:1"])
    assert (ran.exit_code, "127.0.0.1:1" in ran.output) == (1, True)
