"""Go etcd and corum side by side: the same loads, alternately, on the same machine.

    python benchmarks/run.py                      everything, three rounds (well over an hour)
    python benchmarks/run.py --quick              one short round, for a first look
    python benchmarks/run.py --only 'put-*'       some scenes; other figures stay as they are
    python benchmarks/run.py --report             only write the page from the figures

Figures are kept in a JSON file, and docs/benchmarks.md with its plots is written from it.
"""

import argparse
import fnmatch
import json
import os
import platform
import sys
import time
from pathlib import Path

import clusters
import measure as single
from loads import OURS, SCENES, Load, Scene
from measure import LOADGEN, Figures, LoadFailed
from oracle import servers

Results = dict[str, dict[str, list[Figures]]]  # load -> program -> one per round


def programs(names: list[str]) -> list[servers.Program]:
    known = {
        "go-3.5.1": servers.go35(),
        "go-newest": servers.go_newest(),
        OURS: servers.ours(),
    }
    return [program for name in names if (program := known[name])]


def machine() -> dict[str, str]:
    cpu = memory = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal"):
            memory = f"{int(line.split()[1]) / 1024**2:.0f} GiB"
    return {
        "cpu": f"{cpu}, {os.cpu_count()} cores",
        "memory": memory,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def say(done: int, of: int, program: str, load: Load, figures: Figures | str) -> None:
    if isinstance(figures, str):
        shown = "FAILED " + figures[:200]
    else:
        shown = "  ".join(
            f"{name} {value:,.1f}" for name, value in figures.items() if name != "seconds"
        )
    print(f"[{done:3}/{of}] {load.name:20} {program:10} {shown}", flush=True)


def chosen(only: list[str], quick: bool) -> list[Scene]:
    if only:
        return [s for s in SCENES if any(fnmatch.fnmatch(s.name, pattern) for pattern in only)]
    return [s for s in SCENES if not (quick and s.slow)]


def play(
    scene: Scene, program: servers.Program, folder: Path, quick: bool
) -> list[tuple[Load, Figures | str]]:
    """All loads of a scene on one fresh server; a failed load is told, and the rest goes on."""
    told: list[tuple[Load, Figures | str]] = []
    room = clusters if scene.members > 1 else single
    with room.fresh(program, scene, folder) as server:
        for load in scene.loads:
            if load.newer and program.name == "go-3.5.1":
                continue
            try:
                figures: Figures | str = room.measure(server, load, quick)
            except (LoadFailed, servers.ServerFailed) as failed:
                figures = str(failed)
            if load.measured or isinstance(figures, str):
                told.append((load, figures))
    return told


def run(options: argparse.Namespace, results: Results) -> None:
    scenes = chosen(options.only, options.quick)
    contestants = programs(options.programs.split(","))
    rounds = 1 if options.quick else options.rounds
    for scene in scenes:
        for load in scene.loads:
            for program in contestants:
                results.setdefault(load.name, {})[program.name] = []
    total = len(scenes) * len(contestants) * rounds
    done = 0
    for number in range(rounds):
        order = contestants[number % len(contestants) :] + contestants[: number % len(contestants)]
        for scene in scenes:
            for program in order:
                done += 1
                if number >= scene.rounds_max or (scene.older and program.name == "go-newest"):
                    continue
                for load, figures in play(scene, program, options.folder, options.quick):
                    say(done, total, program.name, load, figures)
                    if not isinstance(figures, str):
                        results[load.name][program.name].append(figures)
                save(options, contestants, results)


def save(options: argparse.Namespace, contestants: list[servers.Program], results: Results) -> None:
    file: Path = options.data
    versions = {program.name: program.version() for program in contestants}
    known = json.loads(file.read_text())["versions"] if file.exists() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": machine(),
        "quick": options.quick,
        "versions": known | versions,
        "results": results,
    }
    file.write_text(json.dumps(content, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short round, small data")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="scenes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--programs", default="go-3.5.1,go-newest,corum")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the page")
    parser.add_argument("--list", action="store_true", help="name the scenes and stop")
    build = servers.REPOSITORY / ".build"
    parser.add_argument("--data", type=Path, default=build / "benchmarks.json", help="figures")
    parser.add_argument(
        "--folder", type=Path, default=build / "bench-data", help="data directories"
    )
    parser.add_argument("--out", type=Path, default=servers.REPOSITORY / "docs" / "benchmarks.md")
    options = parser.parse_args()
    if options.list:
        for scene in SCENES:
            print(f"{scene.name:18} {'; '.join(load.title for load in scene.loads)}")
        return 0
    if not LOADGEN.exists():
        print(f"{LOADGEN} is missing: `make bench` builds it where Go is installed")
        return 2
    results: Results = {}
    if options.data.exists():
        results = json.loads(options.data.read_text())["results"]
    if not options.report:
        run(options, results)
    import report

    report.write(options.out, json.loads(options.data.read_text()))
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
