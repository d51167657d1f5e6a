"""Go etcd and our store, given the same requests: same answers, same revisions, same HashKV."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from corum import errors
from corum.backend.memory_backend import MemoryBackend
from corum.mvcc import txn
from corum.mvcc.store import Store
from corum.pb import kv as kvpb
from corum.pb import rpc as pb

pytestmark = [pytest.mark.process, pytest.mark.compat, pytest.mark.slow]
pytest.importorskip("grpc")

from oracle import servers  # noqa: E402
from oracle.rpc import Client, Refused  # noqa: E402

OPS_MAX = 128
KEYS = [b"a", b"ab", b"b", b"c", b"c\0", b"d" * 600, b"e"]
ENDS = [b"", b"", b"\0", b"b", b"c", b"d", b"f"]


class Ours:
    """The store behind etcd's requests; what the server does with it, without a server."""

    def __init__(self) -> None:
        self.store = Store(MemoryBackend())
        self.leases: set[int] = set()

    def call(self, method: str, request: object) -> object:
        try:
            return getattr(self, method.split("/")[1])(request)
        except errors.EtcdError as error:
            return Refused("", error.text)

    def Put(self, request: pb.PutRequest) -> pb.PutResponse:
        txn.check_put(request)
        write = self.store.begin()
        result = txn.apply_put(write, request, self.leases.__contains__)
        write.end()
        return self._put(result)

    def DeleteRange(self, request: pb.DeleteRangeRequest) -> pb.DeleteRangeResponse:
        txn.check_delete(request)
        write = self.store.begin()
        result = txn.execute_delete(write, request)
        write.end()
        return self._delete(result)

    def Range(self, request: pb.RangeRequest) -> pb.RangeResponse:
        txn.check_range(request)
        return self._range(
            self.store.range(request.key, request.range_end, txn.range_options(request))
        )

    def Txn(self, request: pb.TxnRequest) -> pb.TxnResponse:
        txn.check_txn(request, OPS_MAX)
        write = self.store.begin()
        result = txn.apply_txn(write, request, self.leases.__contains__)
        write.end()
        return self._txn(result, self._header())

    def Compact(self, request: pb.CompactionRequest) -> pb.CompactionResponse:
        compaction = self.store.compact(request.revision)
        while not compaction.step(2):
            pass
        return pb.CompactionResponse(header=self._header())

    def HashKV(self, request: pb.HashKVRequest) -> pb.HashKVResponse:
        result = self.store.hash_kv(request.revision).run()
        return pb.HashKVResponse(
            header=self._header(), hash=result.hash, compact_revision=result.compact_revision
        )

    def _header(self) -> pb.ResponseHeader:
        return pb.ResponseHeader(revision=self.store.revision)

    def _kvs(self, kvs: list[bytes]) -> list[kvpb.KeyValue]:
        return [kvpb.KeyValue.FromString(kv) for kv in kvs]

    def _range(self, result: txn.RangeResult) -> pb.RangeResponse:
        return pb.RangeResponse(
            header=pb.ResponseHeader(revision=result.revision),
            kvs=self._kvs(result.kvs),
            more=result.more,
            count=result.count,
        )

    def _put(self, result: txn.PutResult) -> pb.PutResponse:
        prev = None if result.prev is None else kvpb.KeyValue.FromString(result.prev)
        header = pb.ResponseHeader(revision=result.revision)
        return pb.PutResponse(header=header, prev_kv=prev)

    def _delete(self, result: txn.DeleteResult) -> pb.DeleteRangeResponse:
        return pb.DeleteRangeResponse(
            header=pb.ResponseHeader(revision=result.revision),
            deleted=result.deleted,
            prev_kvs=self._kvs(result.prevs),
        )

    def _txn(self, result: txn.TxnResult, header: pb.ResponseHeader) -> pb.TxnResponse:
        ops = []
        for response in result.responses:
            if isinstance(response, txn.TxnResult):
                ops.append(pb.ResponseOp(response_txn=self._txn(response, pb.ResponseHeader())))
            elif isinstance(response, txn.PutResult):
                ops.append(pb.ResponseOp(response_put=self._put(response)))
            elif isinstance(response, txn.DeleteResult):
                ops.append(pb.ResponseOp(response_delete_range=self._delete(response)))
            else:
                ops.append(pb.ResponseOp(response_range=self._range(response)))
        return pb.TxnResponse(header=header, succeeded=result.succeeded, responses=ops)


class Requests:
    """Random requests, from a seed."""

    def __init__(self, seed: int, leases: list[int]) -> None:
        self.dice = random.Random(seed)
        self.leases = leases
        self.revision = 1

    def range(self) -> pb.RangeRequest:
        dice, near = self.dice, self.revision
        request = pb.RangeRequest(key=dice.choice([*KEYS, b"\0"]), range_end=dice.choice(ENDS))
        if dice.random() < 0.5:
            request.limit = dice.randrange(-1, 5)
        if dice.random() < 0.5:
            request.revision = near + dice.randrange(-9, 2)
        if dice.random() < 0.3:
            request.sort_order = dice.randrange(3)
        if dice.random() < 0.3:
            # CREATE, MOD and VALUE may have ties here, which Go orders at random; MOD has none
            # but for puts of one transaction, so a limit never cuts between two of them.
            request.sort_target = dice.choice([0, 1, 2, 3, 4])
            if request.sort_target:
                request.limit = 0
        if dice.random() < 0.2:
            request.keys_only = True
        if dice.random() < 0.2:
            request.count_only = True
        for name in ("min_mod", "max_mod", "min_create", "max_create"):
            if dice.random() < 0.1:
                setattr(request, f"{name}_revision", max(near + dice.randrange(-9, 3), 0))
        return request

    def put(self) -> pb.PutRequest:
        dice = self.dice
        request = pb.PutRequest(key=dice.choice(KEYS), value=dice.randbytes(dice.randrange(4)))
        request.lease = dice.choice([0, 0, 0, *self.leases, 99])
        request.prev_kv = dice.random() < 0.5
        if dice.random() < 0.1:
            request.ignore_value, request.value = True, dice.choice([b"", b"", b"x"])
        if dice.random() < 0.1:
            request.ignore_lease, request.lease = True, dice.choice([0, 0, 7])
        if dice.random() < 0.02:
            request.key = b""
        return request

    def delete(self) -> pb.DeleteRangeRequest:
        dice = self.dice
        return pb.DeleteRangeRequest(
            key=dice.choice(KEYS), range_end=dice.choice(ENDS), prev_kv=dice.random() < 0.5
        )

    def compare(self) -> pb.Compare:
        dice = self.dice
        request = pb.Compare(key=dice.choice(KEYS), result=dice.randrange(4))
        if dice.random() < 0.3:
            request.range_end = dice.choice(ENDS)
        target = request.target = dice.randrange(5)
        if target == 3:
            request.value = dice.randbytes(dice.randrange(2))
        else:
            name = ("version", "create_revision", "mod_revision", "", "lease")[target]
            setattr(request, name, dice.choice([0, 1, 2, self.revision, self.revision // 2]))
        return request

    def txn(self, depth: int = 0) -> pb.TxnRequest:
        dice = self.dice
        request = pb.TxnRequest(compare=[self.compare() for _ in range(dice.randrange(3))])
        for ops in (request.success, request.failure):
            for _ in range(dice.randrange(4 - depth)):
                ops.append(self._op(depth))
        return request

    def _op(self, depth: int) -> pb.RequestOp:
        number = self.dice.random()
        if number < 0.3:
            return pb.RequestOp(request_range=self.range())
        if number < 0.7:
            return pb.RequestOp(request_put=self.put())
        if number < 0.85:
            return pb.RequestOp(request_delete_range=self.delete())
        if number < 0.99 and depth < 2:
            return pb.RequestOp(request_txn=self.txn(depth + 1))
        return pb.RequestOp()

    def any(self) -> tuple[str, object]:
        number = self.dice.random()
        if number < 0.3:
            return "KV/Put", self.put()
        if number < 0.4:
            return "KV/DeleteRange", self.delete()
        if number < 0.6:
            return "KV/Txn", self.txn()
        if number < 0.9:
            return "KV/Range", self.range()
        if number < 0.92:
            return "KV/Compact", pb.CompactionRequest(
                revision=self.revision - self.dice.randrange(-1, 9), physical=True
            )
        return "Maintenance/HashKV", pb.HashKVRequest(
            revision=max(self.revision - self.dice.randrange(-1, 9), 0)
        )


def plain(answer: object, request: object) -> object:
    """What may be compared: no ids and terms, equal sort keys in one order."""
    if isinstance(answer, Refused):
        return answer.text
    kind = type(answer)
    answer = kind.FromString(answer.SerializeToString())
    _strip(answer, request)
    return answer


def _strip(answer: object, request: object) -> None:
    if isinstance(answer, pb.RangeResponse):
        for kv in answer.kvs:
            kv.SetInParent()
        if request.sort_target not in (0, 3):
            ordered = sorted(answer.kvs, key=lambda kv: kv.key)
            del answer.kvs[:]
            answer.kvs.extend(ordered)
    if isinstance(answer, pb.TxnResponse):
        ops = request.success if answer.succeeded else request.failure
        for op, response in zip(ops, answer.responses, strict=True):
            _strip(
                getattr(response, response.WhichOneof("response")),
                getattr(op, op.WhichOneof("request")),
            )
    revision = answer.header.revision
    answer.header.Clear()
    answer.header.revision = revision


@pytest.fixture(scope="module")
def go(go_program: servers.Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder: Path = tmp_path_factory.mktemp("go")
    with servers.running(go_program, folder) as server, Client(server.endpoint) as client:
        yield client


def test_same_requests_same_answers(go: Client) -> None:
    """3,000 random requests, every answer compared; HashKV too, at present and past revisions.

    Go 3.5.1 differs from later versions in one point of this: HashKV at the compacted revision is
    refused there, so that request is left out.
    """
    ours = Ours()
    leases = [7, 8]
    for lease in leases:
        go.call("Lease/LeaseGrant", pb.LeaseGrantRequest(ID=lease, TTL=600))
    ours.leases.update(leases)
    requests = Requests(seed=1, leases=leases)
    seen: dict[str, int] = {}
    for number in range(3_000):
        method, request = requests.any()
        if method.endswith("HashKV") and request.revision == ours.store.compacted:
            continue
        theirs = plain(go.call(method, request), request)
        mine = plain(ours.call(method, request), request)
        assert mine == theirs, f"request {number}, {method}: {request}"
        requests.revision = ours.store.revision
        what = method if not isinstance(theirs, str) else theirs
        seen[what] = seen.get(what, 0) + 1
    # The dice must have reached what this test is for.
    refused = [what for what in seen if what.startswith("etcdserver")]
    assert len(refused) >= 8, refused
    assert len(seen) - len(refused) == 6, seen
