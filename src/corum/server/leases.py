"""Leases on this member: who renews, what expires, what is checkpointed (rpc §6).

The leader is the primary: it alone knows deadlines. Every 500 ms it proposes revokes for what is
due (at most 1,000 a second) and, when the feature is on, checkpoints of remaining TTLs.
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
WAITING_MAX: Final = 100_000
"""Questions to a new leader that has not applied all it has."""


class Leader(Protocol):
    """Who asks the leader for what only it knows (`forwarding`)."""

    def renew(
        self, lease: LeaseId, done: Callable[[int], None], failed: Callable[[BaseException], None]
    ) -> None: ...
    def time_to_live(self, request: Any, done: Callable[[Any], None]) -> None: ...


class Proposer(Protocol):
    """What this room needs of the node."""

    @property
    def forwarding(self) -> Leader: ...

    def propose_own(self, op: int, message: bytes, request: Any) -> None:
        """Propose something nobody waits for."""
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
        self._complete_from = 0
        """Index from which on this leader knows all leases: its first entry comes after all older
        ones, of which a new leader (one just restarted, too) may have applied a part only."""
        self._applied = 0
        self._waiting: list[Callable[[], None]] = []
        self.now_ns = 0
        self.expired_total = 0
        self.renewed_total = 0

    def lead(self, now_ns: int, last_index: int) -> None:
        """This member leads: leases get their remaining TTL plus an election timeout.

        What is asked of them waits until `last_index`, the end of its log, is applied.
        """
        self.now_ns = now_ns
        self._complete_from = last_index
        self.primary = True
        self.lessor.promote(now_ns, self._extend_ns)

    def follow(self) -> None:
        """This member leads no more."""
        if self.primary:
            self.primary = False
            self.lessor.demote()
            self._ask_again()

    def applied(self, index: int) -> None:
        """Entries up to `index` are applied."""
        self._applied = index
        if self._waiting and index >= self._complete_from:
            self._ask_again()

    def _ask_again(self) -> None:
        waiting, self._waiting = self._waiting, []
        for ask in waiting:
            ask()

    def _wait(self, ask: Callable[[], None]) -> bool:
        """Keep a question for later if it is too early for it; raises TOO_MANY_REQUESTS."""
        if self._applied >= self._complete_from:
            return False
        if len(self._waiting) >= WAITING_MAX:
            raise errors.TOO_MANY_REQUESTS()
        self._waiting.append(ask)
        return True

    def renew(
        self, lease: LeaseId, done: Callable[[int], None], failed: Callable[[BaseException], None]
    ) -> None:
        """Renew on the primary; `done(ttl in seconds)`, 0 for a lease that is not there."""
        if not self.primary:
            self._proposer.forwarding.renew(lease, done, failed)
            return
        if self._wait(lambda: self.renew(lease, done, failed)):
            return
        try:
            ttl_s = self.lessor.renew(lease, self.now_ns)
        except errors.EtcdError:
            ttl_s = 0
        else:
            self.renewed_total += 1
        done(ttl_s)

    def time_to_live(self, request: Any, done: Callable[[Any], None]) -> None:
        """A LeaseTimeToLiveResponse without header, or the error."""
        if not self.primary:
            self._proposer.forwarding.time_to_live(request, done)
            return
        if self._wait(lambda: self.time_to_live(request, done)):
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
        if not self.primary or now_ns < self._next_check_ns:
            return
        self._next_check_ns = now_ns + CHECK_NS
        for lease in self.lessor.expired(now_ns, REVOKES_PER_CHECK):
            self.expired_total += 1
            request = rpc.LeaseRevokeRequest(ID=lease)
            self._proposer.propose_own(LEASE_REVOKE, request.SerializeToString(), request)
        if self._checkpoints:
            due = self.lessor.checkpoints_due(now_ns, CHECKPOINTS_PER_CHECK)
            if due:
                request = rpc.LeaseCheckpointRequest()
                for lease, remaining_s in due:
                    request.checkpoints.add(ID=lease, remaining_TTL=remaining_s)
                self._proposer.propose_own(LEASE_CHECKPOINT, request.SerializeToString(), request)
