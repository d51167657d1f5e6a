"""What everybody but the leader does with messages: followers, learners, (pre-)candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.raft import confchange, leader
from corum.raft.config import ReadOnly
from corum.raft.messages import (
    NO_MEMBER,
    Entry,
    Message,
    MessageInvalid,
    MessageType,
    ProposalDropped,
    ReadState,
    Role,
    Snapshot,
)
from corum.raft.quorum import VoteResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from corum.raft.raft import Raft

    Handlers = dict[MessageType, Callable[[Raft, Message], None]]


# From the leader


def _on_append(raft: Raft, msg: Message) -> None:
    _hear_leader(raft, msg)
    log = raft.log
    if msg.index < log.committed:
        # Late: what it starts from is committed here, so tell how far we are.
        raft.send(Message(MessageType.APP_RESP, to=msg.sender, index=log.committed))
        return
    _check_consecutive(msg)
    last = log.accept(msg.index, msg.log_term, msg.entries, msg.commit)
    if last is not None:
        raft.send(Message(MessageType.APP_RESP, to=msg.sender, index=last))
        return
    hint, hint_term = log.conflict_hint(min(msg.index, log.last_index), msg.log_term)
    raft.send(
        Message(
            MessageType.APP_RESP,
            to=msg.sender,
            index=msg.index,
            reject=True,
            reject_hint=hint,
            log_term=hint_term,
        )
    )


def _check_consecutive(msg: Message) -> None:
    """The log relies on it; checked at the ends, so it costs the same for any batch."""
    entries = msg.entries
    if entries and (
        entries[0].index != msg.index + 1 or entries[-1].index != msg.index + len(entries)
    ):
        raise MessageInvalid(f"entries after {msg.index} start at {entries[0].index}")


def _on_heartbeat(raft: Raft, msg: Message) -> None:
    _hear_leader(raft, msg)
    raft.log.commit_to(msg.commit)
    raft.send(Message(MessageType.HEARTBEAT_RESP, to=msg.sender, context=msg.context))


def _on_snapshot(raft: Raft, msg: Message) -> None:
    _hear_leader(raft, msg)
    if msg.snapshot is None:
        raise MessageInvalid("SNAP without a snapshot")
    log = raft.log
    restored = _restore(raft, msg.snapshot)
    index = log.last_index if restored else log.committed
    raft.send(Message(MessageType.APP_RESP, to=msg.sender, index=index))


def _restore(raft: Raft, snapshot: Snapshot) -> bool:
    """Replace the log and the configuration by the snapshot's. False: not needed.

    Never goes back before what is committed. A log that has the snapshot's last entry is kept,
    only the commit index moves (Raft §7).
    """
    log = raft.log
    state = snapshot.conf_state
    members = {*state.voters, *state.learners, *state.voters_outgoing}
    if snapshot.index <= log.committed or raft.id not in members:
        return False
    if log.matches(snapshot.index, snapshot.term):
        log.commit_to(snapshot.index)
        return False
    log.restore(snapshot)
    raft.switch(confchange.restore(state, raft.new_progress))
    restored = raft.configuration.conf_state()
    assert restored.equivalent(state), f"{restored} is not the snapshot's {state}"
    return True


def _hear_leader(raft: Raft, msg: Message) -> None:
    """A message of our term from its only leader; a candidate has lost then (Raft §5.2)."""
    if raft.role != Role.FOLLOWER:
        raft.become_follower(msg.term, msg.sender)
    raft.election_elapsed = 0
    raft.leader = msg.sender


def _on_timeout_now(raft: Raft, msg: Message) -> None:
    """The leader wants us to take over: campaign at once, without a pre-vote."""
    raft.hup(transfer=True)


# From our own application, mostly passed on to the leader


def _on_proposal(raft: Raft, msg: Message) -> None:
    if raft.leader == NO_MEMBER:
        raise ProposalDropped(f"no leader at term {raft.term}")
    if raft.config.disable_proposal_forwarding:
        raise ProposalDropped(f"not forwarded to leader {raft.leader}")
    entries = [Entry(type=entry.type, data=entry.data) for entry in msg.entries]
    raft.send(Message(MessageType.PROP, to=raft.leader, sender=msg.sender, entries=entries))


def _refuse_proposal(raft: Raft, msg: Message) -> None:
    raise ProposalDropped(f"no leader at term {raft.term}")


def _on_transfer_leader(raft: Raft, msg: Message) -> None:
    if raft.leader != NO_MEMBER:
        raft.send(Message(msg.type, to=raft.leader, sender=msg.sender))


def _on_read_index(raft: Raft, msg: Message) -> None:
    if raft.leader != NO_MEMBER:
        raft.send(Message(msg.type, to=raft.leader, sender=msg.sender, entries=msg.entries))


def _on_read_index_resp(raft: Raft, msg: Message) -> None:
    if len(msg.entries) != 1:
        raise MessageInvalid(f"READ_INDEX_RESP with {len(msg.entries)} contexts")
    raft.read_states.append(ReadState(msg.index, msg.entries[0].data))


def _on_forget_leader(raft: Raft, msg: Message) -> None:
    """Not with lease-based reads: the leader counts on our not voting during its lease."""
    if raft.config.read_only != ReadOnly.LEASE_BASED:
        raft.leader = NO_MEMBER


# Elections


def _on_pre_vote_resp(raft: Raft, msg: Message) -> None:
    result = raft.record_vote(msg.sender, not msg.reject)
    if result == VoteResult.WON:
        raft.campaign()
    elif result == VoteResult.LOST:
        raft.become_follower(raft.term, NO_MEMBER)


def _on_vote_resp(raft: Raft, msg: Message) -> None:
    result = raft.record_vote(msg.sender, not msg.reject)
    if result == VoteResult.WON:
        raft.become_leader()
        leader.replicate(raft)
    elif result == VoteResult.LOST:
        raft.become_follower(raft.term, NO_MEMBER)


_FROM_LEADER: Handlers = {
    MessageType.APP: _on_append,
    MessageType.HEARTBEAT: _on_heartbeat,
    MessageType.SNAP: _on_snapshot,
}
FOLLOWER: Handlers = _FROM_LEADER | {
    MessageType.PROP: _on_proposal,
    MessageType.TRANSFER_LEADER: _on_transfer_leader,
    MessageType.FORGET_LEADER: _on_forget_leader,
    MessageType.TIMEOUT_NOW: _on_timeout_now,
    MessageType.READ_INDEX: _on_read_index,
    MessageType.READ_INDEX_RESP: _on_read_index_resp,
}
PRE_CANDIDATE: Handlers = _FROM_LEADER | {
    MessageType.PROP: _refuse_proposal,
    MessageType.PRE_VOTE_RESP: _on_pre_vote_resp,
}
CANDIDATE: Handlers = _FROM_LEADER | {
    MessageType.PROP: _refuse_proposal,
    MessageType.VOTE_RESP: _on_vote_resp,
}
