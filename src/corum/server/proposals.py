"""Proposals: what waits for the log, under which id, and until when.

A request becomes an entry by splicing: the client's own bytes are wrapped as one field of
`InternalRaftRequest`, followed by the header with the request id (peer-wire §6). The decoded
request
travels beside its entry (`Entry.request`), so the member that proposed it does not decode it again.

Bounds: `APPLY_GAP_MAX` committed entries that are not applied, `PENDING_MAX` proposals waiting, and
`FORWARDED_BYTES_MAX` of other members.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from corum import errors
from corum.pb import raftpb
from corum.pb.wire import BYTES, tag, varint
from corum.raft import Entry, EntryType, Message
from corum.server.request_ids import ID_AT, RequestIds
from corum.values import MIB, NS_PER_S

APPLY_GAP_MAX: Final = 5_000
"""Committed, not applied; beyond it proposals are refused (as etcd)."""

PENDING_MAX: Final = 200_000
"""Proposals that wait for an answer on this member."""

FORWARDED_BYTES_MAX: Final = 64 * MIB
"""Proposals of other members that are gathered for the next batch."""

ENTRY_OVERHEAD: Final = 16
"""Bytes that the header of a proposal adds at most."""

Answer: TypeAlias = Callable[[Any, Any], None]
"""`answer(call, result)`: result is response bytes, or the EtcdError that came of it."""

Waiter: TypeAlias = tuple[int, Any, int, Any, Answer | None, int]
"""(request id, call, operation, decoded request, answer, deadline in ns)."""


Forwarded: TypeAlias = tuple[int, Message]
"""(deadline in ns, proposals of another member)."""


class Proposals:
    """Admission, ids and the table of who waits."""

    def __init__(self, member: int, now_ms: int, request_bytes_max: int, timeout_ns: int) -> None:
        self.ids = RequestIds(member, now_ms)
        self.request_bytes_max = request_bytes_max
        self.timeout_ns = timeout_ns
        self.queued: list[Entry] = []
        self.never_proposed: set[int] = set()
        """Request ids of those that were `overdue` last, for whom no leader was found all the time.
        """
        self.held = False
        """The backend does not keep up, or there is no way to the leader: nothing of our own is
        proposed until it does, or there is one."""
        self.waiting: dict[int, Waiter] = {}
        self.failed_total = 0
        self.forwarded: list[Forwarded] = []
        """Proposals of other members, for the leader's next batch."""
        self._forwarded_bytes = 0
        self.refused_total = 0
        """Messages with such that Raft did not take."""
        self.for_leader: list[Entry] = []
        """Of `queued`: what only a leader may propose, and nobody for him."""
        self._frames = {op: tag(op, BYTES) for op in range(1, 16)}

    def add(
        self,
        op: int,
        message: bytes,
        request: Any,
        call: Any,
        now_ns: int,
        answer: Answer | None = None,
        prefix: bytes = b"",
    ) -> int:
        """Queue a request for the next batch; its request id.

        `prefix` goes before the header (auth's user name and revision live there).
        Raises REQUEST_TOO_LARGE, TOO_MANY_REQUESTS.
        """
        size = len(message)
        if size + ENTRY_OVERHEAD > self.request_bytes_max:
            self.check_size(len(tag(op, BYTES)) + len(varint(size)) + size + ENTRY_OVERHEAD - 3)
        if len(self.waiting) >= PENDING_MAX:
            raise errors.TOO_MANY_REQUESTS()
        request_id, header = self.ids.next()
        field = self._frames.get(op) or tag(op, BYTES)
        if prefix:
            header = _header_with(header, prefix)
        if size < 0x80:
            data = b"%b%c%b%b" % (field, size, message, header)
        else:
            data = b"%b%b%b%b" % (field, varint(size), message, header)
        waiter = (request_id, call, op, request, answer, now_ns + self.timeout_ns)
        self.waiting[request_id] = waiter
        self.queued.append(Entry(0, 0, EntryType.NORMAL, data, waiter))
        return request_id

    def add_entry(
        self,
        entry: Entry,
        request_id: int,
        request: Any,
        call: Any,
        now_ns: int,
        answer: Answer | None,
    ) -> None:
        """Queue an entry that is no InternalRaftRequest (configuration changes)."""
        self.wait(request_id, call, 0, request, answer, now_ns)
        self.queued.append(entry)

    def wait(
        self,
        request_id: int,
        call: Any,
        op: int,
        request: Any,
        answer: Answer | None,
        now_ns: int,
    ) -> Waiter:
        """Note who waits for a request; raises TOO_MANY_REQUESTS."""
        if len(self.waiting) >= PENDING_MAX:
            raise errors.TOO_MANY_REQUESTS()
        waiter = (request_id, call, op, request, answer, now_ns + self.timeout_ns)
        self.waiting[request_id] = waiter
        return waiter

    def check_size(self, size: int) -> None:
        """Raises REQUEST_TOO_LARGE for an entry of more bytes than allowed."""
        if size > self.request_bytes_max:
            raise errors.REQUEST_TOO_LARGE()

    def take(self) -> list[Entry]:
        """What was queued since the last call, in order."""
        batch, self.queued = self.queued, []
        return batch

    def forward(self, message: Message, now_ns: int) -> bool:
        """Keep another member's proposals for the next batch; False: there are too many."""
        size = _size_of(message)
        if self._forwarded_bytes + size > FORWARDED_BYTES_MAX:
            return False
        self._forwarded_bytes += size
        self.forwarded.append((now_ns + self.timeout_ns, message))
        return True

    def put_back(self, waits: Forwarded) -> None:
        """Raft did not take it: it may, later."""
        self._forwarded_bytes += _size_of(waits[1])
        self.forwarded.append(waits)

    def take_forwarded(self) -> list[Forwarded]:
        """What other members proposed since the last call, in order."""
        batch, self.forwarded = self.forwarded, []
        self._forwarded_bytes = 0
        return batch

    def forget_forwarded(self, now_ns: int) -> None:
        """Give up what found no leader for so long that whoever asked has been told."""
        due = [waits for waits in self.forwarded if waits[0] <= now_ns]
        self.forwarded = self.forwarded[len(due) :]
        self._forwarded_bytes -= sum([_size_of(message) for _, message in due])
        self.refused_total += len(due)

    def check_leader(self, leads: bool) -> None:
        """Before a batch is proposed: give up what is `for_leader` when this member is none."""
        if not leads:
            for entry in self.for_leader:
                self.waiting.pop(self._waiter_of(entry), None)
            gone = {id(entry) for entry in self.for_leader}
            self.queued = [entry for entry in self.queued if id(entry) not in gone]
        waiting = {id(entry) for entry in self.queued} if leads else set[int]()
        self.for_leader = [entry for entry in self.for_leader if id(entry) in waiting]

    def overdue(self, now_ns: int) -> list[Waiter]:
        """Waiters whose time is up; they are forgotten here, their entries may still commit."""
        if self.forwarded:
            self.forget_forwarded(now_ns)
        late: list[Waiter] = []
        for waiter in self.waiting.values():  # insertion order is deadline order
            if waiter[5] > now_ns:
                break
            late.append(waiter)
        for waiter in late:
            del self.waiting[waiter[0]]
        self.never_proposed.clear()
        if late and self.queued:  # without a leader: what nobody waits for is not proposed later
            waiting = self.waiting
            queued = [(entry, self._waiter_of(entry)) for entry in self.queued]
            self.queued = [entry for entry, one in queued if one in waiting]
            self.never_proposed.update(one for _, one in queued if one not in waiting)
        self.failed_total += len(late)
        return late

    @staticmethod
    def _waiter_of(entry: Entry) -> int:
        request: Any = entry.request
        if request is not None:
            return request[0]
        return raftpb.ConfChange.FromString(entry.data).id

    def drop_all(self) -> list[Waiter]:
        """Everybody who waits, for a member that stops."""
        everybody = list(self.waiting.values())
        self.waiting.clear()
        self.queued.clear()
        return everybody


def timeout_ns(election_ms: int) -> int:
    """etcd's request timeout: 5 s + 2 x election timeout."""
    return 5 * NS_PER_S + 2 * election_ms * 1_000_000


def _size_of(message: Message) -> int:
    return sum([len(entry.data) + ENTRY_OVERHEAD for entry in message.entries])


def _header_with(header: bytes, extra: bytes) -> bytes:
    inner = header[ID_AT:] + extra
    return header[:2] + varint(len(inner)) + inner
