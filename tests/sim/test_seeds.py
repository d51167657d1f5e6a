"""Whole runs: many seeds, the ones that failed once, and that a seed is a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from corum.sim.simulation import Simulation, simulate

SEEDS = 60
_FAILED_ONCE = Path(__file__).with_name("seeds.txt").read_text().splitlines()
_WORDS = [words[0] for line in _FAILED_ONCE if (words := line.split("#")[0].split())]
FAILED_ONCE = [int(word) for word in _WORDS if "/" not in word]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_nothing_wrong_happens_and_everything_comes_to_an_end(seed: int) -> None:
    """Random clients, crashes, torn writes, full disks; then calm, and the judges."""
    simulate(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", sorted({*FAILED_ONCE} - {*range(1, SEEDS + 1)}))
def test_what_failed_once_stays_repaired(seed: int) -> None:
    simulate(seed)


@pytest.mark.slow
def test_the_same_seed_is_exactly_the_same_run_here_and_in_another_process() -> None:
    """Neither the order of sets nor addresses of objects get into a run."""
    here = simulate(3)
    assert simulate(3) == here
    command = [sys.executable, "-m", "corum.sim", "--seed", "3"]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    there = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert f"seed 3: {here}" in there.stdout


@pytest.mark.slow
def test_the_runs_reach_what_they_are_for() -> None:
    """Crashes of both kinds, snapshots, new segments, repairs, alarms, compactions, expiries."""
    lines: list[str] = []
    for seed in range(1, 25):
        Simulation(seed, operations=20, say=lines.append).run()
    story = "\n".join(lines)
    for event in (
        "power failure",
        "process died",
        "disk full",
        "alarm raised",
        "saved snapshot",
        "compacted Raft logs",
        "cut: new segment named",
        "finished scheduled compaction",
        "compacted at",
        "log: synced by the short path",
        "log: synced\n",
        "job: after _DefragmentJob.run",
        "error: no room",
    ):
        assert event in story, event
