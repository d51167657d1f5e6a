"""The v2 store of a node: requests through the log, expiry by SYNC, membership mirrored (v2-store
§12).

The store is not in the backend: a restart recovers it from the newest `.snap` and replays the log
from there, entries that the backend has already seen included.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from corum import errors, v2store
from corum.membership.members import Member, Members
from corum.pb import etcdserver
from corum.pb.wire import bytes_field, text_of, varint
from corum.raft import Entry, EntryType
from corum.server.operations import V2_REQUEST
from corum.server.proposals import Answer
from corum.server.request_ids import ID_AT
from corum.server.v2_guard import Guard
from corum.v2store import Event, Request, V2Error, Waiter
from corum.values import NS_PER_MS

if TYPE_CHECKING:
    from corum.server.node import Node

SYNC_NS: Final = 500 * NS_PER_MS
RIGHTS: Final = "/2"
"""Where users and roles of the v2 API are."""


class V2:
    """Owns the store; the API asks it to propose, to read and to wait."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.store = v2store.Store()
        self._next_sync_ns = 0
        self.guard = Guard(node, self)
        self.rights_moved = True
        """Something below `RIGHTS` may have changed; whoever looks puts it back to False."""

    def recover(self, data: bytes) -> None:
        """Take over the content of a `.snap` file; what is no v2 store is an empty one."""
        if len(data) > len(b"{}"):
            v2store.recover(self.store, data)
        self.rights_moved = True

    # ---- through the log

    def propose(self, request: Request, call: Any, answer: Answer) -> None:
        """Replicate a request; `answer(call, Event | V2Error)`.

        --max-request-bytes is for v3 only, as in etcd; who asks has bounded it (`api/v2/forms`).
        """
        if self.guard.open or not self.guard.keeps(request, call, answer):
            self.queue(request, call, answer)

    def queue(self, request: Request, call: Any, answer: Answer) -> None:
        """Propose what nobody dies of."""
        node = self._node
        proposals = node.proposals
        request_id, header = proposals.ids.next()
        data = encode(request, header[ID_AT:])
        waiter = proposals.wait(request_id, call, V2_REQUEST, request, answer, node.now_ns)
        proposals.queued.append(Entry(0, 0, EntryType.NORMAL, data, waiter))

    def apply(self, request: Request) -> Event | V2Error | bytes:
        """Carry out a committed request; member attributes and versions of 3.5 land here too."""
        result = v2store.apply(self.store, request, self._node.ports.unix_time_ns())
        path = request.path
        if not path.startswith(v2store.KEYS_PREFIX):
            self.rights_moved = self.rights_moved or path.startswith(RIGHTS)
            if path.startswith(v2store.CLUSTER_PREFIX + "/") and isinstance(result, Event):
                self._node.versions.told_by_v2(path, request.val)
        return b"" if result is None else result

    def tick(self, now_ns: int) -> None:
        """The leader lets due nodes expire, at the same place of the log everywhere."""
        node = self._node
        self.guard.tick(now_ns)
        if now_ns < self._next_sync_ns or not node.is_leader or not self.store.has_ttl_keys:
            return
        self._next_sync_ns = now_ns + SYNC_NS
        request = Request("SYNC", time_ns=node.ports.unix_time_ns())
        with contextlib.suppress(errors.EtcdError):  # it comes again
            self.propose(request, None, _nobody_waits)

    def told(self) -> list[Waiter]:
        """Waiters that have something to hear."""
        return self.store.hub.take_told()

    # ---- mirrored from the member list

    def member_added(self, member: Member) -> None:
        """A member's peer URLs, where v2 clients of old look for them."""
        body: dict[str, Any] = {"peerURLs": member.peer_urls}
        if member.is_learner:
            body["isLearner"] = True
        path = f"{v2store.MEMBERS_PREFIX}/{member.id:x}/raftAttributes"
        known = self.store.tree.find_or_none(path, 0) is not None
        self._set(path, body, exists=known)

    def member_removed(self, member: int) -> None:
        """Gone for good."""
        now_ns = self._node.ports.unix_time_ns()
        request = Request(
            "DELETE", f"{v2store.MEMBERS_PREFIX}/{member:x}", dir=True, recursive=True
        )
        v2store.apply(self.store, request, now_ns)
        path = f"{v2store.REMOVED_PREFIX}/{member:x}"
        v2store.apply(self.store, Request("PUT", path, "removed", prev_exist=False), now_ns)

    def member_named(self, member: int, name: str, client_urls: list[str]) -> None:
        """What a member says of itself."""
        body = {"name": name, "clientURLs": client_urls}
        self._set(f"{v2store.MEMBERS_PREFIX}/{member:x}/attributes", body)

    def members_then(self) -> Members:
        """The list as this store has it: while a log is replayed, that of the entry before."""
        mine = self._node.members
        found = Members(mine.cluster, mine.local)
        found.learners_max = mine.learners_max
        tree = self.store.tree
        try:
            for node in (tree.find(v2store.MEMBERS_PREFIX, 0).children or {}).values():
                attributes = (node.children or {}).get("raftAttributes")
                if attributes is not None:
                    body: dict[str, Any] = json.loads(attributes.value or "")
                    member = Member.from_json(
                        json.dumps({**body, "id": int(node.name, 16)}).encode()
                    )
                    found.by_id[member.id] = member
            found.removed.update(
                int(name, 16) for name in tree.find(v2store.REMOVED_PREFIX, 0).children or ()
            )
        except V2Error:
            pass  # a store without members, or one that has removed none
        return found

    def version_set(self, version: str) -> None:
        """The cluster's version."""
        request = Request("PUT", v2store.CLUSTER_PREFIX + "/version", version)
        v2store.apply(self.store, request, self._node.ports.unix_time_ns())

    def _set(self, path: str, body: dict[str, Any], *, exists: bool | None = None) -> None:
        """`exists` as in etcd: it shows in the statistics, which are saved and compared."""
        text = json.dumps(body, separators=(",", ":"))
        request = Request("PUT", path, text, prev_exist=exists)
        v2store.apply(self.store, request, self._node.ports.unix_time_ns())


_METHODS: Final = {
    name: bytes_field(2, name.encode()) for name in ("POST", "PUT", "DELETE", "QGET", "SYNC")
}


def encode(request: Request, identity: bytes) -> bytes:
    """etcdserverpb.Request as etcd up to 3.5 writes it: every scalar present (peer-wire §6).

    By hand: a message class takes six times as long. `identity` is the field of the request's id.
    """
    path, val = request.path.encode("utf-8", "replace"), request.val.encode("utf-8", "replace")
    # Most ask for nothing but a value.
    is_plain = not (
        request.dir or request.prev_value or request.prev_index or request.prev_exist is not None
        or request.expiration_ns or request.recursive or request.sorted or request.refresh
        or request.time_ns
    )  # fmt: skip
    return b"%b%b\x1a%b%b\x22%b%b%b" % (
        identity, _METHODS[request.method], varint(len(path)), path, varint(len(val)), val,
        _PLAIN if is_plain else _options(request),
    )  # fmt: skip


def _options(request: Request) -> bytes:
    """All fields from `dir` on."""
    prev_value = request.prev_value.encode("utf-8", "replace")
    prev_exist = request.prev_exist
    return b"".join(
        (
            b"\x28\x01" if request.dir else b"\x28\x00",
            b"\x32", varint(len(prev_value)), prev_value,
            b"\x38", varint(request.prev_index),
            b"" if prev_exist is None else b"\x40\x01" if prev_exist else b"\x40\x00",
            b"\x48", varint(request.expiration_ns),
            b"\x50\x00\x58\x00",
            b"\x60\x01" if request.recursive else b"\x60\x00",
            b"\x68\x01\x70\x00\x78" if request.sorted else b"\x68\x00\x70\x00\x78",
            varint(request.time_ns),
            b"\x80\x01\x00\x88\x01\x01" if request.refresh else b"\x80\x01\x00",
        )
    )  # fmt: skip


_PLAIN: Final = _options(Request("PUT"))


def decode(data: bytes) -> tuple[int, Request]:
    """(request id, request) of an entry that holds one; raises DecodeError."""
    message = etcdserver.Request.FromString(data)
    request = Request(
        message.Method,
        _text(message.Path),
        _text(message.Val),
        message.Dir,
        _text(message.PrevValue),
        message.PrevIndex,
        message.PrevExist if message.HasField("PrevExist") else None,
        message.Expiration,
        message.Recursive,
        message.Sorted,
        message.Refresh,
        message.Time,
    )
    return message.ID, request


def _text(found: Any) -> str:
    """Go members propose what is no UTF-8, too, and protobuf gives that as bytes."""
    return found if isinstance(found, str) else text_of(found)


def _nobody_waits(call: Any, result: Any) -> None:
    """Nobody asked for a SYNC."""
