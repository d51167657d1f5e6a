"""Long leases do not begin anew with every leader: their remaining time goes through the log."""

import pytest

from corum.backend import schema
from corum.config import parse
from corum.member.from_flags import settings_of
from corum.pb import leasepb, rpc
from corum.server import operations as op
from corum.values import NS_PER_S, LeaseId
from server.lone import Lone

TTL_S = 1_000
FIVE_MINUTES_MS = 300_000


def remaining_after_a_change(member: Lone, lease: LeaseId) -> int:
    """Seconds that another leader would give it."""
    lessor = member.node.lessor
    lessor.demote()
    lessor.promote(member.now_ns, NS_PER_S)
    return lessor.remaining(lease, member.now_ns)


@pytest.mark.parametrize(("on", "least", "most"), [(True, 690, 702), (False, 1_000, 1_002)])
def test_what_a_new_leader_knows_of_a_long_lease(on: bool, least: int, most: int) -> None:
    """With checkpoints what was left after five minutes (and an election), else all of it."""
    member = Lone(lease_checkpoints=on)
    lease = LeaseId(7)
    member.propose(op.LEASE_GRANT, rpc.LeaseGrantRequest(ID=lease, TTL=TTL_S))
    member.turn(FIVE_MINUTES_MS)
    member.turn(1_000)
    member.turn(1_000)
    assert least <= remaining_after_a_change(member, lease) <= most


def test_a_checkpoint_is_on_the_disk() -> None:
    """A member that restarts and leads knows it, too."""
    member = Lone(lease_checkpoints=True)
    member.propose(op.LEASE_GRANT, rpc.LeaseGrantRequest(ID=7, TTL=TTL_S))
    member.turn(FIVE_MINUTES_MS)
    member.turn(1_000)
    ((_, row),) = member.backend.range(schema.LEASE)
    assert 690 <= leasepb.Lease.FromString(row).RemainingTTL <= 702


@pytest.mark.parametrize(
    "flags",
    [["--experimental-enable-lease-checkpoint"], ["--feature-gates=LeaseCheckpoint=true"]],
)
def test_the_flags_turn_it_on(flags: list[str]) -> None:
    """Both names; it is off by itself."""
    assert settings_of(parse(flags, {})).node.lease_checkpoints
    assert not settings_of(parse([], {})).node.lease_checkpoints


def test_the_flags_of_corruption_checks() -> None:
    """Old and new names, and none of them by default."""
    none = settings_of(parse([], {}))
    assert not none.initial_corrupt_check
    assert (none.node.corrupt_check_ns, none.node.compact_hash_check_ns) == (0, 0)
    old = [
        "--experimental-initial-corrupt-check",
        "--experimental-corrupt-check-time=2s",
        "--experimental-compact-hash-check-enabled",
        "--experimental-compact-hash-check-time=3s",
    ]
    new = [
        "--feature-gates=InitialCorruptCheck=true,CompactHashCheck=true",
        "--corrupt-check-time=2s",
        "--compact-hash-check-time=3s",
    ]
    for given in (old, new):
        settings = settings_of(parse(given, {}))
        assert settings.initial_corrupt_check
        assert settings.node.corrupt_check_ns == 2 * NS_PER_S
        assert settings.node.compact_hash_check_ns == 3 * NS_PER_S
