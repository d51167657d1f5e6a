"""What a batch costs in the consensus core: microseconds per entry, no disk, no network.

    python benchmarks/raft_core.py [--batch 200] [--rounds 2000]

A lone voter in both ways of driving, and three members that pass messages in memory (work of all
three counted together). Each figure is the best of five runs; entries are made outside the clock.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Callable

from corum.raft import (
    APPEND_THREAD,
    APPLY_THREAD,
    Config,
    ConfState,
    Entry,
    HardState,
    MemoryStorage,
    Message,
    RawNode,
    Snapshot,
)
from corum.values import GIB

KEEP_ENTRIES = 5_000
DATA = b"x" * 120


def member(
    ident: int, voters: tuple[int, ...], *, pipelined: bool
) -> tuple[RawNode, MemoryStorage]:
    storage = MemoryStorage()
    storage.apply_snapshot(Snapshot(1, 1, ConfState(voters)))
    config = Config(
        id=ident,
        dice=random.Random(ident),
        applied=1,
        uncommitted_bytes_max=GIB,
        async_storage_writes=pipelined,
    )
    return RawNode(config, storage), storage


def drain_simple(node: RawNode, storage: MemoryStorage, out: list[Message]) -> int:
    """Everything a driver does with Ready, without the disk. Returns the entries applied."""
    applied = 0
    while node.has_ready():
        ready = node.ready()
        if ready.hard_state is not None:
            storage.set_hard_state(ready.hard_state)
        storage.append(ready.entries)
        out += ready.messages
        applied += len(ready.committed_entries)
        node.advance(ready)
    return applied


def drain_pipelined(node: RawNode, storage: MemoryStorage, out: list[Message]) -> int:
    applied = 0
    while node.has_ready():
        for msg in node.ready().messages:
            if msg.to == APPEND_THREAD:
                if msg.term:
                    storage.set_hard_state(HardState(msg.term, msg.vote, msg.commit))
                storage.append(msg.entries)
            elif msg.to == APPLY_THREAD:
                applied += len(msg.entries)
            else:
                out.append(msg)
                continue
            for answer in msg.responses:
                if answer.to == node.raft.id:
                    node.step(answer)
                else:
                    out.append(answer)
    return applied


def compact(node: RawNode, storage: MemoryStorage) -> None:
    last = storage.last_index()
    if last - storage.first_index() > 4 * KEEP_ENTRIES:
        storage.compact(last - KEEP_ENTRIES)


def lone_voter(batch: int, rounds: int, *, pipelined: bool) -> float:
    node, storage = member(1, (1,), pipelined=pipelined)
    drain = drain_pipelined if pipelined else drain_simple
    node.campaign()
    drain(node, storage, [])
    assert node.is_leader
    batches = [[Entry(data=DATA) for _ in range(batch)] for _ in range(rounds)]
    start = time.process_time()
    for entries in batches:
        node.propose(entries)
        applied = drain(node, storage, [])
        compact(node, storage)
        assert applied == batch
    return (time.process_time() - start) / (batch * rounds) * 1e6


def three_members(batch: int, rounds: int, *, pipelined: bool) -> float:
    drain = drain_pipelined if pipelined else drain_simple
    members = {key: member(key, (1, 2, 3), pipelined=pipelined) for key in (1, 2, 3)}

    def settle() -> int:
        applied = 0
        while True:
            out: list[Message] = []
            for node, storage in members.values():
                applied += drain(node, storage, out)
            if not out:
                return applied
            for msg in out:
                members[msg.to][0].step(msg)

    members[1][0].campaign()
    settle()
    batches = [[Entry(data=DATA) for _ in range(batch)] for _ in range(rounds)]
    start = time.process_time()
    for entries in batches:
        members[1][0].propose(entries)
        applied = settle()
        for node, storage in members.values():
            compact(node, storage)
        assert applied == 3 * batch
    return (time.process_time() - start) / (batch * rounds) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=500)
    args = parser.parse_args()
    gc.disable()
    cases: list[tuple[str, Callable[..., float]]] = [
        ("lone voter", lone_voter),
        ("three members", three_members),
    ]
    for batch in sorted({1, args.batch}):
        rounds = args.rounds * (10 if batch == 1 else 1)
        for name, case in cases:
            for pipelined in (False, True):
                best = min(case(batch, rounds, pipelined=pipelined) for _ in range(5))
                way = "pipelined" if pipelined else "simple"
                print(f"{name:14} {way:10} batch {batch:4}: {best:7.3f} µs per entry")


if __name__ == "__main__":
    main()
