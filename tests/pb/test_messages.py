"""corum.pb: the right numbers, a pool of its own, stubs that match."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from corum.pb import _build, kv, raft_internal, raftpb, rpc
from corum.pb.methods import methods

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "protos").glob("*.proto"))


def test_a_put_in_the_log_has_etcds_bytes() -> None:
    """The bytes that etcd 3.6 writes for put foo=bar (measured there)."""
    request = raft_internal.InternalRaftRequest(
        header=raft_internal.RequestHeader(ID=0x7B),
        put=rpc.PutRequest(key=b"foo", value=b"bar"),
    )
    assert request.SerializeToString().hex(" ") == (
        "22 0a 0a 03 66 6f 6f 12 03 62 61 72 a2 06 02 08 7b"
    )


def test_proto2_fields_are_written_even_when_zero_if_set() -> None:
    """raftpb keeps presence: etcd up to 3.6 writes every field, 3.7 only those that are set."""
    entry = raftpb.Entry(Term=1, Index=0, Type=raftpb.EntryNormal)
    assert entry.SerializeToString() == b"\x08\x00\x10\x01\x18\x00"
    assert raftpb.Entry().SerializeToString() == b""


def test_nested_classes_are_the_modules_classes() -> None:
    """What a message makes by itself is an instance of the class that the module exports."""
    txn = rpc.TxnRequest()
    operation = txn.success.add()
    operation.request_put.key = b"k"
    assert type(operation) is rpc.RequestOp
    assert type(operation.request_put) is rpc.PutRequest
    assert type(rpc.RangeResponse(kvs=[kv.KeyValue(key=b"k")]).kvs[0]) is kv.KeyValue


def test_enums_have_names_and_numbers() -> None:
    """Top-level enums stand in the module, nested ones in their message."""
    assert (rpc.NOSPACE, rpc.AlarmType.Name(2)) == (1, "CORRUPT")
    assert rpc.RangeRequest.DESCEND == rpc.RangeRequest.SortOrder.Value("DESCEND") == 2


def test_another_packages_etcd_messages_do_not_collide() -> None:
    """The default pool can hold another rpc.proto with etcd's package beside ours."""
    script = """
from google.protobuf import descriptor_pb2, descriptor_pool
from corum.pb import rpc
other = descriptor_pb2.FileDescriptorProto(name="rpc.proto", package="etcdserverpb")
other.message_type.add(name="PutRequest").field.add(name="other", number=9, type=5, label=1)
descriptor_pool.Default().AddSerializedFile(other.SerializeToString())
found = descriptor_pool.Default().FindMessageTypeByName("etcdserverpb.PutRequest")
assert [field.name for field in found.fields] == ["other"]
assert rpc.PutRequest(key=b"k").SerializeToString() == b"\\n\\x01k"
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_the_public_way_into_protobuf_works_too() -> None:
    """Where protobuf's extension hides its classes, the documented (slower) API builds ours."""
    script = """
import functools
from corum.pb import _build
_build._runtime = functools.cache(_build._public_runtime)
from corum.pb import rpc
txn = rpc.TxnRequest()
assert type(txn.success.add()) is rpc.RequestOp
assert rpc.PutRequest.FromString(b"\\n\\x01k").key == b"k"
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_importing_rpc_leaves_the_rest_unbuilt() -> None:
    """Only what is asked for is loaded: start-up time of etcdctl depends on it."""
    script = """
import json, sys
from corum.pb import rpc, _build
print(json.dumps([sorted(_build._built), "google.protobuf.descriptor_pb2" in sys.modules]))
"""
    out = subprocess.run(
        [sys.executable, "-c", script], check=True, timeout=60, capture_output=True, text=True
    ).stdout
    assert json.loads(out) == [["authpb.proto", "kv.proto", "rpc.proto"], False]


@pytest.mark.parametrize("module", MODULES)
def test_stub_and_module_declare_the_same(module: str) -> None:
    """Every message and enum of a module is in its stub, with its fields; and nothing else."""
    loaded = importlib.import_module(f"corum.pb.{module}")
    tree = ast.parse((ROOT / f"src/corum/pb/{module}.pyi").read_text())
    descriptor = _build.load(f"{module}.proto")
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    assert set(classes) == set(descriptor.message_types_by_name)
    for name, node in classes.items():
        declared = {
            item.name if isinstance(item, ast.FunctionDef) else item.target.id
            for item in node.body
            if isinstance(item, ast.FunctionDef)
            or (isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name))
        }
        fields = {field.name for field in descriptor.message_types_by_name[name].fields}
        assert fields - {"from"} <= declared
        assert hasattr(loaded, name)


@pytest.mark.slow
def test_generated_files_are_fresh() -> None:
    """`tools/gen_pb.py` would write exactly what is committed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/gen_pb.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_methods_know_their_kinds_and_messages() -> None:
    """The method table is read from the descriptors."""
    found = methods()
    watch = found["/etcdserverpb.Watch/Watch"]
    assert (watch.kind, watch.service, watch.name) == ("bidi", "etcdserverpb.Watch", "Watch")
    assert found["/etcdserverpb.KV/RangeStream"].kind == "server_stream"
    assert found["/etcdserverpb.KV/Put"].request_class() is rpc.PutRequest
    assert found["/etcdserverpb.KV/Put"].response_class() is rpc.PutResponse
    assert sum(path.startswith(("/etcdserverpb", "/v3")) for path in found) == 49
