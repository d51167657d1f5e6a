"""Leases on this member: who renews, what expires, what is checkpointed (rpc §6).

The leader is the primary: it alone knows deadlines. Every 500 ms it proposes revokes for what is
due (at most 1,000 a second) and, when the feature is on, checkpoints of remaining TTLs.

Who believes to lead need not: a process that stood still wakes up deposed, and a leader with a slow
disk applies later than its followers. So nothing is said of a lease before a round of linearizable
reads has confirmed that this member leads and has applied all that was committed (as etcd's
`ensureLeadership`); and what a leader proposes here is never forwarded to another one.
A lease that is due is not gone: until its revocation is applied, the next leader may find it alive
and extend it. Whoever renews it meanwhile waits for that (as in etcd).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from corum import errors
from corum.lease import Lessor
from corum.pb import rpc
from corum.server.operations import LEASE_CHECKPOINT, LEASE_REVOKE
from corum.values import NS_PER_MS, LeaseId

CHECK_NS: Final = 500 * NS_PER_MS
REVOKES_PER_CHECK: Final = 500
CHECKPOINTS_PER_CHECK: Final = 1_000


ENDING_MAX: Final = 10_000
"""Renewals that wait for a revocation."""
ENDING_NS: Final = 7_000 * NS_PER_MS


class Asker(Protocol):
    """Who renews for a client, which it knows by `call`."""

    def renewed(self, call: int, lease: LeaseId, ttl_s: int) -> None:
        """The whole TTL again; 0 for a lease that is not there."""
        ...

    def failed(self, call: int, error: BaseException) -> None: ...


Renewal = tuple[LeaseId, Asker, int]
"""(lease, asker, call), see `Leases.renew`."""


class Leader(Protocol):
    """Who asks the leader for what only it knows (`forwarding`)."""

    def renew(self, lease: LeaseId, asker: Asker, call: int) -> None: ...
    def time_to_live(self, request: Any, done: Callable[[Any], None]) -> None: ...


class Proposer(Protocol):
    """What this room needs of the node."""

    @property
    def forwarding(self) -> Leader: ...

    def confirm(self, then: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        """`then` when all that is committed now is applied, by a member that led or its follower.

        Raises TOO_MANY_REQUESTS.
        """
        ...

    def propose_as_leader(self, op: int, message: bytes, request: Any) -> None:
        """Propose something nobody waits for, but only while this member leads."""
        ...


class Leases:
    """Drives the `Lessor`: renewals, expiry, checkpoints."""

    def __init__(
        self, lessor: Lessor, proposer: Proposer, extend_ns: int, *, checkpoints: bool
    ) -> None:
        self.lessor = lessor
        self._proposer = proposer
        self._extend_ns = extend_ns
        self._checkpoints = checkpoints
        self._next_check_ns = 0
        self.primary = False
        self.now_ns = 0
        self.expired_total = 0
        self.renewed_total = 0
        self._renewals: list[Renewal] = []
        """What came in this turn, and is confirmed by one round."""
        self._renewals_ns = 0
        self._ending: list[tuple[int, Renewal]] = []
        """(deadline, renewal of a lease that is due)."""

    def lead(self, now_ns: int) -> None:
        """This member leads: leases get their remaining TTL plus an election timeout."""
        self.now_ns = now_ns
        self.primary = True
        self.lessor.promote(now_ns, self._extend_ns)

    def follow(self) -> None:
        """This member leads no more."""
        if self.primary:
            self.primary = False
            self.lessor.demote()

    def renew(self, lease: LeaseId, asker: Asker, call: int) -> None:
        """Renew on the primary, and tell `asker`. Raises TOO_MANY_REQUESTS."""
        if not self.primary:
            self._proposer.forwarding.renew(lease, asker, call)
            return
        if not self._renewals or self._renewals_ns != self.now_ns:
            renewals: list[Renewal] = []
            self._proposer.confirm(
                lambda: self._renew_all(renewals), lambda error: _fail_all(renewals, error)
            )
            self._renewals, self._renewals_ns = renewals, self.now_ns
        self._renewals.append((lease, asker, call))

    def _renew_all(self, renewals: list[Renewal]) -> None:
        self._renewals = []
        if not self.primary:  # not any more: the leader decides
            for renewal in renewals:
                self._renew_anew(renewal)
            return
        lessor, now_ns = self.lessor, self.now_ns
        for renewal in renewals:
            lease, asker, call = renewal
            try:
                ttl_s = lessor.renew(lease, now_ns)
            except errors.EtcdError:
                if lease not in lessor:
                    asker.renewed(call, lease, 0)
                elif len(self._ending) < ENDING_MAX:
                    self._ending.append((now_ns + ENDING_NS, renewal))
                else:
                    asker.failed(call, errors.TOO_MANY_REQUESTS())
            else:
                self.renewed_total += 1
                asker.renewed(call, lease, ttl_s)

    def _renew_anew(self, renewal: Renewal) -> None:
        lease, asker, call = renewal
        try:
            self.renew(lease, asker, call)
        except errors.EtcdError as error:
            asker.failed(call, error)

    def _ask_again(self, now_ns: int) -> None:
        """Renewals that wait for a revocation: it came, or another leader is to decide, or none."""
        ending, self._ending = self._ending, []
        for deadline_ns, renewal in ending:
            lease, asker, call = renewal
            if lease not in self.lessor:
                asker.renewed(call, lease, 0)
            elif not self.primary or not self.lessor.is_due(lease, now_ns):
                self._renew_anew(renewal)
            elif now_ns >= deadline_ns:
                asker.failed(call, errors.TIMEOUT())
            else:
                self._ending.append((deadline_ns, renewal))

    def time_to_live(self, request: Any, done: Callable[[Any], None]) -> None:
        """A LeaseTimeToLiveResponse without header, or the error. Raises TOO_MANY_REQUESTS."""
        if self.primary:
            self._proposer.confirm(lambda: self._tell(request, done), done)
        else:
            self._proposer.forwarding.time_to_live(request, done)

    def _tell(self, request: Any, done: Callable[[Any], None]) -> None:
        if not self.primary:
            try:
                self.time_to_live(request, done)
            except errors.EtcdError as error:
                done(error)
            return
        lease = LeaseId(request.ID)
        response = rpc.LeaseTimeToLiveResponse(ID=lease)
        if lease in self.lessor:
            response.TTL = self.lessor.remaining(lease, self.now_ns)
            response.grantedTTL = self.lessor.ttl(lease)
            if request.keys:
                response.keys.extend(self.lessor.keys(lease))
        else:
            response.TTL = -1
        done(response)

    def tick(self, now_ns: int) -> None:
        """Propose what is due; does nothing between two checks or on a follower."""
        self.now_ns = now_ns
        if self._ending:
            self._ask_again(now_ns)
        if not self.primary or now_ns < self._next_check_ns:
            return
        self._next_check_ns = now_ns + CHECK_NS
        for lease in self.lessor.expired(now_ns, REVOKES_PER_CHECK):
            self.expired_total += 1
            request = rpc.LeaseRevokeRequest(ID=lease)
            self._proposer.propose_as_leader(LEASE_REVOKE, request.SerializeToString(), request)
        if self._checkpoints:
            due = self.lessor.checkpoints_due(now_ns, CHECKPOINTS_PER_CHECK)
            if due:
                request = rpc.LeaseCheckpointRequest()
                for lease, remaining_s in due:
                    request.checkpoints.add(ID=lease, remaining_TTL=remaining_s)
                self._proposer.propose_as_leader(
                    LEASE_CHECKPOINT, request.SerializeToString(), request
                )


def _fail_all(renewals: list[Renewal], error: BaseException) -> None:
    for _, asker, call in renewals:
        asker.failed(call, error)
