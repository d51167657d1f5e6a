"""The replicated list of members, with the cluster version and the downgrade job.

Every member applies the same configuration changes in the same order, so every list is the same.
Rules of a change are checked when it is applied, not when it is proposed (etcd:
`ValidateConfigurationChange`).
Ids are etcd's: the first eight bytes of a SHA-1 over URLs and token (peer-wire §7, rpc §7).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from corum import errors
from corum.backend import Backend, schema
from corum.values import ClusterId, MemberId

MEMBERS_BUCKET: Final = schema.MEMBERS
REMOVED_BUCKET: Final = schema.MEMBERS_REMOVED
CLUSTER_BUCKET: Final = schema.CLUSTER
VERSION_KEY: Final = b"clusterVersion"
DOWNGRADE_KEY: Final = b"downgrade"

Writes = list[tuple[str, bytes, bytes | None]]
"""Backend writes as data: (bucket, key, value), None deletes."""


def write_rows(backend: Backend, writes: Writes) -> None:
    """Carry them out."""
    for bucket, key, row in writes:
        if row is None:
            backend.delete(bucket, key)
        else:
            backend.put(bucket, key, row)


@dataclass(slots=True)
class Member:
    """One member: the part that configuration changes carry, and what it says of itself."""

    id: MemberId
    peer_urls: list[str]
    is_learner: bool = False
    name: str = ""
    client_urls: list[str] = field(default_factory=list[str])

    @property
    def started(self) -> bool:
        """A member has a name once it has published itself through the log."""
        return self.name != ""

    def to_json(self, *, promote: bool | None = None) -> bytes:
        """Go's JSON of a member, the form of the backend and of a change's context."""
        out: dict[str, Any] = {"id": self.id, "peerURLs": self.peer_urls}
        if self.is_learner:
            out["isLearner"] = True
        if self.name:
            out["name"] = self.name
        if self.client_urls:
            out["clientURLs"] = self.client_urls
        if promote is not None:
            out["isPromote"] = promote
        return json.dumps(out, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Member:
        """The member that `data` (see `to_json`) describes; ValueError when it is not one."""
        raw: dict[str, Any] = json.loads(data)
        return cls(
            MemberId(int(raw["id"])),
            _texts(raw.get("peerURLs")),
            bool(raw.get("isLearner", False)),
            str(raw.get("name", "")),
            _texts(raw.get("clientURLs")),
        )


def _texts(found: Any) -> list[str]:
    return [str(one) for one in found or ()]


def member_id(peer_urls: Iterable[str], token: str, unix_time_s: int | None = None) -> MemberId:
    """The id of a member with these URLs; runtime additions mix in the time (rpc §7)."""
    text = "".join(sorted(peer_urls)) + token
    if unix_time_s is not None:
        text += str(unix_time_s)
    return MemberId(int.from_bytes(hashlib.sha1(text.encode()).digest()[:8], "big"))


def cluster_id(ids: Iterable[int]) -> ClusterId:
    """The id of the cluster that began with these members."""
    raw = b"".join(i.to_bytes(8, "big") for i in sorted(ids))
    return ClusterId(int.from_bytes(hashlib.sha1(raw).digest()[:8], "big"))


class Members:
    """The list as of the last applied entry."""

    def __init__(self, cluster: ClusterId, local: MemberId, members: Iterable[Member] = ()) -> None:
        self.cluster = cluster
        self.local = local
        self.by_id: dict[int, Member] = {m.id: m for m in members}
        self.removed: set[int] = set()
        self.version: str | None = None
        self.downgrade_target: str | None = None
        self.learners_max = 1

    def __iter__(self) -> Any:
        return iter(sorted(self.by_id.values(), key=lambda m: m.id))

    def __len__(self) -> int:
        return len(self.by_id)

    @property
    def me(self) -> Member | None:
        """The local member; None before the log has added it and after its removal."""
        return self.by_id.get(self.local)

    @property
    def voters(self) -> list[Member]:
        """Members that vote, by id."""
        return [m for m in self if not m.is_learner]

    # ---- changes, in the order of the log

    def check_add(self, member: Member) -> None:
        """Raise what forbids adding `member`."""
        if member.id in self.removed:
            raise errors.MEMBER_NOT_FOUND()
        if member.id in self.by_id:
            raise errors.MEMBER_EXIST()
        self._check_urls(member)
        if member.is_learner and sum(m.is_learner for m in self) >= self.learners_max:
            raise errors.TOO_MANY_LEARNERS()

    def check_promote(self, member: int) -> None:
        """Raise what forbids making `member` a voter."""
        found = self.get(member)
        if not found.is_learner:
            raise errors.MEMBER_NOT_LEARNER()

    def check_update(self, member: Member) -> None:
        """Raise what forbids giving `member` its new peer URLs."""
        self.get(member.id)
        self._check_urls(member)

    def get(self, member: int) -> Member:
        """The member with this id; raises MEMBER_NOT_FOUND for an unknown or removed one."""
        found = self.by_id.get(member)
        if found is None or member in self.removed:
            raise errors.MEMBER_NOT_FOUND()
        return found

    def _check_urls(self, member: Member) -> None:
        taken = {u for m in self.by_id.values() if m.id != member.id for u in m.peer_urls}
        if taken.intersection(member.peer_urls):
            raise errors.PEER_URL_EXIST()

    def add(self, member: Member) -> Writes:
        """Add a checked member."""
        self.by_id[member.id] = member
        return [self._row(member)]

    def promote(self, member: int) -> Writes:
        """Make a learner a voter."""
        found = self.by_id[member]
        found.is_learner = False
        return [self._row(found)]

    def update(self, member: Member) -> Writes:
        """Replace a member's peer URLs; its attributes stay."""
        found = self.by_id[member.id]
        found.peer_urls = member.peer_urls
        return [self._row(found)]

    def remove(self, member: int) -> Writes:
        """Remove for good: the id never comes back."""
        self.by_id.pop(member, None)
        self.removed.add(member)
        key = b"%x" % member
        return [(MEMBERS_BUCKET, key, None), (REMOVED_BUCKET, key, b"removed")]

    def set_attributes(self, member: int, name: str, client_urls: list[str]) -> Writes:
        """What a member publishes of itself; nothing for one that is gone."""
        found = self.by_id.get(member)
        if found is None:
            return []
        found.name, found.client_urls = name, client_urls
        return [self._row(found)]

    def set_version(self, version: str) -> Writes:
        """The cluster version, `3.7.0`-like."""
        self.version = version
        return [(CLUSTER_BUCKET, VERSION_KEY, version.encode())]

    def set_downgrade(self, target: str | None) -> Writes:
        """Begin (`target`) or end (None) a downgrade."""
        self.downgrade_target = target
        row = {"target-version": target or "", "enabled": target is not None}
        return [(CLUSTER_BUCKET, DOWNGRADE_KEY, json.dumps(row, separators=(",", ":")).encode())]

    @staticmethod
    def _row(member: Member) -> tuple[str, bytes, bytes | None]:
        return (MEMBERS_BUCKET, b"%x" % member.id, member.to_json())

    # ---- what the backend holds

    def restore(
        self,
        members: Iterable[tuple[bytes, bytes]],
        removed: Iterable[tuple[bytes, bytes]],
        cluster: Iterable[tuple[bytes, bytes]],
    ) -> None:
        """Take over the rows of the three buckets."""
        for _, row in members:
            member = Member.from_json(row)
            self.by_id[member.id] = member
        self.removed.update(int(key, 16) for key, _ in removed)
        for key, row in cluster:
            if key == VERSION_KEY:
                self.version = row.decode()
            elif key == DOWNGRADE_KEY:
                job = json.loads(row)
                self.downgrade_target = job["target-version"] if job.get("enabled") else None

    # ---- strict reconfiguration (etcd: `--strict-reconfig-check`)

    def quorum_survives_add(self) -> bool:
        """Would started voters still be a quorum with one more, not yet started, voter?"""
        voters = self.voters
        started = sum(m.started for m in voters)
        if started == 1 and len(voters) == 1:
            return True  # growing from one: the only way to begin
        return started >= (len(voters) + 1) // 2 + 1

    def quorum_survives_remove(self, member: int) -> bool:
        """Would started voters still be a quorum without `member`?"""
        voters = [m for m in self.voters if m.id != member]
        if not voters:
            return False
        return sum(m.started for m in voters) >= len(voters) // 2 + 1

    def quorum_survives_promote(self) -> bool:
        """Would started voters still be a quorum with one learner, which runs, among them?"""
        voters = self.voters
        return sum(m.started for m in voters) + 1 >= (len(voters) + 1) // 2 + 1
