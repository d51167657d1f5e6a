"""The lessor agrees with the plainest possible model over random histories."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from corum import errors
from corum.lease import Lessor
from corum.values import NS_PER_S as S
from corum.values import LeaseId

IDS = st.integers(1, 5).map(LeaseId)
KEYS = st.sampled_from([b"a", b"b", b"c"])


@dataclass
class Plain:
    ttl: int
    left: int = 0
    keys: set = field(default_factory=set)
    deadline: int = 0
    named: int | None = None


class Leasing(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.lessor = Lessor(2)
        self.model: dict[LeaseId, Plain] = {}
        self.now = 0
        self.primary = False

    @rule(seconds=st.integers(0, 8), ns=st.integers(0, 3))
    def wait(self, seconds: int, ns: int) -> None:
        self.now += seconds * S + ns

    @rule(lease=IDS, ttl=st.integers(-1, 700))
    def grant(self, lease: LeaseId, ttl: int) -> None:
        try:
            got = self.lessor.grant(lease, ttl, self.now)
        except errors.EtcdError:
            assert lease in self.model
            return
        assert lease not in self.model
        plain = self.model[lease] = Plain(max(ttl, 2))
        plain.deadline = self.now + plain.ttl * S
        assert got == plain.ttl

    @rule(lease=IDS)
    def revoke(self, lease: LeaseId) -> None:
        try:
            keys = self.lessor.revoke(lease)
        except errors.EtcdError:
            assert lease not in self.model
            return
        assert keys == sorted(self.model.pop(lease).keys)

    @rule(lease=IDS, key=KEYS)
    def attach(self, lease: LeaseId, key: bytes) -> None:
        if lease not in self.model:
            return
        self.detach(key)
        self.model[lease].keys.add(key)
        self.lessor.attach(lease, key)

    @rule(key=KEYS)
    def detach(self, key: bytes) -> None:
        for plain in self.model.values():
            plain.keys.discard(key)
        self.lessor.detach(key)

    @rule(lease=IDS)
    def renew(self, lease: LeaseId) -> None:
        if not self.primary:
            return
        plain = self.model.get(lease)
        try:
            assert self.lessor.renew(lease, self.now) == (plain and plain.ttl)
        except errors.EtcdError:
            assert plain is None or plain.deadline <= self.now
            return
        assert plain is not None
        assert plain.deadline > self.now
        plain.deadline = self.now + plain.ttl * S

    @rule(lease=IDS, left=st.integers(0, 20))
    def checkpoint(self, lease: LeaseId, left: int) -> None:
        self.lessor.checkpoint(lease, left, self.now)
        if lease in self.model:
            self.model[lease].left = left

    @rule(extend=st.integers(0, 2))
    def promote(self, extend: int) -> None:
        self.primary = True
        self.lessor.promote(self.now, extend * S)
        for plain in self.model.values():
            plain.deadline = self.now + (plain.left or plain.ttl) * S + extend * S
            plain.named = None

    @rule()
    def demote(self) -> None:
        self.primary = False
        self.lessor.demote()
        for plain in self.model.values():
            plain.named = None

    @rule(limit=st.integers(1, 6))
    def expire(self, limit: int) -> None:
        due = [
            lease
            for lease, plain in self.model.items()
            if self.primary
            and plain.deadline <= self.now
            and (plain.named is None or plain.named + 3 * S <= self.now)
        ]
        got = self.lessor.expired(self.now, limit)
        assert len(got) == len(set(got)) == min(limit, len(due))
        assert set(got) <= set(due)
        for lease in got:
            self.model[lease].named = self.now

    @rule(limit=st.integers(1, 3))
    def look_at_checkpoints(self, limit: int) -> None:
        due = self.lessor.checkpoints_due(self.now, limit)
        assert len(due) <= limit
        for lease, left in due:
            plain = self.model[lease]
            assert self.primary
            if left:
                assert (left - 1) * S < plain.deadline - self.now <= left * S

    @rule()
    def restart(self) -> None:
        entries = [self.lessor.persist(lease) for lease in sorted(self.model)]
        keys = {key: lease for lease, plain in self.model.items() for key in plain.keys}
        self.lessor = Lessor(2)
        self.lessor.restore(entries, keys)
        self.primary = False
        for plain in self.model.values():
            plain.named = None

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "model"):
            return
        assert sorted(self.lessor.leases()) == sorted(self.model)
        for lease, plain in self.model.items():
            assert self.lessor.keys(lease) == sorted(plain.keys)
            assert self.lessor.ttl(lease) == plain.ttl
            if self.primary:
                left = plain.deadline - self.now
                assert self.lessor.remaining(lease, self.now) == int(abs(left) // S) * (
                    1 if left >= 0 else -1
                )
        for key in (b"a", b"b", b"c"):
            owner = [lease for lease, plain in self.model.items() if key in plain.keys]
            assert self.lessor.lease_of(key) == (owner[0] if owner else 0)


TestLeasing = Leasing.TestCase
TestLeasing.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, derandomize=True
)
