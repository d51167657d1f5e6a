"""gRPC calls with a token, by the method's path; a refusal is its code's name and text."""

from __future__ import annotations

from typing import Any

import grpc

from corum.pb import rpc
from corum.pb.methods import methods
from oracle.rpc import refusal

TIMEOUT_S = 20.0


class Talk:
    """One connection to one server; use it in a `with`."""

    def __init__(self, endpoint: str) -> None:
        self._channel = grpc.insecure_channel(endpoint)

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def call(
        self, path: str, token: str | None = None, timeout_s: float = TIMEOUT_S, **fields: Any
    ) -> Any:
        """`path` as "Auth/UserAdd", with etcd's own package left out."""
        try:
            return self.future(path, token, timeout_s, **fields).result()
        except grpc.RpcError as error:
            return refusal(error)

    def future(
        self, path: str, token: str | None = None, timeout_s: float = TIMEOUT_S, **fields: Any
    ) -> Any:
        """The call under way, which can be cancelled."""
        method = methods()[path if path.startswith("/") else f"/etcdserverpb.{path}"]
        kind = self._channel.unary_unary
        invoke = kind(
            method.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.response_class().FromString,
        )
        request = method.request_class()(**fields)
        return invoke.future(
            request, timeout=timeout_s, metadata=with_token(token), wait_for_ready=True
        )

    def stream(self, path: str, token: str | None = None, **fields: Any) -> Any:
        """A server stream: iterate it, cancel it."""
        method = methods()[path]
        invoke = self._channel.unary_stream(
            method.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.response_class().FromString,
        )
        return invoke(
            method.request_class()(**fields), timeout=TIMEOUT_S, metadata=with_token(token)
        )

    def token(self, name: str, password: str) -> str:
        return self.call("Auth/Authenticate", name=name, password=password).token

    def with_users(self) -> tuple[str, str]:
        """Users root and u (who may read and write [a, c)), auth on; tokens of both."""
        for path, fields in USERS:
            self.call(path, **fields)
        return self.token("root", "secret-r"), self.token("u", "secret-u")


PERM = {"permType": 2, "key": b"a", "range_end": b"c"}
USERS: list[tuple[str, dict[str, Any]]] = [
    ("Auth/UserAdd", {"name": "root", "password": "secret-r"}),
    ("Auth/RoleAdd", {"name": "root"}),
    ("Auth/UserGrantRole", {"user": "root", "role": "root"}),
    ("Auth/UserAdd", {"name": "u", "password": "secret-u"}),
    ("Auth/RoleAdd", {"name": "r"}),
    ("Auth/RoleGrantPermission", {"name": "r", "perm": PERM}),
    ("Auth/UserGrantRole", {"user": "u", "role": "r"}),
    ("Auth/AuthEnable", {}),
]


def with_token(token: str | None) -> list[tuple[str, str]]:
    return [] if token is None else [("token", token)]


def put(key: bytes, **more: Any) -> Any:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, **more))


def get(key: bytes, **more: Any) -> Any:
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key, **more))


def delete(key: bytes, **more: Any) -> Any:
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, **more))


def nested(*ops: Any) -> Any:
    return rpc.RequestOp(request_txn=rpc.TxnRequest(success=ops))
