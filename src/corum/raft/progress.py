"""One follower as the leader sees it, and how much may be on the way to it.

PROBE      its log is not known: one append message per heartbeat or answer
REPLICATE  it follows: messages are sent ahead of the answers, up to the inflight limits
SNAPSHOT   it needs entries we no longer have: nothing until it has the snapshot

          rejection, unreachable                snapshot needed
REPLICATE ----------------------> PROBE -------------------------> SNAPSHOT
    ^                              |  ^                               |
    +---------- accepted ----------+  +---- transfer ended -----------+
    +------------------- snapshot (or more) acknowledged -------------+
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum


class ProgressState(IntEnum):
    """See the module's diagram."""

    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class Inflights:
    """Append messages sent and not answered: last index and payload bytes of each, oldest first."""

    __slots__ = ("_bytes", "_bytes_max", "_messages_max", "_queue")

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._queue: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def full(self) -> bool:
        """At one of the two limits. A message may overshoot the bytes, then it is the last."""
        return len(self._queue) >= self._messages_max or self._bytes >= self._bytes_max

    def add(self, last_index: int, size: int) -> None:
        assert not self.full, "one more message on the way than allowed"
        self._queue.append((last_index, size))
        self._bytes += size

    def free_to(self, index: int) -> None:
        """Forget messages whose last index is at most `index`: they have arrived."""
        queue = self._queue
        while queue and queue[0][0] <= index:
            self._bytes -= queue.popleft()[1]

    def clear(self) -> None:
        self._queue.clear()
        self._bytes = 0

    def copy(self) -> Inflights:
        other = Inflights(self._messages_max, self._bytes_max)
        other._queue.extend(self._queue)
        other._bytes = self._bytes
        return other


class Progress:
    """The leader's view of one follower (or learner).

    Invariant: match < next. Entries up to `match` are known to be stored there; `next` is the
    first one not sent yet. `sent_commit` is the highest commit index that was sent to it and that
    it can have acted upon; a rejection lowers it.
    """

    __slots__ = (
        "inflights",
        "is_learner",
        "match",
        "next",
        "paused_until_answer",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "state",
    )

    def __init__(self, next: int, inflights: Inflights, is_learner: bool = False) -> None:
        self.state = ProgressState.PROBE
        self.match = 0
        self.next = next
        self.sent_commit = 0
        self.pending_snapshot = 0  # index of the snapshot under way, only in SNAPSHOT
        self.recent_active = False  # heard from since the last check-quorum
        self.paused_until_answer = False  # a probe is out, or the inflights are full
        self.inflights = inflights
        self.is_learner = is_learner

    def copy(self) -> Progress:
        other = Progress(self.next, self.inflights.copy(), self.is_learner)
        other.state = self.state
        other.match = self.match
        other.sent_commit = self.sent_commit
        other.pending_snapshot = self.pending_snapshot
        other.recent_active = self.recent_active
        other.paused_until_answer = self.paused_until_answer
        return other

    # Transitions

    def become_probe(self) -> None:
        next_index = self.match + 1
        if self.state == ProgressState.SNAPSHOT:
            # The snapshot was delivered, perhaps without an acknowledgement yet: go on after it.
            next_index = max(next_index, self.pending_snapshot + 1)
        self._become(ProgressState.PROBE)
        self.next = next_index
        self.sent_commit = min(self.sent_commit, next_index - 1)

    def become_replicate(self) -> None:
        self._become(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        self._become(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def _become(self, state: ProgressState) -> None:
        self.state = state
        self.paused_until_answer = False
        self.pending_snapshot = 0
        self.inflights.clear()

    # What was sent and what came back

    @property
    def is_paused(self) -> bool:
        """No append message now; an answer or a heartbeat's answer will lift it."""
        return self.state == ProgressState.SNAPSHOT or self.paused_until_answer

    def sent(self, count: int, size: int) -> None:
        """An append message with `count` entries of `size` bytes went out."""
        if self.state == ProgressState.REPLICATE:
            if count:
                self.next += count
                self.inflights.add(self.next - 1, size)
            # When full, the message counts as a probe: heartbeats then carry on with empty ones.
            self.paused_until_answer = self.inflights.full
        else:
            assert self.state == ProgressState.PROBE, f"append sent in {self.state.name}"
            if count:
                self.paused_until_answer = True

    def acknowledged(self, index: int) -> bool:
        """It has everything up to `index`. Was that news?"""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.paused_until_answer = False
        return True

    def rejected(self, index: int, hint: int) -> bool:
        """It lacks the entry at `index` that we sent after; `hint` is where logs may agree.

        Sets `next` back and returns True, or False for an answer that is out of date.
        """
        if self.state == ProgressState.REPLICATE:
            if index <= self.match:
                return False
            self.next = self.match + 1
        else:
            if self.next - 1 != index:
                return False
            self.next = max(min(index, hint + 1), self.match + 1)
            self.paused_until_answer = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True

    def can_bump_commit(self, index: int) -> bool:
        """Would a message with commit `index`, and no entries, tell it anything new?"""
        return index > self.sent_commit and self.sent_commit < self.next - 1
