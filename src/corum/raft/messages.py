"""The values Raft takes in and gives out: entries, states, messages.

Only data lives here, no rules. Indexes, terms and member ids are plain `int` in this room: nearly
every line does arithmetic on them, and a `NewType` call costs as much as the arithmetic itself.
The numbers of the enumerations are those of etcd's `raftpb`, so conversion to the wire is a copy.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from corum.values import value

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_MEMBER: Final = 0
"""In place of a member id: nobody (no leader known, no vote cast)."""
INDEX_MAX: Final = 2**64 - 1
APPEND_THREAD: Final = 2**64 - 1
"""`Message.to` of storage-append work and `sender` of its answer (asynchronous storage writes)."""
APPLY_THREAD: Final = 2**64 - 2
"""`Message.to` of storage-apply work and `sender` of its answer (asynchronous storage writes)."""
NO_LIMIT: Final = 2**63 - 1
"""In place of a size in bytes: unlimited."""
ENTRY_OVERHEAD_BYTES: Final = 24
"""Counted for each entry beside its data: an upper bound of raftpb's tags and varints."""
CAMPAIGN_TRANSFER: Final = b"CampaignTransfer"
"""`Message.context` of a vote request that the old leader asked for (diss. §3.10)."""


class EntryType(IntEnum):
    """What the data of an entry is: bytes for the application or a configuration change."""

    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


class MessageType(IntEnum):
    """Numbers of raftpb.MessageType. Local ones never travel between members."""

    HUP = 0  # local: start an election
    BEAT = 1  # local: send heartbeats
    PROP = 2
    APP = 3
    APP_RESP = 4
    VOTE = 5
    VOTE_RESP = 6
    SNAP = 7
    HEARTBEAT = 8
    HEARTBEAT_RESP = 9
    UNREACHABLE = 10  # local: the transport lost a message to `sender`
    SNAP_STATUS = 11  # local: how the transfer of a snapshot to `sender` ended
    CHECK_QUORUM = 12  # local: has a quorum been heard from?
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14
    READ_INDEX = 15
    READ_INDEX_RESP = 16
    PRE_VOTE = 17
    PRE_VOTE_RESP = 18
    STORAGE_APPEND = 19  # local: work for the append thread
    STORAGE_APPEND_RESP = 20
    STORAGE_APPLY = 21  # local: work for the apply thread
    STORAGE_APPLY_RESP = 22
    FORGET_LEADER = 23

    # Enum's own is Python code and would double the cost of finding a handler.
    __hash__ = int.__hash__


class Role(IntEnum):
    """What a member is in its current term. A learner is a follower that may not vote."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2
    PRE_CANDIDATE = 3

    __hash__ = int.__hash__


class Entry:
    """One slot of the replicated log.

    The proposer fills `type`, `data` and `request`; the leader sets `term` and `index` when it
    appends; after that nothing but `request` may change. The very object that was proposed on a
    leader goes through log, `Ready.entries` and `Ready.committed_entries`.

    `request` is whatever the proposer wants to find again at apply (the decoded call). It is
    never written nor sent; entries from other members have None. Whoever passes messages between
    members of one process without encoding them must drop it. Set it to None after apply, since
    the log keeps the entry until it is compacted.
    """

    __slots__ = ("data", "index", "request", "term", "type")

    def __init__(
        self,
        term: int = 0,
        index: int = 0,
        type: EntryType = EntryType.NORMAL,
        data: bytes = b"",
        request: object = None,
    ) -> None:
        self.term = term
        self.index = index
        self.type = type
        self.data = data
        self.request = request

    def __eq__(self, other: object) -> bool:
        """Equal as replicated: `request` is not compared."""
        if not isinstance(other, Entry):
            return NotImplemented
        return (self.term, self.index, self.type, self.data) == (
            other.term,
            other.index,
            other.type,
            other.data,
        )

    __hash__ = None  # type: ignore[assignment]  # mutable until appended

    def __repr__(self) -> str:
        return f"Entry({self.term}/{self.index} {self.type.name} {self.data!r})"


def payload_bytes(entries: Sequence[Entry]) -> int:
    """Bytes of data in `entries`, without overhead (limits of inflights and uncommitted size)."""
    return sum([len(entry.data) for entry in entries])


@value
class HardState:
    """What a member must never forget: persisted before any message that depends on it."""

    term: int = 0
    vote: int = NO_MEMBER
    commit: int = 0


@value
class SoftState:
    """Who leads and what we are; lost at restart."""

    leader: int
    role: Role


@value
class ConfState:
    """A configuration as snapshots and storage keep it. Ids are sorted.

    Joint while `voters_outgoing` is not empty; `learners_next` become learners when it is left.
    """

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False

    def equivalent(self, other: ConfState) -> bool:
        """The same configuration, whatever the order of ids."""
        return _normal(self) == _normal(other)


def _normal(state: ConfState) -> tuple[object, ...]:
    groups = (state.voters, state.learners, state.voters_outgoing, state.learners_next)
    return (*(tuple(sorted(ids)) for ids in groups), state.auto_leave)


@value
class Snapshot:
    """The application's state after the entry at `index`, with the configuration at that point."""

    index: int = 0
    term: int = 0
    conf_state: ConfState = ConfState()
    data: bytes = b""


class ConfChangeType(IntEnum):
    """Numbers of raftpb.ConfChangeType."""

    ADD_NODE = 0
    REMOVE_NODE = 1
    UPDATE_NODE = 2
    ADD_LEARNER_NODE = 3


class Transition(IntEnum):
    """How a change of several members is left again (diss. §4.3)."""

    AUTO = 0  # simple change if one member changes, otherwise like JOINT_IMPLICIT
    JOINT_IMPLICIT = 1  # joint, left by the leader as soon as it is applied
    JOINT_EXPLICIT = 2  # joint, left when the application proposes an empty change


@value
class ConfChange:
    """A change of one member (raftpb.ConfChange). `id` and `context` are the application's."""

    type: ConfChangeType
    node_id: int
    context: bytes = b""
    id: int = 0


@value
class ConfChangeSingle:
    """One step of a ConfChangeV2. `node_id` 0 makes it a no-op."""

    type: ConfChangeType
    node_id: int


@value
class ConfChangeV2:
    """A change of any number of members; without changes, the wish to leave a joint one."""

    changes: tuple[ConfChangeSingle, ...] = ()
    transition: Transition = Transition.AUTO
    context: bytes = b""


@value
class Message:
    """One message between members, or between a member and its storage threads.

    `term` 0 means that the term does not matter (local messages, forwarded proposals).
    `index`/`log_term` is the entry before `entries` in APP, the last entry in a vote request, the
    acknowledged index in APP_RESP. `reject_hint`/`log_term` in a rejection tell where to probe
    next. `responses` (STORAGE_APPEND and STORAGE_APPLY) go out once the work is done: those to the
    own id are stepped here, the others are sent. Nobody changes a message after it was made.
    """

    type: MessageType
    to: int = NO_MEMBER
    sender: int = NO_MEMBER
    term: int = 0
    log_term: int = 0
    index: int = 0
    entries: Sequence[Entry] = ()
    commit: int = 0
    vote: int = NO_MEMBER
    snapshot: Snapshot | None = None
    reject: bool = False
    reject_hint: int = 0
    context: bytes = b""
    responses: Sequence[Message] = ()


@value
class ReadState:
    """`context` was asked for; a read is linearizable once `applied >= index` (diss. §6.4)."""

    index: int
    context: bytes


@value
class RoleChange:
    """A `become_*` that happened since the last Ready, in order; for the log of the member."""

    role: Role
    term: int
    leader: int


class RaftError(Exception):
    """Input that Raft refused; its state is unchanged and the member goes on."""


class ProposalDropped(RaftError):
    """No entry of the batch was or will be appended, for `reason`. Safe to propose again."""

    def __init__(self, reason: str) -> None:
        super().__init__("raft proposal dropped")
        self.reason = reason


class StepLocalMessage(RaftError):
    """A message type that never travels came from the network."""


class StepPeerNotFound(RaftError):
    """An answer from somebody who is not in the configuration."""


class MessageInvalid(RaftError):
    """A message that no correct member sends."""


class ConfChangeRefused(RaftError):
    """The change does not lead from the present configuration to a valid one."""


class ConfChangeCorrupt(RaftError):
    """The data of a configuration-change entry is not raftpb.ConfChange or ConfChangeV2."""
