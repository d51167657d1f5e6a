"""`python -m corum.sim --seeds 1-1000`: runs, their speed, and the seeds that fail with the end of
their story."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from corum.sim.simulation import Simulation

STORY_LINES = 25


def main() -> int:
    """1 if a seed fails."""
    parser = argparse.ArgumentParser(prog="python -m corum.sim", description=__doc__)
    parser.add_argument("--seed", type=int, action="append", default=[], help="may be repeated")
    parser.add_argument("--seeds", default="", help="A-B, both included")
    parser.add_argument("--steps", action="store_true", help="print the whole trace")
    arguments = parser.parse_args()
    seeds: list[int] = arguments.seed
    if arguments.seeds:
        first, _, last = arguments.seeds.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    begin, failed = time.monotonic(), list[int]()
    for seed in seeds or [1]:
        simulation = Simulation(seed, say=print if arguments.steps else None)
        try:
            simulation.run()
        except Exception as error:
            failed.append(seed)
            if not arguments.steps:
                print("\n".join(list(simulation.world.recent)[-STORY_LINES:]))
            print("".join(traceback.format_exception(error)[-3:]))
            print(f"seed {seed} failed\n")
        else:
            if len(seeds) <= 1:
                print(f"seed {seed}: {simulation.world.trace_hash}")
    took_s = time.monotonic() - begin
    print(f"{len(seeds or [1])} seeds, {len(seeds or [1]) / took_s:.2f}/s, failed: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
