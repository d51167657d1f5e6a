"""Go etcd 3.5.1 reads our log, and its locks and ours keep each other away."""

import subprocess
from pathlib import Path

import pytest

from corum.membership.bootstrap import static
from corum.raft.messages import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Snapshot,
)
from corum.wal import DataDir, SnapshotFiles, Wal, WalLocked, WalSnapshot, codec, valid_snapshots
from corum.wal.replay import replay, segment_names
from oracle import servers

from .helpers import perform

pytestmark = [pytest.mark.compat, pytest.mark.process, pytest.mark.slow]


def field(number: int, data: bytes) -> bytes:
    return codec.varint(number << 3 | 2) + codec.varint(len(data)) + data


def put(key: bytes, value: bytes, request_id: int) -> bytes:
    """etcdserverpb.InternalRaftRequest with a put and a header."""
    header = b"\x08" + codec.varint(request_id)
    return field(4, field(1, key) + field(2, value)) + field(100, header)


def written_log(server: servers.Server, puts: int) -> Wal:
    """A member's log as a first start and some puts leave it, in several segments."""
    first = static({server.name: [server.peer_url]}, "etcd-cluster", server.name, [server.peer_url])
    me = first.members[0]
    layout = DataDir(server.data_dir)
    layout.create()
    metadata = codec.encode_metadata(first.local, first.cluster)
    wal = Wal.create(layout.wal, metadata, segment_bytes=16_384)
    change = ConfChange(ConfChangeType.ADD_NODE, me.id, me.to_json())
    entry = Entry(1, 1, EntryType.CONF_CHANGE, codec.encode_conf_change(change))
    perform(wal.save(HardState(1, 0, 1), [entry], must_sync=True))
    perform(wal.save(HardState(2, me.id, 2), [Entry(2, 2)], must_sync=True))
    for index in range(3, 3 + puts):
        data = put(b"key%03d" % index, b"value" * (index % 50), index << 8)
        new = [Entry(2, index, EntryType.NORMAL, data)]
        perform(wal.save(HardState(2, me.id, index), new, must_sync=True))
        if wal.cut_due:
            wal.cut()
    return wal


def test_go_starts_from_our_log(
    go_program: servers.Program, go_tools: Path, tmp_path: Path
) -> None:
    """Go replays our segments: every key is there, and what it writes on we read."""
    server = servers.Server(go_program, tmp_path)
    written_log(server, puts=300).close()
    wal_dir = DataDir(server.data_dir).wal
    segments = len(segment_names(wal_dir))
    assert segments > 3
    try:
        server.start()
        got = servers.etcdctl(go_tools / "etcdctl", server, "get", "", "--prefix").stdout
        servers.etcdctl(go_tools / "etcdctl", server, "put", "later", "by Go")
    finally:
        server.stop()
    expected = "".join(f"key{index:03d}\n{'value' * (index % 50)}\n" for index in range(3, 303))
    assert got == expected
    found = replay(segment_names(wal_dir), WalSnapshot())
    assert any(b"by Go" in entry.data for entry in found.entries[302:])
    assert [entry.index for entry in found.entries] == list(range(1, found.last_index + 1))


def test_go_and_we_lock_each_other_out(go_program: servers.Program, tmp_path: Path) -> None:
    """While Go's etcd runs we are refused; while we hold the log, Go's does not start."""
    with servers.running(go_program, tmp_path) as server:
        layout = DataDir(server.data_dir)
        with pytest.raises(WalLocked):
            Wal.open(layout.wal, WalSnapshot())
        assert server.stop() in (0, 143)
        wal = Wal.open(layout.wal, WalSnapshot())
        server.spawn()
        with pytest.raises((servers.ServerFailed, subprocess.TimeoutExpired)):
            server.wait_ready(3)
        server.kill()
        wal.close()
        server.start()


def test_go_starts_from_our_snapshot_file(
    go_program: servers.Program, go_tools: Path, tmp_path: Path
) -> None:
    """A Go member's `.snap` written again by us, with our record of it in the log, is good."""
    with servers.running(go_program, tmp_path, "--snapshot-count=20") as server:
        for number in range(50):
            servers.etcdctl(go_tools / "etcdctl", server, "put", f"k{number}", "v")
        server.stop()
        layout = DataDir(server.data_dir)
        files = SnapshotFiles(layout.snap)
        newest = files.newest(valid_snapshots(layout.wal))
        assert newest is not None
        wal = Wal.open(layout.wal, WalSnapshot(newest.index, newest.term))
        assert wal.replay is not None
        state, ahead = wal.replay.hard_state, wal.replay.entries
        at = ahead[4]
        later = Snapshot(at.index, at.term, newest.conf_state, newest.data)
        files.save(later)
        perform(wal.save_snapshot(WalSnapshot(at.index, at.term, newest.conf_state)))
        wal.close()
        assert isinstance(newest.conf_state, ConfState)
        assert state.commit >= at.index
        server.start()
        got = servers.etcdctl(go_tools / "etcdctl", server, "get", "k", "--prefix", "--keys-only")
        assert len(got.stdout.split()) == 50
        loaded = f'"index":{at.index}'
        assert loaded in server.log() or f'"snapshot-index":{at.index}' in server.log()
