"""Who asked for a leader is told whether it leads."""

from types import SimpleNamespace
from typing import Any, cast

from corum.server.handover import Handover

ME, WANTED, OTHER = 1, 2, 3


def asked(*targets: int) -> tuple[Any, Handover, list[list[BaseException | None]]]:
    """A leader that was asked to hand over to each of these, and what each asker is told."""
    node = SimpleNamespace(
        leader=ME,
        now_ns=0,
        members=SimpleNamespace(local=ME),
        config=SimpleNamespace(election_ms=1_000),
        raft=SimpleNamespace(transfer_leader=lambda target: None),
    )
    handover = Handover(cast("Any", node))
    told: list[list[BaseException | None]] = [[] for _ in targets]
    for target, mine in zip(targets, told, strict=True):
        handover.start(target, mine.append)
    return node, handover, told


def test_another_leader_is_not_the_one_that_was_asked_for() -> None:
    """A leader that is to be removed hands over to somebody else meanwhile, perhaps."""
    node, handover, told = asked(WANTED, OTHER)
    node.leader = OTHER
    handover.leader_changed()
    assert "leader transfer took too long" in str(told[0])
    assert told[1] == [None]


def test_no_leader_is_waited_for() -> None:
    """For an election timeout."""
    node, handover, told = asked(WANTED)
    node.leader = 0
    handover.leader_changed()
    handover.tick(999_999_999)
    assert told == [[]]
    handover.tick(1_000_000_000)
    assert "leader transfer took too long" in str(told[0])
