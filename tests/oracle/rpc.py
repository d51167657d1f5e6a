"""gRPC calls to one server through grpcio: an implementation that is neither ours nor Go's.

A refused call is a value (`Refused`), so that two servers' answers can be compared.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from corum.pb import rpc

CALL_TIMEOUT_S = 20.0
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

METHODS: dict[str, tuple[type[Message], type[Message]]] = {
    "KV/Range": (rpc.RangeRequest, rpc.RangeResponse),
    "KV/Put": (rpc.PutRequest, rpc.PutResponse),
    "KV/DeleteRange": (rpc.DeleteRangeRequest, rpc.DeleteRangeResponse),
    "KV/Txn": (rpc.TxnRequest, rpc.TxnResponse),
    "KV/Compact": (rpc.CompactionRequest, rpc.CompactionResponse),
    "Lease/LeaseGrant": (rpc.LeaseGrantRequest, rpc.LeaseGrantResponse),
    "Lease/LeaseRevoke": (rpc.LeaseRevokeRequest, rpc.LeaseRevokeResponse),
    "Lease/LeaseTimeToLive": (rpc.LeaseTimeToLiveRequest, rpc.LeaseTimeToLiveResponse),
    "Lease/LeaseLeases": (rpc.LeaseLeasesRequest, rpc.LeaseLeasesResponse),
    "Cluster/MemberList": (rpc.MemberListRequest, rpc.MemberListResponse),
    "Cluster/MemberAdd": (rpc.MemberAddRequest, rpc.MemberAddResponse),
    "Cluster/MemberRemove": (rpc.MemberRemoveRequest, rpc.MemberRemoveResponse),
    "Cluster/MemberUpdate": (rpc.MemberUpdateRequest, rpc.MemberUpdateResponse),
    "Cluster/MemberPromote": (rpc.MemberPromoteRequest, rpc.MemberPromoteResponse),
    "Maintenance/Alarm": (rpc.AlarmRequest, rpc.AlarmResponse),
    "Maintenance/Status": (rpc.StatusRequest, rpc.StatusResponse),
    "Maintenance/Defragment": (rpc.DefragmentRequest, rpc.DefragmentResponse),
    "Maintenance/Hash": (rpc.HashRequest, rpc.HashResponse),
    "Maintenance/HashKV": (rpc.HashKVRequest, rpc.HashKVResponse),
    "Maintenance/MoveLeader": (rpc.MoveLeaderRequest, rpc.MoveLeaderResponse),
}


@dataclass(frozen=True)
class Refused:
    """A gRPC error: the status code's name and the server's text."""

    code: str
    text: str


class Client:
    """One connection. Close it, or use it in a `with`."""

    def __init__(self, endpoint: str) -> None:
        self._channel = grpc.insecure_channel(endpoint, options=_OPTIONS)
        self._calls: dict[str, Any] = {}

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def call(self, method: str, request: Message, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """The answer, or `Refused`."""
        if method not in self._calls:
            self._calls[method] = self._channel.unary_unary(
                "/etcdserverpb." + method,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=METHODS[method][1].FromString,
            )
        try:
            return self._calls[method](request, timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            return refusal(error)

    def raw(self, path: str, body: bytes, timeout_s: float = CALL_TIMEOUT_S) -> bytes | Refused:
        """A unary call of any path with any bytes."""
        invoke = self._channel.unary_unary(path)
        try:
            return invoke(body, timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            return refusal(error)

    def snapshot(self) -> list[Message]:
        invoke = self._channel.unary_stream(
            "/etcdserverpb.Maintenance/Snapshot",
            request_serializer=rpc.SnapshotRequest.SerializeToString,
            response_deserializer=rpc.SnapshotResponse.FromString,
        )
        return list(invoke(rpc.SnapshotRequest(), timeout=CALL_TIMEOUT_S))

    def watch(self) -> "Stream":
        return Stream(
            self._channel.stream_stream(
                "/etcdserverpb.Watch/Watch",
                request_serializer=rpc.WatchRequest.SerializeToString,
                response_deserializer=rpc.WatchResponse.FromString,
            )
        )

    def keep_alive(self) -> "Stream":
        return Stream(
            self._channel.stream_stream(
                "/etcdserverpb.Lease/LeaseKeepAlive",
                request_serializer=rpc.LeaseKeepAliveRequest.SerializeToString,
                response_deserializer=rpc.LeaseKeepAliveResponse.FromString,
            )
        )


def refusal(error: grpc.RpcError) -> Refused:
    return Refused(error.code().name, error.details() or "")


class Stream:
    """A bidirectional stream whose answers are collected by a thread."""

    def __init__(self, invoke: Any) -> None:
        self._outgoing: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call = invoke(iter(self._outgoing.get, None), wait_for_ready=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        try:
            for answer in self._call:
                self._incoming.put(answer)
        except grpc.RpcError as error:
            self._incoming.put(refusal(error))
        else:
            self._incoming.put(None)

    def send(self, message: Message) -> None:
        self._outgoing.put(message)

    def receive(self, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """The next answer; `Refused` or None (ended well) when the stream is over."""
        return self._incoming.get(timeout=timeout_s)

    def quiet(self, for_s: float) -> bool:
        """Nothing came for so long."""
        try:
            self._incoming.get(timeout=for_s)
        except queue.Empty:
            return True
        return False

    def until(self, last: Any, timeout_s: float = CALL_TIMEOUT_S) -> Iterator[Any]:
        """Answers up to and including the first one for which `last(answer)` holds."""
        while True:
            answer = self.receive(timeout_s)
            yield answer
            if answer is None or isinstance(answer, Refused) or last(answer):
                return

    def half_close(self) -> None:
        self._outgoing.put(None)

    def close(self) -> None:
        self._outgoing.put(None)
        self._call.cancel()
        self._reader.join(5)
