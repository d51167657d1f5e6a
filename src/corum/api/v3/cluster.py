"""The Cluster service (rpc §7): membership changes through the log, the list from memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from corum import errors
from corum.api.v3.calls import Service, decoded
from corum.membership.members import Member, member_id
from corum.pb import raftpb, rpc
from corum.values import NS_PER_S, MemberId

_SCHEMES = ("http", "https", "unix", "unixs")


class ClusterService(Service):
    """MemberAdd, MemberRemove, MemberUpdate, MemberList, MemberPromote."""

    PATH = "/etcdserverpb.Cluster/"

    def unary(self) -> dict[str, Any]:
        """Handlers by method name."""
        return {
            "MemberAdd": self.add,
            "MemberRemove": self.remove,
            "MemberUpdate": self.update,
            "MemberList": self.list,
            "MemberPromote": self.promote,
        }

    def list(self, call: int, message: bytes, meta: Any) -> None:
        """All members, by id; linearizable when asked."""
        request = decoded(rpc.MemberListRequest, message)
        node = self.node
        node.gate.any_user(meta)
        if request.linearizable:
            node.check_open(meta)
            node.reads.add(self._list, call, request)
        else:
            self._list(call, request)

    def _list(self, call: int, request: Any) -> None:
        response = rpc.MemberListResponse(members=self._members())
        self._reply(call, response)

    def add(self, call: int, message: bytes, meta: Any) -> None:
        """A new member or learner, under an id made of its URLs and the time."""
        request = decoded(rpc.MemberAddRequest, message)
        node = self.node
        node.check_writable(meta)
        node.gate.admin(meta)
        urls = checked_urls(request.peerURLs)
        identity = member_id(urls, "", node.ports.unix_time_ns() // NS_PER_S)
        member = Member(identity, urls, request.isLearner)
        node.reconfiguration.check_add(member)
        kind = raftpb.ConfChangeAddLearnerNode if request.isLearner else raftpb.ConfChangeAddNode

        def answer(_: Any, result: Any) -> None:
            if isinstance(result, BaseException):
                node.out.error(call, result)
                return
            response = rpc.MemberAddResponse(member=_as_message(member), members=self._members())
            self._reply(call, response)

        node.propose_conf_change(kind, identity, member.to_json(promote=False), call, answer)

    def remove(self, call: int, message: bytes, meta: Any) -> None:
        """Remove a member for good."""
        request = decoded(rpc.MemberRemoveRequest, message)
        node = self.node
        node.check_writable(meta)
        node.gate.admin(meta)
        node.reconfiguration.check_remove(request.ID)
        self._change(call, raftpb.ConfChangeRemoveNode, request.ID, b"", rpc.MemberRemoveResponse)

    def update(self, call: int, message: bytes, meta: Any) -> None:
        """Replace a member's peer URLs."""
        request = decoded(rpc.MemberUpdateRequest, message)
        node = self.node
        node.check_writable(meta)
        node.gate.admin(meta)
        member = Member(MemberId(request.ID), checked_urls(request.peerURLs))
        node.members.check_update(member)
        self._change(
            call,
            raftpb.ConfChangeUpdateNode,
            request.ID,
            member.to_json(),
            rpc.MemberUpdateResponse,
        )

    def promote(self, call: int, message: bytes, meta: Any) -> None:
        """Make a learner that has caught up a voter."""
        request = decoded(rpc.MemberPromoteRequest, message)
        node = self.node
        node.check_writable(meta)
        node.gate.admin(meta)

        def done(error: BaseException | None) -> None:
            if error is not None:
                node.out.error(call, error)
            else:
                self._reply(call, rpc.MemberPromoteResponse(members=self._members()))

        node.reconfiguration.promote(request.ID, done)

    def _change(self, call: int, kind: int, member: int, context: bytes, response: Any) -> None:
        node = self.node

        def answer(_: Any, result: Any) -> None:
            if isinstance(result, BaseException):
                node.out.error(call, result)
            else:
                self._reply(call, response(members=self._members()))

        node.propose_conf_change(kind, member, context, call, answer)

    def _members(self) -> Any:
        return [_as_message(member) for member in self.node.members]

    def _reply(self, call: int, response: Any) -> None:
        message = self.node.headers.bare + response.SerializeToString()
        self.node.out.replies.append((call, message))


def _as_message(member: Member) -> Any:
    return rpc.Member(
        ID=member.id,
        name=member.name,
        peerURLs=member.peer_urls,
        clientURLs=member.client_urls,
        isLearner=member.is_learner,
    )


def checked_urls(urls: Iterable[str]) -> list[str]:
    """The URLs, sorted, each once; raises BAD_MEMBER_URLS for none or for one that is none."""
    found = sorted(set(urls))
    if not found:
        raise errors.MEMBER_BAD_URLS()
    for url in found:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise errors.MEMBER_BAD_URLS() from None
        if parts.scheme not in _SCHEMES or not parts.netloc or parts.path not in ("", "/"):
            raise errors.MEMBER_BAD_URLS()
        if parts.scheme in ("http", "https") and port is None:
            raise errors.MEMBER_BAD_URLS()
    return found
