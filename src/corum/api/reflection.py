"""gRPC server reflection, v1 and v1alpha: which services and messages are there. Pure.

etcd itself does not offer it; generic tools (grpcurl, grpcui, Postman) work through it. The
messages of both versions are the same bytes. Source: grpc/grpc reflection.proto.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.message import DecodeError

from corum import errors
from corum.pb import reflection
from corum.pb._build import dependencies, file_protos, load
from corum.pb.methods import methods


def answer(message: bytes) -> bytes:
    """The response to one ServerReflectionRequest; raises EtcdError for what is none."""
    try:
        request = reflection.ServerReflectionRequest.FromString(message)
    except DecodeError as error:
        raise errors.EtcdError(errors.INVALID_ARGUMENT, str(error)) from None
    response = reflection.ServerReflectionResponse(
        valid_host=request.host, original_request=request
    )
    asked = request.WhichOneof("message_request")
    if asked == "list_services":
        names = sorted({method.service for method in methods().values()})
        listed = [reflection.ServiceResponse(name=name) for name in names]
        response.list_services_response.service.extend(listed)
    elif asked == "file_by_filename":
        _give_file(response, request.file_by_filename, request.file_by_filename)
    elif asked == "file_containing_symbol":
        symbol = request.file_containing_symbol
        _give_file(response, _symbols().get(symbol.lstrip(".")), symbol)
    elif asked == "all_extension_numbers_of_type":
        _give_no_extensions(response, request.all_extension_numbers_of_type)
    elif asked == "file_containing_extension":
        _refuse(response, "extensions: there are none")
    else:
        raise errors.EtcdError(errors.INVALID_ARGUMENT, "invalid MessageRequest: not set")
    return response.SerializeToString()


def _give_file(response: reflection.ServerReflectionResponse, file: str | None, asked: str) -> None:
    if file not in file_protos():
        _refuse(response, f"not found: {asked}")
        return
    found = response.file_descriptor_response.file_descriptor_proto
    found.extend(file_protos()[name] for name in _with_dependencies(file))


def _give_no_extensions(response: reflection.ServerReflectionResponse, type_name: str) -> None:
    if type_name not in _symbols():
        _refuse(response, f"not found: {type_name}")
        return
    response.all_extension_numbers_response.base_type_name = type_name


def _refuse(response: reflection.ServerReflectionResponse, text: str) -> None:
    response.error_response.error_code = errors.NOT_FOUND
    response.error_response.error_message = text


def _with_dependencies(file: str) -> list[str]:
    found = [file]
    for name in found:  # grows while it is read: breadth first
        found += [other for other in dependencies(file_protos()[name]) if other not in found]
    return found


@cache
def _symbols() -> dict[str, str]:
    """Full name of every service, method, message, field and enum -> its file."""
    found: dict[str, str] = {}
    for method in methods().values():
        found[method.service] = found[f"{method.service}.{method.name}"] = method.file
    for file in file_protos():
        descriptor: Any = load(file)
        for message in descriptor.message_types_by_name.values():
            found[message.full_name] = file
            found.update((field.full_name, file) for field in message.fields)
            found.update((enum.full_name, file) for enum in message.enum_types)
        for enum in descriptor.enum_types_by_name.values():
            found[enum.full_name] = file
    return found
