"""Do all members hold the same? Hashes are compared, and who differs gets a CORRUPT alarm.

Three checks, as in etcd: a member that starts compares itself with the others before it serves
(`member/initial_check.py`); the leader compares everybody with itself every `--corrupt-check-time`,
as of now; and, every `--compact-hash-check-time`, as of the newest compactions, whose hashes all
members keep: these are exact even while keys are written.

While an alarm of this kind is active, writes are refused on every member (`space.Alarms`); reads
are not, as measured with etcd 3.5.1 and 3.7.3.
The comparisons are pure functions; `Corruption` asks, waits and raises.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from corum import errors
from corum.mvcc.hashing import HashKv
from corum.server.space import CORRUPT
from corum.values import NS_PER_MS, value

if TYPE_CHECKING:
    from corum.server.node import Node

KEPT_HASHES_MAX: Final = 10
"""Compactions whose hash is kept (as etcd)."""
NOBODY_IN_PARTICULAR: Final = 0
"""The alarm's member when the majority is not known: the cluster as a whole."""
PATH: Final = "/members/hashkv"


@value
class PeerHash:
    """What another member answered: its newest revision, and the hash that was asked for."""

    revision: int
    found: HashKv


Line = tuple[str, str, dict[str, Any]]
"""(level, message, fields) for the member's log."""


def parse(body: bytes) -> PeerHash | None:
    """The answer of /members/hashkv; None when it is none. Zeros are left out of it."""
    try:
        answer = json.loads(body)
        return PeerHash(
            int(answer.get("header", {}).get("revision", 0)),
            HashKv(
                int(answer.get("hash", 0)),
                int(answer.get("compact_revision", 0)),
                int(answer.get("hash_revision", 0)),
            ),
        )
    except (ValueError, TypeError, AttributeError):
        return None


def question(revision: int) -> bytes:
    """The body of a request for the hash up to a revision; 0 is now."""
    return json.dumps({"revision": revision}).encode()


def suspects(
    local: int, before: HashKv, after: HashKv, peers: dict[int, PeerHash]
) -> list[tuple[int, Line]]:
    """Who is wrong at the leader's check: members, and what to say of each.

    `before` and `after`: the leader's own hash before and after it asked the others for theirs as
    of `before.hash_revision`.
    """
    found: list[tuple[int, Line]] = []
    same_place = (before.hash_revision, before.compact_revision) == (
        after.hash_revision,
        after.compact_revision,
    )
    if same_place and before.hash != after.hash:
        fields: dict[str, Any] = {"hash-1": before.hash, "hash-2": after.hash}
        fields["revision-1"] = fields["revision-2"] = before.hash_revision
        found.append((local, ("warn", "found hash mismatch", fields)))
    for member, theirs in peers.items():
        fields = {"follower-peer-id": f"{member:x}"}
        compacted = theirs.found.compact_revision
        text = ""
        if theirs.revision > after.hash_revision:
            text = "revision from follower must be less than or equal to leader's"
            fields |= {"leader-revision": after.hash_revision, "follower-revision": theirs.revision}
        elif compacted > after.compact_revision:
            text = "compact revision from follower must be less than or equal to leader's"
            fields |= {"leader-compact-revision": after.compact_revision}
            fields |= {"follower-compact-revision": compacted}
        elif compacted == before.compact_revision and theirs.found.hash != before.hash:
            text = "same compact revision then hashes must match"
            fields |= {"leader-compact-revision": before.compact_revision}
            fields |= {"leader-hash": before.hash, "follower-hash": theirs.found.hash}
        if text:
            found.append((member, ("warn", text, fields)))
    return found


def minority(
    local: int, mine: HashKv, peers: dict[int, PeerHash | None]
) -> tuple[bool, list[int], list[Line]]:
    """(settled, members to raise an alarm for, lines) of a check as of a compaction.

    Settled: everybody answered alike, or somebody differs; otherwise an older compaction is worth
    a look. Members that differ from what a quorum has are wrong; without such a quorum nobody knows
    who is (`NOBODY_IN_PARTICULAR`).
    """
    by_hash: dict[int, list[int]] = {mine.hash: [local]}
    lines: list[Line] = []
    checked = 0
    for member, theirs in peers.items():
        if theirs is not None and theirs.found.compact_revision == mine.compact_revision:
            checked += 1
            by_hash.setdefault(theirs.found.hash, []).append(member)
            continue
        reason = "no response"
        if theirs is not None:
            reason = (
                f"the peer's CompactRevision {theirs.found.compact_revision} doesn't match "
                f"leader's CompactRevision {mine.compact_revision}"
            )
        fields = {"leader-id": f"{local:x}", "peer-id": f"{member:x}", "reason": reason}
        lines.append(("warn", "Skipped peer's hash", fields))
    if len(by_hash) == 1:
        return checked == len(peers), [], lines
    quorum = (len(peers) + 1) // 2 + 1
    good = next((one for one, members in by_hash.items() if len(members) >= quorum), None)
    wrong: list[int] = []
    for one, members in by_hash.items():
        if one != good:
            wrong += members
            fields = {"leader-id": f"{local:x}", "leader-revision": mine.hash_revision}
            fields |= {"leader-hash": mine.hash, "hash": one, "quorum-exist": good is not None}
            fields |= {"leader-compact-revision": mine.compact_revision}
            fields |= {"members": [f"{member:x}" for member in members]}
            lines.append(("error", "Detected compaction hash mismatch", fields))
    if good is not None:
        return True, sorted(wrong), lines
    text = (
        "Detected compaction hash mismatch but cannot identify the corrupted members, "
        "so intentionally set the memberID as 0"
    )
    lines.insert(0, ("error", text, {"leader-id": f"{local:x}", "leader-hash": mine.hash}))
    return True, [NOBODY_IN_PARTICULAR], lines


class _Clock:
    """When a check is due next."""

    __slots__ = ("check", "due_ns", "period_ns")

    def __init__(self, period_ns: int, check: Callable[[], None]) -> None:
        self.period_ns = self.due_ns = period_ns
        self.check = check


class Corruption:
    """The leader's checks, and the hashes of compactions. One check at a time."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._busy = False
        config = node.config
        clocks = (
            _Clock(config.corrupt_check_ns, self._check_now),
            _Clock(config.compact_hash_check_ns, self._check_compactions),
        )
        self._clocks = [one for one in clocks if one.period_ns]
        self._kept: deque[HashKv] = deque(maxlen=KEPT_HASHES_MAX)
        self._settled = 0
        """Compactions up to here need not be compared any more."""
        node.applier.before_compaction = self.compacting

    # ---- hashes of compactions

    def compacting(self, revision: int) -> None:
        """A compaction is about to be applied: have it hashed while everything is there."""
        node = self._node
        if not node.config.compact_hash_check_ns:
            return
        try:
            job = node.store.hash_kv(revision)
        except errors.EtcdError:
            return  # so is the compaction refused
        node.ports.jobs.start(job.run, self._hashed)

    def _hashed(self, result: object) -> None:
        if not isinstance(result, HashKv):
            self._node.ports.transition("warn", "failed to hash a compaction", error=str(result))
            return
        self._kept.append(result)
        fields = {"compact-revision": result.compact_revision, "revision": result.hash_revision}
        self._node.ports.transition("info", "storing new hash", hash=result.hash, **fields)

    def kept(self, revision: int) -> HashKv | None:
        """The hash of the compaction at this revision, if it is kept."""
        return next((one for one in self._kept if one.hash_revision == revision), None)

    # ---- when

    def tick(self, now_ns: int) -> None:
        """Begin the check that is due longest; a follower only moves its alarm clocks."""
        leads = self._node.is_leader
        for clock in sorted(self._clocks, key=lambda one: one.due_ns):
            if now_ns < clock.due_ns or (leads and self._busy):
                return
            clock.due_ns = now_ns + clock.period_ns
            if leads:
                self._busy = True
                clock.check()

    def _end(self, text: str, **fields: Any) -> None:
        self._busy = False
        self._node.ports.transition("info", text, **fields)

    def _failed(self, error: object) -> None:
        self._busy = False
        self._node.ports.transition("warn", "failed to check hash KV", error=str(error))

    # ---- as of now

    def _check_now(self) -> None:
        self._hash(0, lambda mine: self._ask(mine.hash_revision, lambda p: self._confirm(mine, p)))

    def _confirm(self, mine: HashKv, peers: dict[int, PeerHash | None]) -> None:
        """All that was committed by now is to be in our second hash."""

        def confirmed(*_: object) -> None:
            self._hash(0, lambda after: self._compare(mine, after, peers))

        try:
            self._node.reads.add(confirmed, _Failed(self._failed), None)
        except errors.TOO_MANY_REQUESTS as error:
            self._failed(error)

    def _compare(self, before: HashKv, after: HashKv, peers: dict[int, PeerHash | None]) -> None:
        answered = {member: one for member, one in peers.items() if one is not None}
        found = suspects(self._node.members.local, before, after, answered)
        for _, line in found:
            self._say(line)
        if found:  # one alarm at a time, as in etcd: the first is reason enough to stop writing
            self._raise(found[0][0])
        self._end("finished peer corruption check", **{"number-of-peers-checked": len(answered)})

    # ---- as of compactions

    def _check_compactions(self) -> None:
        self._next_compaction([one for one in self._kept if one.hash_revision > self._settled], 0)

    def _next_compaction(self, hashes: Sequence[HashKv], checked: int) -> None:
        """The newest of these, then older ones while members are behind."""
        text = "finished compaction hash check"
        if not hashes:
            self._end(text, **{"number-of-hashes-checked": checked})
            return
        mine = hashes[-1]

        def answered(peers: dict[int, PeerHash | None]) -> None:
            settled, wrong, lines = minority(self._node.members.local, mine, peers)
            for line in lines:
                self._say(line)
            for member in wrong:
                self._raise(member)
            if settled and peers:
                self._settled = mine.hash_revision
                self._end(text, **{"number-of-hashes-checked": checked + 1})
            else:
                self._next_compaction(hashes[:-1], checked + 1)

        self._ask(mine.hash_revision, answered)

    # ---- steps

    def _hash(self, revision: int, then: Callable[[HashKv], None]) -> None:
        def done(result: object) -> None:
            if isinstance(result, HashKv):
                then(result)
            else:
                self._failed(result)

        self._node.ports.jobs.start(self._node.store.hash_kv(revision).run, done)

    def _ask(self, revision: int, then: Callable[[dict[int, PeerHash | None]], None]) -> None:
        """Every other member, at once; `then` has all answers, None for those without one."""
        node = self._node
        peers: dict[int, PeerHash | None] = {
            member.id: None for member in node.members if member.id != node.members.local
        }
        waiting = set(peers)
        if not waiting:
            then(peers)
            return

        def answered(member: int, status: int, body: bytes) -> None:
            peers[member] = parse(body) if status == 200 else None
            if status != 200:
                fields = {"remote-peer-id": f"{member:x}", "error": body.decode("utf-8", "replace")}
                node.ports.transition("warn", "failed hash kv request", **fields)
            waiting.discard(member)
            if not waiting:
                then(peers)

        headers = [("X-Etcd-Cluster-ID", f"{node.members.cluster:x}")]
        timeout_ms = node.config.timeout_ns // NS_PER_MS
        for member in list(peers):
            node.peers.post(
                member,
                PATH,
                headers,
                question(revision),
                timeout_ms,
                lambda status, body, member=member: answered(member, status, body),
                verb="GET",
            )

    def _say(self, line: Line) -> None:
        level, text, fields = line
        self._node.ports.transition(level, text, **fields)

    def _raise(self, member: int) -> None:
        if not self._node.alarms.get(member, CORRUPT) or member == NOBODY_IN_PARTICULAR:
            self._node.raise_alarm(CORRUPT, member)


class _Failed:
    """Stands where a read's call id stands."""

    def __init__(self, failed: Callable[[object], None]) -> None:
        self._fail = failed

    def fail(self, error: errors.EtcdError) -> None:
        """See `Node.refuse`."""
        self._fail(error)


def answer(revision: int, found: HashKv) -> bytes:
    """The body of /members/hashkv; zeros are left out, as Go does."""
    fields = {
        "header": {"revision": revision},
        "hash": found.hash,
        "compact_revision": found.compact_revision,
        "hash_revision": found.hash_revision,
    }
    kept = {name: one for name, one in cast("dict[str, Any]", fields).items() if one}
    return json.dumps(kept, separators=(",", ":")).encode()
