"""One member's consensus state: rules about terms and votes, time, and every change of role.

What the roles do with messages is in `leader.py` and `follower.py`; only here a role changes:

                 timeout                         majority of pre-votes
    FOLLOWER ---------------> PRE_CANDIDATE ------------------------------+
       ^  |                        |                                      v
       |  +--- timeout ------------|--(without pre-vote, or told to)--> CANDIDATE
       |                           |                                      |
       +--- leader or higher term, or lost -------------------------------+ majority of votes
       |                                                                  v
       +--- higher term, no quorum heard, removed --------------------- LEADER

Two outboxes: `messages` may be sent at once, `after_append` only when everything that Raft handed
out so far is durable, because they promise it (votes, acknowledgements).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.raft import confchange, follower, leader
from corum.raft.conf_entry import as_v2, encode
from corum.raft.confchange import Configuration, Membership
from corum.raft.log import Log
from corum.raft.messages import (
    CAMPAIGN_TRANSFER,
    ENTRY_OVERHEAD_BYTES,
    NO_MEMBER,
    ConfChange,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    RaftError,
    Role,
    RoleChange,
    Snapshot,
    SoftState,
    payload_bytes,
)
from corum.raft.progress import Inflights, Progress
from corum.raft.quorum import VoteResult, joint_vote_result
from corum.raft.read_index import PendingReads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corum.raft.config import Config
    from corum.raft.messages import ReadState
    from corum.raft.storage import LogStorage

    Handlers = dict[MessageType, Callable[["Raft", Message], None]]

_SCAN_BYTES_MAX = 1024 * 1024
"""Read at once when looking for configuration changes among committed entries."""


class Raft:
    """The state machine under RawNode. `step` and `tick` go in, the outboxes and the log come out.

    `configuration`, `progress` and `peers` always belong together (`switch`). `progress` is only
    meaningful on the leader, but every member keeps it for its keys.
    """

    __slots__ = (
        "_handlers",
        "_randomized_ticks",
        "after_append",
        "config",
        "configuration",
        "election_elapsed",
        "heartbeat_elapsed",
        "id",
        "is_learner",
        "lead_transferee",
        "leader",
        "log",
        "messages",
        "peers",
        "pending_conf_index",
        "pending_reads",
        "postponed_reads",
        "progress",
        "read_states",
        "role",
        "role_changes",
        "term",
        "uncommitted_bytes",
        "vote",
        "votes",
    )

    def __init__(self, config: Config, storage: LogStorage) -> None:
        config.validate()
        self.config = config
        self.id = config.id
        self.log = Log(storage, config.committed_bytes_max)
        self.messages: list[Message] = []
        self.after_append: list[Message] = []
        self.read_states: list[ReadState] = []
        self.role_changes: list[RoleChange] = []
        self.term = 0
        self.vote = NO_MEMBER
        self.leader = NO_MEMBER
        self.role = Role.FOLLOWER
        self.is_learner = False
        self.configuration = Configuration()
        self.progress: dict[int, Progress] = {}
        self.peers: tuple[int, ...] = ()
        self.votes: dict[int, bool] = {}
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self._randomized_ticks = config.election_ticks
        # Leader only.
        self.lead_transferee = NO_MEMBER
        self.uncommitted_bytes = 0  # data appended and not applied; an estimate after elections
        self.pending_conf_index = 0  # no other change is proposed before this one is applied
        self.pending_reads = PendingReads()
        self.postponed_reads: list[Message] = []  # until the first commit of the own term

        hard_state, conf_state = storage.initial_state()
        self._restore(hard_state, conf_state)

    def _restore(self, hard_state: HardState, conf_state: ConfState) -> None:
        log = self.log
        self.switch(confchange.restore(conf_state, self.new_progress))
        if hard_state != HardState():
            assert log.committed <= hard_state.commit <= log.last_index, (
                f"stored commit {hard_state.commit} does not fit the log: {log}"
            )
            log.committed = hard_state.commit
            self.term = hard_state.term
            self.vote = hard_state.vote
        if self.config.applied > 0:
            log.applied_to(self.config.applied, 0)
        self.become_follower(self.term, NO_MEMBER)
        self.role_changes = []

    def soft_state(self) -> SoftState:
        return SoftState(self.leader, self.role)

    def hard_state(self) -> HardState:
        return HardState(self.term, self.vote, self.log.committed)

    # Roles

    def become_follower(self, term: int, leader_id: int) -> None:
        self._reset(term)
        self._enter(Role.FOLLOWER, leader_id)

    def become_pre_candidate(self) -> None:
        """Ask whether an election could be won, without disturbing anybody (diss. §9.6).

        Neither term nor vote change: nothing is promised yet.
        """
        assert self.role != Role.LEADER, "a leader does not campaign"
        self.votes = {}
        self._enter(Role.PRE_CANDIDATE, NO_MEMBER)

    def become_candidate(self) -> None:
        assert self.role != Role.LEADER, "a leader does not campaign"
        self._reset(self.term + 1)
        self.vote = self.id
        self._enter(Role.CANDIDATE, NO_MEMBER)

    def become_leader(self) -> None:
        assert self.role == Role.CANDIDATE, f"leader straight from {self.role.name}"
        self._reset(self.term)
        self._enter(Role.LEADER, self.id)
        own = self.progress[self.id]
        own.become_replicate()
        own.recent_active = True
        # There may be a change among the entries we inherited: wait until all of them are applied
        # rather than search for it.
        self.pending_conf_index = self.log.last_index
        # An entry of the own term must be committed before older ones count (Raft §5.4.2).
        appended = leader.append(self, [Entry()])
        assert appended, "the empty entry has no size to be refused for"

    def _enter(self, role: Role, leader_id: int) -> None:
        self.role = role
        self.leader = leader_id
        self._handlers = _HANDLERS[role]
        self.role_changes.append(RoleChange(role, self.term, leader_id))

    def _reset(self, term: int) -> None:
        if self.term != term:
            self.term = term
            self.vote = NO_MEMBER
        self.leader = NO_MEMBER
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        election_ticks = self.config.election_ticks
        self._randomized_ticks = election_ticks + self.config.dice.randrange(election_ticks)
        self.lead_transferee = NO_MEMBER
        self.votes = {}
        for member, before in self.progress.items():
            progress = self.new_progress(before.is_learner)
            progress.next = self.log.last_index + 1
            progress.recent_active = False
            self.progress[member] = progress
            if member == self.id:
                progress.match = self.log.last_index
        self.uncommitted_bytes = 0
        self.pending_conf_index = 0
        self.pending_reads = PendingReads()
        self.postponed_reads = []

    # Time

    def tick(self) -> None:
        """One unit of time: the leader counts to the heartbeat, the others to an election."""
        self.election_elapsed += 1
        if self.role == Role.LEADER:
            leader.tick(self)
        elif self.election_elapsed >= self._randomized_ticks and self.is_promotable:
            self.election_elapsed = 0
            self.step(Message(MessageType.HUP))

    def set_randomized_election_ticks(self, ticks: int) -> None:
        """Overrule the dice until the next change of role (for tests)."""
        self._randomized_ticks = ticks

    # Messages

    def step(self, msg: Message) -> None:
        """Take one message: first the rules about terms (Raft §5.1), then the role's."""
        if msg.term > self.term:
            if not self._follow_higher_term(msg):
                return
        elif 0 < msg.term < self.term:
            self._answer_lower_term(msg)
            return
        handler = self._handlers.get(msg.type)
        if handler is not None:
            handler(self, msg)

    def _follow_higher_term(self, msg: Message) -> bool:
        """Enter the term of `msg`, unless it is only asking. False: do nothing with it.

        A vote is not given while the leader's lease lasts (diss. §4.2.3), so that somebody who
        was cut off cannot depose a healthy leader, unless the leader itself sent the candidate.
        """
        if msg.type in (MessageType.VOTE, MessageType.PRE_VOTE):
            leased = (
                self.config.check_quorum
                and self.leader != NO_MEMBER
                and self.election_elapsed < self.config.election_ticks
            )
            if leased and msg.context != CAMPAIGN_TRANSFER:
                return False
        if msg.type == MessageType.PRE_VOTE:
            return True  # no term changes for a pre-vote
        if msg.type == MessageType.PRE_VOTE_RESP and not msg.reject:
            return True  # granted for a term that we will enter once a majority has
        from_leader = msg.type in _FROM_LEADER
        self.become_follower(msg.term, msg.sender if from_leader else NO_MEMBER)
        return True

    def _answer_lower_term(self, msg: Message) -> None:
        """Mostly silence; but where silence would leave the sender stuck, tell it our term."""
        checks = self.config.check_quorum or self.config.pre_vote
        if checks and msg.type in (MessageType.HEARTBEAT, MessageType.APP):
            # We left the sender's term in vain (cut off, or removed) and it can neither be our
            # leader nor will we win: our term makes it step down and start anew with us.
            self.send(Message(MessageType.APP_RESP, to=msg.sender))
        elif msg.type == MessageType.PRE_VOTE:
            # Before a mixed cluster agrees on pre-vote, a candidate in a lower term must learn it.
            self.send(
                Message(MessageType.PRE_VOTE_RESP, to=msg.sender, term=self.term, reject=True)
            )
        elif msg.type == MessageType.STORAGE_APPEND_RESP and msg.snapshot is not None:
            # Entries may have been overwritten since, a snapshot not: it was committed.
            self.applied_snapshot(msg.snapshot)

    def send(self, msg: Message) -> None:
        """Put `msg` into the outbox it belongs to, with our id and (mostly) our term.

        Vote messages come with the term they are about; proposals and read requests, which are
        only passed on, have none.
        """
        if msg.sender == NO_MEMBER:
            msg.sender = self.id  # pyright: ignore[reportAttributeAccessIssue]  # still ours
        if msg.type in _WITH_OWN_TERM:
            assert msg.term, f"{msg.type.name} without a term"
        elif msg.type not in WITHOUT_TERM:
            msg.term = self.term  # pyright: ignore[reportAttributeAccessIssue]  # still ours
        if msg.type in _AFTER_APPEND:
            self.after_append.append(msg)
        else:
            assert msg.to != self.id, f"{msg.type.name} to ourselves"
            self.messages.append(msg)

    # Elections

    @property
    def is_promotable(self) -> bool:
        """May we be elected? Voters may, unless a snapshot waits to be applied."""
        own = self.progress.get(self.id)
        return own is not None and not own.is_learner and self.log.unstable.snapshot is None

    def hup(self, *, transfer: bool = False) -> None:
        """Campaign if we may. `transfer`: the leader wants it, so without asking first."""
        if self.role == Role.LEADER or not self.is_promotable:
            return
        if self._has_unapplied_conf_change():
            return  # we might not be a voter any more
        if self.config.pre_vote and not transfer:
            self.become_pre_candidate()
            # For the term we would enter; our own does not change.
            self._request_votes(MessageType.PRE_VOTE, self.term + 1, b"")
        else:
            self.campaign(CAMPAIGN_TRANSFER if transfer else b"")

    def campaign(self, context: bytes = b"") -> None:
        """Enter a new term and ask for votes."""
        self.become_candidate()
        self._request_votes(MessageType.VOTE, self.term, context)

    def _request_votes(self, kind: MessageType, term: int, context: bytes) -> None:
        last_index, last_term = self.log.last_index, self.log.last_term()
        for member in sorted(self.configuration.voters()):
            if member == self.id:
                # Our own vote counts, like the others', when it is durable.
                self.send(Message(_ANSWER_TO[kind], to=member, term=term))
                continue
            self.send(
                Message(
                    kind,
                    to=member,
                    term=term,
                    index=last_index,
                    log_term=last_term,
                    context=context,
                )
            )

    def record_vote(self, member: int, granted: bool) -> VoteResult:
        """Count an answer; the first one of a member is the one that counts."""
        self.votes.setdefault(member, granted)
        conf = self.configuration
        return joint_vote_result(conf.incoming, conf.outgoing, self.votes)

    def _has_unapplied_conf_change(self) -> bool:
        log = self.log
        lo = log.applied + 1
        while lo <= log.committed:
            entries = log.slice(lo, log.committed + 1, _SCAN_BYTES_MAX)
            if any(entry.type for entry in entries):
                return True
            lo += len(entries)
        return False

    # Storage and application

    def applied_to(self, index: int, size: int) -> None:
        """The application has applied up to `index`; a leader may then have to leave joint."""
        self.log.applied_to(max(index, self.log.applied), size)
        if (
            self.configuration.auto_leave
            and self.log.applied >= self.pending_conf_index
            and self.role == Role.LEADER
        ):
            kind, data = encode(ConfChangeV2())
            proposal = Message(
                MessageType.PROP, sender=self.id, entries=[Entry(type=kind, data=data)]
            )
            try:
                self.step(proposal)
            except RaftError:
                return  # leadership is being transferred: the next leader or entry leaves

    def applied_snapshot(self, snapshot: Snapshot) -> None:
        """`snapshot` is durable and is the application's state now."""
        self.log.unstable.stable_snapshot_to(snapshot.index)
        self.applied_to(snapshot.index, 0)

    # Configuration

    def new_progress(self, is_learner: bool) -> Progress:
        """For a member of which nothing is known: assume that it has the log, and is alive.

        Otherwise check-quorum could count it as silent before it had a chance to answer.
        """
        inflights = Inflights(self.config.inflight_messages_max, self.config.inflight_bytes_max)
        progress = Progress(max(self.log.last_index, 1), inflights, is_learner)
        progress.recent_active = True
        return progress

    def membership(self) -> Membership:
        return Membership(self.configuration, self.progress, self.new_progress)

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """Switch to the configuration after `change`. Raises ConfChangeRefused."""
        self.switch(confchange.apply(self.membership(), as_v2(change)))
        leader.configuration_changed(self)
        return self.configuration.conf_state()

    def switch(self, membership: Membership) -> None:
        self.configuration = membership.configuration
        self.progress = membership.progress
        self.peers = tuple(member for member in sorted(self.progress) if member != self.id)
        own = self.progress.get(self.id)
        self.is_learner = own is not None and own.is_learner

    def bootstrap(self, peers: Sequence[tuple[int, bytes]]) -> None:
        """See RawNode.bootstrap."""
        log = self.log
        assert log.last_index == 0, f"a cluster cannot begin with a log: {log}"
        assert peers, "a cluster without members"
        self.become_follower(1, NO_MEMBER)
        entries: list[Entry] = []
        for index, (member, context) in enumerate(peers, start=1):
            change = ConfChange(ConfChangeType.ADD_NODE, member, context)
            kind, data = encode(change)
            entries.append(Entry(1, index, kind, data))
        log.append(entries)
        log.committed = len(entries)
        # Applied here already (and again when they come out), so that we may campaign at once.
        for member, _ in peers:
            self.apply_conf_change(ConfChange(ConfChangeType.ADD_NODE, member))


def _on_hup(raft: Raft, msg: Message) -> None:
    raft.hup()


def _on_vote_request(raft: Raft, msg: Message) -> None:
    """Grant if we have not voted for somebody else and the log there is not behind ours.

    A pre-vote for a later term is granted on the log alone: it promises nothing. Learners vote
    too: whoever asks believes that we are a voter, by a configuration that we may not know yet.
    """
    free = (
        raft.vote == msg.sender
        or (raft.vote == NO_MEMBER and raft.leader == NO_MEMBER)
        or (msg.type == MessageType.PRE_VOTE and msg.term > raft.term)
    )
    answer = _ANSWER_TO[msg.type]
    if not free or not raft.log.is_up_to_date(msg.index, msg.log_term):
        raft.send(Message(answer, to=msg.sender, term=raft.term, reject=True))
        return
    # A pre-candidate of our own term + 1 would ignore an answer in our term.
    raft.send(Message(answer, to=msg.sender, term=msg.term))
    if msg.type == MessageType.VOTE:
        raft.election_elapsed = 0
        raft.vote = msg.sender


def _on_storage_append_resp(raft: Raft, msg: Message) -> None:
    if msg.index:
        raft.log.unstable.stable_to(msg.index, msg.log_term)
    if msg.snapshot is not None:
        raft.applied_snapshot(msg.snapshot)


def _on_storage_apply_resp(raft: Raft, msg: Message) -> None:
    entries = msg.entries
    if not entries:
        return
    payload = payload_bytes(entries)
    raft.applied_to(entries[-1].index, payload + ENTRY_OVERHEAD_BYTES * len(entries))
    raft.uncommitted_bytes = max(0, raft.uncommitted_bytes - payload)


_ANSWER_TO = {
    MessageType.VOTE: MessageType.VOTE_RESP,
    MessageType.PRE_VOTE: MessageType.PRE_VOTE_RESP,
}
_FROM_LEADER = frozenset({MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP})
_WITH_OWN_TERM = frozenset(_ANSWER_TO) | frozenset(_ANSWER_TO.values())
WITHOUT_TERM = frozenset({MessageType.PROP, MessageType.READ_INDEX})
_AFTER_APPEND = frozenset(_ANSWER_TO.values()) | {MessageType.APP_RESP}
_ANY_ROLE: Handlers = {
    MessageType.HUP: _on_hup,
    MessageType.VOTE: _on_vote_request,
    MessageType.PRE_VOTE: _on_vote_request,
    MessageType.STORAGE_APPEND_RESP: _on_storage_append_resp,
    MessageType.STORAGE_APPLY_RESP: _on_storage_apply_resp,
}
_HANDLERS: dict[Role, Handlers] = {
    Role.FOLLOWER: _ANY_ROLE | follower.FOLLOWER,
    Role.PRE_CANDIDATE: _ANY_ROLE | follower.PRE_CANDIDATE,
    Role.CANDIDATE: _ANY_ROLE | follower.CANDIDATE,
    Role.LEADER: _ANY_ROLE | leader.LEADER,
}
