"""Where the CPU time of a put goes, stage by stage: `make profile`.

The daemon runs in a child with a sampler inside. A POSIX timer on the CPU clock of the loop
thread alone interrupts it every millisecond it has really worked, and the innermost frame that
belongs to a room decides the stage. The other threads are Rust's or workers; what they cost is
read from /proc by thread name.
"""

import argparse
import collections
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType

INTERVAL_NS = 1_000_000
SIGEV_THREAD_ID = 4
CLOCK_THREAD_CPUTIME_ID = 3
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
RESULT = "CORUM_PROFILE_RESULT"  # environment: where the child writes its samples

STAGES: tuple[tuple[str, str], ...] = (  # first match wins; paths below src/corum/
    (r"pb/", "decode and encode"),
    (r"api/", "decode and encode"),
    (r"raft/", "raft"),
    (r"wal/", "log: framing"),
    (r"backend/", "backend"),
    (r"mvcc/watch", "watch"),
    (r"mvcc/", "apply: mvcc"),
    (r"server/apply|server/operations|lease", "apply"),
    (r"server/(proposals|reads|gate|request_ids|headers)", "proposals and answers"),
    (r"server/", "server"),
    (r"member/", "runtime: poll, answers, hand-over"),
)


class SigEvent(ctypes.Structure):
    """struct sigevent with the thread id member of Linux."""

    _fields_ = [
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread_id", ctypes.c_int),
        ("padding", ctypes.c_char * 44),
    ]


class TimerSpec(ctypes.Structure):
    """struct itimerspec: interval, then first expiry, each seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns")]


def stage_of(frame: FrameType | None) -> str:
    while frame is not None:
        _, found, inner = frame.f_code.co_filename.rpartition("/corum/")
        if found:
            for pattern, stage in STAGES:
                if re.match(pattern, inner):
                    return stage
        frame = frame.f_back
    return "outside the rooms"


def place_of(frame: FrameType | None) -> str:
    if frame is None:
        return "?"
    inner = frame.f_code.co_filename.rpartition("/corum/")[2]
    return f"{inner}:{frame.f_code.co_qualname}"


def sample_here() -> None:
    """Sample this (main) thread: SIGUSR1 begins anew, SIGUSR2 writes where `RESULT` says."""
    stages: collections.Counter[str] = collections.Counter()
    places: collections.Counter[str] = collections.Counter()

    def on_tick(_signal: int, frame: FrameType | None) -> None:
        stages[stage_of(frame)] += 1
        places[place_of(frame)] += 1

    def begin(_signal: int, _frame: FrameType | None) -> None:
        stages.clear()
        places.clear()

    def write(_signal: int, _frame: FrameType | None) -> None:
        found = {"stages": stages, "places": places.most_common(25)}
        draft = Path(os.environ[RESULT] + "~")
        draft.write_text(json.dumps(found))
        draft.rename(os.environ[RESULT])

    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, write)
    signal.signal(signal.SIGPROF, on_tick)
    signal.siginterrupt(signal.SIGPROF, False)
    libc = ctypes.CDLL(None, use_errno=True)
    event = SigEvent(None, signal.SIGPROF, SIGEV_THREAD_ID, threading.get_native_id(), b"")
    timer = ctypes.c_void_p()
    if libc.timer_create(CLOCK_THREAD_CPUTIME_ID, ctypes.byref(event), ctypes.byref(timer)):
        raise OSError(ctypes.get_errno(), "timer_create")
    spec = TimerSpec(0, INTERVAL_NS, 0, INTERVAL_NS)
    if libc.timer_settime(timer, 0, ctypes.byref(spec), None):
        raise OSError(ctypes.get_errno(), "timer_settime")


def child(words: list[str]) -> None:
    """Become the daemon, sampled."""
    from corum.cli.etcd import main as etcd

    sample_here()
    sys.exit(etcd(words))


def threads(pid: int) -> dict[str, float]:
    """CPU seconds by thread name; the main thread is "loop"."""
    spent: dict[str, float] = collections.defaultdict(float)
    for task in Path(f"/proc/{pid}/task").iterdir():
        head, _, rest = (task / "stat").read_text().rpartition(")")
        fields = rest.split()
        name = "loop" if task.name == str(pid) else head.partition("(")[2]
        spent[name] += (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return spent


def awaited(file: Path) -> str:
    end = time.monotonic() + 5
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.01)
    return file.read_text()


def profile(words: str, quick: bool) -> str:
    from measure import LOADGEN, figures_of
    from oracle.servers import Program, Server

    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "samples.json"
        me = Program("corum", (sys.executable, str(Path(__file__).resolve()), "--child"))
        server = Server(me, Path(folder) / "server", environment={RESULT: str(result)})
        try:
            server.start()
            os.kill(server.pid, signal.SIGUSR1)
            before = threads(server.pid)
            seconds = ["-seconds", "2"] if quick else ["-seconds", "8"]
            done = subprocess.run(
                [str(LOADGEN), "-endpoint", server.endpoint, *words.split(), *seconds],
                capture_output=True,
                text=True,
                check=True,
            )
            after = threads(server.pid)
            os.kill(server.pid, signal.SIGUSR2)
            samples = json.loads(awaited(result))
        finally:
            server.kill()
    spent = {name: after[name] - before.get(name, 0.0) for name in after}
    figures = figures_of(done.stdout, sum(spent.values()))
    operations = json.loads(done.stdout)["total_ops"]
    return table(words, figures["rate"], operations, spent, samples)


def table(
    words: str,
    rate: float,
    operations: int,
    spent: dict[str, float],
    samples: dict[str, dict[str, int]],
) -> str:
    loop = spent.pop("loop")
    taken = sum(samples["stages"].values()) or 1
    rows = {
        f"loop: {stage}": loop * count / taken
        for stage, count in sorted(samples["stages"].items(), key=lambda item: -item[1])
    }
    rows |= {f"thread {name}": s for name, s in sorted(spent.items(), key=lambda i: -i[1]) if s}
    lines = [
        f"`loadgen {words}`: {rate:,.0f}/s, {operations:,} operations, {taken:,} samples",
        "",
        "| stage | µs CPU per operation | share |",
        "|---|---|---|",
    ]
    whole = sum(rows.values()) or 1.0
    for name, seconds in [*rows.items(), ("all", whole)]:
        each = seconds * 1e6 / operations
        lines.append(f"| {name} | {each:.1f} | {seconds / whole:.0%} |")
    lines += ["", "Hottest functions of the loop:", ""]
    lines += [f"- {count / taken:.1%} `{place}`" for place, count in samples["places"]]
    return "\n".join(lines) + "\n"


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="?", default="-load put -clients 200 -connections 20")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = profile(options.words, options.quick)
    print(text)
    if options.out:
        options.out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
