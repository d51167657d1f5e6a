"""etcdutl's commands: what they print, refuse and leave on the disk."""

import fcntl
import json
import os
import stat
from pathlib import Path

import pytest

from corum.backend import schema
from corum.backend.bbolt import Database
from corum.backend.lmdb_backend import LmdbBackend
from corum.cli import command
from corum.cli.etcdutl.commands import PROGRAM
from corum.mvcc.store import Store
from corum.raft.messages import ConfState, EntryType, HardState
from corum.wal import DataDir, SnapshotFiles, Wal, WalSnapshot, codec, valid_snapshots
from wire import golden

GO_MEMBER = 10276657743932975437  # of "default" at http://localhost:2380, as Go computes it
GO_CLUSTER = 0xCDF818194E3A8C32


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    return put(tmp_path, "deep.db", golden("go-3.5.1-deep.db"))


def put(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> object:
    """Run etcdutl in this process."""

    def run(*words: object) -> Ran:
        code = command.run(PROGRAM, [str(word) for word in words])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run


# --- snapshot status ---------------------------------------------------------------------------


def test_status_in_every_format(run, deep: Path) -> None:
    """Byte for byte what etcdutl 3.7.3 prints (its table in ASCII, as 3.5 drew it)."""
    assert run("snapshot", "status", deep).out == "1d07b90, 464, 2372, 1.2 MB, \n"
    assert run("snapshot", "status", deep, "-w", "json").out == (
        '{"hash":30440336,"revision":464,"totalKey":2372,"totalSize":1236992,"version":""}\n'
    )
    assert run("snapshot", "status", deep, "--write-out=fields").out == (
        '"Hash" : 30440336\n"Revision" : 464\n"Keys" : 2372\n"Size" : 1236992\n"Version" : \n'
    )
    assert run("snapshot", "status", deep, "-w=table").out == (
        "+---------+----------+------------+------------+---------+\n"
        "|  HASH   | REVISION | TOTAL KEYS | TOTAL SIZE | VERSION |\n"
        "+---------+----------+------------+------------+---------+\n"
        "| 1d07b90 |      464 |       2372 |     1.2 MB |         |\n"
        "+---------+----------+------------+------------+---------+\n"
    )


def test_status_names_the_storage_version(run, tmp_path: Path) -> None:
    """Since 3.6 the file says which schema it has."""
    path = put(tmp_path, "db", golden("go-3.7.3-small.db"))
    assert json.loads(run("snapshot", "status", path, "-w", "json").out) == {
        "hash": 1571145951,
        "revision": 21,
        "totalKey": 18,
        "totalSize": 49152,
        "version": "3.7.0",
    }


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["snapshot", "status"], 128, "snapshot status requires exactly one argument"),
        (["snapshot", "status", "a", "b"], 128, "snapshot status requires exactly one argument"),
        (["snapshot", "status", "nofile"], 1, "stat nofile: no such file or directory"),
        (["snapshot", "status", "/etc/passwd"], 1, "invalid database"),
        (["snapshot", "status", "x", "-w", "xyz"], 4, "unsupported output format"),
        (["snapshot", "status", "x", "-w", "protobuf"], 4, "protobuf not supported as output"),
        (["snapshot", "restore"], 128, "snapshot restore requires exactly one argument"),
        (["hashkv"], 1, "accepts 1 arg(s), received 0"),
        (["hashkv", "nofile"], 1, "stat nofile: no such file or directory"),
        (["defrag"], 1, 'required flag(s) "data-dir" not set'),
        (["nosuch"], 1, 'unknown command "nosuch" for "etcdutl"'),
        (["snapshot", "status", "x", "--nosuch"], 1, "unknown flag: --nosuch"),
    ],
)
def test_misuse_is_told_as_etcd_tells_it(run, words: list[str], code: int, text: str) -> None:
    """Exit status and first words of the complaint, from etcdutl 3.7.3."""
    ran = run(*words)
    assert ran.code == code
    assert ran.err.startswith(f"Error: {text}")
    assert ran.out == ""


def test_status_of_a_damaged_file(run, tmp_path: Path) -> None:
    """A page that makes no sense is an error, not a hash."""
    content = bytearray(golden("go-3.5.1-small.db"))
    path = put(tmp_path, "db", bytes(content))
    with Database(path) as database:
        at = database._meta.root * 4096
    content[at + 8] = 9
    ran = run("snapshot", "status", put(tmp_path, "db", bytes(content)))
    assert ran.code == 1
    assert ran.err.startswith("Error: snapshot file integrity check failed. 1 errors found.\npage ")


# --- hashkv, version ----------------------------------------------------------------------------


def test_hashkv_is_gos(run, deep: Path) -> None:
    """The same three numbers as etcdutl 3.7.3, now and at an older revision."""
    before = deep.read_bytes()
    assert run("hashkv", deep).out == "2302726236, 464, 449\n"
    assert run("hashkv", deep, "--rev", 456, "-w", "json").out == (
        '{"hash":3044609297,"hashRevision":456,"compactRevision":449}\n'
    )
    assert run("hashkv", deep, "-w", "fields").out == (
        '"Hash" : 2302726236\n"Hash revision" : 464\n"Compact revision" : 449\n'
    )
    assert deep.read_bytes() == before


@pytest.mark.parametrize(
    ("revision", "text"),
    [
        (1000, "mvcc: required revision is a future revision"),
        (3, "mvcc: required revision has been compacted"),
    ],
)
def test_hashkv_outside_the_history(run, deep: Path, revision: int, text: str) -> None:
    """Refused with the store's own words."""
    ran = run("hashkv", deep, "--rev", revision)
    assert (ran.code, ran.err) == (1, f"Error: {text}\n")


def test_version(run) -> None:
    """Two lines that scripts cut apart."""
    lines = run("version").out.splitlines()
    assert lines[0].startswith("etcdutl version: 3.7.")
    assert lines[1] == "API version: 3.7"


# --- snapshot restore ---------------------------------------------------------------------------


def test_restored_store_is_the_snapshots(run, deep: Path, tmp_path: Path) -> None:
    """All buckets but the members' are the snapshot's; the index is made; the history is equal."""
    ran = run("snapshot", "restore", deep, "--data-dir", tmp_path / "new")
    assert (ran.code, ran.out) == (0, "")
    said = [line.split("\t")[3] for line in ran.err.splitlines()]
    assert said == ["restoring snapshot", "restored snapshot"]
    data = DataDir(tmp_path / "new")
    backend = LmdbBackend(data.backend)
    with Database(deep) as database:
        for bucket in database.buckets():
            name = bucket.name.decode()
            if name not in (schema.MEMBERS, schema.META):
                rows = [row for rows in bucket.scan() for row in rows]
                assert backend.range(name) == rows
    assert backend.range(schema.MEMBERS) == [
        (
            b"8e9e05c52164694d",
            b'{"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"name":"default"}',
        )
    ]
    meta = dict(backend.range(schema.META))
    assert schema.from_u64(meta[schema.CONSISTENT_INDEX]) == 1
    assert schema.from_u64(meta[schema.TERM]) == 1
    assert meta[schema.CONF_STATE] == b'{"voters":[10276657743932975437],"auto_leave":false}'
    store = Store(backend)
    assert (store.revision, store.compacted) == (464, 449)
    assert store.hash_kv().run().hash == 2302726236
    backend.close()


def test_restored_log_begins_the_new_cluster(run, deep: Path, tmp_path: Path) -> None:
    """One conf change per member at term 1, ids as Go computes them, then the `.snap`."""
    cluster = "a=http://127.0.0.1:1,default=http://localhost:2380,a=http://127.0.0.1:2"
    run("snapshot", "restore", deep, "--data-dir", tmp_path / "n", "--initial-cluster", cluster)
    data = DataDir(tmp_path / "n")
    known = valid_snapshots(data.wal)
    conf_state = ConfState(voters=(6269773721186861595, GO_MEMBER))
    assert known == [WalSnapshot(), WalSnapshot(2, 1, conf_state)]
    snapshot = SnapshotFiles(data.snap).newest(known)
    assert snapshot is not None
    assert (snapshot.index, snapshot.term, snapshot.conf_state) == (2, 1, conf_state)
    wal = Wal.open(data.wal, WalSnapshot())
    found = wal.replay
    wal.close()
    assert found is not None
    assert found.hard_state == HardState(1, 6269773721186861595, 2)
    assert [(e.term, e.index, e.type) for e in found.entries] == [
        (1, 1, EntryType.CONF_CHANGE),
        (1, 2, EntryType.CONF_CHANGE),
    ]
    assert b'"peerURLs":["http://127.0.0.1:1","http://127.0.0.1:2"],"name":"a"' in (
        found.entries[0].data
    )
    assert codec.decode_metadata(found.metadata)[0] == GO_MEMBER


def test_restored_ids_are_gos(run, deep: Path, tmp_path: Path) -> None:
    """Member and cluster id of the default flags, as Go's restore logs them."""
    run("snapshot", "restore", deep, "--data-dir", tmp_path / "n")
    wal = Wal.open(DataDir(tmp_path / "n").wal, WalSnapshot())
    assert wal.replay is not None
    assert codec.decode_metadata(wal.replay.metadata) == (GO_MEMBER, GO_CLUSTER)
    wal.close()


def test_restored_files_are_private_and_nothing_else(run, deep: Path, tmp_path: Path) -> None:
    """etcd's layout and modes; no temporary files stay."""
    run("snapshot", "restore", deep, "--data-dir", tmp_path / "n", "--wal-dir", tmp_path / "w")
    files = sorted(p.relative_to(tmp_path) for p in (tmp_path / "n").rglob("*") if p.is_file())
    files += sorted(p.relative_to(tmp_path) for p in (tmp_path / "w").rglob("*"))
    assert [str(path) for path in files] == [
        "n/member/snap/0000000000000001-0000000000000001.snap",
        "n/member/snap/db.lmdb",
        "n/member/snap/db.lmdb-lock",
        "w/0000000000000000-0000000000000000.wal",
    ]
    for path in [tmp_path / file for file in files]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_bumped_revision_marks_all_before_as_compacted(run, deep: Path, tmp_path: Path) -> None:
    """Clients of the lost cluster never see a revision twice with different content."""
    words = ["snapshot", "restore", deep, "--data-dir", tmp_path / "n"]
    assert run(*words, "--bump-revision", 1000, "--mark-compacted").code == 0
    backend = LmdbBackend(DataDir(tmp_path / "n").backend)
    store = Store(backend)
    assert (store.revision, store.compacted) == (1464, 1464)
    backend.close()


@pytest.mark.parametrize(
    ("flags", "code", "text"),
    [
        (["--name", "xx"], 1, 'couldn\'t find local name "xx" in the initial cluster'),
        (["--initial-cluster", "default=foo"], 1, "URL scheme must be http, https, unix"),
        (["--bump-revision", "10"], 128, "--mark-compacted required if --revision-bump > 0"),
        (["--mark-compacted"], 128, "--mark-compacted required if --revision-bump > 0"),
        (
            ["--initial-advertise-peer-urls", "http://127.0.0.1:7"],
            1,
            "--initial-cluster has default=http://localhost:2380 but missing from "
            "--initial-advertise-peer-urls=http://127.0.0.1:7",
        ),
    ],
)
def test_restore_with_wrong_flags_writes_nothing(
    run, deep: Path, tmp_path: Path, flags: list[str], code: int, text: str
) -> None:
    """Refused before the directory is touched."""
    ran = run("snapshot", "restore", deep, "--data-dir", tmp_path / "n", *flags)
    assert ran.code == code
    assert ran.err.startswith(f"Error: {text}")
    assert not (tmp_path / "n").exists()


def test_restore_checks_the_trailer(run, tmp_path: Path) -> None:
    """A wrong byte or a missing hash is refused, and nothing stays behind."""
    content = golden("go-3.5.1-small.db")
    wrong = put(tmp_path, "wrong.db", content[:20000] + b"X" + content[20001:])
    ran = run("snapshot", "restore", wrong, "--data-dir", tmp_path / "n")
    assert ran.code == 1
    assert "Error: expected sha256 [" in ran.err
    bare = put(tmp_path, "bare.db", content[:-32])
    ran = run("snapshot", "restore", bare, "--data-dir", tmp_path / "n")
    assert "Error: snapshot missing hash but --skip-hash-check=false\n" in ran.err
    assert not (tmp_path / "n").exists()
    ran = run("snapshot", "restore", bare, "--data-dir", tmp_path / "n", "--skip-hash-check")
    assert ran.code == 0


def test_restore_never_overwrites(run, deep: Path, tmp_path: Path) -> None:
    """A directory with anything in it, or an existing WAL directory, is left alone."""
    used = tmp_path / "used"
    used.mkdir()
    (used / "file").write_bytes(b"")
    ran = run("snapshot", "restore", deep, "--data-dir", used)
    assert (ran.code, ran.err) == (
        1,
        f'Error: data-dir "{used}" not empty or could not be read\n',
    )
    ran = run("snapshot", "restore", deep, "--data-dir", tmp_path / "n", "--wal-dir", used)
    assert ran.err == f'Error: wal-dir "{used}" exists\n'
    assert [path.name for path in used.iterdir()] == ["file"]


def test_failed_restore_cleans_up(run, tmp_path: Path) -> None:
    """A file that turns out to be no database leaves no half directory."""
    ran = run(
        "snapshot", "restore", "/etc/passwd", "--data-dir", tmp_path / "n", "--skip-hash-check"
    )
    assert ran.code == 1
    assert "Error: invalid database" in ran.err
    assert not (tmp_path / "n").exists()


# --- defrag -------------------------------------------------------------------------------------


def test_defrag_keeps_everything(run, deep: Path, tmp_path: Path) -> None:
    """The same rows afterwards, in a file that is not larger."""
    run("snapshot", "restore", deep, "--data-dir", tmp_path / "n")
    data = DataDir(tmp_path / "n")
    size = data.backend.stat().st_size
    assert run("defrag", "--data-dir", tmp_path / "n").code == 0
    assert data.backend.stat().st_size <= size
    backend = LmdbBackend(data.backend)
    assert Store(backend).hash_kv().run().hash == 2302726236
    backend.close()


def test_defrag_of_a_go_members_directory(run, deep: Path, tmp_path: Path) -> None:
    """A bbolt backend is rewritten in its own format, without its free pages."""
    data = DataDir(tmp_path / "go")
    data.create()
    data.bbolt.write_bytes(golden("go-3.5.1-deep.db")[:-32])
    assert run("defrag", "--data-dir", tmp_path / "go").code == 0
    assert data.bbolt.stat().st_size < 1_000_000
    assert run("hashkv", data.bbolt).out == "2302726236, 464, 449\n"
    assert [path.name for path in data.snap.iterdir()] == ["db"]


def test_defrag_waits_for_nobody_forever(run, tmp_path: Path) -> None:
    """A member that runs keeps its directory."""
    data = DataDir(tmp_path / "n")
    data.create()
    LmdbBackend(data.backend).close()
    data.lock()
    ran = run("defrag", "--data-dir", tmp_path / "n", "--timeout", "10ms")
    data.unlock()
    assert ran.code == 1
    assert f"Failed to defragment etcd data[{tmp_path / 'n'}] (data-dir" in ran.err


def test_defrag_respects_bbolts_lock(run, tmp_path: Path) -> None:
    """A running Go etcd has its `db` locked."""
    data = DataDir(tmp_path / "go")
    data.create()
    data.bbolt.write_bytes(golden("go-3.5.1-small.db"))
    fd = os.open(data.bbolt, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    ran = run("defrag", "--data-dir", tmp_path / "go", "--timeout", "10ms")
    os.close(fd)
    assert ran.code == 1
    assert "is used by another process" in ran.err


def test_defrag_of_nothing(run, tmp_path: Path) -> None:
    """No backend there: told, and none is made."""
    ran = run("defrag", "--data-dir", tmp_path / "n")
    assert ran.code == 1
    assert "no such file or directory" in ran.err
    assert not (tmp_path / "n").exists()
