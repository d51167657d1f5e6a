"""From one configuration to the next (diss. §4). Pure: nothing here sends, commits or elects.

A *simple* change alters at most one voter, so that old and new majorities overlap. Any other one
goes through a *joint* configuration in which both the outgoing and the incoming voters must agree.
Every function returns a new configuration and a new progress map and leaves its inputs alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.raft.messages import (
    NO_MEMBER,
    ConfChangeRefused,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Transition,
)
from corum.values import value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corum.raft.progress import Progress

_NOBODY: frozenset[int] = frozenset()


@value
class Configuration:
    """Who votes and who only listens.

    Joint while `outgoing` is not empty. `learners` and voters are disjoint; `learners_next` are
    outgoing voters that become learners when the joint configuration is left.
    """

    incoming: frozenset[int] = _NOBODY
    outgoing: frozenset[int] = _NOBODY
    learners: frozenset[int] = _NOBODY
    learners_next: frozenset[int] = _NOBODY
    auto_leave: bool = False

    @property
    def is_joint(self) -> bool:
        return bool(self.outgoing)

    @property
    def is_singleton(self) -> bool:
        """One voter decides alone."""
        return len(self.incoming) == 1 and not self.outgoing

    def voters(self) -> frozenset[int]:
        """Everybody who is asked for votes."""
        return self.incoming | self.outgoing

    def conf_state(self) -> ConfState:
        return ConfState(
            voters=tuple(sorted(self.incoming)),
            learners=tuple(sorted(self.learners)),
            voters_outgoing=tuple(sorted(self.outgoing)),
            learners_next=tuple(sorted(self.learners_next)),
            auto_leave=self.auto_leave,
        )

    def __str__(self) -> str:
        text = f"voters={_ids(self.incoming)}"
        if self.outgoing:
            text += f"&&{_ids(self.outgoing)}"
        if self.learners:
            text += f" learners={_ids(self.learners)}"
        if self.learners_next:
            text += f" learners_next={_ids(self.learners_next)}"
        return text + (" autoleave" if self.auto_leave else "")


def _ids(members: Iterable[int]) -> str:
    return f"({' '.join(str(member) for member in sorted(members))})"


@value
class Membership:
    """A configuration with the progress of each of its members, and how to begin a new one's."""

    configuration: Configuration
    progress: dict[int, Progress]
    new_progress: Callable[[bool], Progress]  # argument: is a learner


def apply(membership: Membership, change: ConfChangeV2) -> Membership:
    """The membership after `change`, by whichever of the three ways it asks for.

    Raises ConfChangeRefused.
    """
    auto = change.transition == Transition.AUTO
    if auto and not change.changes:
        return leave_joint(membership)
    if auto and len(change.changes) == 1:
        return simple(membership, change.changes)
    return enter_joint(
        membership, change.changes, auto_leave=change.transition != Transition.JOINT_EXPLICIT
    )


def simple(membership: Membership, changes: Iterable[ConfChangeSingle]) -> Membership:
    """Alter at most one voter, and any learners. Raises ConfChangeRefused."""
    before = membership.configuration
    if before.is_joint:
        raise ConfChangeRefused("can't apply simple config change in joint config")
    draft = _Draft(membership)
    draft.alter(changes)
    if len(before.incoming ^ draft.incoming) > 1:
        raise ConfChangeRefused("more than one voter changed without entering joint config")
    return draft.finish()


def enter_joint(
    membership: Membership, changes: Iterable[ConfChangeSingle], *, auto_leave: bool
) -> Membership:
    """Let the present voters be the outgoing half and alter the incoming one.

    Raises ConfChangeRefused.
    """
    if membership.configuration.is_joint:
        raise ConfChangeRefused("config is already joint")
    if not membership.configuration.incoming:
        # Nothing to agree with: a first voter is added by a simple change.
        raise ConfChangeRefused("can't make a zero-voter config joint")
    draft = _Draft(membership)
    draft.outgoing = set(draft.incoming)
    draft.alter(changes)
    draft.auto_leave = auto_leave
    return draft.finish()


def leave_joint(membership: Membership) -> Membership:
    """Let the incoming half decide alone. Raises ConfChangeRefused."""
    if not membership.configuration.is_joint:
        raise ConfChangeRefused("can't leave a non-joint config")
    draft = _Draft(membership)
    for member in sorted(draft.learners_next):
        draft.mark(member, learner=True)
    draft.learners |= draft.learners_next
    draft.learners_next = set()
    for member in sorted(draft.outgoing - draft.incoming - draft.learners):
        del draft.progress[member]
    draft.outgoing = set()
    draft.auto_leave = False
    return draft.finish()


def restore(state: ConfState, new_progress: Callable[[bool], Progress]) -> Membership:
    """The membership that a snapshot or the storage remembers."""
    configuration = Configuration(
        incoming=frozenset(state.voters),
        outgoing=frozenset(state.voters_outgoing),
        learners=frozenset(state.learners),
        learners_next=frozenset(state.learners_next),
        auto_leave=state.auto_leave,
    )
    progress = {member: new_progress(False) for member in sorted(configuration.voters())}
    for member in sorted(configuration.learners):
        progress[member] = new_progress(True)
    return _checked(Membership(configuration, progress, new_progress))


class _Draft:
    """A configuration being altered."""

    __slots__ = (
        "auto_leave",
        "incoming",
        "learners",
        "learners_next",
        "new_progress",
        "outgoing",
        "progress",
    )

    def __init__(self, membership: Membership) -> None:
        before = membership.configuration
        self.incoming = set(before.incoming)
        self.outgoing = set(before.outgoing)
        self.learners = set(before.learners)
        self.learners_next = set(before.learners_next)
        self.auto_leave = before.auto_leave
        self.progress = dict(membership.progress)
        self.new_progress = membership.new_progress

    def alter(self, changes: Iterable[ConfChangeSingle]) -> None:
        for change in changes:
            if change.node_id == NO_MEMBER:
                continue  # how an application withdraws a change after it was committed
            if change.type == ConfChangeType.ADD_NODE:
                self._make_voter(change.node_id)
            elif change.type == ConfChangeType.ADD_LEARNER_NODE:
                self._make_learner(change.node_id)
            elif change.type == ConfChangeType.REMOVE_NODE:
                self._remove(change.node_id)
            else:
                assert change.type == ConfChangeType.UPDATE_NODE, f"change type {change.type}"
        if not self.incoming:
            raise ConfChangeRefused("removed all voters")

    def mark(self, member: int, *, learner: bool) -> None:
        progress = self.progress[member]
        if progress.is_learner != learner:
            progress = progress.copy()
            progress.is_learner = learner
            self.progress[member] = progress

    def finish(self) -> Membership:
        configuration = Configuration(
            incoming=frozenset(self.incoming),
            outgoing=frozenset(self.outgoing),
            learners=frozenset(self.learners),
            learners_next=frozenset(self.learners_next),
            auto_leave=self.auto_leave,
        )
        return _checked(Membership(configuration, self.progress, self.new_progress))

    def _make_voter(self, member: int) -> None:
        if member not in self.progress:
            self.progress[member] = self.new_progress(False)
        self.mark(member, learner=False)
        self.learners.discard(member)
        self.learners_next.discard(member)
        self.incoming.add(member)

    def _make_learner(self, member: int) -> None:
        """A voter of the outgoing half cannot be both: it waits in `learners_next`."""
        self.incoming.discard(member)
        if member in self.outgoing:
            self.learners_next.add(member)
            return
        if member not in self.progress:
            self.progress[member] = self.new_progress(True)
        self.mark(member, learner=True)
        self.learners.add(member)

    def _remove(self, member: int) -> None:
        self.incoming.discard(member)
        self.learners.discard(member)
        self.learners_next.discard(member)
        if member not in self.outgoing:
            self.progress.pop(member, None)


def _checked(membership: Membership) -> Membership:
    """Asserts the invariants that the rest of the room relies on."""
    conf = membership.configuration
    everybody = conf.voters() | conf.learners
    assert everybody == membership.progress.keys(), f"progress does not fit {conf}"
    assert not conf.learners & conf.voters(), f"voters among the learners: {conf}"
    assert conf.learners_next <= conf.outgoing, f"learners_next without a vote to lose: {conf}"
    assert not conf.learners_next & conf.incoming, f"learners_next among the voters: {conf}"
    assert conf.outgoing or not conf.auto_leave, f"auto_leave outside a joint one: {conf}"
    for member in conf.learners:
        assert membership.progress[member].is_learner, f"{member} should be a learner: {conf}"
    for member in conf.voters():
        assert not membership.progress[member].is_learner, f"{member} should be a voter: {conf}"
    return membership
