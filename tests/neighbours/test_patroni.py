"""Patroni in its `etcd:` mode keeps a real PostgreSQL with us: elect, replicate, fail over.

PostgreSQL refuses root, so under root everything of Patroni's runs as another user.
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neighbours.conftest import Foreign
from oracle.servers import Server, free_port

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.compat,
    pytest.mark.timeout(600),
]

SCOPE = "corum-test"
USERS = ("postgres", "nobody")

CONFIG = """\
scope: {scope}
name: {name}
restapi: {{listen: '127.0.0.1:{rest}', connect_address: '127.0.0.1:{rest}'}}
etcd: {{host: '127.0.0.1:{etcd}'}}
bootstrap:
  dcs: {{ttl: 20, loop_wait: 1, retry_timeout: 3, maximum_lag_on_failover: 1048576}}
  initdb: [{{encoding: UTF8}}, {{auth-local: trust}}, {{auth-host: trust}}]
  pg_hba: [host all all 127.0.0.1/32 trust, host replication all 127.0.0.1/32 trust]
postgresql:
  listen: 127.0.0.1:{port}
  connect_address: 127.0.0.1:{port}
  data_dir: {folder}/data
  bin_dir: {bin}
  pgpass: {folder}/pgpass
  basebackup: [{{checkpoint: fast}}]
  authentication:
    superuser: {{username: postgres, password: a}}
    replication: {{username: replicator, password: b}}
  parameters: {{unix_socket_directories: '{folder}', max_connections: 20, fsync: 'off'}}
"""


def postgres_folder() -> Path | None:
    """Where PostgreSQL's programs are."""
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("pg_ctl")
    candidates += [Path(os.path.realpath(found)).parent] if found else []
    return next((one for one in candidates if (one / "initdb").exists()), None)


def unprivileged() -> str | None:
    """Who PostgreSQL is run as; None: ourselves."""
    if os.geteuid():
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in USERS if name in names)


class Node:
    """One Patroni with its PostgreSQL."""

    def __init__(self, foreign: Foreign, etcd: Server, name: str, base: Path, programs: Path):
        self.name, self.foreign = name, foreign
        self.rest, self.port = free_port(), free_port()
        self.folder = base / name
        self.folder.mkdir(mode=0o700)
        self.config = self.folder / "patroni.yml"
        self.config.write_text(
            CONFIG.format(
                scope=SCOPE, name=name, rest=self.rest, port=self.port, etcd=etcd.client_port,
                folder=self.folder, bin=programs,
            )
        )  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        user = unprivileged()
        if user:
            for path in (self.folder, self.config):
                shutil.chown(path, user)

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [str(self.foreign.python), "-m", "patroni", str(self.config)],
                env=self.foreign.environment(LC_ALL="C"), cwd=self.folder, stdout=log, stderr=log,
                user=unprivileged(), start_new_session=True,
            )  # fmt: skip

    def crash(self) -> None:
        """Patroni and PostgreSQL die at once; nothing if they do not run."""
        if self.process is None:
            return
        pid_file = self.folder / "data" / "postmaster.pid"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
        self.process.wait(20)
        self.process = None

    def sql(self, statement: str) -> str:
        code = (
            "import psycopg2, sys\n"
            f"c = psycopg2.connect(host='127.0.0.1', port={self.port}, user='postgres',"
            " password='a', dbname='postgres', connect_timeout=5)\n"
            "c.autocommit = True\ncursor = c.cursor()\ncursor.execute(sys.argv[1])\n"
            "print(cursor.fetchall() if cursor.description else 'ok')\n"
        )
        return self.foreign.run("-c", code, statement, timeout_s=20).strip()

    def tail(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace")[-3_000:] if path.exists() else ""


def value_of(etcd: Server, key: str) -> Any:
    status, body = etcd.http("GET", f"/v2/keys/service/{SCOPE}/{key}")
    return json.loads(body)["node"]["value"] if status == 200 else None


def until(what: str, found: Callable[[], Any], nodes: list[Node], timeout_s: float = 120) -> Any:
    """What `found` gives as soon as it gives something."""
    end = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(AssertionError, OSError, subprocess.TimeoutExpired):
            result = found()
            if result:
                return result
        if time.monotonic() > end:
            logs = "\n".join(f"--- {node.name}\n{node.tail()}" for node in nodes)
            pytest.fail(f"not within {timeout_s} s: {what}\n{logs}")
        time.sleep(0.2)


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder that another user may walk into."""
    with tempfile.TemporaryDirectory(prefix="corum-patroni-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_elect_and_fail_over(foreign: Foreign, our_server: Server, base: Path) -> None:
    """One leads; what it writes reaches the other; when it dies the other leads, with the rows."""
    programs = postgres_folder()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    nodes = [Node(foreign, our_server, name, base, programs) for name in ("one", "two")]
    by_name = {node.name: node for node in nodes}
    try:
        nodes[0].start()
        first = until("a leader", lambda: value_of(our_server, "leader"), nodes)
        assert first == "one"
        nodes[1].start()
        one, two = by_name["one"], by_name["two"]
        until("SQL", lambda: one.sql("create table if not exists t (n int)") == "ok", nodes)
        assert one.sql("insert into t values (42)") == "ok"
        until("replication", lambda: two.sql("select n from t") == "[(42,)]", nodes)
        one.crash()
        until("fail-over", lambda: value_of(our_server, "leader") == "two", nodes)
        until("promotion", lambda: two.sql("insert into t values (43)") == "ok", nodes)
        assert two.sql("select n from t order by n") == "[(42,), (43,)]"
        history = value_of(our_server, "history")
        assert history is None or json.loads(history)[-1][-1] == "two"
    finally:
        for node in nodes:
            node.crash()
