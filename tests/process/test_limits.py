"""Requests beyond a limit get Go etcd's refusal, and a full store says NOSPACE."""

import threading
from pathlib import Path
from typing import Any

import pytest

from corum.pb import rpc
from oracle import servers
from oracle.build import compare, delete, get, put, txn, watch
from oracle.pair import masked
from oracle.rpc import Client, Refused

pytestmark = [pytest.mark.process, pytest.mark.slow]

REQUEST_FLAGS = ["--max-request-bytes=2000", "--max-txn-ops=3"]
STREAM_FLAGS = ["--max-concurrent-streams=5"]  # newer than Go etcd 3.5.1


def answers(program: servers.Program, folder: Path) -> list[Any]:
    requests = [
        ("KV/Put", put("a", b"x" * 1_900)),
        ("KV/Put", put("a", b"x" * 2_100)),
        ("KV/Put", put("a", b"x" * 600_000)),
        ("KV/Txn", txn(success=[put(f"k{n}", "") for n in range(3)])),
        ("KV/Txn", txn(success=[put(f"k{n}", "") for n in range(4)])),
        ("KV/Txn", txn([compare("a", "version", "=", 0)] * 4)),
        ("KV/Txn", txn(failure=[get("a")] * 4)),
    ]
    with (
        servers.running(program, folder, *REQUEST_FLAGS) as server,
        Client(server.endpoint) as client,
    ):
        return [masked(client.call(method, request)) for method, request in requests]


def test_request_limits(
    our_program: servers.Program, go_program: servers.Program, tmp_path: Path
) -> None:
    """--max-request-bytes and --max-txn-ops refuse with the same codes and texts."""
    go, ours = answers(go_program, tmp_path / "go"), answers(our_program, tmp_path / "ours")
    assert ours == go


def test_streams_of_a_connection(our_program: servers.Program, tmp_path: Path) -> None:
    """Calls beyond --max-concurrent-streams wait until a stream of the connection is free."""
    with (
        servers.running(our_program, tmp_path / "ours", *STREAM_FLAGS) as server,
        Client(server.endpoint) as client,
    ):
        streams = [client.watch() for _ in range(5)]
        for stream in streams:
            stream.send(watch("a"))
            stream.receive()
        late: list[Any] = []
        waiting = threading.Thread(target=lambda: late.append(client.call("KV/Range", get("a"))))
        waiting.start()
        waiting.join(0.2)
        assert not late, "a sixth stream was served"
        streams[0].close()
        waiting.join(10)
        assert late
        assert not isinstance(late[0], Refused)
        for stream in streams[1:]:
            stream.close()


def fill_up(program: servers.Program, folder: Path) -> list[Any]:
    """The story of a quota: full, what still works, and the way back."""
    told: list[Any] = []
    quota = 16 * 1024 * 1024
    with (
        servers.running(program, folder, f"--quota-backend-bytes={quota}") as server,
        Client(server.endpoint) as client,
    ):
        for _ in range(100):
            answer = client.call("KV/Put", put("big", b"x" * 1_000_000))
            if isinstance(answer, Refused):
                told.append(answer)
                break
        told.append(client.call("KV/Put", put("small", "1")))
        told.append([alarm.alarm for alarm in alarms(client)])
        told.append(server.http("GET", "/health")[0])
        told.append(client.call("KV/Range", get("small")).count)
        told.append(client.call("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=10, ID=3)))
        deleted = client.call("KV/DeleteRange", delete("big"))
        told.append(deleted.deleted)
        compaction = rpc.CompactionRequest(revision=deleted.header.revision, physical=True)
        told.append(isinstance(client.call("KV/Compact", compaction), Refused))
        told.append(
            isinstance(client.call("Maintenance/Defragment", rpc.DefragmentRequest()), Refused)
        )
        for alarm in alarms(client):
            disarm = rpc.AlarmRequest(action=2, alarm=alarm.alarm, memberID=alarm.memberID)
            client.call("Maintenance/Alarm", disarm)
        told.append(len(alarms(client)))
        told.append(isinstance(client.call("KV/Put", put("small", "1")), Refused))
    return told


def alarms(client: Client) -> Any:
    return client.call("Maintenance/Alarm", rpc.AlarmRequest()).alarms


def test_quota(our_program: servers.Program, go_program: servers.Program, tmp_path: Path) -> None:
    """NOSPACE is raised, refuses what grows, allows what helps, and can be disarmed."""
    go, ours = fill_up(go_program, tmp_path / "go"), fill_up(our_program, tmp_path / "ours")
    assert isinstance(go[0], Refused), go
    assert ours == go
