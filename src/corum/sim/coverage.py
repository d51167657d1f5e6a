"""What a run was about: which faults struck and what the members had to do, by the story's lines.

A fault that no seed exercises is a promise that nobody keeps, so runs count what they reach.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

MARKS: Final = (
    ("partition: cut", "partitions"),
    ("connections of", "broken connections"),
    ("links are slow", "slow links"),
    ("process died", "processes killed"),
    ("power failure", "power failures"),
    (": dies at '", "deaths at an effect"),
    (": will die at '", "deaths to come at a rare effect"),
    ("will lose power while it writes", "power failures to come at a write"),
    ("told to stop", "SIGTERM"),
    ("paused for", "standstills"),
    ("wall clock jumps", "clocks that jump"),
    ("its clock runs", "clocks of other speeds"),
    ("its disk is slow", "slow disks"),
    ("disk full", "full disks"),
    ("Input/output error", "disks that fail"),
    ("boot: repaired", "torn tails repaired"),
    ("elected leader", "elections"),
    ("process of the leader is gone", "early successions"),
    ("Maintenance/MoveLeader", "leadership moved by request"),
    ("joins as", "members added"),
    (": removed", "members removed"),
    ("Cluster/MemberPromote", "promotions asked"),
    ("Cluster/MemberUpdate", "peer URLs changed"),
    ("guard: Auth/", "users and roles"),
    ("warden: Auth/", "rights changed under authentication"),
    ("v2client", "v2 requests"),
    ("compacted Raft logs", "logs compacted"),
    ("receiving database snapshot", "snapshots sent"),
    ("database: installed", "snapshots installed"),
    ("a database was taken over", "snapshots taken over at a start"),
    ("finished scheduled compaction", "compactions"),
    ("cut: new segment named", "log segments cut"),
    ("alarm raised", "alarms"),
    ("etcdserver: request timed out", "requests that time out"),
)  # fmt: skip
"""(part of a line, what it counts for)."""


def counted(line: str, counts: Counter[str]) -> None:
    """Add what a line of the story tells."""
    for part, name in MARKS:
        if part in line:
            counts[name] += 1


def summary(runs: Iterable[Counter[str]]) -> str:
    """For each of them the share of runs that have it, and how often it comes in one on average."""
    every = list(runs)
    names = dict.fromkeys([name for _, name in MARKS] + [name for run in every for name in run])
    lines = [f"{'':34}{'runs':>6}{'each':>8}"]
    for name in names:
        share = sum(name in run for run in every) / len(every)
        each = sum(run[name] for run in every) / len(every)
        lines.append(f"{name:34}{share:6.0%}{each:8.1f}")
    return "\n".join(lines)
