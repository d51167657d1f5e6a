"""Commands that run until something happens: watch, lock, elect, keep-alive, make-mirror."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corum.cli.etcdctl import check, command_line
from corum.client._sync.client import Client
from oracle import servers

sys.path.append(str(Path(__file__).parent))

from twice import OURS

pytestmark = [pytest.mark.compat, pytest.mark.process]

WAIT_S = 10.0


@pytest.fixture(scope="module")
def server(
    go_program: servers.Program, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    with servers.running(go_program, tmp_path_factory.mktemp("live")) as running:
        yield running


@pytest.fixture
def client(server: servers.Server) -> Iterator[Client]:
    with Client(server.endpoint) as made:
        made.delete("", from_key=True)
        yield made


class Running:
    """An etcdctl that has not ended yet, with what it has printed so far."""

    def __init__(self, folder: Path, server: servers.Server, *words: str, **options: object):
        self.out_path = folder / f"out{time.monotonic_ns()}"
        self.err_path = self.out_path.with_suffix(".err")
        environment = options.pop("environment", {})
        assert isinstance(environment, dict)
        with self.out_path.open("wb") as out, self.err_path.open("wb") as err:
            self.process = subprocess.Popen(
                [*OURS, f"--endpoints={server.endpoint}", *words],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=servers.plain_environment({"ETCDCTL_API": "3", **environment}),
            )

    @property
    def out(self) -> str:
        return self.out_path.read_text()

    @property
    def err(self) -> str:
        lines = self.err_path.read_text().splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith('{"level"'))

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()

    def wait_for(self, text: str) -> None:
        until(lambda: text in self.out, lambda: f"no {text!r} in {self.out!r} {self.err!r}")

    def end(self, how: signal.Signals | None = None) -> int:
        if how is not None:
            self.process.send_signal(how)
        if self.process.stdin is not None:
            self.process.stdin.close()
        return self.process.wait(WAIT_S)


def until(true: Callable[[], bool], complaint: Callable[[], str]) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, complaint()
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path, server: servers.Server) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def make(*words: str, **options: object) -> Running:
        started.append(Running(tmp_path, server, *words, **options))
        return started[-1]

    yield make
    for one in started:
        one.process.kill()
        one.process.wait()
        if one.process.stdin is not None:
            one.process.stdin.close()


def test_watch_prints_past_and_present(start: Callable[..., Running], client: Client) -> None:
    """From a revision on, and then what comes; a signal ends it."""
    revision = client.put("w1", "v1").header.revision
    client.put("w1", "v2")
    watch = start("watch", "w1", f"--rev={revision}", "--prev-kv")
    watch.wait_for("v2\n")
    client.delete("w1")
    watch.wait_for("DELETE\nw1\nv2\nw1\n\n")
    assert watch.out == "PUT\nw1\nv1\nPUT\nw1\nv1\nw1\nv2\nDELETE\nw1\nv2\nw1\n\n"
    assert watch.end(signal.SIGTERM) == -signal.SIGTERM


def test_watch_runs_a_command(start: Callable[..., Running], client: Client) -> None:
    """It finds the event in its environment; when it fails, so does the watch."""
    revision = client.put("w1", 'a"b').header.revision
    script = "env | grep ETCD_WATCH | sort; test $ETCD_WATCH_EVENT_TYPE = '\"PUT\"' || exit 3"
    watch = start("watch", "w1", f"--rev={revision}", "--", "sh", "-c", script)
    watch.wait_for('ETCD_WATCH_VALUE="a\\"b"\n')
    assert 'ETCD_WATCH_KEY="w1"\n' in watch.out
    assert f"ETCD_WATCH_REVISION={revision}\n" in watch.out
    client.delete("w1")
    assert watch.process.wait(WAIT_S) == 1
    assert watch.err.startswith('command ["sh" "-c"')
    assert watch.err.endswith("error (exit status 3)\n")


def test_watch_from_the_environment(start: Callable[..., Running], client: Client) -> None:
    """ETCDCTL_WATCH_KEY and its range end stand for the arguments."""
    revision = client.put("w2", "x").header.revision
    environment = {"ETCDCTL_WATCH_KEY": "w1", "ETCDCTL_WATCH_RANGE_END": "w3"}
    watch = start("watch", f"--rev={revision}", environment=environment)
    watch.wait_for("PUT\nw2\nx\n")
    assert watch.err == ""


def test_interactive_watch(start: Callable[..., Running], client: Client) -> None:
    """Several watches, a mistake between them, progress, and the end of the input."""
    revision = client.put("i/1", "a").header.revision
    watch = start("watch", "-i")
    watch.type(f"watch i/1 --rev={revision}\n")
    watch.wait_for("PUT\ni/1\na\n")
    watch.type("nonsense\n")
    watch.type(f"watch --prefix i/ --rev={revision} -- echo ran\n")
    watch.wait_for("ran\n")
    watch.type("progress\n")
    watch.wait_for("progress notify: ")
    client.put("i/1", "b")
    until(lambda: watch.out.count("PUT\ni/1\nb\n") == 2, lambda: watch.out)
    assert watch.end() == 3
    assert "Invalid command nonsense (only support watch)\n" in watch.err
    assert watch.err.endswith("Error: error reading watch request line: EOF\n")


def test_watch_survives_a_restart(
    start: Callable[..., Running], go_program: servers.Program, tmp_path: Path
) -> None:
    """A server that goes and comes back: no event is lost or printed twice."""
    own = servers.Server(go_program, tmp_path / "restart").start()
    try:
        with Client(own.endpoint) as client:
            watch = Running(tmp_path, own, "watch", "k", "--rev=2")
            try:
                client.put("k", "1")
                watch.wait_for("PUT\nk\n1\n")
                own.stop()
                own.start()
                client.put("k", "2", timeout_s=10)
                watch.wait_for("PUT\nk\n2\n")
                assert watch.out == "PUT\nk\n1\nPUT\nk\n2\n"
            finally:
                watch.end(signal.SIGKILL)
    finally:
        own.kill()


def test_lock_excludes_and_hands_over(start: Callable[..., Running], client: Client) -> None:
    """The second waits, gets it when the first goes, and leaves nothing behind."""
    first = start("lock", "l1")
    first.wait_for("l1/")
    second = start("lock", "l1")
    until(lambda: client.range("l1/", prefix=True).count == 2, lambda: "no second waiter")
    assert second.out == ""
    assert first.end(signal.SIGINT) == 0
    second.wait_for("l1/")
    assert second.end(signal.SIGTERM) == 0
    assert client.range("l1/", prefix=True).count == 0


def test_waiting_for_a_lock_can_be_interrupted(
    start: Callable[..., Running], client: Client
) -> None:
    """Then the key of the waiter is gone, and the message says why."""
    first = start("lock", "l1")
    first.wait_for("l1/")
    second = start("lock", "l1")
    until(lambda: client.range("l1/", prefix=True).count == 2, lambda: "no second waiter")
    assert second.end(signal.SIGINT) == 1
    assert second.err == "Error: context canceled\n"
    assert client.range("l1/", prefix=True).count == 1


def test_lock_runs_a_command(start: Callable[..., Running], client: Client) -> None:
    """With the key and revision in its environment; its status becomes ours."""
    script = "echo $ETCD_LOCK_KEY $ETCD_LOCK_REV; exit 7"
    run = start("lock", "l2", "--", "sh", "-c", script)
    assert run.process.wait(WAIT_S) == 7
    key, revision = run.out.split()
    assert key.startswith("l2/")
    assert int(revision) > 0
    assert run.err == "Error: exit status 7\n"
    assert client.range("l2/", prefix=True).count == 0


def test_election(start: Callable[..., Running], client: Client) -> None:
    """An observer sees the first leader, and the second when the first resigns."""
    first = start("elect", "e", "one")
    first.wait_for("one\n")
    observer = start("elect", "-l", "e")
    observer.wait_for("one\n")
    second = start("elect", "e", "two")
    until(lambda: client.range("e/", prefix=True).count == 2, lambda: "no second candidate")
    assert first.end(signal.SIGINT) == 0
    second.wait_for("two\n")
    observer.wait_for("two\n")
    assert observer.end(signal.SIGINT) == 0
    assert second.end(signal.SIGINT) == 0


def test_keep_alive_until_the_lease_is_gone(start: Callable[..., Running], client: Client) -> None:
    """A line for every renewal; the end of the lease ends the command."""
    lease = client.lease(3)
    keeper = start("lease", "keep-alive", f"{lease.lease_id:016x}")
    line = f"lease {lease.lease_id:016x} keepalived with TTL(3)\n"
    keeper.wait_for(line * 2)
    client.revoke(lease.lease_id)
    assert keeper.process.wait(WAIT_S) == 0
    assert keeper.out.endswith(f"lease {lease.lease_id:016x} expired or revoked.\n")


def test_make_mirror(
    start: Callable[..., Running], client: Client, go_program: servers.Program, tmp_path: Path
) -> None:
    """What is there, and then every change, under another prefix."""
    for n in range(3):
        client.put(f"src/{n}", str(n))
    with (
        servers.running(go_program, tmp_path / "mirror") as other,
        Client(other.endpoint) as mirrored,
    ):
        start("make-mirror", "--prefix=src/", "--dest-prefix=dst/", other.endpoint)

        def copied() -> list[tuple[bytes, bytes]]:
            return [(p.key, p.value) for p in mirrored.range("dst/", prefix=True)]

        until(lambda: len(copied()) == 3, lambda: f"only {copied()}")
        client.delete("src/1")
        client.put("src/3", "new")
        wanted = [(b"dst/0", b"0"), (b"dst/2", b"2"), (b"dst/3", b"new")]
        until(lambda: copied() == wanted, lambda: f"{copied()}")


def test_snapshot_is_private_and_whole(
    server: servers.Server, tmp_path: Path, go_tools: Path, client: Client
) -> None:
    """Mode 0600, no .part left, and Go's etcdutl accepts it."""
    client.put("s", "x")
    target = tmp_path / "s.db"
    ran = subprocess.run(
        [*OURS, f"--endpoints={server.endpoint}", "snapshot", "save", str(target)],
        capture_output=True,
        check=True,
        env=servers.plain_environment({"ETCDCTL_API": "3"}),
    )
    assert ran.stdout.decode() == f"Snapshot saved at {target}\n"
    assert target.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["s.db"]
    subprocess.run([str(go_tools / "etcdutl"), "snapshot", "status", str(target)], check=True)


def test_a_thousand_writers(
    server: servers.Server,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A check's load is written whole by as many at a time as it says, and taken away again."""
    monkeypatch.setattr(check, "SCALE_LOADS", {"s": check.Load(3_000, 1_000)})
    words = ["etcdctl", f"--endpoints={server.endpoint}", "--command-timeout=60s"]
    monkeypatch.setattr(sys, "argv", [*words, "check", "datascale", "--load=s"])
    monkeypatch.setenv("ETCDCTL_API", "3")
    before = client.put("before", "").header.revision
    assert command_line() == 0, capsys.readouterr()
    assert "3000 key-value pairs, 1024 bytes" in capsys.readouterr().out
    assert client.put("after", "").header.revision == before + 3_000 + 2
    assert client.range("/etcdctl-check-datascale/", prefix=True).count == 0
