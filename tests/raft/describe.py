"""Raft's values as the scripts print them."""

from __future__ import annotations

from collections.abc import Sequence

from corum.raft import (
    APPEND_THREAD,
    APPLY_THREAD,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Ready,
    Role,
    Snapshot,
    decode,
)
from corum.raft.conf_entry import as_v2
from corum.raft.progress import Progress, ProgressState

_MESSAGE = {
    MessageType.PROP: "MsgProp",
    MessageType.APP: "MsgApp",
    MessageType.APP_RESP: "MsgAppResp",
    MessageType.VOTE: "MsgVote",
    MessageType.VOTE_RESP: "MsgVoteResp",
    MessageType.SNAP: "MsgSnap",
    MessageType.HEARTBEAT: "MsgHeartbeat",
    MessageType.HEARTBEAT_RESP: "MsgHeartbeatResp",
    MessageType.TRANSFER_LEADER: "MsgTransferLeader",
    MessageType.TIMEOUT_NOW: "MsgTimeoutNow",
    MessageType.READ_INDEX: "MsgReadIndex",
    MessageType.READ_INDEX_RESP: "MsgReadIndexResp",
    MessageType.PRE_VOTE: "MsgPreVote",
    MessageType.PRE_VOTE_RESP: "MsgPreVoteResp",
    MessageType.STORAGE_APPEND: "MsgStorageAppend",
    MessageType.STORAGE_APPEND_RESP: "MsgStorageAppendResp",
    MessageType.STORAGE_APPLY: "MsgStorageApply",
    MessageType.STORAGE_APPLY_RESP: "MsgStorageApplyResp",
}
_MEMBER = {0: "0", APPEND_THREAD: "AppendThread", APPLY_THREAD: "ApplyThread"}
_ROLE = {
    Role.FOLLOWER: "StateFollower",
    Role.CANDIDATE: "StateCandidate",
    Role.LEADER: "StateLeader",
    Role.PRE_CANDIDATE: "StatePreCandidate",
}
_ENTRY = {
    EntryType.NORMAL: "EntryNormal",
    EntryType.CONF_CHANGE: "EntryConfChange",
    EntryType.CONF_CHANGE_V2: "EntryConfChangeV2",
}
_CHANGE = {
    ConfChangeType.ADD_NODE: "v",
    ConfChangeType.REMOVE_NODE: "r",
    ConfChangeType.UPDATE_NODE: "u",
    ConfChangeType.ADD_LEARNER_NODE: "l",
}
_STATE = {
    ProgressState.PROBE: "StateProbe",
    ProgressState.REPLICATE: "StateReplicate",
    ProgressState.SNAPSHOT: "StateSnapshot",
}


def message_type(name: str) -> MessageType:
    return next(kind for kind, text in _MESSAGE.items() if text == name)


def role(value: Role) -> str:
    return _ROLE[value]


def member(value: int) -> str:
    return _MEMBER.get(value, str(value))


def quoted(data: bytes) -> str:
    """As Go's %q, for what occurs in scripts."""
    text = data.decode().replace("\\", "\\\\").replace('"', '\\"')
    return '"' + text.replace("\n", "\\n").replace("\t", "\\t") + '"'


def entry(value: Entry) -> str:
    text = f"{value.term}/{value.index} {_ENTRY[value.type]}"
    if value.type == EntryType.NORMAL:
        return f"{text} {quoted(value.data)}"
    changes = as_v2(decode(value)).changes
    return " ".join([text, *(f"{_CHANGE[change.type]}{change.node_id}" for change in changes)])


def _flat(ids: Sequence[int]) -> str:
    return f"[{' '.join(str(value) for value in ids)}]"


def conf_state(value: ConfState) -> str:
    return (
        f"Voters:{_flat(value.voters)} VotersOutgoing:{_flat(value.voters_outgoing)} "
        f"Learners:{_flat(value.learners)} LearnersNext:{_flat(value.learners_next)} "
        f"AutoLeave:{str(value.auto_leave).lower()}"
    )


def snapshot(value: Snapshot) -> str:
    return f"Index:{value.index} Term:{value.term} ConfState:{conf_state(value.conf_state)}"


def hard_state(value: HardState) -> str:
    vote = f" Vote:{value.vote}" if value.vote else ""
    return f"Term:{value.term}{vote} Commit:{value.commit}"


def message(value: Message, indent: str = "", *, with_responses: bool = True) -> str:
    text = (
        f"{indent}{member(value.sender)}->{member(value.to)} {_MESSAGE[value.type]} "
        f"Term:{value.term} Log:{value.log_term}/{value.index}"
    )
    if value.reject:
        text += f" Rejected (Hint: {value.reject_hint})"
    if value.commit:
        text += f" Commit:{value.commit}"
    if value.vote:
        text += f" Vote:{value.vote}"
    if len(value.entries) == 1:
        text += f" Entries:[{entry(value.entries[0])}]"
    elif value.entries:
        lines = [f"\n{indent}  {entry(item)}" for item in value.entries]
        text += f" Entries:[{''.join(lines)}\n{indent}]"
    if value.snapshot is not None:
        text += f"\n{indent}  Snapshot: {snapshot(value.snapshot)}"
    if value.responses and with_responses:
        lines = ["\n" + message(item, indent + "  ") for item in value.responses]
        text += f" Responses:[{''.join(lines)}\n{indent}]"
    return text


def ready(value: Ready) -> str:
    lines: list[str] = []
    if value.soft_state is not None:
        lines.append(f"Lead:{value.soft_state.leader} State:{role(value.soft_state.role)}")
    if value.hard_state is not None:
        lines.append(f"HardState {hard_state(value.hard_state)}")
    if value.read_states:
        states = [f"{{{state.index} {_flat(state.context)}}}" for state in value.read_states]
        lines.append(f"ReadStates [{' '.join(states)}]")
    if value.entries:
        lines += ["Entries:", *(entry(item) for item in value.entries)]
    if value.snapshot is not None:
        lines.append(f"Snapshot {snapshot(value.snapshot)}")
    if value.committed_entries:
        lines += ["CommittedEntries:", *(entry(item) for item in value.committed_entries)]
    if value.messages:
        lines += ["Messages:", *(message(item) for item in value.messages)]
    if not lines:
        return "<empty Ready>"
    return "\n".join([f"Ready MustSync={str(value.must_sync).lower()}:", *lines])


def progress(value: Progress) -> str:
    text = f"{_STATE[value.state]} match={value.match} next={value.next}"
    if value.is_learner:
        text += " learner"
    if value.is_paused:
        text += " paused"
    if value.pending_snapshot:
        text += f" pendingSnap={value.pending_snapshot}"
    if not value.recent_active:
        text += " inactive"
    if len(value.inflights):
        text += f" inflight={len(value.inflights)}{'[full]' if value.inflights.full else ''}"
    return text


def progress_map(values: dict[int, Progress]) -> str:
    return "\n".join(f"{key}: {progress(values[key])}" for key in sorted(values))
