"""What a member is told once, at its start."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from corum.raft.messages import NO_LIMIT, NO_MEMBER
from corum.values import MIB


class Dice(Protocol):
    """Chance from outside; `random.Random` is one."""

    def randrange(self, stop: int, /) -> int: ...


class ReadOnly(IntEnum):
    """How the leader makes sure that it still leads before it answers a read."""

    SAFE = 0  # asks a quorum (diss. §6.4)
    LEASE_BASED = 1  # trusts the clocks: needs `check_quorum` (diss. §6.4.1)


@dataclass(slots=True, kw_only=True)
class Config:
    """Settings of one member; the defaults are those of an etcd server. Sizes are bytes.

    `id`: own member id. `dice`: for the election timeout, which is drawn anew in each term from
    `election_ticks` to 2 * `election_ticks` - 1. `applied`: last index the application has applied;
    never more than what the storage knows as committed.
    """

    id: int
    dice: Dice
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    applied: int = 0
    check_quorum: bool = True
    pre_vote: bool = True
    read_only: ReadOnly = ReadOnly.SAFE
    async_storage_writes: bool = False
    # One append message; at least one entry always fits.
    message_bytes_max: int = MIB
    # Committed entries of one Ready (with asynchronous writes: handed out and not yet applied).
    committed_bytes_max: int = NO_LIMIT
    # Data of entries that a leader has appended and not yet applied; beyond it refuses proposals.
    uncommitted_bytes_max: int = NO_LIMIT
    # Append messages, and their data, on the way to one follower.
    inflight_messages_max: int = 512
    inflight_bytes_max: int = NO_LIMIT
    disable_proposal_forwarding: bool = False
    disable_conf_change_validation: bool = False
    step_down_on_removal: bool = False

    def validate(self) -> None:
        """Raises ValueError for settings that no member can run with."""
        if not NO_MEMBER < self.id < 2**64 - 2:
            raise ValueError(f"member id {self.id} is reserved or out of range")
        if self.heartbeat_ticks <= 0:
            raise ValueError(f"heartbeat_ticks must be positive, not {self.heartbeat_ticks}")
        if self.election_ticks <= self.heartbeat_ticks:
            raise ValueError(
                f"election_ticks {self.election_ticks} must be more than "
                f"heartbeat_ticks {self.heartbeat_ticks}"
            )
        if self.inflight_messages_max <= 0:
            raise ValueError("inflight_messages_max must be positive")
        if self.inflight_bytes_max < self.message_bytes_max < NO_LIMIT:
            raise ValueError("inflight_bytes_max must be at least message_bytes_max")
        for name in ("message_bytes_max", "committed_bytes_max", "uncommitted_bytes_max"):
            if getattr(self, name) <= 0 and name != "message_bytes_max":
                raise ValueError(f"{name} must be positive")
        if self.message_bytes_max < 0:
            raise ValueError("message_bytes_max must not be negative")
        if self.read_only == ReadOnly.LEASE_BASED and not self.check_quorum:
            raise ValueError("lease-based reads need check_quorum")
