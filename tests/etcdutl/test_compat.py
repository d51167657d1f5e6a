"""Restore both ways: Go's etcdutl takes what we saved, our member starts from what we restored."""

import subprocess
from pathlib import Path

import pytest

from corum.backend.bbolt import image_of, load, write_snapshot
from corum.backend.bbolt_read import Database
from corum.backend.lmdb_backend import LmdbBackend
from corum.cli import command
from corum.cli.etcdutl.commands import PROGRAM
from corum.cli.etcdutl.restore import v2_members
from corum.membership.bootstrap import static
from corum.wal import SnapshotFiles
from oracle import servers
from wire import golden

pytestmark = [pytest.mark.compat, pytest.mark.slow]


def our_snapshot(tmp_path: Path) -> Path:
    """Rows that Go wrote, through our backend, out again as a saved snapshot."""
    source, saved = tmp_path / "source.db", tmp_path / "saved.db"
    source.write_bytes(golden("go-3.5.1-deep.db"))
    backend = LmdbBackend(tmp_path / "db.lmdb")
    with Database(source) as database:
        assert load(database, backend, consistent_index=472, term=3) == []
    view = backend.view()
    write_snapshot(saved, image_of(view))
    view.close()
    backend.close()
    return saved


def utl(go_tools: Path, *words: object) -> str:
    argv = [str(go_tools / "etcdutl"), *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_go_status_of_a_snapshot_from_our_backend(go_tools: Path, tmp_path: Path) -> None:
    """Hash, revision and number of rows are those of the file the rows came from."""
    assert utl(go_tools, "snapshot", "status", our_snapshot(tmp_path)).startswith(
        "1d07b90, 464, 2481, "
    )


@pytest.mark.process
def test_go_restores_and_serves_our_snapshot(
    go_program: servers.Program, go_tools: Path, tmp_path: Path
) -> None:
    """Go's etcdutl restores our file with the hash checked; Go's etcd then serves its keys."""
    server = servers.Server(go_program, tmp_path / "go")
    cluster = f"{server.name}={server.peer_url}"
    words = ["--initial-cluster", cluster, "--initial-advertise-peer-urls", server.peer_url]
    saved = our_snapshot(tmp_path)
    utl(go_tools, "snapshot", "restore", saved, "--data-dir", server.data_dir, *words)
    try:
        server.start()
        check_keys(go_tools, server)
    finally:
        server.kill()


@pytest.mark.process
def test_our_member_starts_from_our_restore(
    our_program: servers.Program, go_tools: Path, tmp_path: Path
) -> None:
    """A Go member's snapshot, restored by us, is served by us."""
    saved = tmp_path / "go.db"
    saved.write_bytes(golden("go-3.5.1-deep.db"))
    server = servers.Server(our_program, tmp_path / "ours")
    cluster = f"{server.name}={server.peer_url}"
    words = ["snapshot", "restore", str(saved), "--data-dir", str(server.data_dir)]
    words += ["--initial-cluster", cluster, "--initial-advertise-peer-urls", server.peer_url]
    assert command.run(PROGRAM, words) == 0
    try:
        server.start()
        check_keys(go_tools, server)
        servers.etcdctl(go_tools / "etcdctl", server, "put", "later", "x")
        server.kill()
        server.start()
        check_keys(go_tools, server, more=1)
    finally:
        server.kill()


def check_keys(go_tools: Path, server: servers.Server, more: int = 0) -> None:
    """The keys of the golden database, by a linearizable range."""
    tool = go_tools / "etcdctl"
    got = servers.etcdctl(tool, server, "get", "", "--prefix", "--count-only", "-w", "fields")
    assert f'"Count" : {2372 + more}' in got.stdout, got.stderr
    assert servers.etcdctl(tool, server, "get", "after5").stdout == "after5\nv\n"


def test_v2_part_of_a_restored_snap_is_gos(go_tools: Path, tmp_path: Path) -> None:
    """The v2 store in our `.snap` file is byte for byte what Go's restore writes."""
    source = tmp_path / "source.db"
    source.write_bytes(golden("go-3.5.1-small.db"))
    utl(go_tools, "snapshot", "restore", source, "--data-dir", tmp_path / "go")
    files = SnapshotFiles(tmp_path / "go" / "member" / "snap")
    theirs = files.load(next(files.directory.glob("*.snap")))
    urls = ["http://localhost:2380"]
    assert v2_members(static({"default": urls}, "etcd-cluster", "default", urls)) == theirs.data
