"""The JSON gateway: protobuf's JSON mapping, and etcd's answers to what it refuses."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corum import errors
from corum.api import gateway, json_messages
from corum.pb import kv, rpc
from corum.pb.methods import Method, methods
from corum.versions import EMULATED

NEW, OLD = EMULATED["3.7"], EMULATED["3.5"]


def method(path: str) -> Method:
    found = gateway.find(path)
    assert found is not None, path
    return found


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_every_rpc_but_range_stream_has_a_path() -> None:
    """49 methods of etcd, one of them gRPC only."""
    served = {path for path in methods() if path.startswith(("/etcdserverpb", "/v3"))}
    assert served - set(gateway.PATHS.values()) == {"/etcdserverpb.KV/RangeStream"}
    assert method("/v3beta/kv/put") is method("/v3/kv/put")
    assert gateway.find("/v3/kv/nope") is None


def test_decode() -> None:
    """Base64, enum names, 64-bit integers as strings, oneof members, proto and camelCase names."""
    body = {
        "compare": [{"key": b64(b"k"), "target": "CREATE", "createRevision": "0", "result": 2}],
        "success": [{"request_put": {"key": b64(b"k"), "value": b64(b"v"), "lease": 7}}],
        "failure": [{"requestRange": {}}],
    }
    txn = rpc.TxnRequest.FromString(gateway.decode(method("/v3/kv/txn"), json.dumps(body).encode()))
    compare = txn.compare[0]
    assert (compare.target, compare.result) == (rpc.Compare.CREATE, rpc.Compare.LESS)
    assert compare.WhichOneof("target_union") == "create_revision"
    assert txn.success[0].request_put == rpc.PutRequest(key=b"k", value=b"v", lease=7)
    assert txn.failure[0].WhichOneof("request") == "request_range"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", rpc.RangeRequest()),
        (b"  {} ", rpc.RangeRequest()),
        (b'{"limit":"5","unknown":[1],"revision":null} trailing', rpc.RangeRequest(limit=5)),
        (b'{"limit":5.0,"keysOnly":true}', rpc.RangeRequest(limit=5, keys_only=True)),
        (b'{"key":"-_8"}', rpc.RangeRequest(key=b"\xfb\xff")),
        (b'{"key":"+/8="}', rpc.RangeRequest(key=b"\xfb\xff")),
        (b'{"limit":"-9223372036854775808"}', rpc.RangeRequest(limit=-(2**63))),
    ],
)
def test_decode_is_lenient_where_etcd_is(body: bytes, expected: rpc.RangeRequest) -> None:
    """Empty bodies, unknown fields, null, URL-safe and unpadded base64, text after the value."""
    found = rpc.RangeRequest.FromString(gateway.decode(method("/v3/kv/range"), body))
    assert found == expected


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"x",
        b"[]",
        b"5",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 5_000,
        b'{"key":5}',
        b'{"key":"a b"}',
        b'{"key":"\\ud800"}',
        b'{"limit":1.5}',
        b'{"limit":true}',
        b'{"limit":"9223372036854775808"}',
        b'{"limit":' + b"9" * 5_000 + b"}",
        b'{"limit":NaN}',
        b'{"sort_order":"SIDEWAYS"}',
        b'{"serializable":"true"}',
    ],
)
def test_bad_json_is_an_invalid_argument(body: bytes) -> None:
    """Whatever comes, the answer is 400 with code 3 and a text; never a crash."""
    with pytest.raises(errors.EtcdError) as caught:
        gateway.decode(method("/v3/kv/range"), body)
    assert caught.value.code == errors.INVALID_ARGUMENT
    assert caught.value.text.encode()


def test_encode() -> None:
    """Proto names, strings for 64 bits, numbers for 32, base64, nothing for zero values."""
    response = rpc.RangeResponse(
        header=rpc.ResponseHeader(cluster_id=2**64 - 1, revision=5),
        kvs=[kv.KeyValue(key=b"\x00\xff", create_revision=2, value=b"v")],
        count=1,
    )
    found = gateway.encode(method("/v3/kv/range"), response.SerializeToString())
    assert json.loads(found) == {
        "header": {"cluster_id": "18446744073709551615", "revision": "5"},
        "kvs": [{"key": "AP8=", "create_revision": "2", "value": "dg=="}],
        "count": "1",
    }
    hashed = rpc.HashKVResponse(hash=7, hash_revision=3).SerializeToString()
    found = gateway.encode(method("/v3/maintenance/hashkv"), hashed)
    assert json.loads(found) == {"hash": 7, "hash_revision": "3"}


def test_encode_enums_and_empty_messages() -> None:
    """Names for known numbers, numbers for others; an empty message that is there is {}."""
    alarm = rpc.AlarmResponse(
        alarms=[rpc.AlarmMember(memberID=1, alarm=rpc.CORRUPT), rpc.AlarmMember(alarm=9)],
        header=rpc.ResponseHeader(),
    )
    found = gateway.encode(method("/v3/maintenance/alarm"), alarm.SerializeToString())
    assert json.loads(found) == {
        "header": {},
        "alarms": [{"memberID": "1", "alarm": "CORRUPT"}, {"alarm": 9}],
    }


@given(
    st.builds(
        rpc.RangeRequest,
        key=st.binary(max_size=20),
        range_end=st.binary(max_size=20),
        limit=st.integers(-(2**63), 2**63 - 1),
        sort_order=st.integers(0, 2),
        serializable=st.booleans(),
    )
)
def test_json_round_trip(request: rpc.RangeRequest) -> None:
    """What is written as JSON reads back as the same message."""
    text = json_messages.text(request)
    assert json_messages.message(rpc.RangeRequest, json.loads(text)) == request


def test_streams_are_lines() -> None:
    """A bidirectional body holds one JSON value after the other; answers are result lines."""
    watch = method("/v3/watch")
    body = b'{"create_request":{"key":"Zm9v"}}\n{"progress_request":{}}'
    first, second = (rpc.WatchRequest.FromString(m) for m in gateway.decode_stream(watch, body))
    assert first.create_request.key == b"foo"
    assert second.WhichOneof("request_union") == "progress_request"
    line = gateway.encode_result(watch, rpc.WatchResponse(created=True).SerializeToString())
    assert line == b'{"result":{"created":true}}\n'


def test_errors_since_36() -> None:
    """code and message; in a stream under "error"."""
    answer = gateway.failure(errors.OUT_OF_RANGE, "etcdserver: x", NEW)
    assert (answer.status, json.loads(answer.body)) == (
        400,
        {"code": 11, "message": "etcdserver: x"},
    )
    assert gateway.encode_failure(11, "x", NEW) == b'{"error":{"code":11,"message":"x"}}\n'
    assert gateway.failure(errors.CANCELLED, "x", NEW).status == 499


def test_errors_up_to_35() -> None:
    """The text stands there twice; streams spell out the HTTP status; Canceled is 408."""
    answer = gateway.failure(errors.OUT_OF_RANGE, "etcdserver: x", OLD)
    assert json.loads(answer.body) == {
        "error": "etcdserver: x",
        "code": 11,
        "message": "etcdserver: x",
    }
    assert json.loads(gateway.encode_failure(11, "x", OLD)) == {
        "error": {"grpc_code": 11, "http_code": 400, "message": "x", "http_status": "Bad Request"}
    }
    assert gateway.failure(errors.CANCELLED, "x", OLD).status == 408


def test_refusals() -> None:
    """Unknown paths and other verbs: JSON since 3.6, plain text before."""
    assert gateway.refusal("POST", "/v3/kv/put", NEW) is None
    unknown, verb = gateway.refusal("POST", "/v3/x", NEW), gateway.refusal("GET", "/v3/kv/put", NEW)
    assert unknown is not None
    assert verb is not None
    assert (unknown.status, unknown.body) == (404, b'{"code":5,"message":"Not Found"}')
    assert (verb.status, verb.body) == (501, b'{"code":12,"message":"Method Not Allowed"}')
    unknown, verb = gateway.refusal("POST", "/v3/x", OLD), gateway.refusal("GET", "/v3/kv/put", OLD)
    assert unknown is not None
    assert verb is not None
    assert (unknown.status, unknown.body) == (404, b"Not Found\n")
    assert (verb.status, verb.body) == (405, b"Method Not Allowed\n")


def test_token() -> None:
    """`Authorization: <token>`, with or without Bearer."""
    assert gateway.token({"authorization": "abc.1"}) == "abc.1"
    assert gateway.token({"authorization": "Bearer abc.1"}) == "abc.1"
    assert gateway.token({}) is None


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["Zm9v", "CREATE", "-1"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["compare", "success", "request_put", "key", "lease", "target", "result"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=40)
@given(JSON)
def test_any_json_is_a_request_or_an_invalid_argument(found: object) -> None:
    """Whatever a client sends, the gateway has an answer that protobuf takes, or code 3."""
    body = json.dumps(found).encode()
    code = errors.OK
    try:
        rpc.TxnRequest.FromString(gateway.decode(method("/v3/kv/txn"), body))
    except errors.EtcdError as error:
        code = error.code
    assert code in (errors.OK, errors.INVALID_ARGUMENT)
