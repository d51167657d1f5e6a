"""Arithmetic of majorities and of two majorities that must agree (joint consensus, diss. §4.3)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from corum.raft.messages import INDEX_MAX

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class VoteResult(IntEnum):
    """What is known of a vote: still open, or decided whatever the others say."""

    PENDING = 1
    LOST = 2
    WON = 3


def committed_index(voters: Collection[int], acked: Mapping[int, int]) -> int:
    """Highest index stored by a majority of these voters (Raft §5.3).

    `acked` may lack voters (they count as 0) and hold learners (ignored). An empty voter set
    returns INDEX_MAX, so that in a joint configuration the other half decides.
    """
    if not voters:
        return INDEX_MAX
    if len(voters) == 1:
        (voter,) = voters
        return acked.get(voter, 0)
    stored = sorted([acked.get(member, 0) for member in voters])
    return stored[(len(stored) - 1) // 2]


def vote_result(voters: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    """Outcome among these voters; `votes` lacks those who have not answered.

    An empty voter set has won, so that in a joint configuration the other half decides.
    """
    if not voters:
        return VoteResult.WON
    yes = missing = 0
    for member in voters:
        vote = votes.get(member)
        if vote is None:
            missing += 1
        elif vote:
            yes += 1
    majority = len(voters) // 2 + 1
    if yes >= majority:
        return VoteResult.WON
    if yes + missing >= majority:
        return VoteResult.PENDING
    return VoteResult.LOST


def joint_committed_index(
    incoming: Collection[int], outgoing: Collection[int], acked: Mapping[int, int]
) -> int:
    """Highest index stored by a majority of both halves; `outgoing` is empty when not joint."""
    index = committed_index(incoming, acked)
    return min(index, committed_index(outgoing, acked)) if outgoing else index


def joint_vote_result(
    incoming: Collection[int], outgoing: Collection[int], votes: Mapping[int, bool]
) -> VoteResult:
    """Won if both halves are won, lost if one is lost."""
    results = (vote_result(incoming, votes), vote_result(outgoing, votes))
    if VoteResult.LOST in results:
        return VoteResult.LOST
    if VoteResult.PENDING in results:
        return VoteResult.PENDING
    return VoteResult.WON
