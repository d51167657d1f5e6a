"""What a member says of itself and its cluster through the log: attributes, versions,
downgrades."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from corum import errors
from corum.backend import schema
from corum.membership.members import write_rows
from corum.pb import membershippb, rpc
from corum.server import operations as op
from corum.values import NS_PER_S

if TYPE_CHECKING:
    from corum.server.node import Node

VERSION_PATH: Final = "/0/version"
ATTRIBUTES_PATH: Final = re.compile(r"/0/members/([0-9a-f]+)/attributes")
RETRY_NS: Final = 2 * NS_PER_S
PATIENCE_NS: Final = 3 * NS_PER_S
"""How long a new leader waits for the versions of all before it takes the oldest for granted."""
OLDEST_CLUSTER: Final = "3.0.0"
STORAGE_SINCE: Final = (3, 6)
_VERSION: Final = re.compile(r"(\d+)\.(\d+)(?:\.\d+)?$")


class Versions:
    """Publishes until it is known, decides the cluster version when leading, runs downgrade
    jobs."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._next_ns = 0
        self.published = False
        self._repeats = False
        """The backend has the entry that is applied: only the v2 store has to hear of it."""

    def tick(self, now_ns: int) -> None:
        """Propose what the list does not say yet; again every 2 s until it does."""
        node = self._node
        if not self.due(now_ns):
            return
        if not self.published:
            self._next_ns = now_ns + RETRY_NS
            self._publish()
        if node.is_leader:
            self._next_ns = now_ns + RETRY_NS
            self._lead(now_ns)

    def _lead(self, now_ns: int) -> None:
        """The cluster's version follows its members', a downgrade job ends when all are down."""
        node = self._node
        members = node.members
        known = members.version
        alone = len(members) == 1
        others = [] if alone else node.peers.versions_of_others()
        if others is None:
            if known is None and now_ns - node.leader_since_ns >= PATIENCE_NS:
                self._set_version(OLDEST_CLUSTER)
            return
        versions = [_numbers(version) for version in [*others, node.config.cluster_version]]
        target = members.downgrade_target
        wanted = min(versions)
        if known is not None and target is not None:
            if min(versions) == max(versions) == _numbers(target):
                node.ports.transition("info", "the cluster has been downgraded", version=target)
                self._set_downgrade(None, lambda _, result: None)
                return
            if wanted < _numbers(target):
                return
            wanted = _numbers(target)
        elif known is not None and wanted <= _numbers(known):
            return
        if known is None or wanted != _numbers(known):
            self._set_version(f"{wanted[0]}.{wanted[1]}.0")

    def leader_changed(self) -> None:
        """Whoever leads now may be told at once."""
        self._next_ns = 0

    def members_known(self) -> None:
        """A version of another member is known."""
        if self._node.members.version is None:
            self._next_ns = 0

    def due(self, now_ns: int) -> bool:
        """Is there something to propose now?"""
        node = self._node
        if now_ns < self._next_ns or not node.leader or node.stopping:
            return False
        members = node.members
        if members.me is None:  # on its way into the cluster; or the loop would never rest
            return False
        if not self.published:
            return True
        settled = members.version == node.config.cluster_version and not members.downgrade_target
        return node.is_leader and (len(members) > 1 or not settled)

    def _publish(self) -> None:
        config = self._node.config
        request = membershippb.ClusterMemberAttrSetRequest(
            member_ID=self._node.members.local,
            member_attributes=membershippb.Attributes(
                name=config.name, client_urls=config.client_urls
            ),
        )
        self._node.propose_own(
            op.CLUSTER_MEMBER_ATTR_SET, request.SerializeToString(), request, self._was_published
        )

    def _was_published(self, _: Any, result: Any) -> None:
        if not isinstance(result, BaseException):
            self.published = True
            self._node.ports.published()

    def _set_version(self, version: str) -> None:
        request = membershippb.ClusterVersionSetRequest(ver=version)
        self._node.propose_own(op.CLUSTER_VERSION_SET, request.SerializeToString(), request)

    # ---- applied

    def apply_attributes(self, request: Any) -> bytes:
        """A member's name and client URLs."""
        attributes = request.member_attributes
        self._name(request.member_ID, attributes.name, list(attributes.client_urls))
        self.replay_to_v2(op.CLUSTER_MEMBER_ATTR_SET, request)
        return b""

    def _name(self, member: int, name: str, client_urls: list[str]) -> None:
        write_rows(self._node.backend, self._node.members.set_attributes(member, name, client_urls))

    def told_by_v2(self, path: str, text: str) -> None:
        """A v2 request of etcd up to 3.5 that says what our own requests say (peer-wire §6)."""
        if path == VERSION_PATH:
            if not self._repeats:
                write_rows(self._node.backend, self._node.members.set_version(text))
            return
        found = ATTRIBUTES_PATH.fullmatch(path)
        if found is not None:
            said = json.loads(text)
            self._name(int(found[1], 16), said.get("name", ""), said.get("clientURLs") or [])

    def replay(self, operation: int, request: Any) -> None:
        """An entry that the backend has already, from before this start."""
        if operation == op.V2_REQUEST:
            self._repeats = True
            self._node.v2.apply(request)
            self._repeats = False
        else:
            self.replay_to_v2(operation, request)

    def replay_to_v2(self, operation: int, request: Any) -> None:
        """What the backend has from before this start, the v2 store still has to hear."""
        v2 = self._node.v2
        if operation == op.CLUSTER_MEMBER_ATTR_SET:
            attributes = request.member_attributes
            v2.member_named(request.member_ID, attributes.name, list(attributes.client_urls))
        elif operation == op.CLUSTER_VERSION_SET:
            v2.version_set(request.ver)

    def apply_version(self, request: Any) -> bytes:
        """The cluster's version; from 3.6 on the storage's follows."""
        node = self._node
        first = node.members.version is None
        write_rows(node.backend, node.members.set_version(request.ver))
        self.replay_to_v2(op.CLUSTER_VERSION_SET, request)
        if node.config.reports_storage and _numbers(request.ver) >= STORAGE_SINCE:
            node.backend.put(schema.META, schema.STORAGE_VERSION, request.ver.encode())
        elif node.backend.get(schema.META, schema.STORAGE_VERSION) is not None:
            node.backend.delete(schema.META, schema.STORAGE_VERSION)  # etcd 3.5 does not know it
        node.ports.transition(
            "info",
            "set initial cluster version" if first else "updated cluster version",
            **{
                "cluster-id": f"{node.members.cluster:x}",
                "local-member-id": f"{node.members.local:x}",
            },
            **{"cluster-version": _minor(request.ver)},
        )
        return b""

    def apply_downgrade(self, request: Any) -> bytes:
        """A downgrade job begins or ends."""
        target = request.ver if request.enabled else None
        write_rows(self._node.backend, self._node.members.set_downgrade(target))
        return b""

    # ---- downgrade

    def downgrade(self, request: Any, done: Callable[[Any], None]) -> None:
        """VALIDATE, ENABLE or CANCEL; `done(cluster version, `3.7`-like, or error)`."""
        try:
            version = self._checked(request)
        except errors.EtcdError as error:
            done(error)
            return
        if request.action == rpc.DowngradeRequest.VALIDATE:
            done(version)
            return
        enable = request.action == rpc.DowngradeRequest.ENABLE
        self._set_downgrade(
            _parsed(request.version) + ".0" if enable else None,
            lambda _, result: done(result if isinstance(result, BaseException) else version),
        )

    def _set_downgrade(self, target: str | None, answer: Callable[[Any, Any], None]) -> None:
        change = membershippb.DowngradeInfoSetRequest(enabled=target is not None, ver=target or "")
        self._node.propose_own(op.DOWNGRADE_INFO_SET, change.SerializeToString(), change, answer)

    def _checked(self, request: Any) -> str:
        members = self._node.members
        version = members.version
        if request.action == rpc.DowngradeRequest.CANCEL:
            if members.downgrade_target is None:
                raise errors.NO_INFLIGHT_DOWNGRADE()
            return _minor(version or "")
        target = _parsed(request.version)
        if version is None:
            raise errors.CLUSTER_VERSION_UNAVAILABLE()
        major, minor = (int(n) for n in version.split(".")[:2])
        if target != f"{major}.{minor - 1}":
            raise errors.INVALID_DOWNGRADE_TARGET_VERSION()
        if members.downgrade_target is not None:
            raise errors.DOWNGRADE_IN_PROCESS()
        return _minor(version)


def _parsed(text: str) -> str:
    found = _VERSION.match(text)
    if found is None:
        raise errors.WRONG_DOWNGRADE_VERSION_FORMAT()
    return f"{int(found[1])}.{int(found[2])}"


def _numbers(version: str) -> tuple[int, int]:
    """(major, minor), to be compared."""
    parts = version.split(".")
    return int(parts[0]), int(parts[1])


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
