"""check perf and check datascale: load on the cluster, and a verdict.

perf offers writes at a fixed rate for a minute and judges throughput, slowest request and spread.
datascale writes a number of keys and tells by how much the server's memory has grown.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from corum.cli.command import (
    EXIT_BAD_FEATURE,
    EXIT_ERROR,
    EXIT_INVALID_INPUT,
    ExitError,
)
from corum.cli.etcdctl.context import Context, prefix_end, to_bytes
from corum.client import methods
from corum.client._async.session import Session
from corum.client.errors import ClientError
from corum.client.requests import put_bytes
from corum.pb import rpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from corum.cli.command import Invocation

PERF_S = 60
KEY_BYTES = 256
VALUE = b"\0" * 1024
ERRORS_MAX = 1  # of a hundred requests
BAR_CELLS = 60
DELETE_TIMEOUT_S = 60.0
PACE_S = 0.001  # between looks at how many puts are due
SHOW_S = 0.25  # between two states of the progress bar


class Load(NamedTuple):
    """rate: writes per second, or keys in all; clients: writers at a time."""

    rate: int
    clients: int


PERF_LOADS = {
    "s": Load(150, 50),
    "m": Load(1_000, 200),
    "l": Load(8_000, 500),
    "xl": Load(15_000, 1_000),
}
SCALE_LOADS = {
    "s": Load(10_000, 50),
    "m": Load(100_000, 200),
    "l": Load(1_000_000, 500),
    "xl": Load(3_000_000, 1_000),
}
ALIASES = {"small": "s", "medium": "m", "large": "l", "xlarge": "xl", "xLarge": "xl", "XL": "xl"}


def _load(context: Context, loads: dict[str, Load]) -> Load:
    given = context.values.string("load")
    load = loads.get(ALIASES.get(given, given))
    if load is None:
        raise ExitError(EXIT_BAD_FEATURE, f"unknown load option {given}")
    return load


class Writers:
    """Tasks that put random keys below a prefix, one put at a time each, as fast as they may.

    Tasks and not threads, so that a thousand of them cost no more than the puts themselves.
    """

    def __init__(self, context: Context, load: Load, prefix: bytes) -> None:
        self._options = context.session.options
        self._load = load
        self._prefix = prefix
        self.latencies_s: list[float] = []
        self.errors: Counter[str] = Counter()

    def run(self, allowed: Callable[[float], int], end_s: float, total: int) -> float:
        """Put until `end_s` seconds or `total` puts; seconds it took.

        allowed: how many puts may have been begun after so many seconds.
        """
        begin = monotonic()
        asyncio.run(self._run(allowed, begin, end_s, total))
        return monotonic() - begin

    async def _run(
        self, allowed: Callable[[float], int], begin: float, end_s: float, total: int
    ) -> None:
        work: asyncio.Queue[bool] = asyncio.Queue(self._load.clients)  # False: no more
        bar = ProgressBar(total)
        async with Session(self._options) as session:
            writers = [self._write(session, work) for _ in range(self._load.clients)]
            everything = asyncio.gather(*writers, self._offer(work, allowed, begin, end_s, total))
            while not everything.done():
                bar.show(len(self.latencies_s))
                await asyncio.wait([everything], timeout=SHOW_S)
            everything.result()
        bar.finish(len(self.latencies_s))

    async def _offer(
        self,
        work: asyncio.Queue[bool],
        allowed: Callable[[float], int],
        begin: float,
        end_s: float,
        total: int,
    ) -> None:
        given = 0
        while given < total and (elapsed := monotonic() - begin) < end_s:
            if given < allowed(elapsed):
                await work.put(True)
                given += 1
            else:
                await asyncio.sleep(PACE_S)
        for _ in range(self._load.clients):
            await work.put(False)

    async def _write(self, session: Session, work: asyncio.Queue[bool]) -> None:
        while await work.get():
            request = put_bytes(self._prefix + os.urandom(KEY_BYTES), VALUE)
            begin = monotonic()
            try:
                await session.call_bytes(methods.PUT, request)
                self.latencies_s.append(monotonic() - begin)
            except ClientError as error:
                self.errors[error.go_text()] += 1


class ProgressBar:
    """Share done so far, on a terminal only."""

    def __init__(self, total: int) -> None:
        self._total = max(total, 1)
        self._wanted = sys.stdout.isatty()

    def show(self, done: int) -> None:
        if self._wanted:
            cells = min(done * BAR_CELLS // self._total, BAR_CELLS)
            bar = "#" * cells + "-" * (BAR_CELLS - cells)
            sys.stdout.write(f"\r {done} / {self._total} {bar} {done * 100 / self._total:.2f}%")
            sys.stdout.flush()

    def finish(self, done: int) -> None:
        self.show(done)
        if self._wanted:
            sys.stdout.write("\n")


def perf(invocation: Invocation) -> int:
    with Context(invocation) as context:
        load = _load(context, PERF_LOADS)
        prefix = _empty_prefix(context)
        writers = Writers(context, load, prefix)
        took = writers.run(lambda s: int(load.rate * s) + 1, PERF_S, load.rate * PERF_S)
        _tidy(context, prefix)
        return _verdict(load, writers, took)


def _verdict(load: Load, writers: Writers, took_s: float) -> int:
    good = True
    done = writers.latencies_s
    if sum(writers.errors.values()) * 100 > len(done) * ERRORS_MAX:
        good = False
        print("FAIL: too many errors")
        for text, count in writers.errors.items():
            print(f"FAIL: ERROR({text}) -> {count}")
    rate = len(done) / took_s
    if rate / load.rate <= 0.9:
        good = False
        print(f"FAIL: Throughput too low: {int(rate) + 1} writes/s")
    else:
        print(f"PASS: Throughput is {int(rate + 0.5)} writes/s")
    slowest = max(done, default=0.0)
    if slowest > 0.5:
        good = False
        print(f"Slowest request took too long: {slowest:f}s")
    else:
        print(f"PASS: Slowest request took {slowest:f}s")
    spread = _deviation(done)
    if spread > 0.1:
        good = False
        print(f"Stddev too high: {spread:f}s")
    else:
        print(f"PASS: Stddev is {spread:f}s")
    print("PASS" if good else "FAIL")
    return 0 if good else EXIT_ERROR


def _deviation(numbers: list[float]) -> float:
    if not numbers:
        return 0.0
    mean = sum(numbers) / len(numbers)
    return (sum((n - mean) ** 2 for n in numbers) / len(numbers)) ** 0.5


def datascale(invocation: Invocation) -> int:
    with Context(invocation) as context:
        load = _load(context, SCALE_LOADS)
        names = context.endpoints()
        if len(names) != 1:
            raise ExitError(EXIT_ERROR, "check datascale needs exactly one endpoint")
        prefix = _empty_prefix(context)
        before = _memory_bytes(names[0], context)
        print(
            f"Start data scale check for work load [{load.rate} key-value pairs, "
            f"{len(VALUE)} bytes per key-value, {load.clients} concurrent clients].",
            flush=True,
        )
        writers = Writers(context, load, prefix)
        writers.run(lambda _s: load.rate, float("inf"), load.rate)
        after = _memory_bytes(names[0], context)
        _tidy(context, prefix)
        if writers.errors:
            print("FAIL: too many errors")
            for text, count in writers.errors.items():
                print(f"FAIL: ERROR({text}) -> {count}")
            return EXIT_ERROR
        used = (after - before) / 1024 / 1024
        print(f"PASS: Approximate system memory used : {used:.2f} MB.")
        return 0


def _empty_prefix(context: Context) -> bytes:
    prefix = to_bytes(context.values.string("prefix"))
    request = rpc.RangeRequest(key=prefix, range_end=prefix_end(prefix), limit=1)
    if context.call(methods.RANGE, request).kvs:
        text = prefix.decode("utf-8", "surrogateescape")
        raise ExitError(
            EXIT_INVALID_INPUT,
            f"prefix \"{text}\" has keys. Delete with 'etcdctl del --prefix {text}' first",
        )
    return prefix


def _tidy(context: Context, prefix: bytes) -> None:
    """Delete what was written; compact and defragment when asked to."""
    request = rpc.DeleteRangeRequest(key=prefix, range_end=prefix_end(prefix))
    response = context.call(methods.DELETE_RANGE, request, timeout_s=DELETE_TIMEOUT_S)
    if context.values.boolean("auto-compact"):
        compaction = rpc.CompactionRequest(revision=response.header.revision, physical=True)
        context.call(methods.COMPACT, compaction, timeout_s=DELETE_TIMEOUT_S)
        print(f"Compacting with revision {response.header.revision}")
    if context.values.boolean("auto-defrag"):
        for name in context.endpoints():
            with context.connect([name], timeout_s=DELETE_TIMEOUT_S) as session:
                session.call(methods.DEFRAGMENT, rpc.DefragmentRequest())
            print(f'Defragmented "{name}"')


def _memory_bytes(endpoint: str, context: Context) -> float:
    """The server's resident memory, from its /metrics."""
    import ssl
    from urllib.error import URLError
    from urllib.request import urlopen

    values = context.values
    secure = bool(values.string("cacert") or not values.boolean("insecure-transport"))
    url = endpoint if "://" in endpoint else f"{'https' if secure else 'http'}://{endpoint}"
    tls = None
    if url.startswith("https"):
        tls = ssl.create_default_context(cafile=values.string("cacert") or None)
        if values.string("cert"):
            tls.load_cert_chain(values.string("cert"), values.string("key"))
    try:
        with urlopen(f"{url}/metrics", timeout=context.timeout_s, context=tls) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("process_resident_memory_bytes "):
                    return float(line.split()[1])
    except (URLError, OSError) as error:
        raise ExitError(EXIT_ERROR, f"{url}/metrics: {error}") from None
    raise ExitError(EXIT_ERROR, f"{url}/metrics has no process_resident_memory_bytes")
