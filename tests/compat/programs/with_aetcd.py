"""A program on the library aetcd, run by `test_foreign_clients`: python with_aetcd.py HOST PORT."""

import asyncio
import sys

import aetcd


async def watched(client: aetcd.Client) -> None:
    watch = await client.watch_prefix(b"w/")

    async def change() -> None:
        await asyncio.sleep(0.2)
        await client.put(b"w/1", b"x")
        await client.delete(b"w/1")

    changing = asyncio.ensure_future(change())
    seen = []
    async for event in watch:
        seen.append((event.kind, event.kv.key))
        if len(seen) == 2:
            break
    await changing
    await watch.cancel()
    kinds = aetcd.rtypes.EventKind
    assert seen == [(kinds.PUT, b"w/1"), (kinds.DELETE, b"w/1")], seen


async def main(host: str, port: int) -> None:
    async with aetcd.Client(host=host, port=port, timeout=20) as client:
        await client.put(b"a", b"1")
        await client.put(b"a/b", b"2")
        found = await client.get(b"a")
        assert (found.value, found.version) == (b"1", 1)
        assert [pair.value for pair in await client.get_prefix(b"a")] == [b"1", b"2"]
        assert await client.replace(b"a", b"1", b"3")
        assert not await client.replace(b"a", b"1", b"4")
        done, _ = await client.transaction(
            compare=[client.transactions.value(b"a") == b"3"],
            success=[client.transactions.put(b"t", b"yes")],
            failure=[client.transactions.put(b"t", b"no")],
        )
        assert done
        await watched(client)
        lease = await client.lease(30)
        await client.put(b"l", b"x", lease=lease)
        assert await lease.remaining_ttl() > 0
        await lease.refresh()
        await lease.revoke()
        assert await client.get(b"l") is None
        async with client.lock(b"mutex", ttl=10) as lock:
            assert await lock.is_acquired()
        assert (await client.delete_prefix(b"a")).deleted == 2
        status = await client.status()
        assert status.version
        print("done")


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
