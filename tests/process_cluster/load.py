"""Writers on a cluster: they change members when one fails, and know what was acknowledged."""

from __future__ import annotations

import threading
from typing import Any

import corum
from oracle.build import compare, get, put, txn
from oracle.rpc import Client, Refused
from process.load import COUNTER, Ledger, check

CALL_TIMEOUT_S = 2.0
PACE_S = 0.005  # two cores are not to be filled by a test


class ClusterWriters:
    """Threads that put fresh keys, and one that counts up a key by compare and put."""

    def __init__(self, cluster: corum.LocalCluster, known: list[Ledger], writers: int = 3) -> None:
        """`known`: what earlier ones wrote in this cluster; theirs is added in the end."""
        self._endpoints = cluster.endpoints
        self._known = known
        self._prefix = f"w/{len(known)}"
        self._may_meet_old_ones = any(ledger.counts_unknown for ledger in known)
        self._stop = threading.Event()
        self.ledgers = [Ledger() for _ in range(writers + 1)]
        self._threads = [threading.Thread(target=self._put, args=(n,)) for n in range(writers)]
        self._threads.append(threading.Thread(target=self._count))

    def __enter__(self) -> ClusterWriters:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        self._known += self.ledgers

    def written(self) -> int:
        """How many writes were acknowledged so far."""
        return sum(len(ledger.acknowledged) + ledger.counted for ledger in self.ledgers)

    def _rounds(self, number: int) -> Any:
        """A client for each request; another member's after a failure (`client.failed`)."""
        while not self._stop.is_set():
            with Client(self._endpoints[number % len(self._endpoints)]) as client:
                while not self._stop.wait(PACE_S):
                    if (yield client):
                        break
            number += 1

    def _put(self, writer: int) -> None:
        ledger, rounds = self.ledgers[writer], self._rounds(writer)
        client = next(rounds, None)
        number = 0
        while client is not None:
            key = f"{self._prefix}/{writer}/{number:06d}".encode()
            number += 1
            answer = client.call("KV/Put", put(key, key), timeout_s=CALL_TIMEOUT_S)
            failed = isinstance(answer, Refused)
            (ledger.unknown if failed else ledger.acknowledged).append(key)
            client = _sent(rounds, failed)

    def _count(self) -> None:
        ledger, rounds = self.ledgers[-1], self._rounds(0)
        client = next(rounds, None)
        while client is not None:
            found = client.call("KV/Range", get(COUNTER), timeout_s=CALL_TIMEOUT_S)
            failed = isinstance(found, Refused)
            if not failed:
                failed = self._raise(client, ledger, found)
            client = _sent(rounds, failed)

    def _raise(self, client: Client, ledger: Ledger, found: Any) -> bool:
        """Whether it failed. An older attempt that was given up may come between the two calls."""
        value, revision = 0, 0
        if found.kvs:
            value, revision = int(found.kvs[0].value), found.kvs[0].mod_revision
        request = txn(
            [compare(COUNTER, "mod_revision", "=", revision)], [put(COUNTER, str(value + 1))]
        )
        answer = client.call("KV/Txn", request, timeout_s=CALL_TIMEOUT_S)
        if isinstance(answer, Refused):
            ledger.counts_unknown += 1
            return True
        if answer.succeeded:
            ledger.counted += 1
        else:
            assert ledger.counts_unknown or self._may_meet_old_ones, "nobody else counts"
        return False


def _sent(rounds: Any, failed: bool) -> Client | None:
    try:
        return rounds.send(failed)
    except StopIteration:
        return None


def check_everywhere(cluster: corum.LocalCluster, ledgers: list[Ledger], others: int = 0) -> None:
    """On every member: what was acknowledged, once; and the same hash of everything."""
    cluster.wait_ready()
    revision = 0
    for member in cluster.members.values():
        with Client(member.endpoint) as client:
            check(client, ledgers, others)
            revision = client.call("KV/Range", get(COUNTER)).header.revision
    hashes = {
        name: member.ask("maintenance/hashkv", {"revision": str(revision)})["hash"]
        for name, member in cluster.members.items()
    }
    assert len(set(hashes.values())) == 1, hashes
