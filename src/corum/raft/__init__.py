"""Consensus: one member of a Raft group as a pure state machine.

Takes calls, messages and ticks; gives out `Ready`: what to persist, send, apply and answer, in
which order. It owns no socket, file, thread, clock or dice; it only reads the log it is given
(`LogStorage`). The algorithm is Ongaro's dissertation with etcd's extensions: pre-vote,
check-quorum, lease reads, learners, flow control, joint consensus with automatic leaving,
asynchronous storage writes.

Invariants (diss. fig. 3.2), checked after every step by the tests: election safety, leader
append-only, log matching, leader completeness, state machine safety.

Read in this order: messages (the values), node (the face), raft (terms, votes, roles), follower,
leader, then log with unstable and storage, progress, quorum, confchange, read_index.
"""

from corum.raft.conf_entry import decode, encode
from corum.raft.confchange import Configuration
from corum.raft.config import Config, ReadOnly
from corum.raft.merging import merged
from corum.raft.messages import (
    APPEND_THREAD,
    APPLY_THREAD,
    NO_LIMIT,
    NO_MEMBER,
    ConfChange,
    ConfChangeRefused,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    ProposalDropped,
    RaftError,
    ReadState,
    Role,
    RoleChange,
    Snapshot,
    SoftState,
    Transition,
)
from corum.raft.node import RawNode, Ready, Status
from corum.raft.storage import LogStorage, MemoryStorage

__all__ = [
    "APPEND_THREAD",
    "APPLY_THREAD",
    "NO_LIMIT",
    "NO_MEMBER",
    "ConfChange",
    "ConfChangeRefused",
    "ConfChangeSingle",
    "ConfChangeType",
    "ConfChangeV2",
    "ConfState",
    "Config",
    "Configuration",
    "Entry",
    "EntryType",
    "HardState",
    "LogStorage",
    "MemoryStorage",
    "Message",
    "MessageType",
    "ProposalDropped",
    "RaftError",
    "RawNode",
    "ReadOnly",
    "ReadState",
    "Ready",
    "Role",
    "RoleChange",
    "Snapshot",
    "SoftState",
    "Status",
    "Transition",
    "decode",
    "encode",
    "merged",
]
