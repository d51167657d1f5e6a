"""What clients of a member are told while the cluster has no quorum."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from corum.pb import electionpb, rpc
from oracle.build import put
from oracle.clusters import Cluster, call, until
from oracle.servers import Program, Server

pytestmark = [pytest.mark.process, pytest.mark.slow]

DEMANDING = (("hasleader", "true"),)
NO_LEADER = ("UNAVAILABLE", "etcdserver: no leader")


class Streams:
    """Open streams of one client, and how they ended: (code, text), seconds after they began."""

    def __init__(self, server: Server) -> None:
        self.channel = grpc.insecure_channel(server.endpoint)
        self.ends: dict[str, tuple[str, str]] = {}
        self.began: set[str] = set()
        self._stop = threading.Event()

    def open(
        self, name: str, path: str, request: Any, metadata: Any, *, lone: bool = False
    ) -> None:
        """`lone`: there is but one request."""
        invoke = self.channel.stream_stream(path)

        def requests() -> Iterator[bytes]:
            yield request.SerializeToString()
            if not lone:
                self._stop.wait()

        answers = invoke(requests(), metadata=metadata)

        def read() -> None:
            try:
                for _ in answers:
                    self.began.add(name)
            except grpc.RpcError as error:
                self.ends[name] = (error.code().name, error.details() or "")

        threading.Thread(target=read, daemon=True).start()

    def unary(self, path: str, request: Any, metadata: Any = DEMANDING) -> tuple[str, str] | bytes:
        try:
            invoke = self.channel.unary_unary(path)
            return invoke(request.SerializeToString(), metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""

    def close(self) -> None:
        self._stop.set()
        self.channel.close()


def test_clients_that_demand_a_leader_are_told_that_there_is_none(
    cluster: Cluster, our_program: Program
) -> None:
    """Their streams (watches, renewals, observers) end three election timeouts after the leader
    was lost, their calls at once; others' go on, and writes time out."""
    for name in ("a", "b", "c"):
        cluster.add(our_program, name)
    cluster.start(["a", "b", "c"])
    leader = cluster.leader()
    one, other = (m for m in cluster.members.values() if m is not leader)
    granted = call(one, "lease/grant", {"TTL": 600})
    streams = Streams(one)
    try:
        watch = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"a"))
        alive = rpc.LeaseKeepAliveRequest(ID=int(granted["ID"]))
        streams.open("watch", "/etcdserverpb.Watch/Watch", watch, DEMANDING)
        streams.open("alive", "/etcdserverpb.Lease/LeaseKeepAlive", alive, DEMANDING)
        observe = electionpb.LeaderRequest(name=b"e")
        assert isinstance(streams.unary("/etcdserverpb.KV/Put", put("e/1", "elected")), bytes)
        streams.open("observe", "/v3electionpb.Election/Observe", observe, DEMANDING, lone=True)
        streams.open("patient", "/etcdserverpb.Watch/Watch", watch, ())
        until(lambda: len(streams.began) == 4)
        lost = time.monotonic()
        leader.kill()
        other.kill()
        until(lambda: len(streams.ends) == 3, 30)
        assert time.monotonic() - lost >= 3
        assert streams.ends == dict.fromkeys(("watch", "alive", "observe"), NO_LEADER)
        for path, request in (
            ("/etcdserverpb.KV/Put", put("a", "b")),
            ("/etcdserverpb.KV/Range", rpc.RangeRequest(key=b"a", serializable=True)),
            ("/etcdserverpb.Maintenance/Status", rpc.StatusRequest()),
            ("/etcdserverpb.Cluster/MemberList", rpc.MemberListRequest()),
        ):
            assert streams.unary(path, request) == NO_LEADER, path
        local = rpc.RangeRequest(key=b"a", serializable=True)
        assert isinstance(streams.unary("/etcdserverpb.KV/Range", local, ()), bytes)
        other.start()
        assert "patient" not in streams.ends
        until(lambda: isinstance(streams.unary("/etcdserverpb.KV/Put", put("a", "b")), bytes))
    finally:
        streams.close()


def test_a_learner_serves_what_it_has_and_nothing_else(
    cluster: Cluster, our_program: Program
) -> None:
    """Serializable ranges and its status; whatever needs a voter is refused with etcd's text."""
    first = cluster.add(our_program, "a")
    cluster.start(["a"])
    learner = cluster.add(our_program, "b")
    added = {"peerURLs": [learner.peer_url], "isLearner": True}
    assert call(first, "cluster/member/add", added)
    cluster.start(["b"], state="existing")
    refused = ("FAILED_PRECONDITION", "etcdserver: rpc not supported for learner")
    streams = Streams(learner)
    try:
        for path, request in (
            ("/etcdserverpb.KV/Put", put("a", "b")),
            ("/etcdserverpb.KV/Range", rpc.RangeRequest(key=b"a")),
            ("/etcdserverpb.Cluster/MemberList", rpc.MemberListRequest()),
        ):
            assert streams.unary(path, request, ()) == refused, path
        local = rpc.RangeRequest(key=b"a", serializable=True)
        assert isinstance(streams.unary("/etcdserverpb.KV/Range", local), bytes)
        status = streams.unary("/etcdserverpb.Maintenance/Status", rpc.StatusRequest())
        assert isinstance(status, bytes)
        assert rpc.StatusResponse.FromString(status).isLearner
        streams.open("watch", "/etcdserverpb.Watch/Watch", rpc.WatchRequest(), ())
        until(lambda: streams.ends)
        assert streams.ends == {"watch": refused}
    finally:
        streams.close()
