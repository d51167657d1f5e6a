"""`python -m corum.sim --seeds 1-1000 --members 3 --jobs 2`: runs, their speed, and the seeds that
fail with the end of their story."""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import starmap

from corum.sim.cluster_simulation import ClusterSimulation
from corum.sim.coverage import summary
from corum.sim.features import PLAIN, random_features
from corum.sim.simulation import Simulation

STORY_LINES = 25
Outcome = tuple[int, str, str, Counter[str]]
"""(seed, hash of its trace, what went wrong, what it was about)."""


def main() -> int:
    """1 if a seed fails."""
    parser = argparse.ArgumentParser(prog="python -m corum.sim", description=__doc__)
    parser.add_argument("--seed", type=int, action="append", default=[], help="may be repeated")
    parser.add_argument("--seeds", default="", help="A-B, both included")
    parser.add_argument("--members", type=int, default=1, help="of the cluster; 1: a lone member")
    parser.add_argument(
        "--plain", action="store_true", help="none of what only some seeds have (features)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--steps", action="store_true", help="print the whole trace")
    parser.add_argument("--story", type=int, default=STORY_LINES, help="lines shown of a failure")
    arguments = parser.parse_args()
    seeds: list[int] = arguments.seed
    if arguments.seeds:
        first, _, last = arguments.seeds.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    seeds = seeds or [1]
    shown = (arguments.members, arguments.steps, arguments.story, arguments.plain)
    jobs = [(seed, *shown) for seed in seeds]
    begin, failed = time.monotonic(), list[int]()
    told: list[Counter[str]] = []
    for done, (seed, hash_, failure, counts) in enumerate(_outcomes(jobs, arguments.jobs), 1):
        told.append(counts)
        if failure:
            failed.append(seed)
            print(f"{failure}\nseed {seed} failed\n", flush=True)
        elif len(seeds) == 1:
            print(f"seed {seed}: {hash_}")
        if sys.stderr.isatty():
            rate = done / (time.monotonic() - begin)
            end = "\n" if done == len(seeds) else "\r"
            print(
                f"{done} of {len(seeds)} seeds, {rate:.2f}/s, {len(failed)} failed  ",
                end=end, file=sys.stderr, flush=True,
            )  # fmt: skip
    took_s = time.monotonic() - begin
    if len(seeds) > 1 and arguments.members > 1:
        print(summary(told))
    print(f"{len(seeds)} seeds, {len(seeds) / took_s:.2f}/s, failed: {failed}")
    return 1 if failed else 0


def _outcomes(jobs: list[tuple[int, int, bool, int, bool]], processes: int) -> Iterator[Outcome]:
    if processes == 1:
        yield from starmap(run, jobs)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(run, *zip(*jobs, strict=True), chunksize=4)


def run(seed: int, members: int, steps: bool, story: int, plain: bool = False) -> Outcome:
    """One seed; `plain`: without what only some seeds have."""
    say = print if steps else None
    if members == 1:
        simulation: Simulation | ClusterSimulation = Simulation(seed, say=say)
    else:
        features = PLAIN if plain else random_features(seed)
        simulation = ClusterSimulation(seed, members=members, say=say, features=features)
    gc.disable()  # one run's garbage is a few MB; looking for it in between takes a tenth
    try:
        simulation.run()
    except Exception as error:
        lines = [] if steps else list(simulation.world.recent)[-story:]
        lines += traceback.format_exception(error)[-3:]
        return seed, "", "\n".join(lines), simulation.world.counts
    finally:
        gc.enable()
        gc.collect()
    counts = (
        simulation.told if isinstance(simulation, ClusterSimulation) else simulation.world.counts
    )
    return seed, simulation.world.trace_hash, "", counts


if __name__ == "__main__":
    sys.exit(main())
