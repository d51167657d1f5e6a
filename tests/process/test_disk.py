"""What the disk can do to a member: it is full, it lies, somebody else uses the directory."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corum.pb import rpc
from oracle import servers
from oracle.build import get, put
from oracle.rpc import Client, Refused
from oracle.small_disk import DISK_MIB, SmallDisk

pytestmark = [pytest.mark.process, pytest.mark.slow]

VALUE = b"x" * 500_000


def test_a_full_disk_loses_nothing(our_program: servers.Program, small_disk: SmallDisk) -> None:
    """Writes are refused, never half kept; with room again everything acknowledged is there."""
    server = servers.Server(
        our_program, small_disk.folder.parent / "server", wrapper=small_disk.wrapper()
    )
    server.flags = [f"--data-dir={small_disk.folder}/data"]  # the last one counts
    acknowledged = 0
    try:
        server.start()
        with Client(server.endpoint) as client:
            for number in range(DISK_MIB * 3):
                answer = client.call("KV/Put", put(f"k{number:05d}", VALUE), timeout_s=5)
                if isinstance(answer, Refused):
                    break
                acknowledged += 1
        assert 20 < acknowledged < DISK_MIB * 3, acknowledged
        assert "no space left" in server.log().lower(), server.tail()
        server.kill()
        small_disk.grow(DISK_MIB * 4)
        server.spawn()  # unhealthy as long as the alarm lasts that a full database has raised
        with Client(server.endpoint) as client:
            for alarm in client.call("Maintenance/Alarm", rpc.AlarmRequest()).alarms:
                client.call("Maintenance/Alarm", disarm(alarm))
            server.wait_ready()
            keys = client.call("KV/Range", get("k", "l", keys_only=True)).kvs
            found = [kv.key.decode() for kv in keys]
            assert found[:acknowledged] == [f"k{n:05d}" for n in range(acknowledged)]
            assert len(found) <= acknowledged + 1
            assert not isinstance(client.call("KV/Put", put("after", "1")), Refused)
    finally:
        server.kill()


def disarm(alarm: Any) -> Any:
    action = rpc.AlarmRequest.DEACTIVATE
    return rpc.AlarmRequest(action=action, memberID=alarm.memberID, alarm=alarm.alarm)


def wal_files(server: servers.Server) -> list[Path]:
    return sorted((server.data_dir / "member" / "wal").glob("*.wal"))


@pytest.fixture
def stopped(our_program: servers.Program, tmp_path: Path) -> Iterator[servers.Server]:
    """A killed server with fifty small values in its log, and a last one of some sectors."""
    server = servers.Server(our_program, tmp_path / "server")
    try:
        server.start()
        with Client(server.endpoint) as client:
            for number in range(50):
                client.call("KV/Put", put(f"key{number}", "v" * 300))
            client.call("KV/Put", put("last", "v" * 3_000))
        server.kill()
        yield server
    finally:
        server.kill()


def test_a_damaged_log_is_refused(stopped: servers.Server) -> None:
    """Wrong bytes in the middle of the log: no start, and the error names file and offset."""
    (file,) = wal_files(stopped)
    content = bytearray(file.read_bytes())
    at = content.index(b"key7") + 100
    content[at : at + 4] = b"WWWW"
    file.write_bytes(content)
    stopped.log_path.unlink()
    stopped.spawn()
    assert stopped.wait() != 0
    log = stopped.log()
    assert "crc" in log.lower(), log
    assert file.name in log, log
    assert "offset" in log, log


def test_a_torn_tail_is_repaired(stopped: servers.Server) -> None:
    """A last record whose sectors are only partly on disk was never acknowledged: it is dropped."""
    (file,) = wal_files(stopped)
    content = bytearray(file.read_bytes())
    cut = content.index(b"last") + 700
    content[cut:] = bytes(len(content) - cut)
    file.write_bytes(content)
    stopped.start()
    with Client(stopped.endpoint) as client:
        answer = client.call("KV/Range", get("key", "kez", count_only=True))
        assert answer.count == 50, answer
        assert not isinstance(client.call("KV/Put", put("after", "1")), Refused)


def test_one_process_per_directory(our_program: servers.Program, stopped: servers.Server) -> None:
    """A second process on the same directory does not start, and the first one goes on."""
    stopped.start()
    second = servers.Server(our_program, stopped.folder.parent / "second")
    second.flags = [f"--data-dir={stopped.data_dir}"]
    try:
        second.spawn()
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert second.process is not None
            assert second.process.wait(6) != 0
        assert not second.healthy(), "two members write one directory"
    finally:
        second.kill()
    assert stopped.healthy()


def test_directory_permissions(stopped: servers.Server) -> None:
    """Data is its owner's alone: directories 0700, files 0600."""
    for path in [stopped.data_dir, *stopped.data_dir.rglob("*")]:
        wanted = 0o700 if path.is_dir() else 0o600
        assert path.stat().st_mode & 0o777 == wanted, f"{path} {path.stat().st_mode:o}"


def test_a_restart_goes_on(stopped: servers.Server) -> None:
    """Keys, revision, leases, ids and alarms are what they were; the term grows."""
    stopped.start()
    with Client(stopped.endpoint) as client:
        client.call("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=77, TTL=500))
        client.call("KV/Put", put("leased", "1", lease=77))
        client.call("Maintenance/Alarm", rpc.AlarmRequest(action=1, alarm=1))
        before = client.call("KV/Range", get("\0", "\0"))
        hashed = client.call("Maintenance/HashKV", rpc.HashKVRequest())
    assert stopped.stop() == 143
    stopped.spawn()  # not `start`: with an alarm it never gets healthy
    with Client(stopped.endpoint) as client:
        after = client.call("KV/Range", get("\0", "\0"))
        assert list(after.kvs) == list(before.kvs)
        assert after.header.revision == before.header.revision
        assert after.header.member_id == before.header.member_id
        assert after.header.cluster_id == before.header.cluster_id
        assert after.header.raft_term > before.header.raft_term
        assert client.call("Maintenance/HashKV", rpc.HashKVRequest()).hash == hashed.hash
        lease = client.call("Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=77, keys=True))
        assert list(lease.keys) == [b"leased"]
        assert len(client.call("Maintenance/Alarm", rpc.AlarmRequest()).alarms) == 1
