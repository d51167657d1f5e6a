"""One client library under one load, in its own process and, if need be, its own environment.

Run by `clients.py` as `python client_worker.py LIBRARY LOAD CALLERS SECONDS HOST PORT`; prints one
line of JSON: operations, seconds, and seconds of CPU of this process, user and system. It imports
nothing of the repository, so that an environment with a foreign library alone can run it.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

VALUE = b"v" * 100
WARM_UP = 50
RANGE_PREFIX = b"bulk/"
RANGE_KEYS = 10_000
EVENTS_PREFIX = b"events/"
EVENTS = 20_000

Call = Callable[[int], int]
AsyncCall = Callable[[int], Awaitable[int]]


def key(number: int) -> bytes:
    return b"k/%06d" % (number % 10_000)


def checked(size: int) -> int:
    """The keys of a range, whose keys and values have been read."""
    assert size == RANGE_KEYS * (len(VALUE) + len(RANGE_PREFIX) + 6), size
    return RANGE_KEYS


# Each library as two functions: a call that does one operation, a watch that counts events.


def etcd3_calls(host: str, port: int) -> dict[str, Call]:
    import etcd3

    client = etcd3.client(host=host, port=port)

    def put(number: int) -> int:
        client.put(key(number), VALUE)
        return 1

    def get(number: int) -> int:
        client.get(key(number))
        return 1

    def bulk(_: int) -> int:
        size = sum(len(value) + len(meta.key) for value, meta in client.get_prefix(RANGE_PREFIX))
        return checked(size)

    def watch(_: int) -> int:
        events, cancel = client.watch_prefix(EVENTS_PREFIX, start_revision=1)
        for seen, _event in enumerate(events, 1):
            if seen == EVENTS:
                break
        cancel()
        return EVENTS

    return {"put": put, "get": get, "range": bulk, "watch": watch}


def corum_calls(host: str, port: int) -> dict[str, Call]:
    import corum

    client = corum.Client(f"{host}:{port}")

    def put(number: int) -> int:
        client.put(key(number), VALUE)
        return 1

    def get(number: int) -> int:
        client.get(key(number))
        return 1

    def bulk(_: int) -> int:
        found = client.range(RANGE_PREFIX, prefix=True)
        return checked(sum(len(pair.value) + len(pair.key) for pair in found))

    def watch(_: int) -> int:
        with client.watch(EVENTS_PREFIX, prefix=True, revision=1) as events:
            for seen, _event in enumerate(events, 1):
                if seen == EVENTS:
                    break
        return EVENTS

    return {"put": put, "get": get, "range": bulk, "watch": watch}


async def aetcd_calls(host: str, port: int) -> dict[str, AsyncCall]:
    import aetcd

    client = aetcd.Client(host=host, port=port)
    await client.connect()

    async def put(number: int) -> int:
        await client.put(key(number), VALUE)
        return 1

    async def get(number: int) -> int:
        await client.get(key(number))
        return 1

    async def bulk(_: int) -> int:
        found = await client.get_prefix(RANGE_PREFIX)
        return checked(sum(len(pair.value) + len(pair.key) for pair in found))

    async def watch(_: int) -> int:
        events = await client.watch_prefix(EVENTS_PREFIX, start_revision=1)
        seen = 0
        async for _event in events:
            seen += 1
            if seen == EVENTS:
                break
        await events.cancel()
        return EVENTS

    return {"put": put, "get": get, "range": bulk, "watch": watch}


async def corum_async_calls(host: str, port: int) -> dict[str, AsyncCall]:
    import corum

    client = corum.AsyncClient(f"{host}:{port}")

    async def put(number: int) -> int:
        await client.put(key(number), VALUE)
        return 1

    async def get(number: int) -> int:
        await client.get(key(number))
        return 1

    async def bulk(_: int) -> int:
        found = await client.range(RANGE_PREFIX, prefix=True)
        return checked(sum(len(pair.value) + len(pair.key) for pair in found))

    async def watch(_: int) -> int:
        async with client.watch(EVENTS_PREFIX, prefix=True, revision=1) as events:
            seen = 0
            async for _event in events:
                seen += 1
                if seen == EVENTS:
                    break
        return EVENTS

    return {"put": put, "get": get, "range": bulk, "watch": watch}


SYNC = {"etcd3": etcd3_calls, "corum": corum_calls}
ASYNC = {"aetcd": aetcd_calls, "corum-async": corum_async_calls}


class Meter:
    """Wall and CPU time from its making on."""

    def __init__(self, seconds: float) -> None:
        self.begin, self.cpu = time.perf_counter(), time.process_time()
        self.end = self.begin + seconds

    def figures(self, operations: int) -> dict[str, float]:
        cpu = time.process_time() - self.cpu
        return {"operations": operations, "s": time.perf_counter() - self.begin, "cpu_s": cpu}


def run_sync(call: Call, callers: int, seconds: float, warm_up: int) -> dict[str, float]:
    for number in range(warm_up):
        call(number)
    done = [0] * callers
    meter = Meter(seconds)

    def work(caller: int) -> None:
        number = caller * 1_000
        while time.perf_counter() < meter.end:
            done[caller] += call(number)
            number += 1

    threads = [threading.Thread(target=work, args=(caller,)) for caller in range(1, callers)]
    for thread in threads:
        thread.start()
    work(0)
    for thread in threads:
        thread.join()
    return meter.figures(sum(done))


async def run_async(
    calls: Awaitable[dict[str, AsyncCall]], load: str, callers: int, seconds: float, warm_up: int
) -> dict[str, float]:
    call = (await calls)[load]
    for number in range(warm_up):
        await call(number)
    done = [0] * callers
    meter = Meter(seconds)

    async def work(caller: int) -> None:
        number = caller * 1_000
        while time.perf_counter() < meter.end:
            done[caller] += await call(number)
            number += 1

    await asyncio.gather(*(work(caller) for caller in range(callers)))
    return meter.figures(sum(done))


def main(words: list[str]) -> None:
    library, load, callers, seconds, host, port = words
    warm_up = WARM_UP if load in ("put", "get") else 1
    found: dict[str, Any]
    if library in SYNC:
        call = SYNC[library](host, int(port))[load]
        found = run_sync(call, int(callers), float(seconds), warm_up)
    else:
        calls = ASYNC[library](host, int(port))
        found = asyncio.run(run_async(calls, load, int(callers), float(seconds), warm_up))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    import os

    main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # foreign libraries' threads may not want to end
