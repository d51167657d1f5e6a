"""Message classes from serialized descriptors, at import, with any protobuf from 4 on.

No generated `_pb2` code: that is tied to the protobuf version it was generated for, and it registers
its files in the one default pool of the process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from corum.pb import wire

# FileDescriptorProto, of descriptor.proto: the two fields that are read by hand.
_NAME = 1
_DEPENDENCY = 3

_built: set[str] = set()


@cache
def file_protos() -> dict[str, bytes]:
    """Every file of `protos/` as a serialized FileDescriptorProto, by name ("rpc.proto")."""
    data = (Path(__file__).parent / "descriptors.binpb").read_bytes()
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


_classes: dict[str, Any] = {}


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
    return [message[start:end].decode() for at, _, start, end in wire.fields(message) if at == field]


@cache
def _runtime() -> tuple[Any, Callable[[Any], Any]]:
    """(pool, descriptor -> class).

    The public way imports protobuf's pure-Python implementation, which is then not used: 40 ms
    of a process's start against 20 ms by way of the extension's own module (protobuf 7.36, CPython
    3.11). That module is not promised to stay, hence the second way.
    """
    try:
        from google._upb import _message  # pyright: ignore
        from google.protobuf.message import Message

        meta: Any = _message.MessageMeta
        new_pool: Any = _message.DescriptorPool()
    except (ImportError, AttributeError):
        return _public_runtime()
    return new_pool, lambda descriptor: meta(
        descriptor.name, (Message,), {"DESCRIPTOR": descriptor, "__module__": __name__}
    )


def _public_runtime() -> tuple[Any, Callable[[Any], Any]]:
    from google.protobuf import descriptor_pool, message_factory

    new_pool: Any = descriptor_pool.DescriptorPool()
    factory: Any = getattr(message_factory, "GetMessageClass", None)  # protobuf >= 4.22
    return new_pool, factory or getattr(message_factory, "MessageFactory")(new_pool).GetPrototype
