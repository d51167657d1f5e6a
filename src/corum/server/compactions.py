"""Compactions of this member: when one begins by itself, its slices, and who waits for its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from corum.pb import rpc
from corum.server.operations import COMPACTION
from corum.values import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from corum.server.node import Node


class Compactions:
    """What is superseded goes a slice at a time, while commits keep up; see `mvcc/compaction`."""

    def __init__(self, node: Node) -> None:
        self._node = node
        make = node.config.auto_compaction
        self._policy = make() if make else None
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        """(revision, who is told when what was superseded by it is gone from the disk)."""
        self.next_ns = 0
        """When the next slice is due, if there is a compaction."""
        self.rows_total = 0
        self.last_unix_s = 0.0
        """When the last one ended."""
        self.observe: Callable[[float], None] = lambda took_ms: None
        """Told how long each took."""
        self._seen: Any = None
        self._began_ns = 0

    def tick(self, now_ns: int) -> None:
        """Time passed: compact, if a policy says so and this member leads."""
        node, policy = self._node, self._policy
        if policy is None:
            return
        if not node.is_leader:
            policy.paused()
            return
        revision = policy.due(now_ns, node.store.revision)
        if revision > node.store.compacted:
            node.ports.transition("info", "starting auto compaction", revision=revision)
            request = rpc.CompactionRequest(revision=revision)
            node.propose_own(COMPACTION, request.SerializeToString(), request)

    def step(self, now_ns: int) -> None:
        """Once per turn while the store is being compacted: a slice, if it is time for one."""
        node = self._node
        config = node.config
        if now_ns < self.next_ns or node.backend.pending_operations > config.batch_operations_max:
            return
        compaction = node.store.compaction
        assert compaction is not None
        if compaction is not self._seen:
            self._seen, self._began_ns = compaction, now_ns
        removed = compaction.removed
        done = compaction.step(config.compaction_rows)
        self.rows_total += compaction.removed - removed
        if done:
            revision = compaction.revision
            self.observe((now_ns - self._began_ns) / NS_PER_MS)
            self.last_unix_s = node.ports.unix_time_ns() / NS_PER_S
            fields = {"compact-revision": revision}
            node.ports.transition("info", "finished scheduled compaction", **fields)
            node.commits.when_durable(lambda: self.finished(revision))
        self.next_ns = now_ns + config.compaction_pause_ns

    def answer(self, call: Any, result: Any) -> None:
        """A physical compaction is answered when its rows are gone from the disk."""
        out = self._node.out
        if isinstance(result, BaseException):
            out.error(call, result)
        else:
            self.when_done(lambda: out.replies.append((call, result)))

    def when_done(self, then: Callable[[], None]) -> None:
        """Call `then` once the rows of the running compaction are gone from the disk."""
        compaction = self._node.store.compaction
        if compaction is None:
            then()
        else:
            self._waiting.append((compaction.revision, then))

    def finished(self, revision: int) -> None:
        """Rows up to `revision` are gone; a later compaction may be under way."""
        waiting = self._waiting
        self._waiting = [one for one in waiting if one[0] > revision]
        for at, then in waiting:
            if at <= revision:
                then()

    def restarted(self) -> None:
        """The store was replaced: whoever waits for its compaction has it."""
        store = self._node.store
        if store.compaction is None:
            self.finished(store.revision)
