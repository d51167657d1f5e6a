"""Entries opened by hand mean what protobuf says they mean."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corum.pb import raft_internal, rpc
from corum.server.entries import plain_put

ids = st.integers(min_value=1, max_value=2**64 - 1)
REVISION = 3


def entry(request_id: int, username: str = "", **request: Any) -> bytes:
    revision = REVISION if username else 0
    header = raft_internal.RequestHeader(ID=request_id, username=username, auth_revision=revision)
    return raft_internal.InternalRaftRequest(header=header, **request).SerializeToString()


@given(
    ids, st.binary(min_size=1, max_size=127), st.binary(min_size=1, max_size=16_000), st.booleans()
)
def test_a_put_of_key_and_value(request_id: int, key: bytes, value: bytes, user: bool) -> None:
    """Its id, and both without a message around them; a user's too."""
    data = entry(request_id, "alice" if user else "", put=rpc.PutRequest(key=key, value=value))
    assert plain_put(data) == (request_id, (key, value))


@given(
    ids,
    st.binary(max_size=200),
    st.binary(max_size=200),
    st.integers(0, 2**63 - 1),
    st.booleans(),
    st.booleans(),
)
def test_any_put(
    request_id: int, key: bytes, value: bytes, lease: int, prev: bool, ignore: bool
) -> None:
    """What has options is never taken for a plain one."""
    request = rpc.PutRequest(key=key, value=value, lease=lease, prev_kv=prev, ignore_lease=ignore)
    found = plain_put(entry(request_id, put=request))
    if found is not None:
        assert found[0] == request_id
        assert rpc.PutRequest(key=found[1][0], value=found[1][1]) == request


@pytest.mark.parametrize(
    "data",
    [
        b"",
        entry(7, lease_grant=rpc.LeaseGrantRequest(TTL=1)),
        entry(7, put=rpc.PutRequest(key=b"k")),
        entry(7, put=rpc.PutRequest(key=b"k" * 128, value=b"v")),
        entry(7, put=rpc.PutRequest(key=b"k", value=b"v" * 20_000)),
        entry(0, put=rpc.PutRequest(key=b"k", value=b"v")),
        raft_internal.InternalRaftRequest(ID=7, put=rpc.PutRequest(key=b"k")).SerializeToString(),
        rpc.PutRequest(key=b"k", value=b"v").SerializeToString(),
    ],
    ids=["nothing", "a grant", "no value", "long key", "long value", "no id", "old id", "no entry"],
)
def test_other_forms_are_left_to_protobuf(data: bytes) -> None:
    """What is not the usual form is refused, not guessed."""
    assert plain_put(data) is None


@given(st.binary(max_size=60), st.integers(0, 2**64 - 1))
def test_anything_at_all(data: bytes, request_id: int) -> None:
    """Bytes of any kind raise nothing, and what is taken means what protobuf takes it for."""
    header = entry(request_id)
    for each in (b"\x22" + data, b"\x22" + bytes((len(data),)) + data + header):
        found = plain_put(each)
        if found is not None:
            whole = raft_internal.InternalRaftRequest.FromString(each)
            assert found[0] == whole.header.ID
            assert (whole.put.key, whole.put.value) == found[1]
            assert whole.put == rpc.PutRequest(key=found[1][0], value=found[1][1])
