"""Whole runs of several members: some seeds, more with --long, and those that failed once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from corum.sim.__main__ import run
from corum.sim.cluster_simulation import ClusterSimulation
from corum.sim.coverage import summary

SEEDS, LONG_SEEDS = 4, 300
FEW = 12
OFTEN = (
    "partitions",
    "refused dials",
    "messages lost",
    "processes killed",
    "power failures",
    "elections",
    "logs compacted",
    "snapshots installed",
)
SELDOM = (
    "torn tails repaired",
    "early successions",
    "members added",
    "members removed",
    "snapshots taken over at a start",
)
_FAILED_ONCE = Path(__file__).with_name("seeds.txt").read_text().splitlines()
_NAMED = [words for line in _FAILED_ONCE if (words := line.split("#")[0].split())]
FAILED_ONCE = [
    (*(int(n) for n in words[0].split("/")), "plain" in words)
    for words in _NAMED
    if "/" in words[0]
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1001, 1001 + SEEDS))
def test_whatever_fails_nothing_is_lost_and_all_come_together_again(seed: int) -> None:
    """Links, machines, disks and clocks fail, members come and go; then calm, and the judges."""
    ClusterSimulation(seed, members=1 + seed % 5 if seed % 2 else 3).run()


@pytest.mark.slow
def test_what_failed_once_stays_repaired(long: bool) -> None:
    for members, seed, plain in FAILED_ONCE if long else FAILED_ONCE[1:4]:
        assert run(seed, members, False, 20, plain)[2] == "", f"{members}/{seed}"


@pytest.mark.slow
def test_many_seeds(long: bool) -> None:
    """Among them is everything that may happen."""
    if not long:
        pytest.skip("takes minutes (--long)")
    told = Counter[str]()
    for seed in range(2_000, 2_000 + LONG_SEEDS):
        _, _, failure, counts = run(seed, 3, False, 20)
        assert failure == "", f"seed {seed}"
        told += counts
    assert {*OFTEN, *SELDOM} <= {*told}


@pytest.mark.slow
def test_the_same_seed_is_exactly_the_same_run() -> None:
    first = ClusterSimulation(1003, operations=10)
    first.run()
    again = ClusterSimulation(1003, operations=10)
    again.run()
    assert again.world.trace_hash == first.world.trace_hash


@pytest.mark.slow
def test_the_runs_reach_what_they_are_for() -> None:
    """A few of them have all that half of them have."""
    told, compared = Counter[str](), 0
    for seed in range(FEW):
        simulation = ClusterSimulation(seed)
        simulation.run()
        told += simulation.told
        compared += simulation.compared
        if compared and {*OFTEN} <= {*told}:
            break
    assert {*OFTEN} <= {*told}
    assert compared, "no hashes were compared"
    assert "elections" in summary([told])
