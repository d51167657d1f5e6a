"""The Lease service (rpc §6): grants and revokes go through the log, renewals do not.

A renewal is answered by the primary alone; on any other member it is forwarded to the leader.
"""

from __future__ import annotations

from typing import Any

from corum import errors
from corum.api.v3.calls import Service, decoded
from corum.pb import rpc
from corum.pb.varints import varint
from corum.server.operations import LEASE_GRANT, LEASE_REVOKE
from corum.values import LeaseId

TTL_MAX_S = 9_000_000_000


class LeaseService(Service):
    """LeaseGrant, LeaseRevoke, LeaseKeepAlive, LeaseTimeToLive, LeaseLeases."""

    PATH = "/etcdserverpb.Lease/"

    def __init__(self, node: Any) -> None:
        super().__init__(node)
        self._renewing: dict[int, int] = {}
        """Renewals without an answer, by stream."""
        self._ended: set[int] = set()
        """Streams whose client sends no more, to be finished after their last answer."""
        self._answer = rpc.LeaseKeepAliveResponse()
        """Of the renewal that is answered just now: to fill one costs half of making one."""

    def unary(self) -> dict[str, Any]:
        """Handlers by method name."""
        return {
            "LeaseGrant": self.grant,
            "LeaseRevoke": self.revoke,
            "LeaseTimeToLive": self.time_to_live,
            "LeaseLeases": self.leases,
        }

    def streams(self) -> dict[str, Any]:
        """(open, message, end) by method name."""
        return {"LeaseKeepAlive": (self.opened, self.keep_alive, self.half_closed)}

    def grant(self, call: int, message: bytes, meta: Any) -> None:
        """A lease with the client's id, or a random positive one."""
        request = decoded(rpc.LeaseGrantRequest, message)
        node = self.node
        node.check_writable(meta)
        node.space.admit(64)
        user = node.gate.any_user(meta)
        if request.TTL > TTL_MAX_S:
            raise errors.LEASE_TTL_TOO_LARGE()
        if request.ID == 0:
            request.ID = node.dice.getrandbits(63) or 1
            while LeaseId(request.ID) in node.lessor:
                request.ID = node.dice.getrandbits(63) or 1
            message = request.SerializeToString()
        node.propose(LEASE_GRANT, message, request, call, prefix=user)

    def revoke(self, call: int, message: bytes, meta: Any) -> None:
        """Delete the lease and every key attached to it, in one revision."""
        request = decoded(rpc.LeaseRevokeRequest, message)
        node = self.node
        node.check_writable(meta)
        user = node.gate.lease(meta, request.ID)
        node.propose(LEASE_REVOKE, message, request, call, prefix=user)

    def opened(self, call: int, meta: Any) -> None:
        """A keep-alive stream began."""
        self.node.check_open(meta)

    def half_closed(self, call: int) -> None:
        """The client sends no more: finish when everything is answered."""
        if call in self._renewing:
            self._ended.add(call)
        else:
            self.node.out.finish(call)

    def closed(self, call: int) -> None:
        """The client is gone."""
        self._renewing.pop(call, None)
        self._ended.discard(call)

    def keep_alive(self, call: int, message: bytes, meta: Any) -> None:
        """One renewal; an unknown or expired lease is answered with TTL 0, not with an error."""
        request = decoded(rpc.LeaseKeepAliveRequest, message)
        node = self.node
        node.gate.lease(meta, request.ID)
        self._renewing[call] = self._renewing.get(call, 0) + 1
        node.leases.renew(LeaseId(request.ID), self, call)

    def renewed(self, call: int, lease: LeaseId, ttl_s: int) -> None:
        """See `server.leases.Asker`."""
        left = self._renewing.get(call)
        if left is None:  # gone meanwhile
            return
        node = self.node
        answer = self._answer
        answer.ID, answer.TTL = lease, ttl_s
        header = node.headers.at(node.store.revision)
        node.out.messages.append((call, header + answer.SerializeToString()))
        if left > 1:
            self._renewing[call] = left - 1
            return
        del self._renewing[call]
        if call in self._ended:
            self._ended.discard(call)
            node.out.finish(call)

    def failed(self, call: int, error: BaseException) -> None:
        """See `server.leases.Asker`."""
        self.closed(call)
        self.node.out.error(call, error)

    def time_to_live(self, call: int, message: bytes, meta: Any) -> None:
        """Remaining and granted TTL; -1 for a lease that is not there."""
        request = decoded(rpc.LeaseTimeToLiveRequest, message)
        node = self.node
        node.check_open(meta)
        if request.keys:
            node.gate.lease(meta, request.ID, write=False)
        else:
            node.gate.any_user(meta)
        node.leases.time_to_live(request, lambda result: self._told(call, result))

    def _told(self, call: int, result: Any) -> None:
        if isinstance(result, BaseException):
            self.node.out.error(call, result)
            return
        header = self.node.headers.at(self.node.store.revision)
        self.node.out.replies.append((call, header + result.SerializeToString()))

    def leases(self, call: int, message: bytes, meta: Any) -> None:
        """All leases, the first to expire first."""
        node = self.node
        node.check_open(meta)
        node.gate.all_leases(meta)
        body = b"".join(
            [
                b"\x12" + varint(len(one)) + one
                for one in (b"\x08" + varint(i) for i in node.lessor.leases())
            ]
        )
        node.out.replies.append((call, node.headers.at(node.store.revision) + body))
