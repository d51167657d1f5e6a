"""corum's Python clients beside etcd3 and aetcd: operations per second and CPU per operation.

    make bench-client                       BENCH="--quick" for one short round

Each pair runs the same load in turns, each in a process of its own, against the same server: one
that answers from memory at once (`client_stub`), which shows the clients, and a real member, which
shows what is left of it. Foreign libraries live in their own environments below .build/clients.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from client_worker import EVENTS, EVENTS_PREFIX, RANGE_KEYS, RANGE_PREFIX, VALUE  # noqa: E402
from oracle import servers  # noqa: E402
from plots import ratios  # noqa: E402
from run import machine  # noqa: E402

HERE = Path(__file__).resolve().parent
PAGE = ROOT / "docs" / "client-benchmarks.md"
ENVIRONMENTS = ROOT / ".build" / "clients"
PACKAGES = {
    "etcd3": ["etcd3==0.12.0", "protobuf<4"],  # its generated code works with no newer protobuf
    "aetcd": ["aetcd==1.0.0"],
}
NOTES = (
    "etcd3's generated code needs protobuf 3, which has no C code for Python 3.11.",
    "With Python 3.10, where it has (`--etcd3-python`), etcd3's CPU per operation in a short run "
    "was 3.7 to 4.6 times ours for puts, 1.7 times for ranges and 1.3 times for events.",
)
PAIRS = (("corum", "etcd3", 3.0), ("corum-async", "aetcd", 2.0))
TITLES = {"corum": "corum.Client", "corum-async": "corum.AsyncClient"}
RUN_TIMEOUT_S = 120
COMMAND_RUNS = 10
COMMAND_GOAL_MS = 80


@dataclass(frozen=True)
class Load:
    name: str
    title: str
    callers: dict[str, int]  # by library that is compared with


LOADS = (
    Load("put", "put, one caller", {"etcd3": 1, "aetcd": 1}),
    Load("put", "put, many callers", {"etcd3": 8, "aetcd": 64}),
    Load("get", "get, one caller", {"etcd3": 1, "aetcd": 1}),
    Load("get", "get, many callers", {"etcd3": 8, "aetcd": 64}),
    Load("range", "range of 10,000 keys (keys)", {"etcd3": 1, "aetcd": 1}),
    Load("watch", "20,000 past events (events)", {"etcd3": 1, "aetcd": 1}),
)


@dataclass
class Row:
    """Medians over the rounds: rates per second, CPU in µs per operation, and their ratios."""

    server: str
    load: Load
    mine: str
    other: str
    goal: float
    figures: list[tuple[float, float, float, float]]  # my rate, my CPU, the other's, by round

    def median(self, of: int) -> float:
        return statistics.median(figures[of] for figures in self.figures)

    @property
    def rate_ratio(self) -> float:
        return statistics.median(mine / other for mine, _, other, _ in self.figures)

    @property
    def cpu_ratio(self) -> float:
        return statistics.median(other / mine for _, mine, _, other in self.figures)


def python_of(library: str, given: str | None) -> str:
    """The Python with the library; foreign ones get an environment of their own."""
    if library not in PACKAGES:
        return sys.executable
    folder = ENVIRONMENTS / library
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([given or sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "-q", *PACKAGES[library]]
        subprocess.run(install, check=True)
    return str(python)


def measure(python: str, library: str, load: Load, callers: int, seconds: float, port: int):
    """(operations per second, CPU µs per operation)."""
    words = [python, str(HERE / "client_worker.py"), library, load.name, str(callers)]
    words += [str(seconds), "127.0.0.1", str(port)]
    ran = subprocess.run(words, capture_output=True, text=True, check=False, timeout=RUN_TIMEOUT_S)
    if ran.returncode:
        raise SystemExit(f"{library} {load.title}: {ran.stderr[-2_000:]}")
    found = json.loads(ran.stdout.splitlines()[-1])
    done = found["operations"]
    return done / found["s"], found["cpu_s"] / done * 1e6


@contextlib.contextmanager
def stub() -> Iterator[int]:
    words = [sys.executable, str(HERE / "client_stub.py")]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(10)


@contextlib.contextmanager
def member(program: servers.Program) -> Iterator[int]:
    """A real one with the keys that the loads read; it need not wait for the disk."""
    from corum import Client
    from corum.client.requests import put

    with (
        tempfile.TemporaryDirectory() as folder,
        servers.running(program, Path(folder) / "member", "--unsafe-no-fsync") as server,
    ):
        with Client(server.endpoint) as client:
            for prefix, count in ((RANGE_PREFIX, RANGE_KEYS), (EVENTS_PREFIX, EVENTS)):
                for first in range(0, count, 100):
                    names = (prefix + b"%06d" % n for n in range(first, first + 100))
                    client.txn((), [put(name, VALUE) for name in names])
        yield server.client_port


def play(name: str, port: int, options: argparse.Namespace) -> Iterator[Row]:
    for load in LOADS:
        for mine, other, goal in PAIRS:
            if options.only and options.only not in (load.name, other):
                continue
            row = Row(name, load, mine, other, goal, [])
            callers = load.callers[other]
            for _ in range(options.rounds):
                pair = [
                    measure(python_of(one, options.etcd3_python), one, load, callers,
                            options.seconds, port)
                    for one in (mine, other)
                ]  # fmt: skip
                row.figures.append((*pair[0], *pair[1]))
            print(
                f"{name:10} {load.title:28} {mine:12} {row.median(0):10,.0f}/s "
                f"{row.median(1):7.2f} us | {other:6} {row.median(2):10,.0f}/s "
                f"{row.median(3):7.2f} us | rate x {row.rate_ratio:.2f}, CPU x {row.cpu_ratio:.2f}",
                flush=True,
            )
            yield row


def start_to_exit(words: list[str]) -> tuple[float, float]:
    """(wall, CPU) milliseconds of one command."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, timeout=RUN_TIMEOUT_S)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall * 1e3, cpu * 1e3


def commands(program: servers.Program, port: int) -> dict[str, tuple[float, float]]:
    """Medians of `etcdctl get` of one key, ours and Go's in turns."""
    tools = {
        "ours": Path(sys.executable).with_name("etcdctl"),
        "Go's": Path(program.argv[0]).with_name("etcdctl"),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in tools}
    for run in range(COMMAND_RUNS + 1):
        for name, tool in tools.items():
            figures = start_to_exit([str(tool), f"--endpoints=127.0.0.1:{port}", "get", "k"])
            if run:  # the first one reads the files from disk
                taken[name].append(figures)
    found: dict[str, tuple[float, float]] = {}
    for name, runs in taken.items():
        wall, cpu = (statistics.median(figures[of] for figures in runs) for of in (0, 1))
        found[name] = wall, cpu
        print(f"etcdctl get, {name}: {wall:.1f} ms, {cpu:.1f} ms CPU", flush=True)
    return found


def version(python: str) -> str:
    words = "from google.protobuf.internal import api_implementation as a; import google.protobuf"
    words += ", sys; print(sys.version.split()[0], google.protobuf.__version__, a.Type())"
    ran = subprocess.run([python, "-c", words], capture_output=True, text=True, check=True)
    interpreter, protobuf, kind = ran.stdout.split()
    return f"Python {interpreter}, protobuf {protobuf} ({kind})"


def page(
    rows: list[Row], shell: dict[str, tuple[float, float]], options: argparse.Namespace
) -> None:
    found = machine()
    lines = [
        "# The Python clients, measured",
        "",
        "Written by `make bench-client`; do not edit.",
        "Each client runs in a process of its own, in turns with the one it is compared with, on "
        "the same cores as the server.",
        "`stub` is a server with canned answers, so that the client is what costs; the other is a "
        "real member without fsync, where both clients wait for the same server.",
        f"Medians of {options.rounds} rounds of {options.seconds:g} s; CPU is the client "
        "process's user and system time, all threads.",
        "Goals: three times etcd3, twice aetcd, in both figures.",
        "",
        f"Machine: {', '.join(found.values())}; load average {os.getloadavg()[1]:.1f} (other work "
        "on the same cores lowers rates, and their ratios, more than CPU per operation).",
        f"corum: {version(sys.executable)}.",
        *(f"{name}: {version(python_of(name, None))}." for name in PACKAGES),
        "",
        *NOTES,
        "",
        "![ratios on the stub](plots/clients.svg)",
        "",
        "| server | load | client | per second | CPU µs | against | per second | CPU µs "
        "| rate | CPU |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        rate, cpu = (
            f"{ratio:.2f} x{'' if ratio >= row.goal else ' (below)'}"
            for ratio in (row.rate_ratio, row.cpu_ratio)
        )
        lines.append(
            f"| {row.server} | {row.load.title} | {TITLES[row.mine]} | {row.median(0):,.0f} "
            f"| {row.median(1):.2f} | {row.other} | {row.median(2):,.0f} | {row.median(3):.2f} "
            f"| {rate} | {cpu} |"
        )
    if shell:
        lines += [
            "",
            "## A command from start to exit",
            "",
            f"`etcdctl get` of one key, medians of {COMMAND_RUNS} runs in turns; goal: ours within "
            f"{COMMAND_GOAL_MS} ms.",
            "",
            "| etcdctl | wall ms | CPU ms |",
            "|---|---|---|",
        ]
        lines += [f"| {name} | {wall:.1f} | {cpu:.1f} |" for name, (wall, cpu) in shell.items()]
    PAGE.write_text("\n".join(lines) + "\n")
    draw(rows)


def draw(rows: list[Row]) -> None:
    """The ratios on the stub, as a picture."""
    values = {
        f"{what}: {row.load.title}, against {row.other}": (ratio, ratio >= row.goal)
        for row in rows
        if row.server == "stub"
        for what, ratio in (("rate", row.rate_ratio), ("CPU", row.cpu_ratio))
    }
    if values:
        drawn = ratios(
            "times faster, and times less CPU, than etcd3 (goal 3) and aetcd (goal 2)",
            {name: ratio for name, (ratio, _) in values.items()},
            {name: met for name, (_, met) in values.items()},
        )
        (PAGE.parent / "plots" / "clients.svg").write_text(drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--quick", action="store_true", help="one short round; the page stays")
    parser.add_argument("--only", help="a load, a library, or etcdctl")
    parser.add_argument("--no-member", action="store_true", help="the stub only")
    parser.add_argument("--etcd3-python", help="make the foreign environments with this Python")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    rows: list[Row] = []
    shell: dict[str, tuple[float, float]] = {}
    with stub() as port:
        rows += play("stub", port, options)
    program = servers.go_newest() or servers.go35()
    if program is not None and not options.no_member:
        with member(program) as port:
            rows += play(program.name, port, options)
            if not options.only or options.only == "etcdctl":
                shell = commands(program, port)
    if not options.quick and not options.only:
        page(rows, shell, options)


if __name__ == "__main__":
    main()
