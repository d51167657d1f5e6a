"""Big reads: by a worker, in chunks, and counted once for all who ask at the same time."""

import pytest

from corum import errors
from corum.mvcc import store as store_module
from corum.pb import rpc
from corum.server import operations as op
from corum.server.maintenance import DOWNLOADS_MAX, VIEWS_MAX, check_views
from corum.server.ranges import CHUNK_BYTES, JOBS_MAX
from server.lone import Lone

KEYS = 2_000


@pytest.fixture
def lone(monkeypatch: pytest.MonkeyPatch) -> Lone:
    """A node with keys, of which its loop looks at 100 at most."""
    monkeypatch.setattr(store_module, "INLINE_KEYS_MAX", 100)
    lone = Lone()
    for first in range(0, KEYS, 100):
        request = rpc.TxnRequest()
        for n in range(first, first + 100):
            put = request.success.add().request_put
            put.key, put.value = b"k%04d" % n, b"v" * 1_000
        lone.propose(op.TXN, request)
    return lone


def test_pages_wait_for_one_count(lone: Lone) -> None:
    """Of many first pages one is a worker's; it makes the count, and the loop answers the rest."""
    ranges = lone.node.ranges
    page = rpc.RangeRequest(key=b"k", range_end=b"l", limit=3)
    for call in range(1_000, 1_010):
        ranges.serve(call, page)
    ranges.stream(1_010, page)
    assert len(lone.jobs.queue) == 1
    lone.turn()
    for call in range(1_000, 1_010):
        answer = rpc.RangeResponse.FromString(lone.transport.replies[call])
        assert (len(answer.kvs), answer.count, answer.more) == (3, KEYS, True)
    assert lone.transport.failures[1_010] == (0, "")


def test_who_comes_late_waits_without_a_view(lone: Lone) -> None:
    """However many ask at once, few views are open; all are answered, by and by."""
    ranges, backend = lone.node.ranges, lone.node.backend
    calls = range(1_000, 1_000 + 3 * JOBS_MAX)
    for call in calls:
        ranges.serve(call, rpc.RangeRequest(key=b"k", range_end=b"l"))
    assert backend.open_views == len(lone.jobs.queue) == JOBS_MAX
    ranges.serve(2_000, rpc.RangeRequest(key=b"k", range_end=b"k0050"))  # small: served at once
    while lone.jobs.queue:
        assert backend.open_views <= JOBS_MAX
        lone.turn()
    for call in calls:
        assert len(rpc.RangeResponse.FromString(lone.transport.replies[call]).kvs) == KEYS
    assert len(rpc.RangeResponse.FromString(lone.transport.replies[2_000]).kvs) == 50
    assert backend.open_views == 0


def test_hashes_and_snapshots_are_refused_when_too_many_read(lone: Lone) -> None:
    """A clear error for the client, instead of a backend without room for another reader."""
    node = lone.node
    for call in range(DOWNLOADS_MAX):
        node.downloads.send_to_client(call)
    with pytest.raises(errors.EtcdError, match="too many requests"):
        node.downloads.send_to_client(1_000)
    for call in range(DOWNLOADS_MAX):
        node.downloads.cancel(call)
    assert node.backend.open_views == DOWNLOADS_MAX, "workers have not seen yet that nobody waits"
    lone.jobs.run()
    views = [node.backend.view() for _ in range(VIEWS_MAX - 1)]
    check_views(node)
    views.append(node.backend.view())
    with pytest.raises(errors.EtcdError, match="too many requests"):
        check_views(node)
    for view in views:
        view.close()


def test_nobody_works_for_a_call_that_is_gone(lone: Lone) -> None:
    """Of calls that wait for room, those that were canceled are forgotten."""
    ranges = lone.node.ranges
    calls = range(1_000, 1_000 + 2 * JOBS_MAX)
    for call in calls:
        ranges.serve(call, rpc.RangeRequest(key=b"k", range_end=b"l"))
    for call in calls[JOBS_MAX:]:
        ranges.cancel(call)
    lone.turn()
    assert set(calls) & set(lone.transport.replies) == set(calls[:JOBS_MAX])


def test_chunks_make_the_whole(lone: Lone) -> None:
    """The chunks of a stream, merged, are the answer of a range; several, and bounded."""
    ranges = lone.node.ranges
    everything = rpc.RangeRequest(key=b"k", range_end=b"l")
    ranges.serve(1_000, everything)
    ranges.stream(1_001, everything)
    lone.turn()
    chunks = lone.transport.sent
    merged = rpc.RangeResponse()
    for _, chunk in chunks:
        merged.MergeFrom(rpc.RangeStreamResponse.FromString(chunk).range_response)
    assert merged == rpc.RangeResponse.FromString(lone.transport.replies[1_000])
    assert len(merged.kvs) == KEYS
    assert len(chunks) == KEYS * 1_024 // CHUNK_BYTES + 1
    assert all(len(chunk) < CHUNK_BYTES + 2_000 for _, chunk in chunks)
