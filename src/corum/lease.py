"""Leases: grants, attached keys, deadlines on the primary, checkpoints (rpc.md §6).

Pure: time is an argument, expired leases are reported and revoked through the log by the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from corum.values import LeaseId


class Lessor:
    """All leases of one member; deadlines exist only while it is the primary (the Raft leader)."""

    def __init__(self, min_ttl_s: int, *, persist_checkpoints: bool = True) -> None: ...

    def __contains__(self, lease_id: LeaseId) -> bool: ...

    def __len__(self) -> int: ...

    # -- replicated state, changed by apply ----------------------------------------------------

    def grant(self, lease_id: LeaseId, ttl_s: int, now_ns: int) -> int:
        """New lease; the effective TTL in seconds. Raises LEASE_EXISTS, LEASE_TTL_TOO_LARGE."""
        ...

    def revoke(self, lease_id: LeaseId) -> list[bytes]:
        """Forget the lease; its keys in order, for the caller to delete. Raises LEASE_NOT_FOUND."""
        ...

    def attach(self, lease_id: LeaseId, key: bytes) -> None:
        """`key` now lives as long as `lease_id` (and no longer with any other lease)."""

    def detach(self, key: bytes) -> None:
        """`key` was deleted or put without a lease."""

    def lease_of(self, key: bytes) -> LeaseId:
        """The lease `key` is attached to; 0 when there is none."""
        ...

    def checkpoint(self, lease_id: LeaseId, remaining_s: int, now_ns: int) -> None:
        """Remaining TTL as the leader saw it. Raises LEASE_NOT_FOUND."""

    # -- persistence: bucket `lease` -----------------------------------------------------------

    def persist(self, lease_id: LeaseId) -> tuple[bytes, bytes]:
        """(key, value) of the bucket entry as it is to be written now."""
        ...

    def restore(
        self, entries: Iterable[tuple[bytes, bytes]], attachments: Mapping[bytes, LeaseId]
    ) -> None:
        """Start over from the bucket's entries and the `lease` of each live key."""

    # -- the primary ---------------------------------------------------------------------------

    def promote(self, now_ns: int, extend_ns: int) -> None:
        """This member leads: every lease gets its remaining TTL + `extend_ns`, spread out."""

    def demote(self) -> None:
        """This member leads no more: no lease expires here."""

    def renew(self, lease_id: LeaseId, now_ns: int) -> int:
        """Keepalive on the primary: the full TTL again; its seconds. Raises LEASE_NOT_FOUND."""
        ...

    def expired(self, now_ns: int, limit: int) -> list[LeaseId]:
        """At most `limit` leases due, oldest deadline first; each is named again after 3 s."""
        ...

    def checkpoints_due(self, now_ns: int, limit: int) -> list[tuple[LeaseId, int]]:
        """(lease, remaining seconds) to propose as LeaseCheckpoint, every 5 minutes per lease."""
        ...

    # -- reading -------------------------------------------------------------------------------

    def ttl(self, lease_id: LeaseId) -> int:
        """Granted TTL in seconds. Raises LEASE_NOT_FOUND."""
        ...

    def remaining(self, lease_id: LeaseId, now_ns: int) -> int:
        """Whole seconds left (truncated)."""
        ...

    def keys(self, lease_id: LeaseId) -> list[bytes]:
        """Attached keys, sorted."""
        ...

    def leases(self) -> list[LeaseId]:
        """All leases, the first to expire first."""
        ...
