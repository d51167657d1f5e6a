"""Message classes from serialized descriptors, at import, with any protobuf from 4 on.

No generated `_pb2` code: that is tied to the protobuf version it was generated for, and it
registers its files in the one default pool of the process.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from corum.pb import wire

# FileDescriptorProto, of descriptor.proto: the two fields that are read by hand.
_NAME = 1
_DEPENDENCY = 3

_built: set[str] = set()
_classes: dict[str, Any] = {}


@cache
def file_protos() -> dict[str, bytes]:
    """Every file of `protos/` as a serialized FileDescriptorProto, by name ("rpc.proto")."""
    # os.path: pathlib would cost every command 10 ms of its start.
    with open(os.path.join(os.path.dirname(__file__), "descriptors.binpb"), "rb") as file:
        data = file.read()
    files = [data[start:end] for _, _, start, end in wire.fields(data)]
    return {_strings(file, _NAME)[0]: file for file in files}


def dependencies(file: bytes) -> list[str]:
    """Names of the files that a serialized FileDescriptorProto imports."""
    return _strings(file, _DEPENDENCY)


@cache
def pool() -> Any:
    """The descriptor pool that holds the files loaded so far."""
    return _runtime()[0]


def load(name: str) -> Any:
    """The FileDescriptor of `name`; it and what it imports are in the pool afterwards."""
    if name not in _built:
        proto = file_protos()[name]
        for dependency in dependencies(proto):
            load(dependency)
        pool().AddSerializedFile(proto)
        for descriptor in pool().FindFileByName(name).message_types_by_name.values():
            _classes[descriptor.full_name] = _runtime()[1](descriptor)
        _built.add(name)
    return pool().FindFileByName(name)


def message_class(full_name: str) -> Any:
    """The class of a loaded message, e.g. "etcdserverpb.PutRequest"."""
    return _classes[full_name]


def fill(namespace: dict[str, Any], name: str) -> None:
    """Put the messages and enums of file `name` into a module's namespace."""
    from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

    descriptor = load(name)
    for message in descriptor.message_types_by_name.values():
        made = namespace[message.name] = _classes[message.full_name]
        made.__module__ = namespace["__name__"]
    for enum in descriptor.enum_types_by_name.values():
        namespace[enum.name] = EnumTypeWrapper(enum)
        namespace.update((value.name, value.number) for value in enum.values)


def _strings(message: bytes, field: int) -> list[str]:
    records = wire.fields(message)
    return [message[start:end].decode() for number, _, start, end in records if number == field]


@cache
def _runtime() -> tuple[Any, Callable[[Any], Any]]:
    """The one that all modules of this package share."""
    return fresh_runtime()


def fresh_runtime() -> tuple[Any, Callable[[Any], Any]]:
    """(an empty pool, descriptor -> class).

    The public way imports protobuf's pure-Python implementation, which is then not used: 40 ms
    of a process's start against 20 ms by way of the extension's own module (protobuf 7.36, CPython
    3.11). That module is not promised to stay, hence the second way.
    """
    try:
        from google.protobuf.message import Message

        upb: Any = import_module("google._upb._message")
        meta, new_pool = upb.MessageMeta, upb.DescriptorPool()
    except (ImportError, AttributeError):
        return _public_runtime()
    return new_pool, lambda descriptor: meta(
        descriptor.name, (Message,), {"DESCRIPTOR": descriptor, "__module__": __name__}
    )


def _public_runtime() -> tuple[Any, Callable[[Any], Any]]:
    public: Any = import_module("google.protobuf.message_factory")
    new_pool: Any = import_module("google.protobuf.descriptor_pool").DescriptorPool()
    if hasattr(public, "GetMessageClass"):  # since protobuf 4.22
        return new_pool, public.GetMessageClass
    return new_pool, public.MessageFactory(new_pool).GetPrototype
