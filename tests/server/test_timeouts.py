"""What a client is told whose write was not decided in time."""

from typing import Any

from corum import errors
from corum.pb import rpc
from corum.raft import Role, SoftState
from corum.server import operations as op
from corum.values import NS_PER_MS
from server.lone import Lone

TIMEOUT_MS = 7_000


def propose(member: Lone) -> int:
    return member.propose(op.PUT, rpc.PutRequest(key=b"k", value=b"v"))


class Silent:
    """A member whose log never ends a write, so that nothing is ever decided."""

    def __init__(self) -> None:
        self.member = Lone()
        self.member.log.write = self.member.log.write_now = lambda *_: True  # type: ignore[method-assign]
        log: Any = self.member.log
        log.idle = False

    def times_out(self, call: int) -> tuple[int, str]:
        self.member.turn(TIMEOUT_MS - 1)
        assert call not in self.member.transport.failures
        self.member.turn(200)
        return self.member.transport.failures[call]


def told(kind: type[errors.EtcdError]) -> tuple[int, str]:
    error = kind()
    return error.code, error.text


def test_a_write_for_which_there_was_no_leader() -> None:
    """It was never proposed; as etcd 3.7.3 says it, which did not come to waiting either."""
    member = Lone(elect=False)
    call = propose(member)
    member.turn(TIMEOUT_MS + 200)
    assert member.transport.failures[call] == told(errors.DEADLINE_PASSED)
    assert member.transport.failures[call] == (4, "context deadline exceeded")
    assert member.node.proposals.queued == []


def test_a_write_that_was_proposed_and_not_decided() -> None:
    """By a leader that stands since long."""
    silent = Silent()
    silent.member.turn(10_000)
    call = propose(silent.member)
    assert silent.times_out(call) == told(errors.TIMEOUT)


def test_a_write_whose_leader_was_lost() -> None:
    """A new leader was found after it was proposed, at most two election timeouts later."""
    silent = Silent()
    silent.member.turn(10_000)
    call = propose(silent.member)
    node = silent.member.node
    silent.member.now_ns += 1_500 * NS_PER_MS
    node.begin(silent.member.now_ns)
    node.soft_state_changed(SoftState(0, Role.FOLLOWER))
    node.soft_state_changed(SoftState(77, Role.FOLLOWER))
    silent.member.turn(TIMEOUT_MS - 1_400)
    assert silent.member.transport.failures[call] == told(errors.TIMEOUT_DUE_TO_LEADER_FAIL)


def test_a_write_whose_leader_is_out_of_reach() -> None:
    """It leads since long, but the way to it broke meanwhile."""
    silent = Silent()
    node = silent.member.node
    node.soft_state_changed(SoftState(77, Role.FOLLOWER))
    silent.member.turn(10_000)
    call = propose(silent.member)
    assert silent.times_out(call) == told(errors.TIMEOUT_DUE_TO_CONNECTION_LOST)
