"""Questions that only the leader can answer, asked again until it does or time is up (rpc §6).

Leases live on the leader: renewals and remaining times are asked there, over the peer port. While
nobody leads, and while the leader does not answer, a question waits for the next tick.
Bound: `WAITING_MAX` questions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from corum import errors
from corum.pb import leasepb, rpc
from corum.values import NS_PER_MS, LeaseId

if TYPE_CHECKING:
    from corum.server.leases import Asker
    from corum.server.node import Node

WAITING_MAX: Final = 100_000
PROTOBUF: Final = ("Content-Type", "application/protobuf")
NOT_FOUND: Final = 404


class Question:
    """One of them."""

    __slots__ = ("answered", "body", "deadline_ns", "failed", "local", "path")

    def __init__(
        self,
        path: str,
        body: bytes,
        local: Callable[[], None],
        answered: Callable[[int, bytes], bool],
        failed: Callable[[BaseException], None],
    ) -> None:
        """`local`: this member leads by now. `answered(status, body)`: False to ask again."""
        self.path = path
        self.body = body
        self.local = local
        self.answered = answered
        self.failed = failed
        self.deadline_ns = 0


class Forwarding:
    """Asks the leader."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._again: list[Question] = []
        self._count = 0

    def ask(self, question: Question) -> None:
        """Have it answered; raises TOO_MANY_REQUESTS."""
        if self._count >= WAITING_MAX:
            raise errors.TOO_MANY_REQUESTS()
        self._count += 1
        question.deadline_ns = self._node.now_ns + self._node.config.timeout_ns
        self._send(question)

    def tick(self) -> None:
        """Ask again what was not answered."""
        if self._again:
            again, self._again = self._again, []
            for question in again:
                self._send(question)

    def _send(self, question: Question) -> None:
        node = self._node
        if node.is_leader:
            self._count -= 1
            question.local()
            return
        left_ms = (question.deadline_ns - node.now_ns) // NS_PER_MS
        if left_ms <= 0:
            self._count -= 1
            question.failed(errors.TIMEOUT() if node.leader else errors.NO_LEADER())
        elif not node.leader:
            self._again.append(question)
        else:
            node.peers.post(
                node.leader,
                question.path,
                [PROTOBUF],
                question.body,
                min(left_ms, 5_000),
                lambda status, body: self._answered(question, status, body),
            )

    def _answered(self, question: Question, status: int, body: bytes) -> None:
        if status and question.answered(status, body):
            self._count -= 1
        else:
            self._again.append(question)

    # ---- the questions

    def renew(self, lease: LeaseId, asker: Asker, call: int) -> None:
        """Renew a lease on the leader; see `Leases.renew`."""

        def answered(status: int, body: bytes) -> bool:
            if status == NOT_FOUND:
                asker.renewed(call, lease, 0)
            elif status == 200:
                ttl_s = rpc.LeaseKeepAliveResponse.FromString(body).TTL
                asker.renewed(call, lease, ttl_s)
            else:
                return False
            return True

        request = rpc.LeaseKeepAliveRequest(ID=lease).SerializeToString()
        here = self._node.leases
        self.ask(
            Question(
                "/leases",
                request,
                lambda: here.renew(lease, asker, call),
                answered,
                lambda error: asker.failed(call, error),
            )
        )

    def time_to_live(self, request: Any, done: Callable[[Any], None]) -> None:
        """Ask the leader; see `Leases.time_to_live`."""

        def answered(status: int, body: bytes) -> bool:
            if status == NOT_FOUND:
                done(rpc.LeaseTimeToLiveResponse(ID=request.ID, TTL=-1))
            elif status == 200:
                found = leasepb.LeaseInternalResponse.FromString(body)
                response = found.LeaseTimeToLiveResponse
                response.ClearField("header")
                done(response)
            else:
                return False
            return True

        body = leasepb.LeaseInternalRequest(LeaseTimeToLiveRequest=request).SerializeToString()
        leases = self._node.leases
        self.ask(
            Question(
                "/leases/internal", body, lambda: leases.time_to_live(request, done), answered, done
            )
        )

    def promote(self, member: int, done: Callable[[BaseException | None], None]) -> None:
        """Have the leader make a learner a voter: it alone knows how far the learner is."""

        def answered(status: int, body: bytes) -> bool:
            text = body.decode("utf-8", "replace").strip()
            if status == 200:
                done(None)
            elif status == NOT_FOUND:
                done(errors.MEMBER_NOT_FOUND())
            elif status == 412:
                ready = "in sync" not in text
                done(errors.MEMBER_NOT_LEARNER() if ready else errors.LEARNER_NOT_READY())
            else:
                return False
            return True

        here = self._node.reconfiguration
        self.ask(
            Question(
                f"/members/promote/{member}",
                b"",
                lambda: here.promote(member, done),
                answered,
                done,
            )
        )
