"""A data directory changes hands: Go's is taken over where it lies, ours is handed back."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oracle.clusters import Cluster, call, until
from oracle.moving import Load, encoded, get, id_of, members, put, same_hash
from oracle.servers import Program, Server

pytestmark = [pytest.mark.compat, pytest.mark.process, pytest.mark.slow]

LEASE = "77"


class Content:
    """What a cluster was given to keep, and that it keeps it."""

    def __init__(self, cluster: Cluster, writes: int) -> None:
        self._cluster = cluster
        first = self._first
        with Load(cluster) as self._load:
            until(lambda: sum(self._load.tried.values()) >= writes, 60)
        until(lambda: call(first, "lease/grant", {"TTL": "1000", "ID": LEASE}))
        leased = {"key": encoded("leased"), "value": encoded("x"), "lease": LEASE}
        until(lambda: call(first, "kv/put", leased))
        self._ids = {name: id_of(member) for name, member in cluster.members.items()}
        self._listed = members(first)
        self._revision = same_hash(cluster)

    @property
    def _first(self) -> Server:
        return next(iter(self._cluster.members.values()))

    def check(self) -> None:
        """Keys, revisions, leases and members are what they were, and it goes on."""
        first = self._first
        assert {name: id_of(m) for name, m in self._cluster.members.items()} == self._ids
        assert members(first) == self._listed
        assert same_hash(self._cluster) == self._revision
        self._load.check(first)
        assert call(first, "lease/leases", {})["leases"] == [{"ID": LEASE}]
        left = call(first, "lease/timetolive", {"ID": LEASE, "keys": True})
        assert left["keys"] == [encoded("leased")]
        assert until(lambda: put(first, "more", "1"))
        assert get(first, "more") == "1"
        self._revision = same_hash(self._cluster)


def change_hands(cluster: Cluster, program: Program, how: signal.Signals) -> None:
    """All members stop; `program` starts on what they left."""
    for member in cluster.members.values():
        member.stop(how)
    for member in cluster.members.values():
        member.program = program
        member.spawn()
    for member in cluster.members.values():
        member.wait_ready()


def start(cluster: Cluster, program: Program, size: int, *flags: str) -> None:
    names = ["a", "b", "c"][:size]
    for name in names:
        cluster.add(program, name, *flags)
    cluster.start(names)


@pytest.mark.parametrize(
    ("version", "size", "how", "snapshots"),
    [
        ("3.5", 1, signal.SIGTERM, 100),
        pytest.param("3.5", 3, signal.SIGTERM, 10_000, marks=pytest.mark.long),
        pytest.param("3.5", 3, signal.SIGTERM, 50, marks=pytest.mark.long),
        pytest.param("newest", 1, signal.SIGKILL, 10_000, marks=pytest.mark.long),
        pytest.param("newest", 3, signal.SIGKILL, 50, marks=pytest.mark.long),
    ],
)
def test_a_directory_of_go_etcd_is_taken_over(
    cluster: Cluster,
    our_program: Program,
    go_program: Program,
    version: str,
    size: int,
    how: signal.Signals,
    snapshots: int,
    request: pytest.FixtureRequest,
) -> None:
    """Stopped or killed, with and without snapshots: we start where it lies. Twice, for the second
    start finds our own backend.

    3.5.1 is never killed here: its database may then lack the last write of those that it counts
    as applied (etcd's data inconsistency of 3.5.0 to 3.5.2; once in 30 kills under load), for
    itself as for us.
    """
    program = go_program if version == "3.5" else request.getfixturevalue("newest")
    start(cluster, program, size, f"--snapshot-count={snapshots}")
    content = Content(cluster, 120)
    change_hands(cluster, our_program, how)
    content.check()
    for member in cluster.members.values():
        assert (member.data_dir / "member/snap/db.taken-over").exists()
    change_hands(cluster, our_program, signal.SIGKILL)
    content.check()


def export(member: Server, *words: str) -> None:
    """Hand the directory of a stopped member back; it takes the place of ours."""
    tool, out = Path(sys.executable).with_name("etcdutl"), member.folder / "exported"
    argv = [tool, "export", f"--data-dir={member.data_dir}", f"--output-dir={out}", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    member.data_dir.rename(member.folder / "before")
    out.rename(member.data_dir)


@pytest.mark.parametrize(
    ("version", "size", "how", "snapshots"),
    [
        ("3.5", 1, signal.SIGTERM, 10_000),
        pytest.param("3.5", 3, signal.SIGKILL, 50, marks=pytest.mark.long),
        pytest.param("newest", 1, signal.SIGKILL, 50, marks=pytest.mark.long),
        pytest.param("newest", 3, signal.SIGTERM, 10_000, marks=pytest.mark.long),
    ],
)
def test_a_directory_of_ours_is_handed_back(
    cluster: Cluster,
    our_program: Program,
    go_program: Program,
    version: str,
    size: int,
    how: signal.Signals,
    snapshots: int,
    request: pytest.FixtureRequest,
) -> None:
    """Go etcd goes on as the same members; for 3.5 our cluster says that it is one of 3.5. And then
    we take it over again."""
    theirs = go_program if version == "3.5" else request.getfixturevalue("newest")
    emulated = [f"--emulate-version={version}"] if version == "3.5" else []
    start(cluster, our_program, size, f"--snapshot-count={snapshots}", *emulated)
    content = Content(cluster, 120)
    for member in cluster.members.values():
        member.stop(how)
        export(member, *([] if version == "3.5" else ["--with-v2=false"]))
        member.flags = [flag for flag in member.flags if flag not in emulated]
    change_hands(cluster, theirs, how)
    content.check()
    gently = signal.SIGTERM if version == "3.5" else signal.SIGKILL  # see above
    change_hands(cluster, our_program, gently)
    content.check()


@pytest.mark.long
def test_the_newer_of_two_backends_counts(
    cluster: Cluster, our_program: Program, newest: Program
) -> None:
    """A Go etcd that was started on our directory after all, and could since the log was whole, has
    gone on; so do we from where it stopped."""
    start(cluster, our_program, 1)
    (member,) = cluster.members.values()
    assert put(member, "key", "ours")
    change_hands(cluster, newest, signal.SIGTERM)
    assert get(member, "key") == "ours"
    assert put(member, "key", "theirs")
    change_hands(cluster, our_program, signal.SIGTERM)
    assert get(member, "key") == "theirs"
    revision = same_hash(cluster)
    change_hands(cluster, our_program, signal.SIGKILL)
    assert same_hash(cluster) == revision


def test_a_directory_in_use_is_not_taken_over(
    cluster: Cluster, our_program: Program, go_program: Program
) -> None:
    """While a Go etcd runs on it we refuse, and leave everything as it is."""
    start(cluster, go_program, 1)
    (member,) = cluster.members.values()
    second = Server(our_program, member.folder / "second")
    before = sorted((member.data_dir / "member/snap").iterdir())
    second.flags = [f"--data-dir={member.data_dir}"]
    second.spawn()
    assert second.wait() == 1
    assert "is used by another process" in second.log()
    assert sorted((member.data_dir / "member/snap").iterdir()) == before
    assert put(member, "key", "value")
