"""gRPC reflection tells generic tools what is there."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from corum import errors
from corum.api.reflection import answer
from corum.pb import reflection, reflection_v1alpha


def ask(**request: str) -> reflection.ServerReflectionResponse:
    asked = reflection.ServerReflectionRequest(host="h")
    for name, text in request.items():
        setattr(asked, name, text)
    return reflection.ServerReflectionResponse.FromString(answer(asked.SerializeToString()))


def test_services_are_listed() -> None:
    """Every service of etcd, health and reflection itself."""
    names = [one.name for one in ask(list_services="*").list_services_response.service]
    assert names == sorted(names)
    assert {
        "etcdserverpb.KV",
        "v3lockpb.Lock",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    } <= set(names)


@pytest.mark.parametrize(
    "symbol",
    ["etcdserverpb.KV", "etcdserverpb.KV.Put", "etcdserverpb.PutRequest", "mvccpb.Event.EventType"],
)
def test_files_of_a_symbol_make_a_pool(symbol: str) -> None:
    """The files given for a symbol are complete: a client can build them, imports included."""
    response = ask(file_containing_symbol=symbol)
    pool = descriptor_pool.DescriptorPool()
    for data in reversed(response.file_descriptor_response.file_descriptor_proto):
        pool.Add(descriptor_pb2.FileDescriptorProto.FromString(data))
    # This pool finds no methods by name; its services do.
    assert pool.FindFileContainingSymbol(symbol.removesuffix(".Put"))
    assert response.original_request.file_containing_symbol == symbol


def test_unknown_things_are_not_found() -> None:
    """An error inside the response; the stream goes on."""
    assert ask(file_containing_symbol="no.Such").error_response.error_code == errors.NOT_FOUND
    assert ask(file_by_filename="no.proto").error_response.error_code == errors.NOT_FOUND


def test_garbage_is_refused() -> None:
    """Bytes that are no request end the stream."""
    for message in (b"\xff", b""):
        with pytest.raises(errors.EtcdError) as caught:
            answer(message)
        assert caught.value.code == errors.INVALID_ARGUMENT


def test_both_versions_speak_the_same_bytes() -> None:
    """One implementation serves v1 and v1alpha."""
    old = reflection_v1alpha.ServerReflectionRequest(file_by_filename="kv.proto")
    found = reflection_v1alpha.ServerReflectionResponse.FromString(answer(old.SerializeToString()))
    assert len(found.file_descriptor_response.file_descriptor_proto) == 1
