"""The face of the room: RawNode takes calls and messages and gives out Ready.

Two ways to drive it:

Simple (`async_storage_writes` False), one Ready at a time:

    ready = node.ready()
    persist ready.snapshot, ready.entries, ready.hard_state   (fsync if ready.must_sync)
    storage.apply_snapshot / append / set_hard_state
    send ready.messages
    apply ready.snapshot, ready.committed_entries             (apply_conf_change for conf entries)
    node.advance(ready)

Pipelined (`async_storage_writes` True): `ready()` may be called again at once, there is no
`advance`. Local work comes as messages: STORAGE_APPEND (to APPEND_THREAD) is to be written in
order and durably; STORAGE_APPLY (to APPLY_THREAD) is to be applied in order. When the work is
done, its `responses` are delivered: `step` for those to the own id, send for the others. All
other messages may be sent at once, before anything is durable. A Ready without `must_sync` only
moves the commit index: its STORAGE_APPEND needs no fsync of its own and may join the next write.

A restart: fill a storage with the newest snapshot, hard state and entries of the WAL, and start a
RawNode on it with `Config.applied` = what the application has; committed entries after that come
out again. A new cluster: an empty storage and `bootstrap`. A joining member: an empty storage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.raft.conf_entry import encode
from corum.raft.messages import (
    APPEND_THREAD,
    APPLY_THREAD,
    NO_MEMBER,
    ConfChange,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageInvalid,
    MessageType,
    ReadState,
    Role,
    RoleChange,
    Snapshot,
    SoftState,
    StepLocalMessage,
    StepPeerNotFound,
)
from corum.raft.raft import WITHOUT_TERM, Raft
from corum.values import value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corum.raft.confchange import Configuration
    from corum.raft.config import Config
    from corum.raft.progress import Progress
    from corum.raft.storage import LogStorage

_LOCAL = frozenset(
    {
        MessageType.HUP,
        MessageType.BEAT,
        MessageType.UNREACHABLE,
        MessageType.SNAP_STATUS,
        MessageType.CHECK_QUORUM,
        MessageType.STORAGE_APPEND,
        MessageType.STORAGE_APPEND_RESP,
        MessageType.STORAGE_APPLY,
        MessageType.STORAGE_APPLY_RESP,
    }
)
_ANSWERS = frozenset(
    {
        MessageType.APP_RESP,
        MessageType.VOTE_RESP,
        MessageType.HEARTBEAT_RESP,
        MessageType.UNREACHABLE,
        MessageType.READ_INDEX_RESP,
        MessageType.PRE_VOTE_RESP,
        MessageType.STORAGE_APPEND_RESP,
        MessageType.STORAGE_APPLY_RESP,
    }
)
_THREADS = (APPEND_THREAD, APPLY_THREAD)


@value
class Ready:
    """Work the driver owes to Raft, in this order. Fields are empty when there is nothing to do."""

    soft_state: SoftState | None = None  # changed since the last Ready; not persisted
    hard_state: HardState | None = None  # changed: persist BEFORE sending messages
    entries: Sequence[Entry] = ()  # persist BEFORE sending; replace the stored tail
    snapshot: Snapshot | None = None  # persist and apply BEFORE the entries and committed entries
    messages: Sequence[Message] = ()  # see the two ways above
    read_states: Sequence[ReadState] = ()  # answer once applied >= read_state.index
    committed_entries: Sequence[Entry] = ()  # already durable; apply in order
    must_sync: bool = False  # False: the write may stay in the page cache
    role_changes: Sequence[RoleChange] = ()  # for the log of the member


@value
class Status:
    """A copy of what a member knows, for status calls and metrics."""

    id: int
    role: Role
    term: int
    vote: int
    leader: int
    commit: int
    applied: int
    last_index: int
    lead_transferee: int
    is_learner: bool
    configuration: Configuration
    progress: dict[int, Progress]  # empty unless leader; keys sorted; copies


class RawNode:
    """One member of a Raft group. Not thread-safe; nothing in here blocks."""

    __slots__ = (
        "_async",
        "_hard_state",
        "_outstanding",
        "_soft_state",
        "_steps_on_advance",
        "raft",
    )

    def __init__(self, config: Config, storage: LogStorage) -> None:
        """A follower with what `storage` remembers. Raises ValueError for an invalid config."""
        self.raft = Raft(config, storage)
        self._async = config.async_storage_writes
        self._soft_state = self.raft.soft_state()
        self._hard_state = self.raft.hard_state()
        self._steps_on_advance: list[Message] = []
        self._outstanding: Ready | None = None

    # Inputs

    def tick(self) -> None:
        """One unit of time has passed."""
        self.raft.tick()

    def step(self, msg: Message) -> None:
        """Take a message from a peer, or an answer of a storage thread.

        The driver vouches for `sender`: what comes over the network never has a thread's id.

        Raises RaftError when it is refused: StepLocalMessage and StepPeerNotFound (count them),
        ProposalDropped for a forwarded proposal (its sender will time out), MessageInvalid.
        """
        if msg.sender not in _THREADS:
            if msg.type in _LOCAL:
                raise StepLocalMessage("raft: cannot step raft local message")
            stranger = msg.sender not in self.raft.progress and msg.sender != self.raft.id
            if stranger and msg.type in _ANSWERS:
                raise StepPeerNotFound("raft: cannot step as peer not found")
            if not msg.term and msg.type not in WITHOUT_TERM:
                # Inside, term 0 means "whatever the term"; nobody else may say that.
                raise MessageInvalid(f"{msg.type.name} without a term")
        self.raft.step(msg)

    def campaign(self) -> None:
        """Start an election now, unless leader or not allowed to."""
        self.raft.step(Message(MessageType.HUP))

    def propose(self, entries: list[Entry]) -> None:
        """Propose a batch: all of it, in order, or nothing.

        On the leader the very objects are appended (the list is not kept); elsewhere copies
        without `request` are forwarded, with no promise that they arrive. Raises ProposalDropped.
        A configuration change that must not be started now becomes an empty NORMAL entry.
        """
        assert entries, "an empty batch"
        raft = self.raft
        raft.step(Message(MessageType.PROP, sender=raft.id, entries=entries))

    def propose_conf_change(
        self, change: ConfChange | ConfChangeV2, request: object = None
    ) -> Entry:
        """Propose a change of the configuration. Returns the entry. Raises ProposalDropped."""
        kind, data = encode(change)
        entry = Entry(type=kind, data=data, request=request)
        self.propose([entry])
        return entry

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """Apply a committed change (`conf_entry.decode` of its entry), when its turn comes.

        Must be called for each committed configuration entry, or not at all if the application
        rejects it. Raises ConfChangeRefused if the log holds an impossible change.
        """
        return self.raft.apply_conf_change(change)

    def read_index(self, context: bytes) -> bool:
        """Ask for a read index; the answer is a ReadState with `context` (unique, not empty).

        False: nobody to ask, no answer will come. True: an answer may still be lost with the
        leader or the network; ask again after a while.
        """
        assert context, "a read without context"
        raft = self.raft
        if raft.leader == NO_MEMBER:
            return False
        entries = (Entry(data=context),)
        raft.step(Message(MessageType.READ_INDEX, sender=NO_MEMBER, entries=entries))
        return True

    def transfer_leader(self, transferee: int) -> None:
        """Ask the leader to hand over to a voter; given up after an election timeout."""
        self.raft.step(Message(MessageType.TRANSFER_LEADER, sender=transferee))

    def forget_leader(self) -> None:
        """Stop believing in the leader, so that another one may be elected at once (pre-vote)."""
        self.raft.step(Message(MessageType.FORGET_LEADER))

    def report_unreachable(self, member: int) -> None:
        """A message to `member` was lost: probe it before sending more."""
        self.raft.step(Message(MessageType.UNREACHABLE, sender=member))

    def report_snapshot(self, member: int, ok: bool) -> None:
        """A snapshot's transfer to `member` ended. Must be told, or it gets no more entries."""
        self.raft.step(Message(MessageType.SNAP_STATUS, sender=member, reject=not ok))

    def bootstrap(self, peers: Sequence[tuple[int, bytes]]) -> None:
        """Begin a new cluster of (id, context): ADD_NODE entries 1..n at term 1, committed.

        Every initial member must be given the same list in the same order. They come out as
        committed entries to be applied, like later ones.
        """
        self.raft.bootstrap(peers)

    # Outputs

    def has_ready(self) -> bool:
        """Is there anything in the next Ready?"""
        raft = self.raft
        log = raft.log
        if raft.messages or raft.after_append or raft.read_states:
            return True
        if log.unstable.has_next() or log.has_next_committed(not self._async):
            return True
        soft, hard = self._soft_state, self._hard_state
        if raft.leader != soft.leader or raft.role != soft.role:
            return True
        return raft.log.committed != hard.commit or raft.term != hard.term or raft.vote != hard.vote

    def ready(self) -> Ready:
        """Take the pending work. With synchronous writes `advance` must come before the next."""
        assert self._outstanding is None, "ready() before advance() of the one before"
        raft = self.raft
        unstable = raft.log.unstable
        hard_before = self._hard_state
        ready = Ready(
            soft_state=self._soft_state_change(),
            hard_state=self._hard_state_change(),
            entries=unstable.take_entries(),
            snapshot=unstable.take_snapshot(),
            messages=raft.messages,
            read_states=raft.read_states,
            committed_entries=raft.log.take_committed(not self._async),
            role_changes=raft.role_changes,
        )
        hard = self._hard_state
        ready.must_sync = bool(  # pyright: ignore[reportAttributeAccessIssue]  # not yet given out
            ready.entries or hard.term != hard_before.term or hard.vote != hard_before.vote
        )
        after_append = raft.after_append
        raft.messages = []
        raft.after_append = []
        raft.read_states = []
        raft.role_changes = []
        if self._async:
            self._add_storage_work(ready, after_append)
        else:
            self._plan_advance(ready, after_append)
            self._outstanding = ready
        return ready

    def advance(self, ready: Ready) -> None:
        """`ready` is done: persisted, sent, applied. Not with asynchronous storage writes."""
        assert not self._async, "advance() with asynchronous storage writes"
        assert ready is self._outstanding, "advance() with another Ready than the last"
        self._outstanding = None
        steps = self._steps_on_advance
        self._steps_on_advance = []
        for msg in steps:
            self.raft.step(msg)

    def status(self) -> Status:
        """A copy of the state; costs a few microseconds per peer on the leader."""
        raft = self.raft
        progress = raft.progress if raft.role == Role.LEADER else {}
        return Status(
            id=raft.id,
            role=raft.role,
            term=raft.term,
            vote=raft.vote,
            leader=raft.leader,
            commit=raft.log.committed,
            applied=raft.log.applied,
            last_index=raft.log.last_index,
            lead_transferee=raft.lead_transferee,
            is_learner=raft.is_learner,
            configuration=raft.configuration,
            progress={member: progress[member].copy() for member in sorted(progress)},
        )

    @property
    def leader(self) -> int:
        """The leader as far as we know, or NO_MEMBER."""
        return self.raft.leader

    @property
    def is_leader(self) -> bool:
        return self.raft.role == Role.LEADER

    @property
    def takes_proposals(self) -> bool:
        """Would `propose` take a batch, or pass it on? Nobody does without a leader, and a leader
        does not while it hands over or after it was removed."""
        raft = self.raft
        if raft.role != Role.LEADER:
            return raft.leader != NO_MEMBER
        return raft.lead_transferee == NO_MEMBER and raft.id in raft.progress

    # Parts of ready()

    def _soft_state_change(self) -> SoftState | None:
        raft, before = self.raft, self._soft_state
        if raft.leader == before.leader and raft.role == before.role:
            return None
        self._soft_state = raft.soft_state()
        return self._soft_state

    def _hard_state_change(self) -> HardState | None:
        raft, before = self.raft, self._hard_state
        if (
            raft.log.committed == before.commit
            and raft.term == before.term
            and raft.vote == before.vote
        ):
            return None
        self._hard_state = raft.hard_state()
        return self._hard_state

    def _plan_advance(self, ready: Ready, after_append: list[Message]) -> None:
        """Messages to others wait for the disk by contract; those to ourselves for advance()."""
        raft = self.raft
        steps = self._steps_on_advance
        for msg in after_append:
            if msg.to == raft.id:
                steps.append(msg)
            else:
                ready.messages.append(msg)  # type: ignore[attr-defined]  # our own list
        if raft.log.unstable.entries or ready.snapshot is not None:
            steps.append(self._append_answer(ready))
        if ready.committed_entries:
            steps.append(self._apply_answer(ready))

    def _add_storage_work(self, ready: Ready, after_append: list[Message]) -> None:
        raft = self.raft
        work: list[Message] = ready.messages  # type: ignore[assignment]  # our own list
        hard = ready.hard_state
        if ready.entries or hard is not None or ready.snapshot is not None or after_append:
            responses = after_append
            if raft.log.unstable.entries or ready.snapshot is not None:
                responses.append(self._append_answer(ready))
            work.append(
                Message(
                    MessageType.STORAGE_APPEND,
                    to=APPEND_THREAD,
                    sender=raft.id,
                    entries=ready.entries,
                    term=0 if hard is None else hard.term,
                    vote=NO_MEMBER if hard is None else hard.vote,
                    commit=0 if hard is None else hard.commit,
                    snapshot=ready.snapshot,
                    responses=responses,
                )
            )
        if ready.committed_entries:
            work.append(
                Message(
                    MessageType.STORAGE_APPLY,
                    to=APPLY_THREAD,
                    sender=raft.id,
                    entries=ready.committed_entries,
                    responses=(self._apply_answer(ready),),
                )
            )

    def _append_answer(self, ready: Ready) -> Message:
        """Tells which entries are durable once all work handed out so far is done.

        It names the last entry of the whole unstable tail, and the term in which it was made: in a
        later term those entries may be on their way to being overwritten, although an append of
        the same (index, term) reported success (the ABA problem), so the answer is then ignored.
        With no entry to append now, it is sent nonetheless while older ones are in progress: an
        ignored answer must be made up for by a later one.
        """
        raft = self.raft
        index = log_term = 0
        if raft.log.unstable.entries:
            last = raft.log.unstable.entries[-1]
            index, log_term = last.index, last.term
        return Message(
            MessageType.STORAGE_APPEND_RESP,
            to=raft.id,
            sender=APPEND_THREAD,
            term=raft.term,
            index=index,
            log_term=log_term,
            snapshot=ready.snapshot,
        )

    def _apply_answer(self, ready: Ready) -> Message:
        return Message(
            MessageType.STORAGE_APPLY_RESP,
            to=self.raft.id,
            sender=APPLY_THREAD,
            entries=ready.committed_entries,
        )
