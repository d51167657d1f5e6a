"""The JSON gateway: which path is which RPC, and JSON <-> protobuf. Pure; it sends nothing.

`find` a method, `decode` the body into the request's bytes, call the RPC as a gRPC client would,
and `encode` its answer; streams are lines of `{"result":...}`. Shapes follow `--emulate-version`:
error bodies, statuses and refusals of etcd up to 3.5 differ from those since 3.6.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from corum import errors
from corum.api import json_messages
from corum.api.http_rules import JSON, Answer, text_answer
from corum.pb.methods import Method, methods
from corum.versions import Emulated

SUCCESS_HEADERS: Final = (JSON, ("grpc-metadata-content-type", "application/grpc"))
"""Headers of an answer that holds a message, or begins a stream of them."""

_KV, _LEASE, _CLUSTER = "/etcdserverpb.KV/", "/etcdserverpb.Lease/", "/etcdserverpb.Cluster/"
_MAINTENANCE, _AUTH = "/etcdserverpb.Maintenance/", "/etcdserverpb.Auth/"
_LOCK, _ELECTION = "/v3lockpb.Lock/", "/v3electionpb.Election/"

PATHS: Final[dict[str, str]] = {
    "/v3/kv/range": _KV + "Range",
    "/v3/kv/put": _KV + "Put",
    "/v3/kv/deleterange": _KV + "DeleteRange",
    "/v3/kv/txn": _KV + "Txn",
    "/v3/kv/compaction": _KV + "Compact",
    "/v3/watch": "/etcdserverpb.Watch/Watch",
    "/v3/lease/grant": _LEASE + "LeaseGrant",
    "/v3/lease/revoke": _LEASE + "LeaseRevoke",
    "/v3/kv/lease/revoke": _LEASE + "LeaseRevoke",
    "/v3/lease/keepalive": _LEASE + "LeaseKeepAlive",
    "/v3/lease/timetolive": _LEASE + "LeaseTimeToLive",
    "/v3/kv/lease/timetolive": _LEASE + "LeaseTimeToLive",
    "/v3/lease/leases": _LEASE + "LeaseLeases",
    "/v3/kv/lease/leases": _LEASE + "LeaseLeases",
    "/v3/cluster/member/add": _CLUSTER + "MemberAdd",
    "/v3/cluster/member/remove": _CLUSTER + "MemberRemove",
    "/v3/cluster/member/update": _CLUSTER + "MemberUpdate",
    "/v3/cluster/member/list": _CLUSTER + "MemberList",
    "/v3/cluster/member/promote": _CLUSTER + "MemberPromote",
    "/v3/maintenance/alarm": _MAINTENANCE + "Alarm",
    "/v3/maintenance/status": _MAINTENANCE + "Status",
    "/v3/maintenance/defragment": _MAINTENANCE + "Defragment",
    "/v3/maintenance/hash": _MAINTENANCE + "Hash",
    "/v3/maintenance/hashkv": _MAINTENANCE + "HashKV",
    "/v3/maintenance/snapshot": _MAINTENANCE + "Snapshot",
    "/v3/maintenance/transfer-leadership": _MAINTENANCE + "MoveLeader",
    "/v3/maintenance/downgrade": _MAINTENANCE + "Downgrade",
    "/v3/auth/enable": _AUTH + "AuthEnable",
    "/v3/auth/disable": _AUTH + "AuthDisable",
    "/v3/auth/status": _AUTH + "AuthStatus",
    "/v3/auth/authenticate": _AUTH + "Authenticate",
    "/v3/auth/user/add": _AUTH + "UserAdd",
    "/v3/auth/user/get": _AUTH + "UserGet",
    "/v3/auth/user/list": _AUTH + "UserList",
    "/v3/auth/user/delete": _AUTH + "UserDelete",
    "/v3/auth/user/changepw": _AUTH + "UserChangePassword",
    "/v3/auth/user/grant": _AUTH + "UserGrantRole",
    "/v3/auth/user/revoke": _AUTH + "UserRevokeRole",
    "/v3/auth/role/add": _AUTH + "RoleAdd",
    "/v3/auth/role/get": _AUTH + "RoleGet",
    "/v3/auth/role/list": _AUTH + "RoleList",
    "/v3/auth/role/delete": _AUTH + "RoleDelete",
    "/v3/auth/role/grant": _AUTH + "RoleGrantPermission",
    "/v3/auth/role/revoke": _AUTH + "RoleRevokePermission",
    "/v3/lock/lock": _LOCK + "Lock",
    "/v3/lock/unlock": _LOCK + "Unlock",
    "/v3/election/campaign": _ELECTION + "Campaign",
    "/v3/election/proclaim": _ELECTION + "Proclaim",
    "/v3/election/leader": _ELECTION + "Leader",
    "/v3/election/observe": _ELECTION + "Observe",
    "/v3/election/resign": _ELECTION + "Resign",
}
"""HTTP path -> gRPC path. RangeStream has none."""

_OLD_PREFIXES: Final = ("/v3beta/", "/v3alpha/")


def is_gateway(path: str) -> bool:
    """Does this path (without query) belong to the gateway, known to it or not?"""
    return path.startswith(("/v3/", *_OLD_PREFIXES))


def find(path: str) -> Method | None:
    """The method behind a path (without query); the older prefixes mean the same."""
    for prefix in _OLD_PREFIXES:
        if path.startswith(prefix):
            path = "/v3/" + path.removeprefix(prefix)
    grpc = PATHS.get(path)
    return methods()[grpc] if grpc else None


def refusal(verb: str, path: str, emulated: Emulated) -> Answer | None:
    """The answer to a request that is none of ours (unknown path, not POST); None if it is."""
    if find(path) is None:
        return _not_found(emulated)
    if verb != "POST":
        return _wrong_verb(emulated)
    return None


def _not_found(emulated: Emulated) -> Answer:
    if emulated.old_gateway:
        return text_answer(404, "Not Found")
    return _status_answer(404, errors.NOT_FOUND, "Not Found")


def _wrong_verb(emulated: Emulated) -> Answer:
    if emulated.old_gateway:
        return text_answer(405, "Method Not Allowed")
    return _status_answer(501, errors.UNIMPLEMENTED, "Method Not Allowed")


def _status_answer(status: int, code: int, text: str) -> Answer:
    return Answer(status, (JSON,), _dumps({"code": code, "message": text}))


def decode(method: Method, body: bytes) -> bytes:
    """The request's protobuf bytes; an empty body is the empty request.

    What follows the first JSON value is not read, as in etcd. Raises EtcdError InvalidArgument.
    """
    found = json_messages.values(body, limit=1)
    message = json_messages.message(_request(method), found[0] if found else {})
    return message.SerializeToString()


def decode_stream(method: Method, body: bytes) -> list[bytes]:
    """The messages of a client-streaming body: JSON values one after the other."""
    made = (json_messages.message(_request(method), one) for one in json_messages.values(body))
    return [message.SerializeToString() for message in made]


def encode(method: Method, message: bytes) -> bytes:
    """A response's bytes as JSON."""
    return json_messages.text(_response(method).FromString(message)).encode()


def encode_result(method: Method, message: bytes) -> bytes:
    """One message of a stream, as a line."""
    return b'{"result":%b}\n' % encode(method, message)


@cache
def _request(method: Method) -> Any:
    return method.request_class()


@cache
def _response(method: Method) -> Any:
    return method.response_class()


def failure(code: int, text: str, emulated: Emulated) -> Answer:
    """The answer to a unary call that ended with a gRPC error."""
    if not emulated.old_gateway:
        return _status_answer(errors.http_status(code), code, text)
    body = {"error": text, "code": code, "message": text}
    return Answer(_old_http_status(code), (JSON,), _dumps(body))


def encode_failure(code: int, text: str, emulated: Emulated) -> bytes:
    """The last line of a stream that ended with a gRPC error."""
    if not emulated.old_gateway:
        return _dumps({"error": {"code": code, "message": text}}) + b"\n"
    status = _old_http_status(code)
    error = {
        "grpc_code": code,
        "http_code": status,
        "message": text,
        "http_status": HTTPStatus(status).phrase,
    }
    return _dumps({"error": error}) + b"\n"


def _old_http_status(code: int) -> int:
    return 408 if code == errors.CANCELLED else errors.http_status(code)


def token(headers: Mapping[str, str]) -> str | None:
    """The auth token of a request (lower-case header names): `Authorization: [Bearer ]<token>`."""
    found = headers.get("authorization")
    return found.removeprefix("Bearer ") if found else None


def _dumps(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
