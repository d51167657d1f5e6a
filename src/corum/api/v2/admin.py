"""`/v2/members`, `/v2/stats`, `/v2/machines` (http §2.2, §2.3; v2-store §9)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from corum import errors
from corum.api.http_rules import JSON, TEXT, Answer, text_answer, unescaped, wrong_verb
from corum.config import urls as urls_of_flags
from corum.membership.members import Member, member_id
from corum.pb import raftpb
from corum.raft import Role
from corum.server.node import Node
from corum.server.peering import Appends
from corum.v2store.gojson import format_time
from corum.values import NS_PER_S, MemberId

MEMBERS: Final = "/v2/members"
STATISTICS: Final = ("/v2/stats/self", "/v2/stats/store", "/v2/stats/leader")
_ID: Final = re.compile("[0-9A-Fa-f]+")
_STATES: Final = {
    Role.FOLLOWER: "StateFollower",
    Role.CANDIDATE: "StateCandidate",
    Role.LEADER: "StateLeader",
    Role.PRE_CANDIDATE: "StatePreCandidate",
}


class Answers(Protocol):
    """Where whole answers go."""

    def answer(self, call: int, answer: Answer) -> None: ...


class Admin:
    """Requests about the cluster and this member."""

    def __init__(self, node: Node, front: Answers) -> None:
        self._node = node
        self._front = front
        self._cluster = ("x-etcd-cluster-id", f"{node.members.cluster:x}")

    def request(
        self, call: int, verb: str, path: str, headers: dict[str, str], body: bytes
    ) -> bool:
        """Answer if the path is one of these; False when it is not."""
        if path == MEMBERS or path.startswith(MEMBERS + "/"):
            rest = unescaped(path)[len(MEMBERS) :].removeprefix("/")
            self._members(call, verb, rest, headers, body)
        elif path in STATISTICS:
            self._stats(call, verb, path)
        elif path == "/v2/machines" and verb not in ("GET", "HEAD"):
            self._front.answer(call, wrong_verb("GET", "HEAD"))
        elif path == "/v2/machines":
            urls = sorted(url for member in self._node.members for url in member.client_urls)
            self._front.answer(call, Answer(200, (TEXT,), ", ".join(urls).encode()))
        else:
            return False
        return True

    def _reply(self, call: int, status: int, text: str) -> None:
        self._front.answer(call, Answer(status, (JSON, self._cluster), text.encode()))

    def _error(self, call: int, status: int, message: str) -> None:
        self._reply(call, status, _dumps({"message": message}))

    # ---- members

    def _members(
        self, call: int, verb: str, rest: str, headers: dict[str, str], body: bytes
    ) -> None:
        if verb == "GET":
            self._list(call, rest)
        elif verb == "POST":  # whatever stands behind the path, as etcd
            self._add(call, headers, body)
        elif verb not in ("PUT", "DELETE"):
            self._front.answer(call, wrong_verb("GET", "POST", "DELETE", "PUT"))
        elif not rest:
            self._front.answer(call, text_answer(405, "Method Not Allowed", self._cluster))
        elif verb == "PUT":
            self._update(call, rest, headers, body)
        else:
            self._remove(call, rest)

    def _list(self, call: int, rest: str) -> None:
        node = self._node
        if not rest:
            listed = [_as_json(member) for member in node.members]
            self._reply(call, 200, _dumps({"members": listed}) + "\n")
        elif rest == "leader":
            leader = node.members.by_id.get(MemberId(node.leader))
            if leader is None:
                self._error(call, 503, "During election")
            else:
                self._reply(call, 200, _dumps(_as_json(leader)) + "\n")
        else:
            self._error(call, 404, "Not found")

    def _urls(self, headers: dict[str, str], body: bytes) -> list[str]:
        """The peer URLs of a body; raises _Refused."""
        kind = headers.get("content-type", "")
        if kind.partition(";")[0].strip() != "application/json":
            raise _Refused(415, f"Bad Content-Type {kind}, accept application/json")
        listed = _listed_urls(body)
        try:
            urls = {urls_of_flags.check(url) for url in listed}
        except urls_of_flags.BadUrl as error:
            raise _Refused(400, str(error)) from None
        if not urls:
            raise _Refused(400, "no valid URLs given")
        return sorted(urls)

    def _add(self, call: int, headers: dict[str, str], body: bytes) -> None:
        node = self._node
        try:
            urls = self._urls(headers, body)
            member = Member(member_id(urls, "", node.ports.unix_time_ns() // NS_PER_S), urls)
            node.reconfiguration.check_add(member)
        except (_Refused, errors.EtcdError) as error:
            self._refuse(call, error)
            return
        self._change(
            call,
            raftpb.ConfChangeAddNode,
            member.id,
            member.to_json(promote=False),
            lambda: self._reply(call, 201, _dumps(_as_json(member)) + "\n"),
        )

    def _update(self, call: int, rest: str, headers: dict[str, str], body: bytes) -> None:
        try:
            identity = self._known(rest)
            member = Member(MemberId(identity), self._urls(headers, body))
            self._node.members.check_update(member)
        except (_Refused, errors.EtcdError) as error:
            self._refuse(call, error, rest)
            return
        self._change(
            call,
            raftpb.ConfChangeUpdateNode,
            identity,
            member.to_json(),
            lambda: self._front.answer(call, Answer(204, (self._cluster,), b"")),
        )

    def _remove(self, call: int, rest: str) -> None:
        node = self._node
        try:
            identity = self._known(rest)
            node.reconfiguration.check_remove(identity)
        except (_Refused, errors.EtcdError) as error:
            self._refuse(call, error, rest)
            return
        self._change(
            call,
            raftpb.ConfChangeRemoveNode,
            identity,
            b"",
            lambda: self._front.answer(call, Answer(204, (self._cluster,), b"")),
        )

    def _known(self, text: str) -> int:
        identity = int(text, 16) if _ID.fullmatch(text) else 2**64
        if identity >= 2**64:
            raise _Refused(404, f"No such member: {text}")
        if identity in self._node.members.removed:
            raise _Refused(410, f"Member permanently removed: {text}")
        return identity

    def _refuse(self, call: int, error: Exception, member: str = "") -> None:
        if isinstance(error, _Refused):
            self._error(call, error.status, error.text)
        elif isinstance(error, errors.MEMBER_NOT_FOUND):
            self._error(call, 404, f"No such member: {member}")
        elif isinstance(error, errors.MEMBER_EXIST):
            self._error(call, 409, "membership: ID exists")
        elif isinstance(error, errors.PEER_URL_EXIST):
            self._error(call, 409, "membership: peerURL exists")
        else:
            self._error(call, 500, "Internal Server Error")

    def _change(
        self, call: int, kind: int, member: int, context: bytes, done: Callable[[], None]
    ) -> None:
        node = self._node
        node.out.converters[call] = _Pending(self, call)

        def answer(_: Any, result: Any) -> None:
            node.out.converters.pop(call, None)
            if isinstance(result, Exception):
                self._refuse(call, result, f"{member:x}")
            else:
                done()

        node.propose_conf_change(kind, member, context, call, answer)

    def timed_out(self, call: int) -> None:
        """A change that was not decided."""
        self._error(call, 500, "Internal Server Error")

    # ---- statistics

    def _stats(self, call: int, verb: str, path: str) -> None:
        if verb != "GET":
            self._front.answer(call, wrong_verb("GET"))
        elif path.endswith("/self"):
            self._plain(call, 200, _dumps(self._self()))
        elif path.endswith("/store"):
            self._plain(call, 200, self._node.v2.store.stats_json())
        else:
            self._leader(call)

    def _plain(self, call: int, status: int, text: str) -> None:
        self._front.answer(call, Answer(status, (JSON,), text.encode()))

    def _leader(self, call: int) -> None:
        node = self._node
        if not node.is_leader:
            self._plain(call, 403, _dumps({"message": "not current leader"}))
            return
        followers = {
            f"{member:x}": found.to_json()
            for member, found in sorted(node.peers.statistics().items(), key=_hexadecimal)
        }
        self._plain(
            call, 200, _dumps({"leader": f"{node.members.local:x}", "followers": followers})
        )

    def _self(self) -> dict[str, Any]:
        node = self._node
        now_ns = node.ports.unix_time_ns()
        return {
            "name": node.config.name,
            "id": f"{node.members.local:x}",
            "state": _STATES[node.soft.role],
            "startTime": format_time(node.started_unix_ns),
            "leaderInfo": {
                "leader": f"{node.leader:x}" if node.leader else "",
                "uptime": _go_duration(now_ns - node.leader_since_unix_ns),
                "startTime": format_time(node.leader_since_unix_ns),
            },
            **_appends("recv", node.peers.appends_received, node.now_ns),
            **_appends("send", node.peers.appends_sent, node.now_ns),
        }


def _appends(which: str, appends: Appends, now_ns: int) -> dict[str, float]:
    """A direction's count and, unless it is quiet, its rates."""
    messages_s, bytes_s = appends.rates(now_ns)
    rates = {f"{which}PkgRate": messages_s, f"{which}BandwidthRate": bytes_s}
    found = {name: rate for name, rate in rates.items() if rate}
    return {f"{which}AppendRequestCnt": appends.total, **found}


class _Refused(Exception):
    """An answer of this API's own."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class _Pending:
    """Stands in the outbox for a membership change, should it not be decided."""

    __slots__ = ("_admin", "_call")

    def __init__(self, admin: Admin, call: int) -> None:
        self._admin = admin
        self._call = call

    def reply(self, message: bytes) -> None:
        """Answers come by the proposal itself."""

    def fail(self, code: int, text: str) -> None:
        """It was not decided."""
        self._admin.timed_out(self._call)

    def send(self, message: bytes) -> bool:
        """Never called."""
        return False


def _hexadecimal(item: tuple[int, Any]) -> str:
    return f"{item[0]:x}"


def _as_json(member: Member) -> dict[str, Any]:
    return {
        "id": f"{member.id:x}",
        "name": member.name,
        "peerURLs": member.peer_urls,
        "clientURLs": member.client_urls,
    }


def _listed_urls(body: bytes) -> list[str]:
    """The texts of field peerURLs, in whatever case it is written; raises _Refused."""
    try:
        found: object = json.loads(body)
    except ValueError as error:
        at_end = isinstance(error, json.JSONDecodeError) and not error.doc[error.pos :].strip()
        text = "unexpected end of JSON input" if at_end else f"invalid JSON: {error}"
        raise _Refused(400, text) from None
    if found is None:
        return []
    if not isinstance(found, dict):
        raise _Refused(400, "json: the body is no object")
    fields = {name.lower(): one for name, one in cast("dict[str, object]", found).items()}
    listed = _as_list(fields.get("peerurls") or [])
    urls = [url for url in listed if isinstance(url, str)]
    if len(urls) < len(listed):
        raise _Refused(400, "json: peerURLs is no list of texts")
    return urls


def _as_list(found: object) -> list[object]:
    return cast("list[object]", found) if isinstance(found, list) else [None]


def _dumps(found: Any) -> str:
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False)


def _go_duration(nanoseconds: int) -> str:
    from corum.cli.gotext import format_duration

    return format_duration(max(nanoseconds, 0))
