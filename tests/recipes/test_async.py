"""The same recipes for asyncio: they work, and a cancelled wait leaves nothing behind."""

import asyncio

import pytest

from corum import AsyncClient
from corum.recipes import (
    AsyncBarrier,
    AsyncConfig,
    AsyncCounter,
    AsyncDoubleBarrier,
    AsyncElection,
    AsyncHeartbeat,
    AsyncMirror,
    AsyncMonitor,
    AsyncMutex,
    AsyncPriorityQueue,
    AsyncQueue,
    AsyncReadWriteLock,
    AsyncRegistration,
    AsyncSemaphore,
    AsyncServices,
    AsyncSession,
    AsyncSignal,
    AsyncTasks,
    AsyncTransaction,
    SessionExpired,
    atomically_async,
    publish_async,
)
from recipes.helping import WAIT_S, run, until_async


async def keys(client: AsyncClient, name: str) -> int:
    return (await client.range(name, prefix=True, count_only=True)).count


def test_mutex_and_semaphore(endpoint: str, name: str) -> None:
    """Ten tasks, one (three) at a time, in order."""

    async def work() -> None:
        async with AsyncClient(endpoint) as client, AsyncSession(client) as session:
            order: list[int] = []
            inside = most = 0

            async def hold(number: int) -> None:
                nonlocal inside, most
                async with AsyncMutex(session, name):
                    order.append(number)
                async with AsyncSemaphore(session, name + "-s", 3):
                    inside += 1
                    most = max(most, inside)
                    await client.get(name)
                    inside -= 1

            mutex = AsyncMutex(session, name)
            tasks = []
            async with mutex:
                for number in range(10):
                    tasks.append(asyncio.ensure_future(hold(number)))
                    await until_async(lambda n=number: _is(keys(client, name + "/"), n + 2))
            await asyncio.gather(*tasks)
            assert order == list(range(10))
            assert 1 <= most <= 3
            assert await keys(client, name) == 0

    run(work())


async def _is(made: object, wanted: int) -> bool:
    return (await made) == wanted  # type: ignore[misc]


def test_cancelled_acquire_leaves_nothing_behind(endpoint: str, name: str) -> None:
    """At whatever moment it is cancelled; twice in a row, too."""

    async def work() -> None:
        async with AsyncClient(endpoint) as client, AsyncSession(client) as session:
            holder = AsyncMutex(session, name)
            lock = AsyncReadWriteLock(session, name + "-rw")
            await holder.acquire()
            await lock.writer.acquire()
            for steps in range(40):
                waiting = [
                    asyncio.ensure_future(AsyncMutex(session, name).acquire()),
                    asyncio.ensure_future(lock.reader.acquire()),
                    asyncio.ensure_future(AsyncElection(session, name).campaign("x")),
                ]
                for _ in range(steps):
                    await asyncio.sleep(0)
                for task in waiting:
                    task.cancel()
                await asyncio.sleep(0)
                for task in waiting:
                    task.cancel()
                done = await asyncio.gather(*waiting, return_exceptions=True)
                assert all(isinstance(one, asyncio.CancelledError) for one in done)
                assert await keys(client, name) == 2
            await holder.release()
            await lock.writer.release()
            async with holder:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(AsyncMutex(session, name).acquire(), 0.05)
            assert await keys(client, name) == 0

    run(work())


def test_cancelled_winner_gives_back(endpoint: str, name: str) -> None:
    """Cancelled at about the moment when it is its turn: held, or nothing left."""

    async def work() -> None:
        async with AsyncClient(endpoint) as client, AsyncSession(client) as session:
            for steps in range(30):
                mutex = AsyncMutex(session, name)
                task = asyncio.ensure_future(mutex.acquire())
                for _ in range(steps):
                    await asyncio.sleep(0.0001)
                task.cancel()
                done = (await asyncio.gather(task, return_exceptions=True))[0]
                if isinstance(done, int):
                    assert mutex.held
                    await mutex.release()
                assert await keys(client, name) == 0

    run(work())


def test_end_of_the_session(endpoint: str, name: str) -> None:
    """Revoked elsewhere: who waits is told, and the next one holds."""

    async def work() -> None:
        async with AsyncClient(endpoint) as client, AsyncSession(client) as other:
            session = await AsyncSession(client, 2).open()
            mutex = AsyncMutex(session, name)
            await mutex.acquire()
            await AsyncMutex(other, name + "-b").acquire()
            following = asyncio.ensure_future(AsyncMutex(other, name).acquire())
            hopeless = asyncio.ensure_future(AsyncMutex(session, name + "-b").acquire())
            await until_async(lambda: _is(keys(client, name), 4))
            await client.revoke(session.lease_id)
            await following
            with pytest.raises(SessionExpired):
                await hopeless
            await session.wait_lost(WAIT_S)
            assert not mutex.held
            await session.aclose()

    run(work())


def test_election(endpoint: str, name: str) -> None:
    """Campaign, observe, proclaim, resign."""

    async def work() -> None:
        async with AsyncClient(endpoint) as client, AsyncSession(client) as session:
            election = AsyncElection(session, name)
            async with election.observe() as leaders:
                looking = asyncio.ensure_future(leaders.receive())
                await election.campaign("a")
                first = await looking
                assert first is not None
                assert first.value == b"a"
                await election.proclaim("b")
                async for leader in leaders:
                    assert leader.value == b"b"
                    break
            await election.resign()
            assert await election.leader() is None

    run(work())


def test_queues_and_cancelled_consumers(endpoint: str, name: str) -> None:
    """Whatever moment a consumer is cancelled at, no item is lost."""

    async def work() -> None:
        async with AsyncClient(endpoint) as client:
            queue, urgent = AsyncQueue(client, name), AsyncPriorityQueue(client, name + "-p")
            for steps in range(40):
                tasks = [asyncio.ensure_future(q.get()) for q in (queue, urgent)]
                await queue.put("x")
                await urgent.put("y", 3)
                for _ in range(steps):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                done = await asyncio.gather(*tasks, return_exceptions=True)
                for one, q in zip(done, (queue, urgent), strict=True):
                    assert await q.size() == isinstance(one, BaseException)
                    if isinstance(one, BaseException):
                        assert await q.get() in (b"x", b"y")
            waiting = asyncio.ensure_future(queue.wait_size(lambda size: size == 1))
            await queue.put("x")
            assert await waiting == 1

    run(work())


def test_barriers_and_counter(endpoint: str, name: str) -> None:
    """Nobody goes on alone; a cancelled participant has not entered."""

    async def work() -> None:
        async with AsyncClient(endpoint) as client, AsyncSession(client) as session:
            barrier, counter = AsyncBarrier(client, name), AsyncCounter(client, name + "-c")
            await barrier.hold()
            waiting = asyncio.ensure_future(barrier.wait(WAIT_S))
            await barrier.release()
            await waiting
            one, two = (AsyncDoubleBarrier(session, name + "-d", 2) for _ in range(2))
            early = asyncio.ensure_future(one.enter())
            await until_async(lambda: _is(keys(client, name + "-d"), 1))
            early.cancel()
            await asyncio.gather(early, return_exceptions=True)
            assert await keys(client, name + "-d") == 0
            await asyncio.gather(one.enter(), two.enter())
            await asyncio.gather(one.leave(), two.leave())
            added = await asyncio.gather(*(counter.add() for _ in range(20)))
            assert sorted(added) == list(range(1, 21))

    run(work())


def test_following(endpoint: str, name: str) -> None:
    """Mirror, configuration, services and liveness, awaited."""

    async def work() -> None:
        async with AsyncClient(endpoint) as client, AsyncSession(client) as session:
            await publish_async(client, f"{name}/c/", {"a": "1"})
            async with (
                AsyncMirror(client, f"{name}/c/") as mirror,
                AsyncConfig(client, f"{name}/c/") as config,
                AsyncServices(client, f"{name}/s") as services,
                AsyncMonitor(client, f"{name}/m") as monitor,
            ):
                changes = mirror.changes()
                await config.publish({"a": "2"})
                assert (await anext(changes)).key == f"{name}/c/a".encode()
                assert await config.changed(WAIT_S) == {"a": "2"}
                async with (
                    AsyncRegistration(session, f"{name}/s", "host:1"),
                    services.use(WAIT_S) as instance,
                ):
                    assert instance.address == "host:1"
                async with AsyncHeartbeat(session, f"{name}/m", "me"):
                    assert (await anext(monitor)).name == "me"

    run(work())


def test_signals_tasks_and_memory(endpoint: str, name: str) -> None:
    """Notify and wait; a cancelled `take` leaves the task to others; transactions."""

    async def work() -> None:
        async with AsyncClient(endpoint) as client, AsyncSession(client) as session:
            signal, tasks = AsyncSignal(client, name), AsyncTasks(client, name + "-t")
            start = await signal.notify("one")
            waiting = asyncio.ensure_future(signal.wait(start))
            await signal.notify("two")
            assert (await waiting).content == b"two"
            for steps in range(25):
                taking = asyncio.ensure_future(tasks.take(session))
                await tasks.submit("x", str(steps))
                for _ in range(steps):
                    await asyncio.sleep(0)
                taking.cancel()
                done = (await asyncio.gather(taking, return_exceptions=True))[0]
                if isinstance(done, BaseException):
                    assert await tasks.size() == (1, 0)
                    done = await tasks.take(session, WAIT_S)
                async with done as task:
                    await task.finish("done")
                assert await tasks.wait(str(steps)) == b"done"

            async def add(txn: AsyncTransaction) -> None:
                txn.put(name + "-n", str(int(await txn.get(name + "-n") or 0) + 1))

            await asyncio.gather(*(atomically_async(client, add) for _ in range(10)))
            found = await client.get(name + "-n")
            assert found is not None
            assert found.value == b"10"

    run(work())
