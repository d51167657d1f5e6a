"""kill -9 under load: what was acknowledged is there afterwards, exactly once."""

import random
import time
from pathlib import Path

import pytest

from oracle import servers
from oracle.rpc import Client
from process.load import Ledger, Writers, check

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(300)]

ROUNDS = 20
WRITES_BEFORE_KILL_MAX = 600
LOAD_TIMEOUT_S = 10.0


def test_kill_under_load(our_program: servers.Program, tmp_path: Path) -> None:
    """In every round the server dies in the middle of writes and comes back with all of them.

    A small --snapshot-count makes snapshots and log truncation part of what is interrupted.
    """
    dice = random.Random(20)
    ledgers: list[Ledger] = []
    server = servers.Server(our_program, tmp_path / "server", ["--snapshot-count=500"])
    try:
        for round_number in range(ROUNDS):
            server.start()
            if ledgers:
                with Client(server.endpoint) as client:
                    check(client, ledgers)
            writers = Writers(server.endpoint, round_number).start()
            wanted = dice.randrange(50, WRITES_BEFORE_KILL_MAX)
            end = time.monotonic() + LOAD_TIMEOUT_S
            while writers.written() < wanted and time.monotonic() < end:
                time.sleep(0.002)
            server.kill()
            ledgers += writers.stop()
            assert writers.written() >= wanted, "the server did not take the load"
        server.start()
        with Client(server.endpoint) as client:
            check(client, ledgers)
    finally:
        server.kill()


def test_stop_under_load(our_program: servers.Program, tmp_path: Path) -> None:
    """SIGTERM in the middle of writes loses nothing either, and ends within seconds."""
    server = servers.Server(our_program, tmp_path / "server")
    try:
        server.start()
        writers = Writers(server.endpoint, 0).start()
        end = time.monotonic() + LOAD_TIMEOUT_S
        while writers.written() < 200 and time.monotonic() < end:
            time.sleep(0.002)
        assert server.stop() == 143
        ledgers = writers.stop()
        server.start()
        with Client(server.endpoint) as client:
            check(client, ledgers)
    finally:
        server.kill()
