"""Fewer messages that say the same: what leaves for one member in one go need not be told twice.

A leader says in one message that more is committed, and in the next what is new; a follower
acknowledges one append after the other. Such a pair becomes one message, which its sender might as
well have sent in the first place: to Raft nothing happened but that a message was lost. Pure; what
cannot be joined stays as it is, in its order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from corum.raft.messages import Message, MessageType

_KINDS = frozenset({MessageType.APP, MessageType.APP_RESP})


def merged(messages: Sequence[Message]) -> list[Message]:
    """The same to the same members, in as few messages as can be."""
    out: list[Message] = []
    last: dict[tuple[int, MessageType], int] = {}  # place in `out` of the last of its kind
    for message in messages:
        kind = message.type
        if kind in _KINDS:
            place = last.get((message.to, kind))
            if place is not None:
                one = _joined(out[place], message)
                if one is not None:
                    out[place] = one
                    continue
            last[message.to, kind] = len(out)
        out.append(message)
    return out


def _joined(before: Message, after: Message) -> Message | None:
    """One message in place of two of a kind for the same member; None if they are needed both."""
    if before.term != after.term or before.sender != after.sender:
        return None
    if after.type == MessageType.APP_RESP:
        # Acknowledgements are cumulative; rejections answer one message each.
        later = not (before.reject or after.reject) and after.index >= before.index
        return after if later else None
    if before.entries and after.entries:
        return None  # both may be as long as one message is allowed to be
    entries = before.entries
    end, end_term = before.index, before.log_term
    if entries:
        end, end_term = entries[-1].index, entries[-1].term
    if (after.index, after.log_term) != (end, end_term) or after.commit < before.commit:
        return None
    return replace(before, commit=after.commit) if entries else after
