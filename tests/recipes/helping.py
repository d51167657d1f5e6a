"""Waiting for something to come true, and doing two things at a time."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

import corum

WAIT_S = 30.0


def until(condition: Callable[[], object]) -> None:
    """Look again and again until it is true."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)


def beside(work: Callable[..., Any], *args: Any, **options: Any) -> Future[Any]:
    """Run on a thread of its own; `.result(WAIT_S)` gives what it returns or raises."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work(*args, **options))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def keys(client: corum.Client, name: str) -> list[bytes]:
    """All keys below the test's name, oldest first."""
    found = client.range(name, prefix=True, keys_only=True, order="ascend", sort_by="create")
    return [kv.key for kv in found]


def run(work: Coroutine[Any, Any, Any]) -> None:
    """A test of the asynchronous half."""
    asyncio.run(asyncio.wait_for(work, WAIT_S))


async def until_async(condition: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Look again and again until it is true."""
    end = time.monotonic() + WAIT_S
    while not await condition():
        assert time.monotonic() < end, "it did not come true"
        await asyncio.sleep(0.005)
