"""Leases: grants, attached keys, deadlines on the primary, checkpoints (rpc.md §6).

Grants, attachments and checkpointed remaining TTLs are replicated: they change only through the
log and are equal on every member. Deadlines exist on the *primary* alone (the Raft leader), are
never written, and start anew with every primary. The lessor never deletes a key: it reports leases
that are due, the server proposes their revocation, and applying that returns the keys to delete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from typing import Final

from corum import errors
from corum.pb.wire import VARINT, fields, int_field, read_varint, to_int64
from corum.values import NS_PER_S, LeaseId

TTL_MAX_S: Final = 9_000_000_000
REVOKES_PER_SECOND: Final = 1_000
REVOKE_RETRY_NS: Final = 3 * NS_PER_S
CHECKPOINT_INTERVAL_NS: Final = 300 * NS_PER_S
EXPIRIES_PER_SECOND: Final = REVOKES_PER_SECOND * 3 // 4
"""After a change of primary, so that a pile of leases leaves revocations for the others."""


class Lease:
    """One lease. `deadline_ns` is None except on the primary."""

    __slots__ = (
        "checkpoint_due_ns",
        "deadline_ns",
        "id",
        "keys",
        "queued_ns",
        "remaining_s",
        "ttl_s",
    )

    def __init__(self, lease_id: LeaseId, ttl_s: int, remaining_s: int = 0) -> None:
        self.id = lease_id
        self.ttl_s = ttl_s
        self.remaining_s = remaining_s  # as of the last checkpoint; 0: the whole TTL
        self.keys: set[bytes] = set()
        self.deadline_ns: int | None = None
        self.queued_ns: int | None = None  # the one entry of the deadline heap that counts
        self.checkpoint_due_ns: int | None = None


class Lessor:
    """All leases of one member."""

    def __init__(self, min_ttl_s: int, *, persist_checkpoints: bool = True) -> None:
        """Shorter TTLs are raised to `min_ttl_s` silently, zero and negative ones too.

        `persist_checkpoints`: write remaining TTLs into the bucket, so that they survive a restart
        (as etcd does from 3.6 on).
        """
        self.persist_checkpoints = persist_checkpoints
        self.primary = False
        self._min_ttl_s = min_ttl_s
        self._leases: dict[LeaseId, Lease] = {}
        self._lease_of: dict[bytes, LeaseId] = {}
        self._deadlines: list[tuple[int, LeaseId]] = []  # may hold stale entries, see _queue
        self._checkpoints: list[tuple[int, LeaseId]] = []
        self._renewed: dict[LeaseId, None] = {}  # their checkpoints are to be reset to 0

    def __contains__(self, lease_id: LeaseId) -> bool:
        return lease_id in self._leases

    def __len__(self) -> int:
        return len(self._leases)

    # -- replicated state, changed by apply ----------------------------------------------------

    def grant(self, lease_id: LeaseId, ttl_s: int, now_ns: int) -> int:
        """New lease; the effective TTL in seconds. Raises LEASE_EXIST, LEASE_TTL_TOO_LARGE.

        The id is chosen before the proposal and is never 0. To be stored with `persist`.
        """
        assert lease_id != 0
        if ttl_s > TTL_MAX_S:
            raise errors.LEASE_TTL_TOO_LARGE()
        if lease_id in self._leases:
            raise errors.LEASE_EXIST()
        lease = self._leases[lease_id] = Lease(lease_id, max(ttl_s, self._min_ttl_s))
        if self.primary:
            self._extend(lease, now_ns, 0)
        return lease.ttl_s

    def revoke(self, lease_id: LeaseId) -> list[bytes]:
        """Forget the lease; its keys in order, for the caller to delete with the bucket's entry.

        Raises LEASE_NOT_FOUND. The same order on every member: the deletes get sub-revisions.
        """
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            raise errors.LEASE_NOT_FOUND()
        self._renewed.pop(lease_id, None)
        for key in lease.keys:
            del self._lease_of[key]
        return sorted(lease.keys)

    def attach(self, lease_id: LeaseId, key: bytes) -> None:
        """`key` now lives as long as `lease_id`, and no longer with any other lease."""
        before = self._lease_of.get(key)
        if before == lease_id:
            return
        if before is not None:
            self._leases[before].keys.discard(key)
        self._find(lease_id).keys.add(key)
        self._lease_of[key] = lease_id

    def detach(self, key: bytes) -> None:
        """`key` was deleted or put without a lease."""
        before = self._lease_of.pop(key, None)
        if before is not None:
            self._leases[before].keys.discard(key)

    def lease_of(self, key: bytes) -> LeaseId:
        """The lease `key` is attached to; 0 when there is none."""
        return self._lease_of.get(key, LeaseId(0))

    def checkpoint(self, lease_id: LeaseId, remaining_s: int, now_ns: int) -> bool:
        """What the primary saw remaining; 0 resets it. True when `persist` has to write it.

        Deadlines do not move: the next primary starts from it. A lease that is gone meanwhile is
        ignored, as in etcd.
        """
        lease = self._leases.get(lease_id)
        if lease is None:
            return False
        lease.remaining_s = remaining_s
        if self.primary:
            self._schedule_checkpoint(lease, now_ns)
        return self.persist_checkpoints

    # -- persistence: bucket `lease` -----------------------------------------------------------

    def persist(self, lease_id: LeaseId) -> tuple[bytes, bytes]:
        """(key, value) of the bucket's entry as it is to be written now."""
        lease = self._find(lease_id)
        return bucket_key(lease_id), encode_lease(lease_id, lease.ttl_s, lease.remaining_s)

    def restore(
        self, entries: Iterable[tuple[bytes, bytes]], attachments: Mapping[bytes, LeaseId]
    ) -> None:
        """Start over, as a follower, from the bucket's entries and the lease of each live key.

        A key whose lease does not exist is attached to nothing, as in etcd.
        """
        self.demote()
        self._leases = {}
        self._lease_of = {}
        for _, data in entries:
            lease_id, ttl_s, remaining_s = decode_lease(data)
            self._leases[lease_id] = Lease(lease_id, max(ttl_s, self._min_ttl_s), remaining_s)
        for key, lease_id in attachments.items():
            if lease_id in self._leases:
                self.attach(lease_id, key)

    # -- the primary ---------------------------------------------------------------------------

    def promote(self, now_ns: int, extend_ns: int) -> None:
        """This member leads: every lease gets its remaining TTL + `extend_ns`, spread out.

        Clients could not renew while nobody led, hence the extension (an election timeout). Leases
        that would expire in a heap are spread to 750 a second.
        """
        self.primary = True
        for lease in self._leases.values():
            self._extend(lease, now_ns, extend_ns)
        if len(self._leases) >= REVOKES_PER_SECOND:
            self._spread(now_ns, extend_ns)

    def demote(self) -> None:
        """This member leads no more: no lease expires here."""
        self.primary = False
        self._deadlines = []
        self._checkpoints = []
        self._renewed = {}
        for lease in self._leases.values():
            lease.deadline_ns = lease.queued_ns = lease.checkpoint_due_ns = None

    def renew(self, lease_id: LeaseId, now_ns: int) -> int:
        """Keepalive on the primary: the whole TTL again; its seconds.

        Raises LEASE_NOT_FOUND, also when the lease is due already and its revocation under way.
        """
        assert self.primary
        lease = self._leases.get(lease_id)
        if lease is None or lease.deadline_ns is None or lease.deadline_ns <= now_ns:
            raise errors.LEASE_NOT_FOUND()
        if lease.remaining_s:
            self._renewed[lease_id] = None
        deadline_ns = lease.deadline_ns = now_ns + lease.ttl_s * NS_PER_S
        # An entry that comes up too early is put right then; a heap push per keepalive would cost
        # more. Too late is possible only just after `promote`, which extends.
        assert lease.queued_ns is not None
        if deadline_ns < lease.queued_ns:
            self._queue(lease, deadline_ns)
        return lease.ttl_s

    def is_due(self, lease_id: LeaseId, now_ns: int) -> bool:
        """On the primary: has the lease run out, so that its revocation is under way?"""
        deadline_ns = self._find(lease_id).deadline_ns
        return deadline_ns is not None and deadline_ns <= now_ns

    def expired(self, now_ns: int, limit: int) -> list[LeaseId]:
        """At most `limit` leases due, oldest deadline first; each is named again after 3 s.

        They stay granted until their revocation is applied.
        """
        due: list[LeaseId] = []
        heap = self._deadlines
        while heap and heap[0][0] <= now_ns and len(due) < limit:
            queued_ns, lease_id = heappop(heap)
            lease = self._leases.get(lease_id)
            if lease is None or lease.queued_ns != queued_ns:
                continue
            assert lease.deadline_ns is not None
            if lease.deadline_ns > now_ns:
                self._queue(lease, lease.deadline_ns)
            else:
                due.append(lease_id)
                self._queue(lease, now_ns + REVOKE_RETRY_NS)
        return due

    def checkpoints_due(self, now_ns: int, limit: int) -> list[tuple[LeaseId, int]]:
        """(lease, remaining seconds) to propose as checkpoints, at most `limit`.

        Leases renewed since their last checkpoint come with 0: the checkpoint must not outlive the
        renewal. Long ones come every 5 minutes.
        """
        due: list[tuple[LeaseId, int]] = [(each, 0) for each in list(self._renewed)[:limit]]
        for lease_id, _ in due:
            del self._renewed[lease_id]
        heap = self._checkpoints
        while heap and heap[0][0] <= now_ns and len(due) < limit:
            at_ns, lease_id = heappop(heap)
            lease = self._leases.get(lease_id)
            if lease is None or lease.checkpoint_due_ns != at_ns:
                continue
            lease.checkpoint_due_ns = None
            assert lease.deadline_ns is not None
            remaining_s = -((now_ns - lease.deadline_ns) // NS_PER_S)  # rounded up
            if remaining_s > 0:
                self._schedule_checkpoint(lease, now_ns)
                if remaining_s < lease.ttl_s:
                    due.append((lease_id, remaining_s))
        return due

    # -- reading -------------------------------------------------------------------------------

    def ttl(self, lease_id: LeaseId) -> int:
        """Granted TTL in seconds. Raises LEASE_NOT_FOUND."""
        return self._find(lease_id).ttl_s

    def remaining(self, lease_id: LeaseId, now_ns: int) -> int:
        """Whole seconds left (truncated), negative when overdue. Raises LEASE_NOT_FOUND.

        Only the primary knows; elsewhere it is what the next primary would start with.
        """
        lease = self._find(lease_id)
        if lease.deadline_ns is None:
            return lease.remaining_s or lease.ttl_s
        left_ns = lease.deadline_ns - now_ns
        return left_ns // NS_PER_S if left_ns >= 0 else -(-left_ns // NS_PER_S)

    def keys(self, lease_id: LeaseId) -> list[bytes]:
        """Attached keys, sorted. Raises LEASE_NOT_FOUND."""
        return sorted(self._find(lease_id).keys)

    def leases(self) -> list[LeaseId]:
        """All leases, the first to expire first; where nothing expires, by id."""
        return [lease.id for lease in self._by_deadline()]

    # -- inside --------------------------------------------------------------------------------

    def _find(self, lease_id: LeaseId) -> Lease:
        lease = self._leases.get(lease_id)
        if lease is None:
            raise errors.LEASE_NOT_FOUND()
        return lease

    def _by_deadline(self) -> list[Lease]:
        return sorted(self._leases.values(), key=lambda lease: (lease.deadline_ns or 0, lease.id))

    def _extend(self, lease: Lease, now_ns: int, extend_ns: int) -> None:
        """Start the remaining TTL now, plus `extend_ns`."""
        left_s = lease.remaining_s or lease.ttl_s
        lease.deadline_ns = now_ns + left_s * NS_PER_S + extend_ns
        self._queue(lease, lease.deadline_ns)
        self._schedule_checkpoint(lease, now_ns)

    def _queue(self, lease: Lease, at_ns: int) -> None:
        """Look at this lease at `at_ns`; older entries of it no longer count."""
        if lease.queued_ns == at_ns:
            return
        lease.queued_ns = at_ns
        heappush(self._deadlines, (at_ns, lease.id))
        if len(self._deadlines) > 2 * len(self._leases) + 64:
            self._deadlines = [
                (each.queued_ns, each.id)
                for each in self._leases.values()
                if each.queued_ns is not None
            ]
            heapify(self._deadlines)

    def _schedule_checkpoint(self, lease: Lease, now_ns: int) -> None:
        """In 5 minutes, if that much is left; replaces what was scheduled before."""
        if (lease.remaining_s or lease.ttl_s) * NS_PER_S <= CHECKPOINT_INTERVAL_NS:
            return
        at_ns = now_ns + CHECKPOINT_INTERVAL_NS
        if lease.checkpoint_due_ns == at_ns:
            return
        lease.checkpoint_due_ns = at_ns
        heappush(self._checkpoints, (at_ns, lease.id))
        if len(self._checkpoints) > 2 * len(self._leases) + 64:
            self._checkpoints = [
                (each.checkpoint_due_ns, each.id)
                for each in self._leases.values()
                if each.checkpoint_due_ns is not None
            ]
            heapify(self._checkpoints)

    def _spread(self, now_ns: int, extend_ns: int) -> None:
        """Delay those beyond 750 in a window of a second, ever further for ever more of them."""
        base_ns = None
        next_ns = 0
        count = 0
        for lease in self._by_deadline():
            assert lease.deadline_ns is not None
            left_ns = lease.deadline_ns - now_ns
            if base_ns is None:
                base_ns = left_ns
                next_ns = base_ns + NS_PER_S
            if left_ns > next_ns:
                base_ns = left_ns
                next_ns = base_ns + NS_PER_S
                count = 1
                continue
            count += 1
            if count <= EXPIRIES_PER_SECOND:
                continue
            # A lease that is already n seconds behind the window's start needs n seconds less.
            delay_ns = NS_PER_S * count // EXPIRIES_PER_SECOND - (left_ns - base_ns)
            next_ns = base_ns + delay_ns
            self._extend(lease, now_ns, extend_ns + delay_ns)


# -- leasepb.Lease, by hand ----------------------------------------------------------------------


def bucket_key(lease_id: LeaseId) -> bytes:
    """The key in bucket `lease`: the id, eight bytes, big endian."""
    return lease_id.to_bytes(8, "big")


def encode_lease(lease_id: LeaseId, ttl_s: int, remaining_s: int) -> bytes:
    """leasepb.Lease: ID (1), TTL (2), RemainingTTL (3); zeros are left out."""
    return int_field(1, lease_id) + int_field(2, ttl_s) + int_field(3, remaining_s)


def decode_lease(data: bytes) -> tuple[LeaseId, int, int]:
    """(id, TTL, remaining TTL) of a leasepb.Lease. Raises ValueError on anything else."""
    numbers = [0, 0, 0]
    for field, kind, start, _ in fields(data):
        if kind != VARINT or field > len(numbers):
            raise ValueError(f"not a leasepb.Lease: {data.hex()}")
        numbers[field - 1] = to_int64(read_varint(data, start)[0])
    return LeaseId(numbers[0]), numbers[1], numbers[2]
