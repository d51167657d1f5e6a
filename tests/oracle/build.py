"""Short names for requests, so that a test reads as a conversation."""

from typing import Any

from corum.pb import rpc


def b(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def put(key: str | bytes, value: str | bytes = "", **more: Any) -> Any:
    return rpc.PutRequest(key=b(key), value=b(value), **more)


def get(key: str | bytes, end: str | bytes = "", **more: Any) -> Any:
    return rpc.RangeRequest(key=b(key), range_end=b(end), **more)


def delete(key: str | bytes, end: str | bytes = "", **more: Any) -> Any:
    return rpc.DeleteRangeRequest(key=b(key), range_end=b(end), **more)


def op(request: Any) -> Any:
    """A request as one operation of a transaction."""
    kinds = {
        "PutRequest": "request_put",
        "RangeRequest": "request_range",
        "DeleteRangeRequest": "request_delete_range",
        "TxnRequest": "request_txn",
    }
    return rpc.RequestOp(**{kinds[type(request).__name__]: request})


def txn(compare: Any = (), success: Any = (), failure: Any = ()) -> Any:
    return rpc.TxnRequest(
        compare=list(compare),
        success=[op(request) for request in success],
        failure=[op(request) for request in failure],
    )


_TARGETS = {"version": 0, "create_revision": 1, "mod_revision": 2, "value": 3, "lease": 4}
_RESULTS = {"=": 0, ">": 1, "<": 2, "!=": 3}


def compare(key: str | bytes, target: str, result: str, wanted: Any, end: str | bytes = "") -> Any:
    if target == "value":
        wanted = b(wanted)
    return rpc.Compare(
        key=b(key),
        range_end=b(end),
        target=_TARGETS[target],
        result=_RESULTS[result],
        **{target: wanted},
    )


def watch(key: str | bytes, end: str | bytes = "", **more: Any) -> Any:
    create = rpc.WatchCreateRequest(key=b(key), range_end=b(end), **more)
    return rpc.WatchRequest(create_request=create)


def cancel(watch_id: int) -> Any:
    return rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=watch_id))


def progress() -> Any:
    return rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())


METHOD_OF = {
    "PutRequest": "KV/Put",
    "RangeRequest": "KV/Range",
    "DeleteRangeRequest": "KV/DeleteRange",
    "TxnRequest": "KV/Txn",
    "CompactionRequest": "KV/Compact",
    "LeaseGrantRequest": "Lease/LeaseGrant",
    "LeaseRevokeRequest": "Lease/LeaseRevoke",
    "LeaseTimeToLiveRequest": "Lease/LeaseTimeToLive",
    "LeaseLeasesRequest": "Lease/LeaseLeases",
    "MemberListRequest": "Cluster/MemberList",
    "MemberAddRequest": "Cluster/MemberAdd",
    "MemberRemoveRequest": "Cluster/MemberRemove",
    "MemberUpdateRequest": "Cluster/MemberUpdate",
    "MemberPromoteRequest": "Cluster/MemberPromote",
    "AlarmRequest": "Maintenance/Alarm",
    "StatusRequest": "Maintenance/Status",
    "DefragmentRequest": "Maintenance/Defragment",
    "HashKVRequest": "Maintenance/HashKV",
    "MoveLeaderRequest": "Maintenance/MoveLeader",
}


def method_of(request: Any) -> str:
    return METHOD_OF[type(request).__name__]
