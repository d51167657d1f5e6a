"""Every gRPC method of our services: path, kind, request and response. Builds no message class."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, Literal

from corum.pb import _build, wire
from corum.values import value

Kind = Literal["unary", "server_stream", "client_stream", "bidi"]

# descriptor.proto: FileDescriptorProto, ServiceDescriptorProto, MethodDescriptorProto.
_PACKAGE, _SERVICE = 2, 6
_NAME, _METHOD = 1, 2
_INPUT, _OUTPUT, _CLIENT_STREAMING, _SERVER_STREAMING = 2, 3, 5, 6

_KINDS: Final[dict[tuple[bool, bool], Kind]] = {
    (False, False): "unary",
    (False, True): "server_stream",
    (True, False): "client_stream",
    (True, True): "bidi",
}


@value
class Method:
    """One method, as the .proto files declare it."""

    path: str  # "/etcdserverpb.KV/Put"
    kind: Kind
    request: str  # full message name: "etcdserverpb.PutRequest"
    response: str
    file: str  # that declares it: "rpc.proto"

    @property
    def service(self) -> str:
        """Full name of the service: "etcdserverpb.KV"."""
        return self.path[1:].partition("/")[0]

    @property
    def name(self) -> str:
        """The method's own name: "Put"."""
        return self.path.rpartition("/")[2]

    def request_class(self) -> Any:
        """The class of the request; loads its file."""
        _build.load(self.file)
        return _build.message_class(self.request)

    def response_class(self) -> Any:
        """The class of the response; loads its file."""
        _build.load(self.file)
        return _build.message_class(self.response)


@cache
def methods() -> dict[str, Method]:
    """Every method by its path, in the order of files and declarations."""
    found: dict[str, Method] = {}
    for file, proto in _build.file_protos().items():
        package = b""
        for number, _, start, end in wire.fields(proto):
            if number == _PACKAGE:
                package = proto[start:end]
            elif number == _SERVICE:
                found.update(_of_service(file, package.decode(), proto[start:end]))
    return found


def _of_service(file: str, package: str, service: bytes) -> dict[str, Method]:
    records = wire.fields(service)
    name = next(service[s:e].decode() for number, _, s, e in records if number == _NAME)
    found: dict[str, Method] = {}
    for number, _, start, end in records:
        if number == _METHOD:
            method = _method(file, f"/{package}.{name}/", service[start:end])
            found[method.path] = method
    return found


def _method(file: str, prefix: str, proto: bytes) -> Method:
    fields = {number: proto[start:end] for number, _, start, end in wire.fields(proto)}
    streaming = (fields.get(_CLIENT_STREAMING) == b"\x01", fields.get(_SERVER_STREAMING) == b"\x01")
    return Method(
        prefix + fields[_NAME].decode(),
        _KINDS[streaming],
        fields[_INPUT].decode().removeprefix("."),
        fields[_OUTPUT].decode().removeprefix("."),
        file,
    )
