"""The gateway's mapping against Go etcd 3.5.1: its gateway's JSON, its gRPC port with our bytes.

For each request, Go's own gateway answers the JSON; then our `decode` makes the gRPC request from
the same JSON, Go answers that, and our `encode` must give the same JSON again.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from corum.api import gateway
from corum.versions import EMULATED
from oracle import servers

pytestmark = [pytest.mark.compat, pytest.mark.process]


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


K, V, END = b64("key"), b64("value"), b64("kez")
VOLATILE = frozenset(
    ("revision", "raft_term", "raftIndex", "raftAppliedIndex", "mod_revision", "version", "hash")
)
"""Differ from one call to the next."""
# Newer than 3.5.1, so not asked here: /v3/maintenance/hashkv, URL-safe base64.

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("/v3/kv/put", {"key": K, "value": V}),
    ("/v3/kv/put", {"key": K, "value": V, "prev_kv": True}),
    ("/v3/kv/put", {"key": K, "value": V, "prevKv": True}),
    ("/v3/kv/put", {"key": K, "ignore_value": True, "lease": 0}),
    ("/v3/kv/put", {"key": "w7/DvMO/", "value": ""}),
    ("/v3/kv/range", {"key": K}),
    ("/v3/kv/range", {"key": "AA==", "range_end": "AA==", "sort_order": "DESCEND"}),
    ("/v3/kv/range", {"key": K, "range_end": END, "sort_target": 3, "keys_only": True}),
    ("/v3/kv/range", {"key": K, "countOnly": True, "limit": "3", "serializable": True}),
    ("/v3/kv/range", {"key": K, "unknown": {"a": 1}, "limit": None}),
    ("/v3/kv/range", {"key": b64("none")}),
    ("/v3/kv/range", {"key": K, "revision": "9999"}),
    ("/v3/kv/range", {}),
    (
        "/v3/kv/txn",
        {
            "compare": [
                {"key": K, "target": "VERSION", "result": "GREATER", "version": "0"},
                {"key": K, "target": "LEASE", "result": "EQUAL", "lease": 0, "range_end": END},
            ],
            "success": [
                {"request_range": {"key": K}},
                {"request_put": {"key": b64("other"), "value": V}},
                {"request_txn": {"failure": [{"request_range": {"key": K}}]}},
                {"request_delete_range": {"key": b64("third"), "prev_kv": True}},
            ],
        },
    ),
    ("/v3/kv/txn", {"compare": [{"key": K, "result": 3, "value": V}]}),
    ("/v3/kv/deleterange", {"key": b64("none"), "prev_kv": True}),
    ("/v3/kv/compaction", {"revision": "99999"}),
    ("/v3/lease/grant", {"TTL": "600", "ID": "0"}),
    ("/v3/lease/grant", {"TTL": "99999999999"}),
    ("/v3/lease/timetolive", {"ID": "12345", "keys": True}),
    ("/v3/lease/leases", {}),
    ("/v3/lease/revoke", {"ID": "12345"}),
    ("/v3/cluster/member/list", {"linearizable": True}),
    ("/v3/maintenance/status", {}),
    ("/v3/maintenance/alarm", {"action": "GET", "alarm": "NOSPACE"}),
    ("/v3/maintenance/alarm", {}),
    ("/v3/maintenance/transfer-leadership", {"targetID": "7"}),
    ("/v3/auth/status", {}),
    ("/v3/auth/user/list", {}),
    ("/v3/auth/role/get", {"role": "none"}),
    ("/v3/auth/authenticate", {"name": "a", "password": "b"}),
]


@pytest.fixture(scope="module")
def go_server(
    go_program: servers.Program, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    with servers.running(go_program, folder) as server:
        yield server


def masked(found: Any) -> Any:
    """Without what differs between two calls; what is there stays visible as "*"."""
    if isinstance(found, list):
        return [masked(one) for one in found]
    if not isinstance(found, dict):
        return found
    hidden = VOLATILE | ({"ID"} if "TTL" in found else set())
    return {name: "*" if name in hidden else masked(one) for name, one in found.items()}


def over_grpc(server: servers.Server, path: str, body: bytes) -> tuple[int, Any]:
    """Go's answer to our bytes, as our gateway would give it."""
    method = gateway.find(path)
    assert method is not None
    with grpc.insecure_channel(server.endpoint) as channel:
        try:
            answer = channel.unary_unary(method.path)(gateway.decode(method, body), timeout=10)
        except grpc.RpcError as error:
            refused = gateway.failure(error.code().value[0], error.details(), EMULATED["3.5"])
            return refused.status, json.loads(refused.body)
    return 200, json.loads(gateway.encode(method, answer))


@pytest.mark.parametrize(("path", "request_json"), CALLS)
def test_json_is_gos(go_server: servers.Server, path: str, request_json: dict[str, Any]) -> None:
    """Status and JSON are those of Go's gateway, volatile numbers apart."""
    body = json.dumps(request_json).encode()
    status, answer = go_server.http("POST", path, body)
    expected = status, masked(json.loads(answer))
    ours, found = over_grpc(go_server, path, body)
    assert (ours, masked(found)) == expected


@pytest.mark.parametrize("path", ["/v3/kv/nope", "/v3/", "/v3/kv/put/"])
def test_unknown_paths(go_server: servers.Server, path: str) -> None:
    """404 in the words of etcd up to 3.5."""
    status, body = go_server.http("POST", path, b"{}")
    ours = gateway.refusal("POST", path, EMULATED["3.5"])
    assert ours is not None
    assert (ours.status, ours.body) == (status, body)


def test_wrong_verb(go_server: servers.Server) -> None:
    """405 in the words of etcd up to 3.5."""
    status, body = go_server.http("GET", "/v3/kv/put")
    ours = gateway.refusal("GET", "/v3/kv/put", EMULATED["3.5"])
    assert ours is not None
    assert (ours.status, ours.body) == (status, body)


@pytest.mark.parametrize(
    "body", [b"{", b"x", b"[]", b'{"key":5}', b'{"key":"a b"}', b'{"limit":1.5}']
)
def test_bad_json_is_refused_alike(go_server: servers.Server, body: bytes) -> None:
    """Status and code are Go's (the words are those of a JSON library)."""
    status, answer = go_server.http("POST", "/v3/kv/range", body)
    method = gateway.find("/v3/kv/range")
    assert method is not None
    with pytest.raises(gateway.errors.EtcdError) as caught:
        gateway.decode(method, body)
    ours = gateway.failure(caught.value.code, caught.value.text, EMULATED["3.5"])
    assert (ours.status, json.loads(ours.body)["code"]) == (status, json.loads(answer)["code"])


def test_stream_lines(go_server: servers.Server) -> None:
    """A keepalive of an unknown lease: one result line, the same JSON."""
    body = b'{"ID":"77"}'
    _, answer = go_server.http("POST", "/v3/lease/keepalive", body)
    method = gateway.find("/v3/lease/keepalive")
    assert method is not None
    with grpc.insecure_channel(go_server.endpoint) as channel:
        call = channel.stream_stream(method.path)
        (message,) = call(iter(gateway.decode_stream(method, body)), timeout=10)
    assert masked(json.loads(gateway.encode_result(method, message))) == masked(json.loads(answer))
