"""`corum cluster` and the Procfile: three members in one command, by name."""

from __future__ import annotations

import http.client
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from corum.cluster.control import ask
from oracle.servers import free_port, plain_environment

pytestmark = [pytest.mark.process, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
DEADLINE_S = 60


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def corum(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "corum.cli.corum", *words],
        capture_output=True, text=True, check=False, timeout=DEADLINE_S, env=plain_environment(),
    )  # fmt: skip


class Terminal:
    """The command on a terminal of its own; what it shows is in a file."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.shown_path = folder / "shown"
        ours, its = pty.openpty()
        self.keys = ours
        with self.shown_path.open("wb") as shown:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "corum.cli.corum", "cluster", *words],
                stdin=its, stdout=shown, stderr=shown, env=plain_environment(),
                start_new_session=True,
            )  # fmt: skip
        os.close(its)

    def shown(self) -> str:
        return self.shown_path.read_text(errors="replace")

    def type(self, text: str) -> None:
        os.write(self.keys, text.encode() + b"\n")


@contextmanager
def on_a_terminal(folder: Path, *words: str) -> Iterator[Terminal]:
    made = Terminal(folder, *words)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.send_signal(signal.SIGTERM)
            made.process.wait(DEADLINE_S)
        os.close(made.keys)


def test_members_are_stopped_parted_and_healed_by_name(tmp_path: Path) -> None:
    """Typed at the prompt or sent from another terminal; Ctrl-C stops all in good order."""
    folder = tmp_path / "a name that makes the control socket's path too long" / ("x" * 60)
    where = ["--directory", str(folder)]
    with on_a_terminal(tmp_path, *where, "--free-ports", "--names", "a,b,c") as terminal:
        until(lambda: (folder / "control.sock").exists())
        leader = ask(folder, ["leader"])
        assert leader in ("a", "b", "c")
        assert re.search(r"^b +\| .*added member", terminal.shown(), re.M)
        assert corum("cluster", *where, "partition", leader).returncode == 0
        until(lambda: ask(folder, ["leader"]) != leader)
        assert f"{leader} -> " in ask(folder, ["status"])
        terminal.type("heal")
        until(lambda: " -> " not in ask(folder, ["status"]))
        terminal.type("kill b")
        until(lambda: "b ended with -9" in terminal.shown())
        wrong = corum("cluster", *where, "stop", "nobody")
        assert wrong.returncode == 1
        assert "no member nobody; there are a, b, c" in wrong.stderr
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(DEADLINE_S) == 0
        assert "a stopped" in terminal.shown()
    gone = corum("cluster", *where, "status")
    assert gone.returncode == 1
    assert "no cluster runs in" in gone.stderr


def test_options_reach_the_members(tmp_path: Path) -> None:
    """Ports, flags for all and for one; `quit` ends it, and another start goes on."""
    ports = [str(free_port()) for _ in range(2)]
    words = ["-d", str(tmp_path / "c"), "-m", "2", "--client-ports", ",".join(ports)]
    words += ["--peer-ports", f"{free_port()},{free_port()}"]
    with on_a_terminal(
        tmp_path, *words, "--flag=--max-txn-ops=7", "--flag=m2:--max-request-bytes=9999"
    ) as terminal:
        until(lambda: healthy(int(ports[1])))
        told = re.findall(r"Running:.*?--name=(m\d)(.*)", terminal.shown())
        flags = dict(told)
        assert "--max-txn-ops=7" in flags["m1"]
        assert "--max-request-bytes" not in flags["m1"]
        assert "--max-request-bytes=9999" in flags["m2"]
        ask(tmp_path / "c", ["quit"])
        assert terminal.process.wait(DEADLINE_S) == 0
    with on_a_terminal(tmp_path, "-d", str(tmp_path / "c"), "-m", "2"):
        until(lambda: healthy(int(ports[0])))


def healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return b'"health":"true"' in connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()


def test_the_procfile_starts_three_members(tmp_path: Path) -> None:
    """As it stands, ports apart (other tests use them), by a runner of such files."""
    environ = pytest.importorskip("honcho.environ")
    text = (ROOT / "Procfile").read_text()
    processes = environ.parse_procfile(text).processes
    assert list(processes) == ["etcd1", "etcd2", "etcd3"]
    assert all(command.startswith("etcd ") for command in processes.values())
    ports = {port: free_port() for port in dict.fromkeys(re.findall(r"127\.0\.0\.1:(\d+)", text))}
    assert list(ports) == ["2379", "12380", "22380", "32380", "22379", "32379"]
    moved = re.sub(r"127\.0\.0\.1:(\d+)", lambda m: f"127.0.0.1:{ports[m[1]]}", text)
    (tmp_path / "Procfile").write_text(moved)
    with (tmp_path / "shown").open("wb") as shown:
        runner = subprocess.Popen(
            [sys.executable, "-m", "honcho", "start"],
            cwd=tmp_path, stdout=shown, stderr=shown,
            env=plain_environment({"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}),
        )  # fmt: skip
    try:
        for port in ("2379", "22379", "32379"):
            until(lambda port=port: healthy(ports[port]))
    finally:
        runner.send_signal(signal.SIGTERM)
        runner.wait(DEADLINE_S)
    assert "infra3.etcd" in {path.name for path in tmp_path.iterdir()}
