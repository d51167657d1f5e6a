"""From figures to docs/benchmarks.md and its plots: medians, ratios, goals met and missed.

A ratio is the median of the rounds' own: both programs take turns within a round, so what slows
the machine down for a minute slows both.
"""

import statistics
from pathlib import Path
from typing import Any

import plots
from loads import NEWEST, OLD, OURS, SCENES, Goal, Load

SERIES = (OLD, NEWEST, OURS)
UNITS = {
    "rate": "/s",
    "p50_us": " µs",
    "p99_us": " µs",
    "max_us": " µs",
    "cpu_us": " µs CPU",
    "rss_mib": " MiB",
    "ready_ms": " ms",
    "leader_ms": " ms",
    "leader_max_ms": " ms",
    "caught_up_ms": " ms",
    "peak_mib": " MiB",
    "cpu_ms": " ms CPU",
}
LOADS = {load.name: load for scene in SCENES for load in scene.loads if load.measured}
Rounds = dict[str, list[dict[str, float]]]  # program -> figures of each round
Medians = dict[str, dict[str, dict[str, float]]]  # load -> program -> figure


def ratios(by_program: Rounds, figure: str, against: str) -> list[float]:
    """Ours over theirs, round by round; of the medians where the rounds cannot be paired."""
    mine, theirs = (
        [run[figure] for run in by_program.get(program, ()) if run.get(figure)]
        for program in (OURS, against)
    )
    if not mine or not theirs:
        return []
    if len(mine) != len(theirs):
        mine, theirs = [statistics.median(mine)], [statistics.median(theirs)]
    return [our / their for our, their in zip(mine, theirs, strict=True)]


def medians(results: dict[str, Rounds]) -> Medians:
    found: Medians = {}
    for load, by_program in results.items():
        for program, runs in by_program.items():
            for figure in runs[0] if runs else ():
                values = [run[figure] for run in runs if figure in run]
                found.setdefault(load, {}).setdefault(program, {})[figure] = statistics.median(
                    values
                )
    return found


def met(goal: Goal, by_program: Rounds) -> tuple[bool, float, list[float]] | None:
    """Whether the goal is met, the ratio (or figure) it was judged by, and those of the rounds;
    None without figures."""
    if goal.against is None:
        values = [run[goal.figure] for run in by_program.get(OURS, ()) if goal.figure in run]
    else:
        values = ratios(by_program, goal.figure, goal.against)
    if not values:
        return None
    value = statistics.median(values)
    return (value >= goal.bound if goal.sign == ">=" else value <= goal.bound), value, values


def shown(value: float | None, figure: str) -> str:
    return "" if value is None else plots.number(value) + UNITS.get(figure, "")


def goals_table(results: dict[str, Rounds]) -> list[str]:
    lines = [
        "| load | figure | against | goal | measured | rounds | |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, load in LOADS.items():
        for goal in load.goals:
            judged = met(goal, results.get(name, {}))
            against = goal.against or ""
            unit = " x" if goal.against else UNITS[goal.figure]
            bound = f"{goal.sign} {plots.number(goal.bound)}{unit}"
            if judged is None:
                lines.append(
                    f"| {load.title} | {goal.figure} | {against} | {bound} | | | not measured |"
                )
                continue
            good, value, values = judged
            measured = f"{value:.2f} x" if goal.against else shown(value, goal.figure)
            told = [f"{one:.2f}" if goal.against else plots.number(one) for one in sorted(values)]
            spread = f"{told[0]} to {told[-1]}" if len(told) > 1 else ""
            verdict = "met" if good else "**missed**"
            lines.append(
                f"| {load.title} | {goal.figure} | {against} | {bound} | {measured} | {spread} "
                f"| {verdict} |"
            )
    return lines


def figures_table(results: dict[str, Rounds], found: Medians) -> list[str]:
    lines = [
        "| load | figure | Go 3.5.1 | Go newest | corum | corum / 3.5.1 | corum / newest |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, load in LOADS.items():
        by_program = found.get(name, {})
        for figure in figures_of(load):
            values = [by_program.get(program, {}).get(figure) for program in SERIES]
            if not any(values):
                continue
            cells = [shown(value, figure) for value in values]
            for other in SERIES[:2]:
                paired = ratios(results.get(name, {}), figure, other)
                cells.append(f"{statistics.median(paired):.2f}" if paired else "")
            title = load.title if figure == load.main else ""
            lines.append(f"| {title} | {figure} | {' | '.join(cells)} |")
    return lines


def figures_of(load: Load) -> list[str]:
    wanted = [load.main]
    if load.kind in ("loadgen", "hold"):
        wanted += ["rate", "p50_us", "p99_us", "max_us", "cpu_us", "rss_mib"]
    elif load.kind == "check-perf":
        wanted += ["max_us"]
    elif load.kind == "failover":
        wanted += ["leader_max_ms"]
    elif load.kind == "newcomer":
        wanted += ["peak_mib", "cpu_ms"]
    return list(dict.fromkeys(wanted))


def draw(results: dict[str, Rounds], found: Medians, folder: Path) -> list[str]:
    """Write the plots that there are figures for; their file names."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []

    def chart(file: str, title: str, figure: str, names: list[str]) -> None:
        groups = {
            LOADS[name].title: {
                program: by[program][figure] for program in SERIES if figure in by.get(program, {})
            }
            for name in names
            if (by := found.get(name))
        }
        if any(groups.values()):
            (folder / file).write_text(plots.bars(title, groups, SERIES))
            written.append(file)

    puts = [name for name in LOADS if name.startswith("put-")]
    busy = [n for n, load in LOADS.items() if load.kind == "loadgen" and n != "watch-latency"]
    memory = [name for name, load in LOADS.items() if load.main == "rss_mib"]
    starts = [name for name, load in LOADS.items() if load.main == "ready_ms"]
    reads = ["range-1", "range-1-s", "mixed", "txn"]
    chart("puts.svg", "Puts per second", "rate", puts)
    chart("reads.svg", "Reads and transactions per second", "rate", reads)
    chart("latency.svg", "99th percentile of a put, µs", "p99_us", puts)
    chart("cpu.svg", "Server CPU per request, µs", "cpu_us", [*puts, *reads])
    chart("memory.svg", "Resident memory, MiB", "rss_mib", memory)
    members = [n for n in LOADS if n.startswith(("cluster-put", "cluster-read"))]
    chart("clusters.svg", "Three members: requests per second", "rate", members)
    chart("clusters-cpu.svg", "CPU per request, sum of three members, µs", "cpu_us", members)
    chart("clusters-leader.svg", "kill -9 to a new leader, ms", "leader_ms", ["cluster-failover"])
    chart("clusters-new.svg", "Catching up with 1 GiB, ms", "caught_up_ms", ["cluster-newcomer"])
    chart("start.svg", "Exec to ready, ms", "ready_ms", starts)
    values, fine = {}, {}
    for name in busy:
        goal = next(
            (g for g in LOADS[name].goals if g.figure == "rate" and g.against == NEWEST), None
        )
        judged = goal and met(goal, results.get(name, {}))
        if judged:
            fine[LOADS[name].title], values[LOADS[name].title], _ = judged
    if values:
        title = "Throughput over the newest Go etcd's"
        (folder / "ratios.svg").write_text(plots.ratios(title, values, fine))
        written.insert(0, "ratios.svg")
    return written


def write(page: Path, data: dict[str, Any]) -> None:
    results = data["results"]
    found = medians(results)
    machine, versions = data["machine"], data["versions"]
    rounds = {len(runs) for by in results.values() for runs in by.values() if runs}
    least, most = min(rounds, default=0), max(rounds, default=0)
    counted = f"{most} round{'s' * (most != 1)}" if least == most else f"{least} to {most} rounds"
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; do not edit.",
        "Go etcd and corum run alternately on fresh data directories of the same file system.",
        "The load comes from one neutral program on etcd's own Go client "
        "(`benchmarks/go/loadgen`), on the same cores.",
        f"Figures are medians of {counted}, ratios medians of the rounds' own; "
        "CPU is the server's user and system time per request, children included, "
        "and the sum over the members where there are several.",
        *(
            ["**A quick look only: one short round with small data; not the figures to judge by.**"]
            if data.get("quick")
            else []
        ),
        "",
        f"Machine: {machine['cpu']}, {machine['memory']} memory, Linux {machine['kernel']}, "
        f"Python {machine['python']}; {machine['date']}.",
        "Programs: " + ", ".join(f"{name} = {version}" for name, version in versions.items()) + ".",
        "",
    ]
    lines += [
        f"![{file.removesuffix('.svg')}](plots/{file})"
        for file in draw(results, found, page.parent / "plots")
    ]
    lines += [
        "",
        "## Goals",
        "",
        *goals_table(results),
        "",
        "## Figures",
        "",
        *figures_table(results, found),
        "",
    ]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(lines))
