"""How the daemon starts, says what it does, and ends; where Go etcd is right, it is asked."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

import corum
from oracle import servers
from oracle.build import get, put, txn
from oracle.clusters import until
from oracle.rpc import Client, Refused

pytestmark = [pytest.mark.process, pytest.mark.slow]

READY = b"ready to serve client requests"
END_TIMEOUT_S = 8
CAP_IPC_LOCK = 14  # its bit among the capabilities


@pytest.fixture
def server(our_program: servers.Program, tmp_path: Path) -> Iterator[servers.Server]:
    """Not yet started."""
    made = servers.Server(our_program, tmp_path / "server")
    try:
        yield made
    finally:
        made.kill()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_exit_status(
    our_program: servers.Program, go_program: servers.Program, tmp_path: Path, how: signal.Signals
) -> None:
    """A signal ends it with Go etcd's exit status."""
    codes = []
    for program in (go_program, our_program):
        with servers.running(program, tmp_path / program.name) as server:
            codes.append(server.stop(how))
    assert codes[1] == codes[0]


def test_no_child_is_left(server: servers.Server) -> None:
    """All processes of its group are gone when it is."""
    server.wrapper = ["setsid"]  # the process itself, in a session of its own
    server.start()
    group = os.getpgid(server.pid)
    assert server.stop() == 143
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


REFUSED_FLAGS = {
    "an unknown flag": ["--no-such-flag"],
    "an unknown short flag": ["-x"],
    "a word that is no flag": ["word"],
    "not a number": ["--heartbeat-interval=x"],
    "not a boolean": ["--force-new-cluster=maybe"],
    "not a URL": ["--listen-client-urls=nonsense"],
    "a URL without a port": ["--listen-client-urls=http://127.0.0.1"],
    "a client URL with a path": ["--listen-client-urls=http://127.0.0.1:1/x"],
    "an unknown cluster state": ["--initial-cluster-state=odd"],
    "an unknown logger": ["--logger=odd"],
    "an election shorter than five heartbeats": ["--election-timeout=200"],
    "an election that takes an hour": ["--election-timeout=3600000"],
    "a config file that is not there": ["--config-file=/nonexistent/file.yml"],
    "an unknown compaction mode": ["--auto-compaction-mode=odd", "--auto-compaction-retention=1"],
    "itself not in the cluster": ["--initial-cluster=other=http://127.0.0.1:1"],
}


def end_of(program: servers.Program, folder: Path, *flags: str) -> int | None:
    """Exit status of a start that should fail; None when it runs."""
    server = servers.Server(program, folder, flags)
    server.spawn()
    try:
        assert server.process is not None
        return server.process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return None
    finally:
        server.kill()


@pytest.mark.parametrize("name", REFUSED_FLAGS)
def test_refused_flags(
    our_program: servers.Program, go_program: servers.Program, tmp_path: Path, name: str
) -> None:
    """What Go etcd refuses at start is refused with the same exit status."""
    flags = REFUSED_FLAGS[name]
    wanted = end_of(go_program, tmp_path / "go", *flags)
    assert wanted is not None, "Go etcd starts with it"
    assert end_of(our_program, tmp_path / "ours", *flags) == wanted


def test_the_last_flag_counts(server: servers.Server) -> None:
    """A flag given twice takes the last value, single dashes and separate values work too."""
    server.flags = [
        "-name",
        "first",
        "--name=second",
        f"--initial-cluster=second={server.peer_url}",
    ]
    server.start()
    assert b'"name":"second"' in members(server)


def members(server: servers.Server) -> bytes:
    status, body = server.http("POST", "/v3/cluster/member/list", b"{}")
    assert status == 200, body
    return body


def test_environment(server: servers.Server) -> None:
    """ETCD_* variables are flags; an unknown one is only warned about."""
    server.environment = {"ETCD_MAX_TXN_OPS": "3", "ETCD_NO_SUCH_THING": "1"}
    server.start()
    body = json.dumps({"success": [{"requestPut": {"key": f"YW{c}="}} for c in "EIMQ"]})
    status, answer = server.http("POST", "/v3/kv/txn", body.encode())
    assert status == 400, answer
    assert b"too many operations" in answer
    assert "ETCD_NO_SUCH_THING" in server.log()


def test_a_start_that_rewrites_the_database(server: servers.Server) -> None:
    """--bootstrap-defrag-threshold-megabytes: if that frees enough, and not otherwise."""
    server.start()
    with corum.Client(server.client_url) as client:
        for number in range(16):
            client.put(b"k", b"%x" % number * 250_000)
        # What is compacted before it was committed never made the database any larger.
        until(lambda: client.status().db_size > 3_500_000, 60)
        revision = client.put(b"k", b"v").header.revision
        client.compact(revision, physical=True)
    server.stop()
    server.flags = ["--bootstrap-defrag-threshold-megabytes=1024"]
    server.start()
    assert "skipping defragmentation" in server.log()
    server.stop()
    server.flags = ["--bootstrap-defrag-threshold-megabytes=1"]
    server.start()
    done = [json.loads(line) for line in server.log().splitlines() if "defragmenting" in line]
    assert done[-1]["msg"] == "finished defragmenting"
    assert done[-1]["current-db-size-bytes"] < 1 << 20
    assert server.http("GET", "/health")[0] == 200


def test_locked_memory(server: servers.Server) -> None:
    """--memory-mlock: its pages are not swapped out; where that is not allowed it says so."""
    server.flags = ["--memory-mlock"]
    own = Path("/proc/self/status").read_text()
    if int(own.partition("CapEff:")[2].split()[0], 16) >> CAP_IPC_LOCK & 1:
        server.start()
        status = Path(f"/proc/{server.pid}/status").read_text()
        assert int(status.partition("VmLck:")[2].split()[0]) > 0
    else:
        server.wrapper = ["sh", "-c", 'ulimit -l 64; exec "$@"', "sh"]
        server.spawn()
        assert server.wait() == 1
        assert "ulimit -l" in server.log()


def test_config_file(our_program: servers.Program, tmp_path: Path) -> None:
    """With a config file everything comes from it."""
    server = servers.Server(our_program, tmp_path / "server")
    config = tmp_path / "etcd.yml"
    config.write_text(
        f"name: from-file\n"
        f"data-dir: {tmp_path}/file-data\n"
        f"listen-client-urls: {server.client_url}\n"
        f"advertise-client-urls: {server.client_url}\n"
        f"listen-peer-urls: {server.peer_url}\n"
        f"initial-advertise-peer-urls: {server.peer_url}\n"
        f"initial-cluster: from-file={server.peer_url}\n"
        f"max-txn-ops: 2\n"
    )
    process = subprocess.Popen(
        [*our_program.argv, f"--config-file={config}"],
        env=servers.plain_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    server.process = process
    try:
        server.wait_ready()
        assert b'"name":"from-file"' in members(server)
        assert (tmp_path / "file-data" / "member" / "wal").is_dir()
    finally:
        server.kill()


def bare(server: servers.Server, environment: Mapping[str, str], **streams: object) -> None:
    server.process = subprocess.Popen(  # type: ignore[call-overload]
        server.argv(), env=dict(environment), cwd=server.folder, **streams
    )


def test_an_environment_with_only_path(server: servers.Server) -> None:
    """No HOME, no LANG, nothing but PATH."""
    with server.log_path.open("ab") as log:
        bare(
            server,
            {"PATH": os.environ.get("PATH", os.defpath)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    server.wait_ready()
    with Client(server.endpoint) as client:
        client.call("KV/Put", put("schlüssel", "wert"))
        assert client.call("KV/Range", get("schlüssel")).count == 1


def test_log_lines_reach_a_pipe_at_once(server: servers.Server) -> None:
    """Whoever reads the log through a pipe sees the ready line when it is ready."""
    bare(server, servers.plain_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert server.process is not None
    assert server.process.stdout is not None
    with server.process.stdout as out:
        for line in iter(out.readline, b""):
            if READY in line:
                break
        else:
            pytest.fail("no ready line")
        assert server.healthy()
        server.process.terminate()
        assert out.read()
    server.process.wait(10)


def test_a_terminal(server: servers.Server) -> None:
    """It starts on a terminal, and ^C ends it there."""
    ours, theirs = pty.openpty()
    bare(
        server,
        servers.plain_environment({"TERM": "xterm"}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )
    os.close(theirs)
    seen = b""
    end = time.monotonic() + servers.READY_TIMEOUT_S
    try:
        while READY not in seen and time.monotonic() < end:
            seen += os.read(ours, 65_536)
        assert READY in seen
        os.write(ours, b"\x03")
        while True:
            try:
                os.read(ours, 65_536)
            except OSError:  # the other side is closed
                break
        assert server.wait() == 130
    finally:
        os.close(ours)


def test_systemd_is_told(server: servers.Server, tmp_path: Path) -> None:
    """NOTIFY_SOCKET gets READY=1, not before it serves."""
    place = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(place))
        listener.settimeout(servers.READY_TIMEOUT_S)
        server.environment = {"NOTIFY_SOCKET": str(place)}
        server.spawn()
        assert b"READY=1" in listener.recv(4096)
        server.wait_ready()


def test_every_log_line_is_json(server: servers.Server) -> None:
    """level, ts, caller and msg in each line, nothing at level error, the ready line once."""
    server.start()
    with Client(server.endpoint) as client:
        client.call("KV/Put", put("a", "1"))
    server.stop()
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert lines
    for line in lines:
        assert {"level", "ts", "caller", "msg"} <= set(line), line
        assert line["level"] in ("debug", "info", "warn"), line
    assert sum(line["msg"] == READY.decode() for line in lines) == 1


def test_console_log(server: servers.Server) -> None:
    """Without the JSON form the same messages come as tab-separated lines."""
    server.flags = ["--log-format=console"]
    server.start()
    deadline = time.monotonic() + 30
    while READY.decode() not in server.log() and time.monotonic() < deadline:
        time.sleep(0.01)  # the line is written about when the first request is answered
    (line,) = [line for line in server.log().splitlines() if READY.decode() in line]
    assert len(line.split("\t")) >= 4, line


def test_version(our_program: servers.Program) -> None:
    """Four lines, the version first."""
    done = subprocess.run(
        [*our_program.argv, "--version"], capture_output=True, text=True, check=True
    )
    begins = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert begins == ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch"]


def test_a_port_in_use(our_program: servers.Program, server: servers.Server) -> None:
    """A second server on the same port ends with an error that says so."""
    server.start()
    second = servers.Server(our_program, server.folder.parent / "second")
    second.client_port = server.client_port
    second.spawn()
    try:
        assert second.wait() != 0
        assert "address already in use" in second.log().lower()
    finally:
        second.kill()
    assert server.healthy()


def test_unix_socket(our_program: servers.Program, tmp_path: Path) -> None:
    """A unix listen URL serves the same calls."""
    server = servers.Server(our_program, tmp_path / "server")
    name = f"localhost:{server.client_port}"  # as in Go: the socket's file in the working folder
    server.flags = [f"--listen-client-urls={server.client_url},unix://{name}"]
    try:
        server.start()
        with Client(f"unix:{server.folder}/{name}") as client:
            assert client.call("KV/Put", put("a", "1")).header.revision == 2
    finally:
        server.kill()


@pytest.mark.skipif(sys.flags.optimize > 0, reason="this Python runs with -O itself")
def test_it_refuses_to_run_without_assertions(our_program: servers.Program) -> None:
    """Under -O the checks that stop a wrong member would be gone."""
    if our_program.name != "corum":
        pytest.skip("not a Python program")
    argv = [sys.executable, "-O", *our_program.argv]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 1
    assert "assertions" in done.stderr


def test_a_member_stops_in_the_middle_of_big_reads(server: servers.Server) -> None:
    """Workers read the backend's own memory: they end before it is closed."""
    server.start()
    keys, parallel = 20_000, 8
    with Client(server.endpoint) as client:
        for first in range(0, keys, 100):
            puts = [put(f"k{n:06}", "x" * 100) for n in range(first, first + 100)]
            client.call("KV/Txn", txn(success=puts))
        some = threading.Event()

        def read() -> None:
            with suppress(Refused, ValueError):  # ValueError: the channel is closed
                while True:
                    client.call("KV/Range", get("k", "l"))
                    some.set()

        readers = [threading.Thread(target=read) for _ in range(parallel)]
        for reader in readers:
            reader.start()
        assert some.wait(30)
        assert server.stop() == 128 + signal.SIGTERM
    for reader in readers:
        reader.join(30)
