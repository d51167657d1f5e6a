"""Entries of the log whose texts are no UTF-8: Go's protobuf writes such, ours refuses them.

Whoever cannot read an entry that others have applied cannot go on. So they are read as proto2,
which has no such rule; what is no UTF-8 becomes surrogates (as in Python's file names).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from corum.pb import _build, raft_internal
from corum.pb.wire import text_of

_FILE: Final = "raft_internal.proto"
_MESSAGE: Final = "etcdserverpb.InternalRaftRequest"
_strict: Final[Any] = raft_internal.InternalRaftRequest.FromString


def internal_request(data: bytes) -> Any:
    """An InternalRaftRequest, or what reads like one. Raises DecodeError for anything else."""
    try:
        return _strict(data)
    except Exception:  # upb's DecodeError is not protobuf's
        return _Lenient(_lenient_class().FromString(data))


class _Lenient:
    """A message of the lenient kind that is read as the strict one would be."""

    def __init__(self, message: Any) -> None:
        self._message = message

    def __getattr__(self, name: str) -> Any:
        return self._shown(self._message.DESCRIPTOR.fields_by_name[name])

    def ListFields(self) -> list[tuple[Any, Any]]:
        """Fields that are there, with their values, in order of their numbers."""
        return [(field, self._shown(field)) for field, _ in self._message.ListFields()]

    def HasField(self, name: str) -> bool:
        """Is a message there?"""
        return bool(self._message.HasField(name))

    def _shown(self, field: Any) -> Any:
        found = getattr(self._message, field.name)
        if field.type == field.TYPE_MESSAGE and not hasattr(found, "append"):
            return _Lenient(found)
        if field.type == field.TYPE_STRING and isinstance(found, bytes):
            return text_of(found)
        return found


@cache
def _lenient_class() -> Any:
    """The same message in a pool of its own whose files are proto2."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    pool, make = _build.fresh_runtime()

    def load(name: str) -> None:
        proto = FileDescriptorProto.FromString(_build.file_protos()[name])
        for dependency in proto.dependency:
            load(dependency)
        proto.ClearField("syntax")
        pool.AddSerializedFile(proto.SerializeToString())

    load(_FILE)
    return make(pool.FindMessageTypeByName(_MESSAGE))
