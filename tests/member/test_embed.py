"""A member in this process, through the port that any client uses."""

import io
import re
from pathlib import Path
from urllib.request import urlopen

import pytest

import corum
from corum.pb import rpc
from oracle.build import get, put
from oracle.rpc import Client, Refused

pytestmark = pytest.mark.slow


def value_of(member: corum.Member, key: str) -> list[bytes]:
    with Client(member.endpoint) as client:
        return [kv.value for kv in client.call("KV/Range", get(key)).kvs]


def store(member: corum.Member, key: str, value: str) -> None:
    with Client(member.endpoint) as client:
        assert not isinstance(client.call("KV/Put", put(key, value)), Refused)


def test_put_and_get_with_a_foreign_client() -> None:
    """grpcio does not notice where the member lives."""
    with corum.Member() as member:
        store(member, "k", "v")
        assert value_of(member, "k") == [b"v"]


def test_a_restart_on_disk_keeps_the_data(tmp_path: Path) -> None:
    """The same object again, and another one on the same directory; revisions go on."""
    member = corum.Member(tmp_path / "data")
    with member:
        store(member, "k", "1")
    with member:
        assert value_of(member, "k") == [b"1"]
        store(member, "k", "2")
    with corum.Member(tmp_path / "data") as another, Client(another.endpoint) as client:
        (kv,) = client.call("KV/Range", get("k")).kvs
        assert (kv.value, kv.mod_revision, kv.version) == (b"2", 3, 2)


def test_the_disk_is_measured(tmp_path: Path) -> None:
    """`etcd_disk_*` of the log, the backend and its rewriting: what operators watch first."""

    def count_of(metric: str) -> float:
        with urlopen(f"http://{member.endpoint}/metrics", timeout=20) as page:
            text = page.read().decode()
        return float(re.search(rf"^etcd_disk_{metric} (\S+)$", text, re.MULTILINE)[1])

    with corum.Member(tmp_path / "data") as member:
        before = count_of("wal_fsync_duration_seconds_count"), count_of("wal_write_bytes_total")
        store(member, "k", "v" * 1_000)
        assert count_of("wal_fsync_duration_seconds_count") > before[0]
        assert count_of("wal_write_bytes_total") > before[1] + 1_000
        with Client(member.endpoint) as client:  # commits, then rewrites
            client.call("Maintenance/Defragment", rpc.DefragmentRequest(), timeout_s=60)
        assert count_of("backend_commit_duration_seconds_count") > 0
        assert count_of("backend_defrag_duration_seconds_count") == 1
        assert count_of("defrag_inflight") == 0


def test_traffic_and_maintenance_are_measured() -> None:
    """Bytes of clients, compactions, snapshots, leases."""
    with corum.Member() as member, corum.Client(member.endpoint) as client:
        revision = client.put("k", "v" * 10_000).header.revision
        client.put("k", "w")
        client.compact(revision + 1, physical=True)
        with client.lease(33):
            pass
        client.snapshot(io.BytesIO())
        with urlopen(f"http://{member.endpoint}/metrics", timeout=20) as page:
            found = dict(re.findall(r"^etcd_(\S+) (\S+)$", page.read().decode(), re.MULTILINE))
    assert float(found["network_client_grpc_received_bytes_total"]) > 10_000
    assert float(found["network_client_grpc_sent_bytes_total"]) > 0
    assert found["debugging_mvcc_db_compaction_total_duration_milliseconds_count"] == "1"
    assert float(found["debugging_mvcc_db_compaction_last"]) > 1.7e9
    assert found["debugging_lease_ttl_total_sum"] == "33"
    assert found["disk_backend_snapshot_duration_seconds_count"] == "1"


def test_memory_forgets() -> None:
    """Without a directory each start is a new cluster."""
    member = corum.Member()
    with member:
        store(member, "k", "v")
    with member:
        assert value_of(member, "k") == []


def test_two_members_know_nothing_of_each_other() -> None:
    """Each has ports and keys of its own."""
    with corum.Member() as one, corum.Member() as two:
        assert one.endpoint != two.endpoint
        store(one, "k", "of one")
        assert value_of(two, "k") == []
        assert value_of(one, "k") == [b"of one"]


def test_options_are_the_nodes() -> None:
    """Name and limits are what was asked for."""
    member = corum.Member(name="mine", request_bytes_max=1_000)
    with member, Client(member.endpoint) as client:
        (found,) = client.call("Cluster/MemberList", rpc.MemberListRequest()).members
        assert found.name == "mine"
        refused = client.call("KV/Put", put("k", "v" * 2_000))
        assert isinstance(refused, Refused)
        assert refused.text == "etcdserver: request is too large"


def test_what_keeps_it_from_starting_is_raised(tmp_path: Path) -> None:
    """A directory that somebody else uses; the port is free again afterwards."""
    with corum.Member(tmp_path / "data") as owner:
        second = corum.Member(tmp_path / "data")
        with pytest.raises(Exception, match=r"lock|in use|another"):
            second.start()
        store(owner, "k", "still well")


def test_stopping_twice_is_stopping_once() -> None:
    """And a member that never started stops as well."""
    corum.Member().stop()
    member = corum.Member().start()
    member.stop()
    member.stop()


def test_it_says_what_a_daemon_would_log() -> None:
    """`log` gets level, message and fields."""
    lines: list[tuple[str, str]] = []
    with corum.Member(log=lambda level, message, **_: lines.append((level, message))):
        pass
    assert ("info", "published local member to cluster through raft") in lines
    assert not [line for line in lines if line[0] == "error"]
