"""The commands of the confchange and quorum scripts."""

from __future__ import annotations

from corum.raft import ConfChangeRefused, Configuration
from corum.raft.confchange import Membership, enter_joint, leave_joint, simple
from corum.raft.messages import INDEX_MAX
from corum.raft.progress import Inflights, Progress
from corum.raft.quorum import (
    committed_index,
    joint_committed_index,
    joint_vote_result,
    vote_result,
)
from raft import describe
from raft.datadriven import Command
from raft.interaction import parse_changes

_RESULT = {1: "VotePending", 2: "VoteLost", 3: "VoteWon"}


class ConfChanges:
    """One configuration, altered by each command; the log is as long as commands were given."""

    def __init__(self) -> None:
        self._last_index = 0
        self._membership = Membership(Configuration(), {}, self._new_progress)

    def _new_progress(self, is_learner: bool) -> Progress:
        progress = Progress(max(self._last_index, 1), Inflights(10, 1), is_learner)
        progress.recent_active = True
        return progress

    def handle(self, command: Command) -> str:
        changes = parse_changes([word for line in command.input for word in line.split()])
        before = self._membership
        try:
            if command.name == "simple":
                self._membership = simple(before, changes)
            elif command.name == "enter-joint":
                auto_leave = command.flag("autoleave")
                self._membership = enter_joint(before, changes, auto_leave=auto_leave)
            else:
                assert command.name == "leave-joint"
                assert not changes
                self._membership = leave_joint(before)
        except ConfChangeRefused as refusal:
            return str(refusal)
        finally:
            self._last_index += 1
        after = self._membership
        return f"{after.configuration}\n{describe.progress_map(after.progress)}"


class Quorums:
    """`committed` and `vote` of a majority (cfg) or of two (cfg and cfgj)."""

    def handle(self, command: Command) -> str:
        incoming = [int(key) for key in command.option("cfg") or ()]
        joint = command.option("cfgj")
        outgoing = [int(key) for key in joint or () if key != "zero"]
        voters = list(dict.fromkeys(incoming + outgoing))
        if command.name == "vote":
            return self._vote(command, incoming, outgoing, voters)
        assert command.name == "committed"
        words = command.option("idx") or []
        acked = {voter: int(word) for voter, word in zip(voters, words, strict=True) if word != "_"}
        index = joint_committed_index(incoming, outgoing, acked)
        if joint is None:
            assert committed_index(incoming, acked) == index
        assert joint_committed_index(outgoing, incoming, acked) == index or not outgoing
        shown = "∞" if index == INDEX_MAX else str(index)
        return _picture(voters, acked) + shown

    def _vote(
        self, command: Command, incoming: list[int], outgoing: list[int], voters: list[int]
    ) -> str:
        words = command.option("votes") or []
        votes = {
            voter: word == "y" for voter, word in zip(voters, words, strict=True) if word != "_"
        }
        result = joint_vote_result(incoming, outgoing, votes)
        assert joint_vote_result(outgoing, incoming, votes) == result
        if not outgoing:
            assert vote_result(incoming, votes) == result
        return _RESULT[result]


def _picture(voters: list[int], acked: dict[int, int]) -> str:
    """A bar per voter, as long as the number of voters that have stored less."""
    if not voters:
        return "<empty majority quorum>"
    width = len(voters)
    stored = [acked.get(voter, 0) for voter in voters]
    lines = [" " * width + "    idx"]
    for voter in sorted(voters):
        less = sum(index < acked.get(voter, 0) for index in stored)
        bar = "x" * less + ">" + " " * (width - less)
        if voter not in acked:
            bar = "?" + " " * width
        lines.append(f"{bar} {acked.get(voter, 0):5d}    (id={voter})")
    return "\n".join(lines) + "\n"
