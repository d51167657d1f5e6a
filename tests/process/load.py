"""Writers that know exactly which of their writes were acknowledged."""

import threading
from dataclasses import dataclass, field
from typing import Any

from corum.pb import rpc
from oracle.build import compare, get, put, txn
from oracle.rpc import Client, Refused

WRITERS = 8
COUNTER = b"counter"


@dataclass
class Ledger:
    """What one writer asked for and what it was told; keys are never written twice."""

    acknowledged: list[bytes] = field(default_factory=list)
    unknown: list[bytes] = field(default_factory=list)  # sent, but the answer never came
    counted: int = 0
    counts_unknown: int = 0


class Writers:
    """`WRITERS` threads that put fresh keys, and one that counts up a key by compare and put."""

    def __init__(self, endpoint: str, round_number: int) -> None:
        self.ledgers = [Ledger() for _ in range(WRITERS + 1)]
        self._stop = threading.Event()
        self._endpoint = endpoint
        self._round = round_number
        self._threads = [threading.Thread(target=self._put, args=(n,)) for n in range(WRITERS)]
        self._threads.append(threading.Thread(target=self._count))

    def start(self) -> "Writers":
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> list[Ledger]:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        return self.ledgers

    def written(self) -> int:
        return sum(len(ledger.acknowledged) for ledger in self.ledgers)

    def _put(self, writer: int) -> None:
        ledger = self.ledgers[writer]
        with Client(self._endpoint) as client:
            number = 0
            while not self._stop.is_set():
                key = f"w/{self._round:03d}/{writer}/{number:06d}".encode()
                number += 1
                answer = client.call("KV/Put", put(key, key), timeout_s=3)
                if isinstance(answer, Refused):
                    ledger.unknown.append(key)
                    return
                ledger.acknowledged.append(key)

    def _count(self) -> None:
        ledger = self.ledgers[WRITERS]
        with Client(self._endpoint) as client:
            while not self._stop.is_set():
                found: Any = client.call("KV/Range", get(COUNTER), timeout_s=3)
                if isinstance(found, Refused):
                    return
                value = int(found.kvs[0].value) if found.kvs else 0
                revision = found.kvs[0].mod_revision if found.kvs else 0
                request = txn(
                    [compare(COUNTER, "mod_revision", "=", revision)],
                    [put(COUNTER, str(value + 1))],
                )
                answer = client.call("KV/Txn", request, timeout_s=3)
                if isinstance(answer, Refused):
                    ledger.counts_unknown += 1
                    return
                assert answer.succeeded, "nobody else counts"
                ledger.counted += 1


def check(client: Client, ledgers: list[Ledger], others: int = 0) -> None:
    """Every acknowledged write is there once, and nothing is there that nobody sent.

    `others`: how many revisions are of somebody else's writes.
    """
    everything = client.call("KV/Range", rpc.RangeRequest(key=b"w/", range_end=b"w0"))
    assert not isinstance(everything, Refused), everything
    acknowledged = {key for ledger in ledgers for key in ledger.acknowledged}
    unknown = {key for ledger in ledgers for key in ledger.unknown}
    stored = {kv.key for kv in everything.kvs}
    assert acknowledged <= stored, f"lost: {sorted(acknowledged - stored)[:5]}"
    assert stored <= acknowledged | unknown, f"invented: {sorted(stored - acknowledged)[:5]}"
    twice = [kv.key for kv in everything.kvs if kv.version != 1 or kv.value != kv.key]
    assert not twice, f"applied twice or wrong: {twice[:5]}"
    (counter,) = client.call("KV/Range", get(COUNTER)).kvs
    counted = sum(ledger.counted for ledger in ledgers)
    unknown_counts = sum(ledger.counts_unknown for ledger in ledgers)
    told = f"{counter.value} with {counted} acknowledged and {unknown_counts} unknown"
    assert counted <= int(counter.value) <= counted + unknown_counts, told
    assert counter.version == int(counter.value), told
    writes = len(stored) + int(counter.value)
    assert everything.header.revision == 1 + writes + others, "one revision per write, no more"
