"""Run one load against one server, and read from /proc what it cost the server."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from loads import Load, Scene
from oracle.servers import REPOSITORY, Program, Server, etcdctl, remove_folder

LOADGEN = REPOSITORY / ".build" / "bin" / "loadgen"
ETCDCTL = REPOSITORY / ".build" / "bin" / "etcdctl"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
LOAD_TIMEOUT_S = 900
SETTLE_S = 1.0
Figures = dict[str, float]


class LoadFailed(Exception):
    """The load generator failed or its requests did."""


def family(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def cpu_s(pid: int) -> float:
    """User and system time of the family, with that of children already gone."""
    ticks = 0
    for member in family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])  # utime stime cutime cstime
    return ticks / TICKS_PER_S


def rss_mib(pid: int) -> float:
    kib = 0
    for member in family(pid):
        status = Path(f"/proc/{member}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+)", status, re.M)
        kib += int(found[1]) if found else 0
    return kib / 1024


def words_of(load: Load, quick: bool) -> list[str]:
    words = load.words.split()
    if quick:
        words += [*load.quick.split(), "-seconds", "2", "-warmup", "0.5"]
    return words


def loadgen(server: Server, load: Load, quick: bool) -> Figures:
    before = cpu_s(server.pid)
    done = subprocess.run(
        [str(LOADGEN), "-endpoint", server.endpoint, *words_of(load, quick)],
        capture_output=True,
        text=True,
        timeout=LOAD_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise LoadFailed(done.stderr.strip())
    return figures_of(done.stdout, cpu_s(server.pid) - before) | {"rss_mib": rss_mib(server.pid)}


def figures_of(line: str, spent_s: float) -> Figures:
    found: dict[str, Any] = json.loads(line)
    if found["errors"]:
        raise LoadFailed(f"{found['errors']} errors, the first: {found.get('first_error')}")
    figures = {
        name: float(found[name]) for name in ("rate", "p50_us", "p99_us", "max_us", "seconds")
    }
    figures |= found.get("extra") or {}
    figures["cpu_us"] = spent_s * 1e6 / max(found["total_ops"], 1)
    return figures


def hold(server: Server, load: Load, quick: bool) -> Figures:
    """As `loadgen`, but memory is read while the client still holds what it opened."""
    before = cpu_s(server.pid)
    with subprocess.Popen(
        [str(LOADGEN), "-endpoint", server.endpoint, *words_of(load, quick)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout is not None
        assert client.stdin is not None
        line = client.stdout.readline()
        if not line:
            raise LoadFailed("no report")
        spent = cpu_s(server.pid) - before
        time.sleep(SETTLE_S)
        memory = rss_mib(server.pid)
        client.stdin.close()
    return figures_of(line, spent) | {"rss_mib": memory}


def restart(server: Server, _load: Load, _quick: bool) -> Figures:
    """Stop the server if it runs, start it, and time exec to the first healthy answer."""
    server.stop()
    began = time.monotonic()
    server.start(timeout_s=120)
    ready_ms = (time.monotonic() - began) * 1e3
    return {"ready_ms": ready_ms, "cpu_ms": cpu_s(server.pid) * 1e3}


def memory(server: Server, _load: Load, _quick: bool) -> Figures:
    time.sleep(SETTLE_S)
    return {"rss_mib": rss_mib(server.pid)}


def check_perf(server: Server, load: Load, _quick: bool) -> Figures:
    """Go etcdctl's own test, one minute long."""
    done = etcdctl(ETCDCTL, server, "check", "perf", f"--load={load.words}", timeout_s=180)
    found = re.search(r"[Tt]hroughput .*?([\d.]+) writes/s", done.stdout)
    slowest = re.search(r"[Ss]lowest request (?:took|too long:) ([\d.]+)s", done.stdout)
    if not found:
        raise LoadFailed(done.stdout + done.stderr)
    return {"rate": float(found[1]), "max_us": float(slowest[1]) * 1e6 if slowest else 0.0}


KINDS: dict[str, Callable[[Server, Load, bool], Figures]] = {
    "loadgen": loadgen,
    "hold": hold,
    "restart": restart,
    "memory": memory,
    "check-perf": check_perf,
}


@contextmanager
def fresh(program: Program, scene: Scene, folder: Path) -> Any:
    """The scene's server on an empty directory; not started when its first load does that."""
    remove_folder(folder)
    server = Server(program, folder, scene.flags, wrapper=())
    try:
        if scene.loads[0].kind != "restart":
            server.start()
        yield server
    finally:
        server.kill()
        remove_folder(folder)


def measure(server: Server, load: Load, quick: bool) -> Figures:
    return KINDS[load.kind](server, load, quick)
