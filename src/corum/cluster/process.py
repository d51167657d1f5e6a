"""One member of a local cluster: a daemon in a process of its own, its folder and its ports."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast

LOOPBACK: Final = "127.0.0.1"
PORTS: Final = range(20_000, 32_000)
"""Below the ephemeral ports, which any program may get between a stop and a start."""
STOP_TIMEOUT_S: Final = 15.0
ANSWER_TIMEOUT_S: Final = 2.0
LOG_TAIL_BYTES: Final = 4_000

_IN_GOOD_ORDER: Final = (None, 0, -signal.SIGTERM, -signal.SIGINT)

Json = dict[str, Any]
_given: set[int] = set()  # no port twice, however short the time between the two


class ClusterError(OSError):
    """A member that does not start, serve, answer or stop; the text ends with its log."""


def free_listener(port: int = 0) -> socket.socket:
    """A bound socket on `port`, or on one that nobody has. Raises ClusterError."""
    for _ in range(1 if port else 1_000):
        wanted = port or random.choice(PORTS)
        if not port and wanted in _given:
            continue
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, wanted))
        except OSError as error:
            listener.close()
            if port:
                raise ClusterError(f"port {port}: {error.strerror}") from None
        else:
            _given.add(wanted)
            return listener
    raise ClusterError("no free port")


def port_of(listener: socket.socket) -> int:
    """The port a socket is bound to."""
    return cast("tuple[str, int]", listener.getsockname())[1]


class LocalMember:
    """See the module's docstring. `binary` and `flags` may be changed between stop and start."""

    def __init__(
        self,
        name: str,
        folder: Path,
        binary: Sequence[str],
        flags: Sequence[str],
        *,
        client_port: int,
        peer_port: int,
        listen_port: int,
        log: Callable[[str, str], None] | None = None,
    ) -> None:
        """`peer_port` is where the others reach it, `listen_port` where it listens itself."""
        self.name = name
        self.folder = folder
        self.binary = list(binary)
        self.flags = list(flags)
        self.client_port = client_port
        self.peer_port = peer_port
        self.listen_port = listen_port
        self.bootstrap: list[str] = []
        """Flags that say what it is to join; etcd ignores them once there are data."""
        self.is_paused = False
        self._process: subprocess.Popen[bytes] | None = None
        self._log = log

    def __repr__(self) -> str:
        return f"<member {self.name} at {self.endpoint}, {self.state}>"

    # ---- what it is

    @property
    def endpoint(self) -> str:
        """Where clients connect: "127.0.0.1:port"."""
        return f"{LOOPBACK}:{self.client_port}"

    @property
    def client_url(self) -> str:
        """`endpoint` as a URL."""
        return f"http://{self.endpoint}"

    @property
    def peer_url(self) -> str:
        """As it is in the member list."""
        return f"http://{LOOPBACK}:{self.peer_port}"

    @property
    def data_dir(self) -> Path:
        """Its `--data-dir`."""
        return self.folder / "data"

    @property
    def log_path(self) -> Path:
        """What it has written, since the folder exists."""
        return self.folder / "log"

    def log(self) -> str:
        """The text of `log_path`."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def pid(self) -> int:
        """Of the last process. Raises ClusterError when it was never started."""
        return self._started().pid

    @property
    def is_running(self) -> bool:
        """Is there a process (paused or not)?"""
        return self._process is not None and self._process.poll() is None

    @property
    def state(self) -> str:
        """ "running", "paused", "stopped", or "ended with N"."""
        if self.is_running:
            return "paused" if self.is_paused else "running"
        code = None if self._process is None else self._process.returncode
        return "stopped" if code in _IN_GOOD_ORDER else f"ended with {code}"

    # ---- its process

    def argv(self) -> list[str]:
        """The words it is started with."""
        listen = f"http://{LOOPBACK}:{self.listen_port}"
        return [
            *self.binary,
            f"--name={self.name}",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={self.client_url}",
            f"--advertise-client-urls={self.client_url}",
            f"--listen-peer-urls={listen}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            *self.bootstrap,
            *self.flags,
        ]

    def spawn(self) -> None:
        """Start the process, do not wait. Raises ClusterError when it runs or cannot be started."""
        if self.is_running:
            raise ClusterError(f"{self.name} runs already")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.is_paused = False
        output = subprocess.DEVNULL
        with contextlib.ExitStack() as opened:
            if self._log is None:
                output = opened.enter_context(self.log_path.open("ab")).fileno()
            else:
                output = subprocess.PIPE
            try:
                self._process = subprocess.Popen(
                    self.argv(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=_environment(),
                )
            except OSError as error:
                raise ClusterError(f"{self.binary[0]}: {error.strerror}") from None
        if self._log is not None:
            name = f"corum-log-{self.name}"
            threading.Thread(target=self._tell, args=(self._process,), name=name).start()

    def _tell(self, process: subprocess.Popen[bytes]) -> None:
        """Every line to the file and to who listens, until the process ends."""
        assert process.stdout is not None
        assert self._log is not None
        with process.stdout as lines, self.log_path.open("ab", buffering=0) as log:
            for line in lines:
                log.write(line)
                self._log(self.name, line.decode(errors="replace").rstrip("\n"))

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay, nothing is answered."""
        self._send(signal.SIGSTOP)
        self.is_paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        self._send(signal.SIGCONT)
        self.is_paused = False

    def terminate(self) -> None:
        """Ask it to end (SIGTERM); `wait` for it. Nothing happens when it does not run."""
        if self.is_running:
            if self.is_paused:
                self.resume()
            self._send(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and wait. Nothing happens when it does not run."""
        if self.is_running:
            self._started().kill()
            self._started().wait()

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """The exit status once it has ended, negative for a signal. Raises ClusterError if not."""
        try:
            return self._started().wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{self.name}: no end in {timeout_s:g} s\n{self.tail()}") from None

    def _send(self, number: signal.Signals) -> None:
        if not self.is_running:
            raise ClusterError(f"{self.name} does not run")
        self._started().send_signal(number)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ClusterError(f"{self.name} was never started")
        return self._process

    def tail(self) -> str:
        """The end of its log."""
        return self.log()[-LOG_TAIL_BYTES:]

    # ---- its answers

    def ask(self, path: str, request: Json, timeout_s: float = ANSWER_TIMEOUT_S) -> Json:
        """One call of the JSON gateway, below /v3/. Raises ClusterError when it is refused."""
        status, body = self._http("POST", f"/v3/{path}", json.dumps(request).encode(), timeout_s)
        if status != http.client.OK:
            raise ClusterError(f"{self.name}: {path}: {body.decode(errors='replace').strip()}")
        return json.loads(body)

    def is_healthy(self) -> bool:
        """Does `/health` say so? It takes a leader and a linearizable read."""
        try:
            status, body = self._http("GET", "/health", None, ANSWER_TIMEOUT_S)
        except ClusterError:
            return False
        return status == http.client.OK and b'"health":"true"' in body

    def _http(
        self, verb: str, target: str, body: bytes | None, timeout_s: float
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(LOOPBACK, self.client_port, timeout=timeout_s)
        with contextlib.closing(connection):
            try:
                connection.request(verb, target, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException) as error:
                raise ClusterError(f"{self.name} does not answer: {error}") from None


def _environment() -> dict[str, str]:
    """This process's, without settings of etcd: the flags say everything."""
    return {name: found for name, found in os.environ.items() if not name.startswith("ETCD_")}


def own_etcd() -> list[str]:
    """The words that start the `etcd` of this Python."""
    return [sys.executable, "-m", "corum.cli.etcd"]
