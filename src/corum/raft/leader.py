"""What a leader does: append, replicate, commit, confirm reads, hand over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.raft.conf_entry import as_v2, decode
from corum.raft.config import ReadOnly
from corum.raft.messages import (
    NO_MEMBER,
    ConfChangeCorrupt,
    Entry,
    EntryType,
    Message,
    MessageInvalid,
    MessageType,
    ProposalDropped,
    ReadState,
    Role,
    payload_bytes,
)
from corum.raft.progress import Progress, ProgressState
from corum.raft.quorum import VoteResult, joint_committed_index, joint_vote_result
from corum.raft.read_index import PENDING_READS_MAX
from corum.raft.storage import SnapshotTemporarilyUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corum.raft.raft import Raft

    Handlers = dict[MessageType, Callable[[Raft, Message], None]]


# Time


def tick(raft: Raft) -> None:
    """Heartbeats; once per election timeout a look at who is still there."""
    raft.heartbeat_elapsed += 1
    if raft.election_elapsed >= raft.config.election_ticks:
        raft.election_elapsed = 0
        if raft.config.check_quorum:
            raft.step(Message(MessageType.CHECK_QUORUM))
        # A transfer that takes longer than this has failed (diss. §3.10).
        raft.lead_transferee = NO_MEMBER
    if raft.role == Role.LEADER and raft.heartbeat_elapsed >= raft.config.heartbeat_ticks:
        raft.heartbeat_elapsed = 0
        raft.step(Message(MessageType.BEAT))


def _on_beat(raft: Raft, msg: Message) -> None:
    _heartbeats(raft, raft.pending_reads.newest_context())


def _heartbeats(raft: Raft, context: bytes) -> None:
    committed = raft.log.committed
    for member in raft.peers:
        progress = raft.progress[member]
        # Not beyond what it has for sure: the rest of its log may be of another leader.
        commit = min(progress.match, committed)
        raft.send(Message(MessageType.HEARTBEAT, to=member, commit=commit, context=context))
        progress.sent_commit = commit


def _on_check_quorum(raft: Raft, msg: Message) -> None:
    """A leader without a quorum steps down: its clients shall look for another (diss. §6.2)."""
    active = {member: progress.recent_active for member, progress in raft.progress.items()}
    if raft.id in active:
        active[raft.id] = True
    conf = raft.configuration
    result = joint_vote_result(conf.incoming, conf.outgoing, active)
    if result != VoteResult.WON:
        raft.become_follower(raft.term, NO_MEMBER)
        return
    for member in raft.peers:
        raft.progress[member].recent_active = False


# Proposals


def _on_proposal(raft: Raft, msg: Message) -> None:
    if raft.id not in raft.progress:
        raise ProposalDropped("this leader has been removed")
    if raft.lead_transferee != NO_MEMBER:
        raise ProposalDropped(f"leadership is going to {raft.lead_transferee}")
    entries = msg.entries
    if not entries:
        raise MessageInvalid("PROP without entries")
    if msg.sender != raft.id:
        # The same message may come twice, and the log needs entries of its own.
        entries = [Entry(type=entry.type, data=entry.data) for entry in entries]
    if not append(raft, entries):
        raise ProposalDropped(f"{raft.uncommitted_bytes} bytes are not applied yet")
    replicate(raft)


def append(raft: Raft, entries: Sequence[Entry]) -> bool:
    """Give `entries` their place in the log. False if too much is waiting already.

    A batch is always let in when nothing is waiting, and when it has no data at all, so that a new
    leader's first entry and the leaving of a joint configuration are never refused.
    """
    size = payload_bytes(entries)
    waiting = raft.uncommitted_bytes
    if waiting and size and waiting + size > raft.config.uncommitted_bytes_max:
        return False
    raft.uncommitted_bytes = waiting + size
    term = raft.term
    index = raft.log.last_index
    for entry in entries:
        index += 1
        entry.term = term
        entry.index = index
        if entry.type:
            _check_conf_change(raft, entry)
    raft.log.append(entries)
    # To be durable here counts for the commit like anywhere else.
    raft.send(Message(MessageType.APP_RESP, to=raft.id, index=index))
    return True


def _check_conf_change(raft: Raft, entry: Entry) -> None:
    """Let one change at a time into the log; another one becomes an empty NORMAL entry.

    What counts is the configuration as applied here, which may be behind the log.
    """
    try:
        leaves = not as_v2(decode(entry)).changes
        refused = not raft.config.disable_conf_change_validation and (
            raft.pending_conf_index > raft.log.applied or leaves != raft.configuration.is_joint
        )
    except ConfChangeCorrupt:
        refused = True
    if refused:
        entry.type = EntryType.NORMAL
        entry.data = b""
    else:
        raft.pending_conf_index = entry.index


# Replication


def replicate(raft: Raft) -> None:
    """Send to everybody what is new, be it only the commit index."""
    for member in raft.peers:
        send_append(raft, member)


def send_append(raft: Raft, member: int, *, even_empty: bool = True) -> bool:
    """Send the next entries, or a snapshot if they are gone, unless paused. Sent something?"""
    progress = raft.progress[member]
    if progress.is_paused:
        return False
    log = raft.log
    prev_index = progress.next - 1
    prev_term = log.term(prev_index)
    if prev_term is None:
        return _send_snapshot(raft, member, progress)
    entries: Sequence[Entry] = ()
    throttled = progress.state == ProgressState.REPLICATE and progress.inflights.full
    if prev_index < log.last_index and not throttled:
        entries = log.slice(progress.next, log.last_index + 1, raft.config.message_bytes_max)
    if not entries and not even_empty:
        return False
    raft.send(
        Message(
            MessageType.APP,
            to=member,
            index=prev_index,
            log_term=prev_term,
            entries=entries,
            commit=log.committed,
        )
    )
    progress.sent(len(entries), payload_bytes(entries))
    progress.sent_commit = log.committed
    return True


def _send_snapshot(raft: Raft, member: int, progress: Progress) -> bool:
    if not progress.recent_active:
        return False  # it would not arrive; and it is big
    try:
        log = raft.log
        snapshot = log.unstable.snapshot or log.storage.snapshot()
    except SnapshotTemporarilyUnavailable:
        return False
    assert snapshot.index, "asked for a snapshot where there is none"
    progress.become_snapshot(snapshot.index)
    raft.send(Message(MessageType.SNAP, to=member, snapshot=snapshot))
    return True


def _on_append_resp(raft: Raft, msg: Message) -> None:
    progress = raft.progress.get(msg.sender)
    if progress is None:
        return
    progress.recent_active = True
    if msg.reject:
        _on_rejection(raft, msg, progress)
        return
    probing = progress.state == ProgressState.PROBE
    if not progress.acknowledged(msg.index) and not (probing and progress.match == msg.index):
        return
    _follow_acknowledgement(raft, msg, progress)
    remote = msg.sender != raft.id
    if maybe_commit(raft):
        _release_postponed_reads(raft)
        replicate(raft)
    elif remote and progress.can_bump_commit(raft.log.committed):
        # It may lack the newest commit index: faster than to wait for the heartbeat.
        send_append(raft, msg.sender)
    if not remote:
        return
    # There may be room for more than one message now.
    while send_append(raft, msg.sender, even_empty=False):
        pass
    if msg.sender == raft.lead_transferee and progress.match == raft.log.last_index:
        raft.send(Message(MessageType.TIMEOUT_NOW, to=msg.sender))


def _follow_acknowledgement(raft: Raft, msg: Message, progress: Progress) -> None:
    """The states after `match` has moved."""
    if progress.state == ProgressState.PROBE:
        progress.become_replicate()
    elif progress.state == ProgressState.REPLICATE:
        progress.inflights.free_to(msg.index)
    elif progress.match + 1 >= raft.log.first_index():
        # It has enough for us to go on with entries, by this snapshot or by another one.
        progress.become_probe()
        progress.become_replicate()


def _on_rejection(raft: Raft, msg: Message, progress: Progress) -> None:
    """Logs differ at `msg.index`: go back to where they may agree and probe there.

    The follower hints at the largest index whose term is not above that of our probe; we skip on
    our side what has a higher term than its hint. So each round leaves a whole term behind.
    """
    hint = msg.reject_hint
    if msg.log_term > 0:
        hint, _ = raft.log.conflict_hint(hint, msg.log_term)
    if progress.rejected(msg.index, hint):
        if progress.state == ProgressState.REPLICATE:
            progress.become_probe()
        send_append(raft, msg.sender)


def _on_heartbeat_resp(raft: Raft, msg: Message) -> None:
    progress = raft.progress.get(msg.sender)
    if progress is None:
        return
    progress.recent_active = True
    progress.paused_until_answer = False
    # An empty message even when the inflights are full: if all of them were lost, its rejection
    # is what gets the follower going again.
    if progress.match < raft.log.last_index or progress.state == ProgressState.PROBE:
        send_append(raft, msg.sender)
    if raft.config.read_only != ReadOnly.SAFE or not msg.context:
        return
    conf = raft.configuration
    acks = raft.pending_reads.acknowledge(msg.sender, msg.context)
    if joint_vote_result(conf.incoming, conf.outgoing, acks) == VoteResult.WON:
        for read in raft.pending_reads.release(msg.context):
            _answer_read(raft, read.request, read.index)


def maybe_commit(raft: Raft) -> bool:
    """Commit what a quorum has stored, if it is of this term (Raft §5.4.2). Any progress?"""
    acked = {member: progress.match for member, progress in raft.progress.items()}
    conf = raft.configuration
    index = joint_committed_index(conf.incoming, conf.outgoing, acked)
    log = raft.log
    if index <= log.committed or not log.matches(index, raft.term):
        return False
    log.commit_to(index)
    return True


def _on_unreachable(raft: Raft, msg: Message) -> None:
    progress = raft.progress.get(msg.sender)
    if progress is not None and progress.state == ProgressState.REPLICATE:
        progress.become_probe()


def _on_snapshot_status(raft: Raft, msg: Message) -> None:
    progress = raft.progress.get(msg.sender)
    if progress is None or progress.state != ProgressState.SNAPSHOT:
        return
    if msg.reject:
        progress.pending_snapshot = 0
    progress.become_probe()
    # If it arrived, an acknowledgement comes soon; if not, the next heartbeat is soon enough.
    progress.paused_until_answer = True


# Reads


def _on_read_index(raft: Raft, msg: Message) -> None:
    if len(msg.entries) != 1:
        raise MessageInvalid(f"READ_INDEX with {len(msg.entries)} contexts")
    if not _committed_in_own_term(raft):
        # Until then a predecessor may have committed more than we know of; a lone voter too, whose
        # stored commit index lags behind its log.
        if len(raft.postponed_reads) < PENDING_READS_MAX:
            raft.postponed_reads.append(msg)
        return
    _confirm_read(raft, msg)


def _release_postponed_reads(raft: Raft) -> None:
    if raft.postponed_reads and _committed_in_own_term(raft):
        postponed = raft.postponed_reads
        raft.postponed_reads = []
        for msg in postponed:
            _confirm_read(raft, msg)


def _confirm_read(raft: Raft, msg: Message) -> None:
    index = raft.log.committed
    if raft.configuration.is_singleton or raft.config.read_only == ReadOnly.LEASE_BASED:
        _answer_read(raft, msg, index)
        return
    context = msg.entries[0].data
    if raft.pending_reads.add(context, msg, index):
        raft.pending_reads.acknowledge(raft.id, context)
        _heartbeats(raft, context)


def _answer_read(raft: Raft, request: Message, index: int) -> None:
    if request.sender in (NO_MEMBER, raft.id):
        raft.read_states.append(ReadState(index, request.entries[0].data))
        return
    raft.send(
        Message(
            MessageType.READ_INDEX_RESP, to=request.sender, index=index, entries=request.entries
        )
    )


def _committed_in_own_term(raft: Raft) -> bool:
    return raft.log.matches(raft.log.committed, raft.term)


# Handing over


def _on_transfer_leader(raft: Raft, msg: Message) -> None:
    """Bring the transferee up to date, then tell it to campaign; a newer wish replaces an older."""
    progress = raft.progress.get(msg.sender)
    if progress is None or progress.is_learner or msg.sender == raft.lead_transferee:
        return
    raft.lead_transferee = NO_MEMBER
    if msg.sender == raft.id:
        return
    raft.election_elapsed = 0  # it has one election timeout
    raft.lead_transferee = msg.sender
    if progress.match == raft.log.last_index:
        raft.send(Message(MessageType.TIMEOUT_NOW, to=msg.sender))
    else:
        send_append(raft, msg.sender)


def configuration_changed(raft: Raft) -> None:
    """Follow up on a switch: fewer may be needed to commit, new members want the log."""
    if raft.role != Role.LEADER:
        return
    own = raft.progress.get(raft.id)
    if own is None or own.is_learner:
        # Goes on leading, without counting itself, until somebody else is elected (diss. §4.2.2).
        if raft.config.step_down_on_removal:
            raft.become_follower(raft.term, NO_MEMBER)
        return
    if maybe_commit(raft):
        _release_postponed_reads(raft)
        replicate(raft)
    else:
        for member in raft.peers:
            send_append(raft, member, even_empty=False)
    if raft.lead_transferee not in raft.configuration.voters():
        raft.lead_transferee = NO_MEMBER


LEADER: Handlers = {
    MessageType.BEAT: _on_beat,
    MessageType.CHECK_QUORUM: _on_check_quorum,
    MessageType.PROP: _on_proposal,
    MessageType.APP_RESP: _on_append_resp,
    MessageType.HEARTBEAT_RESP: _on_heartbeat_resp,
    MessageType.UNREACHABLE: _on_unreachable,
    MessageType.SNAP_STATUS: _on_snapshot_status,
    MessageType.READ_INDEX: _on_read_index,
    MessageType.TRANSFER_LEADER: _on_transfer_leader,
}
