"""What members ask each other beside Raft: members, versions, leases, hashes (http §6)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from corum import errors
from corum.pb import leasepb, rpc
from corum.server import corruption
from corum.server.maintenance import check_views
from corum.values import LeaseId
from corum.versions import CORUM_VERSION

if TYPE_CHECKING:
    from corum.peer.transport import Peers
    from corum.server.node import Node

JSON: Final = "application/json"
PROTOBUF: Final = "application/protobuf"
PROMOTE: Final = "/members/promote/"


class Endpoints:
    """Answers every request of the peer port that is not under /raft."""

    def __init__(self, node: Node, peers: Peers) -> None:
        self._node = node
        self._peers = peers

    def answer(
        self, call: int, verb: str, target: str, headers: dict[str, str], body: bytes
    ) -> None:
        """One request."""
        path = target.partition("?")[0]
        reply = self._peers.reply
        if path == "/raft/probing":
            reply(call, 200, _dumps({"OK": True, "Now": _now(self._node)}) + "\n", JSON)
        elif path == "/version":
            reply(call, 200, self._version(), JSON)
        elif path == "/members":
            reply(call, 200, members_json(self._node), JSON)
        elif path.startswith(PROMOTE):
            self._promote(call, verb, path.removeprefix(PROMOTE))
        elif path == "/leases" and verb == "POST":
            self._renew(call, body)
        elif path == "/leases/internal" and verb == "POST":
            self._time_to_live(call, body)
        elif path.startswith("/leases"):
            reply(call, 405, "Method Not Allowed\n")
        elif path == "/members/hashkv":
            self._hash_kv(call, headers, body)
        elif path == "/downgrade/enabled":
            self._downgrade(call)
        else:
            reply(call, 404, "404 page not found\n")

    def _version(self) -> str:
        node = self._node
        found = node.members.version or "not_decided"
        told = {"etcdserver": node.config.server_version, "etcdcluster": found}
        return _dumps({**told, "corum": CORUM_VERSION})  # v2 entries do us no harm

    def _promote(self, call: int, verb: str, who: str) -> None:
        node, reply = self._node, self._peers.reply
        if verb != "POST":
            reply(call, 405, "Method Not Allowed\n")
            return
        if not who.isdigit():
            reply(call, 404, f"member {who} not found in cluster\n")
            return

        def done(error: BaseException | None) -> None:
            if error is None:
                reply(call, 200, members_json(node), JSON)
            elif isinstance(error, errors.MEMBER_NOT_FOUND):
                reply(call, 404, "membership: ID not found\n")
            elif isinstance(error, errors.MEMBER_NOT_LEARNER | errors.LEARNER_NOT_READY):
                reply(call, 412, f"{error}\n")
            else:
                reply(call, 500, f"{error}\n")

        node.reconfiguration.promote(int(who), done)

    # ---- leases

    def _renew(self, call: int, body: bytes) -> None:
        try:
            request = rpc.LeaseKeepAliveRequest.FromString(body)
        except Exception:  # upb's DecodeError
            self._peers.reply(call, 400, "error unmarshalling request\n")
            return
        leases = self._node.leases
        if not leases.primary:
            self._peers.reply(call, 400, "not a primary lessor\n")
            return
        try:
            leases.renew(LeaseId(request.ID), self, call)
        except errors.EtcdError as error:
            self.failed(call, error)

    def renewed(self, call: int, lease: LeaseId, ttl_s: int) -> None:
        """See `server.leases.Asker`."""
        if ttl_s:
            self._protobuf(call, rpc.LeaseKeepAliveResponse(ID=lease, TTL=ttl_s))
        else:
            self._peers.reply(call, 404, "lease not found\n")

    def failed(self, call: int, error: BaseException) -> None:
        """See `server.leases.Asker`."""
        self._peers.reply(call, 500, f"{error}\n")

    def _time_to_live(self, call: int, body: bytes) -> None:
        try:
            request = leasepb.LeaseInternalRequest.FromString(body).LeaseTimeToLiveRequest
        except Exception:  # upb's DecodeError
            self._peers.reply(call, 400, "error unmarshalling request\n")
            return
        if not self._node.leases.primary:
            self._peers.reply(call, 500, "not a primary lessor\n")
            return

        def told(result: Any) -> None:
            if isinstance(result, BaseException):
                self._peers.reply(call, 500, f"{result}\n")
                return
            if not result.grantedTTL:  # of a lease that is only due the time left is negative, too
                self._peers.reply(call, 404, "lease not found\n")
                return
            self._protobuf(call, leasepb.LeaseInternalResponse(LeaseTimeToLiveResponse=result))

        try:
            self._node.leases.time_to_live(request, told)
        except errors.EtcdError as error:
            told(error)

    def _protobuf(self, call: int, response: Any) -> None:
        headers = [("Content-Type", PROTOBUF)]
        self._peers.wire.http_reply(call, 200, headers, response.SerializeToString())

    # ---- the rest

    def _hash_kv(self, call: int, headers: dict[str, str], body: bytes) -> None:
        node, reply = self._node, self._peers.reply
        cluster = headers.get("x-etcd-cluster-id")
        if cluster is not None and cluster != f"{node.members.cluster:x}":
            reply(call, 412, "cluster ID mismatch\n")
            return
        try:
            revision = int(json.loads(body).get("revision", 0))
            kept = node.corruption.kept(revision)
            check_views(node)
            job = None if kept is not None else node.store.hash_kv(revision)
        except (ValueError, AttributeError, TypeError):
            reply(call, 400, "error unmarshalling request\n")
            return
        except errors.EtcdError as error:
            reply(call, 400, error.text.removeprefix("etcdserver: ") + "\n")
            return
        now = node.store.revision

        def done(found: Any) -> None:
            if isinstance(found, BaseException):
                reply(call, 400, f"{found}\n".replace("etcdserver: ", ""))
            else:
                reply(call, 200, corruption.answer(now, found).decode(), JSON)

        if job is None:
            done(kept)
        else:
            node.ports.jobs.start(job.run, done)

    def _downgrade(self, call: int) -> None:
        node = self._node

        def told(*_: Any) -> None:
            enabled = node.members.downgrade_target is not None
            self._peers.reply(call, 200, "true" if enabled else "false")

        node.reads.add(told, _Failed(self._peers, call), None)


class _Failed:
    """Stands where a read's call id stands: the read failed."""

    def __init__(self, peers: Peers, call: int) -> None:
        self._peers = peers
        self._call = call

    def fail(self, error: errors.EtcdError) -> None:
        """See `Node.refuse`."""
        self._peers.reply(self._call, 500, f"failed linearized read: {error.text}\n")


def members_json(node: Node) -> str:
    """All members as the peer port lists them."""
    listed = [member.to_json().decode() for member in node.members]
    return f"[{','.join(listed)}]\n"


def _now(node: Node) -> str:
    ns = node.ports.unix_time_ns()
    when = datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{ns % 1_000_000_000:09d}Z"


def _dumps(found: Any) -> str:
    return json.dumps(found, separators=(",", ":"))
