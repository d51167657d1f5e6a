"""The rules of rpc.md §6, one by one."""

from __future__ import annotations

import pytest

from corum import errors
from corum.lease import TTL_MAX_S, Lessor, decode_lease, encode_lease
from corum.values import NS_PER_S as S
from corum.values import LeaseId


def leader(min_ttl_s: int = 2) -> Lessor:
    lessor = Lessor(min_ttl_s)
    lessor.promote(0, 0)
    return lessor


@pytest.mark.parametrize(("asked", "granted"), [(-5, 2), (0, 2), (1, 2), (2, 2), (3, 3)])
def test_short_ttls_are_raised(asked: int, granted: int) -> None:
    """Silently, to the minimum; the answer shows the effective one."""
    lessor = Lessor(2)
    assert lessor.grant(LeaseId(1), asked, 0) == granted
    assert lessor.ttl(LeaseId(1)) == granted


def test_the_longest_ttl_and_one_second_more() -> None:
    """9,000,000,000 s is allowed, more is out of range."""
    lessor = Lessor(2)
    assert lessor.grant(LeaseId(1), TTL_MAX_S, 0) == 9_000_000_000
    with pytest.raises(errors.EtcdError) as raised:
        lessor.grant(LeaseId(2), TTL_MAX_S + 1, 0)
    assert raised.value.text == "etcdserver: too large lease TTL"
    assert LeaseId(2) not in lessor


def test_unknown_and_existing_ids() -> None:
    """A second grant of an id and any use of an unknown one are refused."""
    lessor = leader()
    lessor.grant(LeaseId(1), 5, 0)
    with pytest.raises(errors.EtcdError) as raised:
        lessor.grant(LeaseId(1), 5, 0)
    assert raised.value.text == "etcdserver: lease already exists"
    for use in (
        lambda: lessor.revoke(LeaseId(9)),
        lambda: lessor.renew(LeaseId(9), 0),
        lambda: lessor.ttl(LeaseId(9)),
        lambda: lessor.attach(LeaseId(9), b"k"),
    ):
        with pytest.raises(errors.EtcdError) as raised:
            use()
        assert raised.value.text == "etcdserver: requested lease not found"


def test_a_key_has_one_lease() -> None:
    """Attaching moves the key; a revoke returns what is attached then, in order."""
    lessor = Lessor(2)
    lessor.grant(LeaseId(1), 5, 0)
    lessor.grant(LeaseId(2), 5, 0)
    for key in (b"c", b"a", b"b"):
        lessor.attach(LeaseId(1), key)
    lessor.attach(LeaseId(2), b"a")
    lessor.detach(b"absent")
    assert lessor.keys(LeaseId(1)) == [b"b", b"c"]
    assert lessor.lease_of(b"a") == 2
    assert lessor.revoke(LeaseId(1)) == [b"b", b"c"]
    assert lessor.lease_of(b"b") == 0
    lessor.detach(b"a")
    assert lessor.revoke(LeaseId(2)) == []
    assert len(lessor) == 0


def test_expiry_in_order_and_at_most_so_many() -> None:
    """Oldest deadline first; due means at the deadline, not before."""
    lessor = leader()
    for number, ttl_s in ((1, 7), (2, 5), (3, 6)):
        lessor.grant(LeaseId(number), ttl_s, 0)
    assert lessor.expired(5 * S - 1, 10) == []
    assert lessor.expired(7 * S, 2) == [2, 3]
    assert lessor.expired(7 * S, 2) == [1]
    assert lessor.expired(7 * S, 2) == []


def test_revocation_is_asked_for_again_after_three_seconds() -> None:
    """The proposal may have been lost; until applied the lease stays, not to be renewed."""
    lessor = leader()
    lessor.grant(LeaseId(1), 5, 0)
    assert lessor.expired(5 * S, 10) == [1]
    assert LeaseId(1) in lessor
    for late in (5 * S, 6 * S):
        with pytest.raises(errors.LEASE_NOT_FOUND):
            lessor.renew(LeaseId(1), late)
    assert lessor.expired(8 * S - 1, 10) == []
    assert lessor.expired(8 * S, 10) == [1]
    lessor.revoke(LeaseId(1))
    assert lessor.expired(100 * S, 10) == []


def test_keepalive_starts_the_ttl_again() -> None:
    """Any number of renewals costs no queue entries."""
    lessor = leader()
    lessor.grant(LeaseId(1), 5, 0)
    for second in range(1, 1_000):
        assert lessor.renew(LeaseId(1), second * S) == 5
        assert lessor.remaining(LeaseId(1), second * S) == 5
        assert lessor.expired(second * S, 10) == []
    assert len(lessor._deadlines) < 10
    assert lessor.expired(1_004 * S - 1, 10) == []
    assert lessor.expired(1_004 * S, 10) == [1]


def test_remaining_is_truncated() -> None:
    """Whole seconds towards zero, also when overdue."""
    lessor = leader()
    lessor.grant(LeaseId(1), 5, 0)
    assert lessor.remaining(LeaseId(1), 1) == 4
    assert lessor.remaining(LeaseId(1), 5 * S) == 0
    assert lessor.remaining(LeaseId(1), 5 * S + 1) == 0
    assert lessor.remaining(LeaseId(1), 7 * S) == -2


def test_followers_expire_nothing_and_new_leaders_extend() -> None:
    """Time passes for leases only under a leader; each new one gives the TTL plus the extension."""
    lessor = Lessor(2)
    lessor.grant(LeaseId(1), 5, 0)
    assert lessor.expired(1_000 * S, 10) == []
    lessor.promote(1_000 * S, S)
    assert lessor.expired(1_006 * S - 1, 10) == []
    lessor.demote()
    assert lessor.expired(2_000 * S, 10) == []
    lessor.promote(2_000 * S, S)
    assert lessor.expired(2_006 * S, 10) == [1]


def test_a_renewal_after_promotion_does_not_keep_the_extension() -> None:
    """The deadline can move earlier, and expiry follows."""
    lessor = Lessor(2)
    lessor.grant(LeaseId(1), 5, 0)
    lessor.promote(0, 3 * S)
    lessor.renew(LeaseId(1), S // 2)
    assert lessor.expired(5 * S + S // 2, 10) == [1]
    assert lessor.expired(8 * S + S // 4, 10) == [], "the entry of the old deadline counts no more"


@pytest.mark.parametrize("count", [999, 1_000, 5_000])
def test_promotion_spreads_a_pile_of_leases(count: int) -> None:
    """With 1,000 leases and more, no second after the first sees more than 750 expire."""
    lessor = Lessor(2)
    for number in range(1, count + 1):
        lessor.grant(LeaseId(number), 10, 0)
    lessor.promote(0, S)
    counts = []
    second = 11
    while sum(counts) < count:
        due = lessor.expired(second * S, 100_000)
        counts.append(len(due))
        for lease in due:
            lessor.revoke(lease)
        second += 1
        assert second < 60
    assert counts[0] == (999 if count == 999 else 750)
    assert max(counts[1:], default=0) <= 751


def test_checkpoints_tell_the_next_leader() -> None:
    """Every 5 minutes the leader reports what remains; a new leader starts from it."""
    lessor = leader()
    lessor.grant(LeaseId(1), 1_000, 0)
    lessor.grant(LeaseId(2), 300, 0)
    lessor.grant(LeaseId(3), 301, 0)
    assert lessor.checkpoints_due(300 * S - 1, 10) == []
    assert lessor.checkpoints_due(300 * S, 10) == [(1, 700), (3, 1)]
    assert lessor.checkpoints_due(300 * S, 10) == []
    assert lessor.checkpoint(LeaseId(1), 700, 300 * S)
    assert lessor.checkpoints_due(600 * S, 10) == [(1, 400)]
    lessor.checkpoint(LeaseId(1), 400, 600 * S)
    lessor.demote()
    lessor.promote(10_000 * S, S)
    assert lessor.remaining(LeaseId(1), 10_000 * S) == 401
    assert lessor.remaining(LeaseId(2), 10_000 * S) == 301
    assert not lessor.checkpoint(LeaseId(9), 1, 0)


def test_a_renewal_resets_the_checkpoint() -> None:
    """Otherwise the next leader would cut the life of a lease that was kept alive."""
    lessor = leader()
    lessor.grant(LeaseId(1), 1_000, 0)
    lessor.checkpoint(LeaseId(1), 700, 300 * S)
    lessor.renew(LeaseId(1), 301 * S)
    assert lessor.checkpoints_due(301 * S, 10) == [(1, 0)]
    lessor.checkpoint(LeaseId(1), 0, 301 * S)
    assert lessor.checkpoints_due(302 * S, 10) == []
    lessor.promote(400 * S, 0)
    assert lessor.remaining(LeaseId(1), 400 * S) == 1_000


def test_bucket_entry_bytes() -> None:
    """Key: id big endian. Value: leasepb.Lease with ID, TTL, RemainingTTL, zeros left out."""
    lessor = Lessor(2)
    lessor.grant(LeaseId(0x1234), 300, 0)
    assert lessor.persist(LeaseId(0x1234)) == (
        bytes.fromhex("0000000000001234"),
        bytes.fromhex("08b424 10ac02"),
    )
    lessor.checkpoint(LeaseId(0x1234), 7, 0)
    assert lessor.persist(LeaseId(0x1234))[1] == bytes.fromhex("08b424 10ac02 1807")


@pytest.mark.parametrize("data", [b"\x08", b"\x22\x01a", b"\x08" + b"\xff" * 11])
def test_other_bytes_are_refused(data: bytes) -> None:
    """A bucket entry that is no Lease is not guessed at."""
    with pytest.raises(ValueError, match=r"leasepb|varint"):
        decode_lease(data)


def test_lease_bytes_of_extreme_numbers() -> None:
    """int64 in both directions."""
    for lease_id in (1, 127, 128, (1 << 63) - 1, -1):
        data = encode_lease(LeaseId(lease_id), 9_000_000_000, 0)
        assert decode_lease(data) == (lease_id, 9_000_000_000, 0)


def test_restore_brings_back_everything_but_deadlines() -> None:
    """Leases, remaining TTLs and attachments; a key of a vanished lease is attached to nothing."""
    before = leader()
    for number in (1, 2):
        before.grant(LeaseId(number), 600, 0)
        before.attach(LeaseId(number), b"k%d" % number)
    before.checkpoint(LeaseId(2), 50, 0)
    entries = [before.persist(LeaseId(number)) for number in (1, 2)]
    after = leader()
    after.grant(LeaseId(7), 5, 0)
    after.restore(entries, {b"k1": LeaseId(1), b"k2": LeaseId(2), b"k3": LeaseId(3)})
    assert not after.primary
    assert after.leases() == [1, 2]
    assert (after.keys(LeaseId(1)), after.keys(LeaseId(2))) == ([b"k1"], [b"k2"])
    assert after.lease_of(b"k3") == 0
    after.promote(0, 0)
    assert (after.remaining(LeaseId(1), 0), after.remaining(LeaseId(2), 0)) == (600, 50)
    assert after.leases() == [2, 1]
