"""The asynchronous client against Go etcd 3.5.1."""

import asyncio

import pytest

from corum.client._async.client import AsyncClient
from corum.client.errors import DeadlineExceeded
from corum.client.requests import get, put, version

pytestmark = [pytest.mark.compat, pytest.mark.process]


def test_keys_and_transactions(endpoint: str) -> None:
    """The same calls, awaited; many at once on one connection."""

    async def work() -> None:
        async with AsyncClient(endpoint) as client:
            await asyncio.gather(*(client.put(f"a/{n:02}", str(n)) for n in range(50)))
            found = await client.range("a/", prefix=True)
            assert [pair.text for pair in found] == [str(n) for n in range(50)]
            seen = [pair.key async for pair in client.scan("a/", prefix=True, page=7)]
            assert seen == [pair.key for pair in found]
            done = await client.txn([version("x") == 0], [put("x", "1")], [get("x")])
            assert done.succeeded

    asyncio.run(work())


def test_watch_and_lease(endpoint: str) -> None:
    """A lease ends with its block; the watch sees the key come and go."""

    async def work() -> None:
        async with AsyncClient(endpoint) as client, client.watch("l") as watch:
            first = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0.1)
            async with await client.lease(5) as lease:
                await client.put("l", "x", lease=lease)
                assert (await first).value == b"x"
            assert (await anext(watch)).deleted

    asyncio.run(work())


def test_cancelled_call_leaves_the_client_usable(endpoint: str) -> None:
    """Cancelling a task gives up its call only."""

    async def work() -> None:
        async with AsyncClient(endpoint) as client:
            waiting = asyncio.ensure_future(anext(client.watch("never")))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await client.put("k", "v")
            assert await client.get("k") is not None

    asyncio.run(work())


def test_timeout_without_server() -> None:
    """Nobody there: DeadlineExceeded after the time given."""

    async def work() -> None:
        async with AsyncClient("127.0.0.1:1", timeout_s=0.3) as client:
            with pytest.raises(DeadlineExceeded):
                await client.get("k")

    asyncio.run(work())
