"""Several endpoints: failover without loss, and the way to the leader; members of Go and ours."""

import threading
import time
from collections.abc import Iterator

import pytest

from corum import Client, LocalCluster
from corum.client._sync import session
from corum.client.errors import DeadlineExceeded, Unavailable
from oracle import servers

pytestmark = [pytest.mark.compat, pytest.mark.process]


@pytest.fixture(scope="module", params=["go-3.5.1", "ours"])
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    go = request.param == "go-3.5.1"
    program: servers.Program = request.getfixturevalue("go_program" if go else "our_program")
    with LocalCluster(3, binary=program.argv, relayed=False) as cluster:
        cluster.leader()
        yield cluster


def test_the_leader_is_found(cluster: LocalCluster) -> None:
    """Preferred when asked for; moved through whichever endpoint comes first."""
    with Client(cluster.endpoints, prefer_leader=True, timeout_s=30) as client:
        status = client.status()
        assert status.leader == status.header.member_id
        members = client.members()
        other = next(m.member_id for m in members if m.member_id != status.leader)
        with Client(cluster.endpoints[::-1], timeout_s=30) as second:
            second.move_leader(other)
            end = time.monotonic() + 30
            while second.status().leader != other and time.monotonic() < end:
                time.sleep(0.05)
            assert second.status().leader == other


def test_a_leader_that_moved_is_found(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a failure to tell of it: the client asks from time to time."""
    monkeypatch.setattr(session, "LOOK_AGAIN_NS", 100_000_000)
    with Client(cluster.endpoints, prefer_leader=True, timeout_s=30) as client:
        old = client.status().leader
        other = next(m.member_id for m in client.members() if m.member_id != old)
        with Client(cluster.endpoints, timeout_s=30) as second:
            second.move_leader(other)
        end = time.monotonic() + 30
        while client.status().header.member_id != other and time.monotonic() < end:
            time.sleep(0.02)
        assert client.status().header.member_id == other


def test_endpoints_are_learnt(cluster: LocalCluster) -> None:
    """One endpoint is enough to know all, each once."""
    with Client(cluster.endpoints[0], timeout_s=30) as client:
        known = client.sync_endpoints()
        assert len(known) == 3
        assert {e.rpartition("/")[2] for e in known} == {
            e.rpartition("/")[2] for e in cluster.endpoints
        }


def test_nothing_is_lost_when_the_leader_dies(cluster: LocalCluster) -> None:
    """Acknowledged writes stay, the watch goes on elsewhere with each event once."""
    acknowledged: list[bytes] = []
    stop = threading.Event()
    with Client(cluster.endpoints, timeout_s=30, prefer_leader=True) as client:

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    client.put("n", str(number))
                    acknowledged.append(b"%d" % number)
                except (Unavailable, DeadlineExceeded):
                    pass

        with client.watch("n") as watch:
            writer = threading.Thread(target=write)
            writer.start()
            leader = cluster.leader()
            cluster.kill(leader)
            seen = len(acknowledged)
            end = time.monotonic() + 60
            while len(acknowledged) < seen + 50 and time.monotonic() < end:
                time.sleep(0.02)
            stop.set()
            writer.join()
            cluster.restart(leader)
            last = client.put("n", "last").header.revision
            events = []
            while not events or events[-1].kv.mod_revision < last:
                events += watch.receive(60)
    revisions = [event.kv.mod_revision for event in events]
    assert revisions == sorted(set(revisions))
    assert len(acknowledged) >= seen + 50
    assert set(acknowledged) <= {event.value for event in events}
