"""Configuration changes: proposed with a JSON context, checked and applied in log order (peer-wire
§7)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from corum import errors
from corum.backend import schema
from corum.membership.members import Member, Members, Writes, write_rows
from corum.pb import raftpb
from corum.raft import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    RaftError,
    decode,
)
from corum.server.proposals import Answer
from corum.values import NS_PER_S

if TYPE_CHECKING:
    from corum.server.node import Node

HEALTHY_NS: Final = 5 * NS_PER_S
"""A member counts as connected when it has been so for this long (etcd: `HealthInterval`)."""


class Reconfiguration:
    """One change at a time, as etcd proposes them."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.conf_state = node.raft_storage.snapshot().conf_state
        self.promotions_total = 0
        self.promotions_failed: dict[str, int] = {}
        """Reason -> how often; those that this member was asked for."""

    def propose(
        self, kind: int, member: int, context: bytes, call: Any, answer: Answer | None
    ) -> None:
        """Have the cluster change; `answer(call, None or error)` once it is applied here."""
        node = self._node
        request_id, _ = node.proposals.ids.next()
        change = raftpb.ConfChange(id=request_id, type=kind, node_id=member)  # type: ignore[arg-type]
        if context:
            change.context = context
        data = change.SerializeToString()
        entry = Entry(0, 0, EntryType.CONF_CHANGE, data)
        node.proposals.add_entry(entry, request_id, change, call, node.now_ns, answer)
        self.heard_of((entry,))

    def heard_of(self, entries: Sequence[Entry]) -> None:
        """These wait to be proposed. A leader that is to be removed hands over first, as once it is
        removed it hears of no successor (diss. §4.2.2): what others still send it would be lost.
        """
        changes = [entry for entry in entries if entry.type]
        if not changes or not self._node.is_leader:
            return
        if any(_removes(entry, self._node.members.local) for entry in changes):
            self._node.handover.leave()

    # ---- what may be proposed (etcd: `--strict-reconfig-check`)

    def check_add(self, member: Member) -> None:
        """Raises what forbids proposing to add `member` now."""
        node = self._node
        node.members.check_add(member)
        if not node.config.strict_reconfig:
            return
        if not member.is_learner and not node.members.quorum_survives_add():
            raise errors.MEMBER_NOT_ENOUGH_STARTED()
        voters = node.members.voters
        if self._connected(voters) < len(voters):
            raise errors.UNHEALTHY()

    def check_remove(self, member: int) -> None:
        """Raises what forbids proposing to remove `member` now.

        One that cannot be reached may go: the quorum does without it already.
        """
        node = self._node
        found = node.members.get(member)
        if not node.config.strict_reconfig or found.is_learner:
            return
        if not node.members.quorum_survives_remove(member):
            raise errors.MEMBER_NOT_ENOUGH_STARTED()
        if member != node.members.local and not node.peers.active_since(member):
            return
        voters = node.members.voters
        if self._connected(voters) - 1 < (len(voters) - 1) // 2 + 1:
            raise errors.UNHEALTHY()

    def _check_promote(self, member: int) -> None:
        """Asked of the leader, who knows how far a learner is."""
        node = self._node
        progress = node.raft.status().progress.get(member)
        if progress is None or progress.match < node.raft.status().last_index * 9 // 10:
            raise errors.LEARNER_NOT_READY()
        if node.config.strict_reconfig and not node.members.quorum_survives_promote():
            raise errors.MEMBER_NOT_ENOUGH_STARTED()

    def _connected(self, members: list[Member]) -> int:
        """How many of them have been reachable long enough, this one among them."""
        node = self._node
        since_ns = node.now_ns - HEALTHY_NS
        return sum(
            one.id == node.members.local or 0 < node.peers.active_since(one.id) <= since_ns
            for one in members
        )

    # ---- changes

    def promote(self, member: int, done: Callable[[BaseException | None], None]) -> None:
        """Make a learner that has caught up a voter; a follower has the leader do it."""
        node = self._node

        def told(error: BaseException | None) -> None:
            if error is None:
                self.promotions_total += 1
            else:
                counts = self.promotions_failed
                counts[str(error)] = counts.get(str(error), 0) + 1
            done(error)

        try:
            node.members.check_promote(member)
            if not node.is_leader:
                node.forwarding.promote(member, lambda error: self._promoted(member, error, told))
                return
            self._check_promote(member)
            found = node.members.get(member)
            context = Member(found.id, found.peer_urls).to_json(promote=True)
            kind = raftpb.ConfChangeAddNode
            self.propose(kind, member, context, None, lambda _, result: told(result))
        except errors.EtcdError as error:
            told(error)

    def _promoted(
        self, member: int, error: BaseException | None, done: Callable[[BaseException | None], None]
    ) -> None:
        """The leader has promoted: answer when this member has applied it too.

        The list changes when an entry says so and at no other time: one changed here refused the
        very entry that was to come, and the member voted with others than the rest.
        """
        if error is not None or not self._node.members.get(member).is_learner:
            done(error)
        else:
            self._node.confirm(lambda: done(None), done)

    def apply(self, entry: Entry) -> None:
        """Check the change against the list as it is now; a refused one becomes a no-op."""
        node = self._node
        change = raftpb.ConfChange.FromString(entry.data)
        waiter = node.proposals.waiting.pop(change.id, None)
        error: errors.EtcdError | None = None
        target = change.node_id
        replayed = entry.index <= node.consistent_index
        try:
            if replayed:
                self._check_replayed(change)
                writes: Writes = []
            else:
                self._check(node.members, change)
                writes = self._change(change)
        except errors.EtcdError as refused:
            error, writes, target = refused, [], 0
        raft_change = ConfChange(ConfChangeType(change.type), target, change.context, change.id)
        self.conf_state = node.raft.apply_conf_change(raft_change)
        if not replayed:
            self._store(writes)
        if error is None:
            self._mirror(change)
            node.membership_changed(change.type, change.node_id)
        if waiter is not None and waiter[4] is not None:
            waiter[4](waiter[1], error)

    def _mirror(self, change: Any) -> None:
        """The v2 store knows the members too; it replays the whole log, the backend does not."""
        v2 = self._node.v2
        if change.type == raftpb.ConfChangeRemoveNode:
            v2.member_removed(change.node_id)
            return
        member = Member.from_json(change.context)
        if change.type == raftpb.ConfChangeUpdateNode:  # tells of peer URLs only
            known = v2.members_then().by_id.get(member.id)
            member.is_learner = known is not None and known.is_learner
        v2.member_added(member)

    def _store(self, writes: Writes) -> None:
        backend = self._node.backend
        write_rows(backend, writes)
        backend.put(schema.META, schema.CONF_STATE, conf_state_json(self.conf_state))

    def _check_replayed(self, change: Any) -> None:
        """After a restart the backend's list is ahead of the log that is being replayed, and would
        refuse what was accepted: Raft would count members that were removed. The v2 store is where
        the log is (etcd does the same).
        """
        then = self._node.v2.members_then()
        if then.by_id:  # a snapshot without v2 store tells nothing
            self._check(then, change)

    def _check(self, members: Members, change: Any) -> None:
        """Raises what forbids it (etcd: `ValidateConfigurationChange`)."""
        kind = change.type
        if kind == raftpb.ConfChangeRemoveNode:
            members.get(change.node_id)
        elif kind == raftpb.ConfChangeUpdateNode:
            members.check_update(Member.from_json(change.context))
        elif json.loads(change.context).get("isPromote"):
            members.check_promote(change.node_id)
        else:
            members.check_add(_added(change))

    def _change(self, change: Any) -> Writes:
        """Make a checked change."""
        members = self._node.members
        kind = change.type
        if kind == raftpb.ConfChangeRemoveNode:
            return members.remove(change.node_id)
        if kind == raftpb.ConfChangeUpdateNode:
            return members.update(Member.from_json(change.context))
        if json.loads(change.context).get("isPromote"):
            return members.promote(change.node_id)
        return members.add(_added(change))


def _removes(entry: Entry, member: int) -> bool:
    """Would this entry remove that member?"""
    if entry.type != EntryType.CONF_CHANGE:
        return False
    try:
        change = decode(entry)
    except RaftError:
        return False  # Raft makes it empty
    assert isinstance(change, ConfChange), f"{entry!r} is a change of one member"
    return change.type == ConfChangeType.REMOVE_NODE and change.node_id == member


def _added(change: Any) -> Member:
    """The member that a change adds."""
    member = Member.from_json(change.context)
    member.is_learner = change.type == raftpb.ConfChangeAddLearnerNode
    return member


def conf_state_json(state: ConfState) -> bytes:
    """The form of bucket meta's `confState`."""
    raw: dict[str, Any] = {"voters": list(state.voters)}
    for name in ("learners", "voters_outgoing", "learners_next"):
        ids = getattr(state, name)
        if ids:
            raw[name] = list(ids)
    raw["auto_leave"] = state.auto_leave
    return json.dumps(raw, separators=(",", ":")).encode()
