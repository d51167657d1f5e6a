"""Plain HTTP and the JSON gateway: status, content type and body are Go etcd's.

Compared with 3.5.1, ours emulating 3.5, and with the newest Go etcd where that is built: the
JSON of errors and versions differs between them.
"""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from oracle import servers
from oracle.pair import Pair

pytestmark = [pytest.mark.compat, pytest.mark.process, pytest.mark.slow]

Request = tuple[str, str, bytes | None]


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def post(path: str, body: Any) -> Request:
    return "POST", path, body if isinstance(body, bytes) else json.dumps(body).encode()


A, B, Z = b64("a"), b64("b"), b64("z")

REQUESTS: dict[str, list[Request]] = {
    "put and range": [
        post("/v3/kv/put", {"key": A, "value": b64("1")}),
        post("/v3/kv/put", {"key": A, "value": b64("2"), "prev_kv": True}),
        post("/v3/kv/put", {"key": A, "value": b64("3"), "prevKv": True}),
        post("/v3/kv/range", {"key": A}),
        post("/v3/kv/range", {"key": A, "range_end": Z, "limit": 1}),
        post("/v3/kv/range", {"key": A, "rangeEnd": Z, "limit": "1", "sortOrder": "DESCEND"}),
        post("/v3/kv/range", {"key": A, "sort_target": "VALUE", "sort_order": 2}),
        post("/v3/kv/range", {"key": A, "keys_only": True, "serializable": True}),
        post("/v3/kv/range", {"key": A, "count_only": True}),
        post("/v3/kv/range", {"key": b64("missing")}),
    ],
    "delete": [
        post("/v3/kv/put", {"key": A, "value": b64("1")}),
        post("/v3/kv/deleterange", {"key": A, "prev_kv": True}),
        post("/v3/kv/deleterange", {"key": A}),
    ],
    "txn": [
        post(
            "/v3/kv/txn",
            {
                "compare": [{"target": "CREATE", "key": A, "createRevision": "0"}],
                "success": [{"requestPut": {"key": A, "value": b64("1")}}],
                "failure": [{"requestRange": {"key": A}}],
            },
        ),
        post(
            "/v3/kv/txn",
            {
                "compare": [{"result": "EQUAL", "target": "VALUE", "key": A, "value": b64("1")}],
                "success": [
                    {"request_range": {"key": A}},
                    {"request_delete_range": {"key": A, "prev_kv": True}},
                ],
            },
        ),
        post("/v3/kv/txn", {}),
    ],
    "lease": [
        post("/v3/lease/grant", {"TTL": 100, "ID": 77}),
        post("/v3/lease/grant", {"TTL": "100", "ID": "77"}),
        post("/v3/kv/put", {"key": A, "lease": 77}),
        post("/v3/lease/keepalive", {"ID": 77}),
        post("/v3/lease/keepalive", {"ID": 99}),
        post("/v3/lease/leases", {}),
        post("/v3/kv/lease/leases", {}),
        post("/v3/lease/revoke", {"ID": 77}),
        post("/v3/lease/revoke", {"ID": 77}),
        post("/v3/kv/lease/revoke", {"ID": 77}),
        post("/v3/lease/timetolive", {"ID": 77}),
    ],
    "errors": [
        post("/v3/kv/put", {}),
        post("/v3/kv/range", {"key": A, "revision": 1000000}),
        post("/v3/kv/compaction", {"revision": 1000000}),
        post("/v3/kv/put", {"key": A, "lease": 12345}),
        post("/v3/cluster/member/remove", {"ID": 12345}),
        post("/v3/maintenance/transfer-leadership", {"targetID": 12345}),
    ],
    "nonsense": [
        ("GET", "/v3/kv/range", None),
        ("PUT", "/v3/kv/put", b"{}"),
        post("/v3/kv/nothing", {}),
        ("GET", "/nothing", None),
    ],
    "the rest": [
        post("/v3/maintenance/alarm", {}),
        post("/v3/maintenance/defragment", {}),
        ("GET", "/health", None),
        ("GET", "/version", None),
        ("HEAD", "/version", None),
        ("GET", "/debug/vars", None),
    ],
}
BAD_BODIES = [b"{", b"[]", b'{"key": 5}', b'{"key": "a%"}', b'{"no_such_field": 1}', b"", b"null"]


@pytest.fixture(scope="module", params=["3.5.1", "newest"])
def standing_pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    go = servers.go35() if request.param == "3.5.1" else servers.go_newest()
    ours = servers.ours()
    if go is None:
        pytest.skip(f"no Go etcd {request.param} here")
    if ours is None:
        pytest.skip("corum has no daemon yet")
    version = "3.5" if request.param == "3.5.1" else "3.7"
    pair = Pair(
        tmp_path_factory.mktemp("http"),
        [f"--emulate-version={version}"] if ours.name == "corum" else [],
        go=go,
    )
    try:
        yield pair.start()
    finally:
        pair.stop()


def plain(body: bytes) -> Any:
    """A body without ids, versions and sizes; JSON as values, so that spaces do not count."""
    text = body.decode(errors="replace")
    text = re.sub(r'"(cluster_id|member_id)":"\d+"', r'"\1":"N"', text)
    text = re.sub(r'"(etcdserver|etcdcluster|storage)":"[^"]*"', r'"\1":"V"', text)
    try:
        return [json.loads(line) for line in text.splitlines()]
    except ValueError:
        return text


@pytest.mark.parametrize("name", REQUESTS)
def test_same_answers(pair: Pair, name: str) -> None:
    """Status and body of each request are equal on both servers."""
    for verb, path, body in REQUESTS[name]:
        go, ours = (server.http(verb, path, body) for server in pair.servers)
        assert ours[0] == go[0], f"{verb} {path} {body!r}: ours {ours}, Go {go}"
        if path == "/debug/vars":
            assert set(json.loads(ours[1])) >= {"cmdline"}
            continue
        assert plain(ours[1]) == plain(go[1]), f"{verb} {path} {body!r}"


@pytest.mark.parametrize("body", BAD_BODIES)
def test_bodies_that_are_no_request(pair: Pair, body: bytes) -> None:
    """What is not the JSON of a request is refused with the same status."""
    go, ours = (server.http("POST", "/v3/kv/range", body) for server in pair.servers)
    assert ours[0] == go[0], f"ours {ours}, Go {go}"


def test_json_has_the_same_text(pair: Pair) -> None:
    """Not only the values: field order and spacing too, as scripts with grep and sed need."""
    for verb, path, body in (*REQUESTS["put and range"], *REQUESTS["errors"]):
        go, ours = (server.http(verb, path, body)[1].decode() for server in pair.servers)
        masks = [re.sub(r'_id":"\d+"', '_id":"N"', text) for text in (go, ours)]
        assert masks[1] == masks[0], path


def test_metrics_have_the_same_names(pair: Pair) -> None:
    """Every etcd_* metric of Go's is there, with the same type."""
    found = []
    for server in pair.servers:
        status, body = server.http("GET", "/metrics")
        assert status == 200
        types = re.findall(r"^# TYPE (etcd_\w+) (\w+)", body.decode(), re.M)
        found.append(dict(types))
    missing = {name: kind for name, kind in found[0].items() if found[1].get(name) != kind}
    assert not missing
