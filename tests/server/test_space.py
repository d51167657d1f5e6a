"""Quota and alarms."""

from typing import Any

import pytest

from corum import errors
from corum.backend import schema
from corum.backend.memory_backend import MemoryBackend
from corum.pb import rpc
from corum.server import operations as op
from corum.server.space import CORRUPT, NOSPACE, QUOTA_DEFAULT, Alarms, Space, alarm_bytes
from corum.values import GIB
from server.lone import Lone


@pytest.mark.parametrize("member", [0, 1, 0x8E9E05C52164694D])
@pytest.mark.parametrize("alarm", [0, NOSPACE, CORRUPT])
def test_alarms_are_kept_as_protobuf_writes_them(member: int, alarm: int) -> None:
    """The key of a row in bucket `alarm`, the same as Go's."""
    wanted = rpc.AlarmMember(memberID=member, alarm=alarm)  # type: ignore[arg-type]
    assert alarm_bytes(member, alarm) == wanted.SerializeToString()


def test_an_alarm_lasts_until_it_is_cleared() -> None:
    """It is on the disk meanwhile; raising it twice raises it once."""
    backend = MemoryBackend()
    alarms = Alarms(backend)
    assert alarms.activate(1, NOSPACE) == [(1, NOSPACE)]
    assert alarms.activate(1, NOSPACE) == [(1, NOSPACE)]
    assert alarms.no_space
    assert not alarms.corrupt
    assert backend.range(schema.ALARM) == [(alarm_bytes(1, NOSPACE), b"")]
    assert alarms.deactivate(1, NOSPACE) == [(1, NOSPACE)]
    assert alarms.deactivate(1, NOSPACE) == []
    assert not alarms.no_space
    assert backend.range(schema.ALARM) == []


def test_an_alarm_of_one_member_counts_for_all() -> None:
    """Space is short until the last of them has cleared it."""
    alarms = Alarms(MemoryBackend())
    alarms.activate(1, NOSPACE)
    alarms.activate(2, NOSPACE)
    alarms.deactivate(1, NOSPACE)
    assert alarms.no_space
    alarms.deactivate(2, NOSPACE)
    assert not alarms.no_space


def test_alarms_are_found_by_member_and_kind() -> None:
    """0 stands for any; the answer is sorted."""
    alarms = Alarms(MemoryBackend())
    alarms.restore([(2, NOSPACE), (1, CORRUPT), (1, NOSPACE)])
    assert alarms.corrupt
    assert alarms.get(0, 0) == [(1, NOSPACE), (1, CORRUPT), (2, NOSPACE)]
    assert alarms.get(1, 0) == [(1, NOSPACE), (1, CORRUPT)]
    assert alarms.get(0, NOSPACE) == [(1, NOSPACE), (2, NOSPACE)]
    assert alarms.get(2, CORRUPT) == []


def test_the_quota_is_refused_at_and_beyond_it() -> None:
    """One byte below is fine; who is refused has the alarm raised."""
    backend = MemoryBackend()
    raised: list[int] = []
    space = Space(backend, backend.size + 100, lambda: raised.append(1))
    assert space.room() == 99
    space.admit(99)
    assert not raised
    with pytest.raises(errors.NO_SPACE):
        space.admit(100)
    assert raised == [1]


def test_no_quota_and_the_usual_one() -> None:
    """--quota-backend-bytes: 0 means 2 GiB, a negative number no limit."""
    backend = MemoryBackend()
    assert Space(backend, 0, lambda: None).quota_bytes == QUOTA_DEFAULT == 2 * GIB
    unlimited = Space(backend, -1, lambda: None)
    assert not unlimited.exceeded(1 << 60)
    assert unlimited.room() > 1 << 60


def test_what_slipped_through_is_carried_out_and_refused() -> None:
    """Proposed while there was room, applied when there is none: every member keeps it, its client
    hears NO_SPACE, and the alarm stops the next one (as etcd)."""
    member = Lone()
    node = member.node
    node.space.quota_bytes = node.backend.size + 300
    grant = rpc.LeaseGrantRequest(ID=7, TTL=60)
    txn = rpc.TxnRequest(success=[rpc.RequestOp(request_put=put(b"t", 100))])
    fits = member.propose(op.PUT, put(b"a", 10))
    assert fits in member.transport.replies
    over = member.propose(op.PUT, put(b"b", 100))
    assert member.transport.failures[over] == (8, errors.NO_SPACE.text)
    assert node.store.get(b"b") is not None
    member.turn()
    assert node.alarms.no_space
    node.alarms.deactivate(node.members.local, NOSPACE)
    node.space.quota_bytes = node.backend.size + 300
    over = member.propose(op.TXN, txn)
    assert member.transport.failures[over] == (8, errors.NO_SPACE.text)
    assert node.store.get(b"t") is not None
    member.turn()
    node.alarms.deactivate(node.members.local, NOSPACE)
    assert member.propose(op.LEASE_GRANT, grant) in member.transport.replies
    assert member.propose(op.DELETE_RANGE, rpc.DeleteRangeRequest(key=b"b")) in (
        member.transport.replies
    )


def put(key: bytes, size: int) -> Any:
    return rpc.PutRequest(key=key, value=bytes(size))
