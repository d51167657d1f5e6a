"""Who succeeds a leader whose process is gone, and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from corum.peer.succession import Succession

TICK_NS = 100


@dataclass
class One:
    id: int
    is_learner: bool = False


class Members(list[One]):
    local = 0


@dataclass
class Raft:
    node: Any
    campaigns: int = 0

    def forget_leader(self) -> None:
        self.node.leader = 0

    def campaign(self) -> None:
        self.campaigns += 1


@dataclass
class Config:
    tick_ns: int = TICK_NS


class Ports:
    def transition(self, level: str, message: str, **fields: Any) -> None:
        """A line for operators."""


@dataclass
class FakeNode:
    local: int
    leader: int = 1
    stopping: bool = False
    config: Config = field(default_factory=Config)

    def __post_init__(self) -> None:
        self.raft = Raft(self)
        self.ports = Ports()
        self.members = Members([One(3), One(1), One(4, is_learner=True), One(2)])
        self.members.local = self.local

    @property
    def is_leader(self) -> bool:
        return self.leader == self.local


def made(local: int) -> tuple[Any, Succession]:
    node: Any = FakeNode(local)
    return node, Succession(node)


@pytest.mark.parametrize(("local", "ticks"), [(2, 1), (3, 3)])
def test_heirs_campaign_one_after_the_other(local: int, ticks: int) -> None:
    """In the order of ids, two ticks apart; each once."""
    node, succession = made(local)
    succession.gone(1, now_ns=0)
    assert node.leader == 0
    succession.tick(ticks * TICK_NS - 1)
    assert node.raft.campaigns == 0
    for now_ns in (ticks * TICK_NS, 10 * TICK_NS):
        succession.tick(now_ns)
        assert node.raft.campaigns == 1


def test_nobody_campaigns_against_a_new_leader() -> None:
    """The first heir has won meanwhile."""
    node, succession = made(3)
    succession.gone(1, now_ns=0)
    node.leader = 2
    succession.tick(10 * TICK_NS)
    assert node.raft.campaigns == 0


@pytest.mark.parametrize(
    ("local", "gone", "leader", "stopping"),
    [(2, 3, 1, False), (1, 2, 1, False), (4, 1, 1, False), (2, 1, 0, False), (2, 1, 1, True)],
    ids=["a follower", "we lead", "we learn", "no leader", "we stop"],
)
def test_nothing_follows_from_other_losses(
    local: int, gone: int, leader: int, stopping: bool
) -> None:
    """Only a voter that follows the lost one does anything."""
    node, succession = made(local)
    node.leader, node.stopping = leader, stopping
    succession.gone(gone, now_ns=0)
    succession.tick(10 * TICK_NS)
    assert node.leader == leader
    assert node.raft.campaigns == 0
