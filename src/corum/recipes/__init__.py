"""What people build on etcd, ready made: on `corum.Client` for threads, `corum.AsyncClient` else.

In: a client or a session, a name. Out: objects that lock, elect, queue, follow. Every class states
what it guarantees and what it does not. The same names with `Async` in front are for asyncio; both
are one source (`_async`, from which `tools/unasync.py` writes `_sync`).

Reading order: `session`, `line` (standing in line), `locks`, `election`; `mirror` (a range kept
current) and what follows from it: `config`, `discovery`, `liveness`; `queues`, `tasks`, `signals`,
`barriers`, `counter`, `stm`. Pure parts are in this folder: `balance`, `stm_sets`, `range_state`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corum.recipes.balance import Instance, LeastLoaded, RoundRobin, instance_of
from corum.recipes.errors import AlreadyThere, NotHeld, RecipeError, SessionExpired, TooMany
from corum.recipes.range_state import Change
from corum.recipes.stm_sets import Isolation

if TYPE_CHECKING:
    from corum.recipes._async.barriers import AsyncBarrier, AsyncDoubleBarrier
    from corum.recipes._async.config import AsyncConfig
    from corum.recipes._async.config import publish as publish_async
    from corum.recipes._async.counter import AsyncCounter
    from corum.recipes._async.discovery import AsyncRegistration, AsyncServices
    from corum.recipes._async.election import AsyncElection, AsyncLeaders, AsyncObserver
    from corum.recipes._async.liveness import AsyncHeartbeat, AsyncMonitor
    from corum.recipes._async.locks import AsyncMutex, AsyncReadWriteLock, AsyncSemaphore
    from corum.recipes._async.mirror import AsyncChanges, AsyncMirror
    from corum.recipes._async.presence import AsyncPresence
    from corum.recipes._async.queues import AsyncPriorityQueue, AsyncQueue
    from corum.recipes._async.session import AsyncSession
    from corum.recipes._async.signals import AsyncSignal
    from corum.recipes._async.stm import AsyncTransaction
    from corum.recipes._async.stm import atomically as atomically_async
    from corum.recipes._async.tasks import AsyncTask, AsyncTasks
    from corum.recipes._sync.barriers import Barrier, DoubleBarrier
    from corum.recipes._sync.config import Config, publish
    from corum.recipes._sync.counter import Counter
    from corum.recipes._sync.discovery import Registration, Services
    from corum.recipes._sync.election import Election, Leaders, Observer
    from corum.recipes._sync.liveness import Heartbeat, Monitor
    from corum.recipes._sync.locks import Mutex, ReadWriteLock, Semaphore
    from corum.recipes._sync.mirror import Changes, Mirror
    from corum.recipes._sync.presence import Presence
    from corum.recipes._sync.queues import PriorityQueue, Queue
    from corum.recipes._sync.session import Session
    from corum.recipes._sync.signals import Signal
    from corum.recipes._sync.stm import Transaction, atomically
    from corum.recipes._sync.tasks import Task, Tasks

__all__ = [
    "AlreadyThere", "AsyncBarrier", "AsyncChanges", "AsyncConfig", "AsyncCounter",
    "AsyncDoubleBarrier", "AsyncElection", "AsyncHeartbeat", "AsyncLeaders", "AsyncMirror",
    "AsyncMonitor", "AsyncMutex", "AsyncObserver", "AsyncPresence", "AsyncPriorityQueue",
    "AsyncQueue", "AsyncReadWriteLock", "AsyncRegistration", "AsyncSemaphore", "AsyncServices",
    "AsyncSession", "AsyncSignal", "AsyncTask", "AsyncTasks", "AsyncTransaction", "Barrier",
    "Change", "Changes", "Config", "Counter", "DoubleBarrier", "Election", "Heartbeat", "Instance",
    "Isolation", "Leaders", "LeastLoaded", "Mirror", "Monitor", "Mutex", "NotHeld", "Observer",
    "Presence", "PriorityQueue", "Queue", "ReadWriteLock", "RecipeError", "Registration",
    "RoundRobin", "Semaphore", "Services", "Session", "SessionExpired", "Signal", "Task",
    "Tasks", "TooMany", "Transaction",
    "atomically", "atomically_async", "instance_of", "publish", "publish_async",
]  # fmt: skip

_WHERE = {
    "Barrier": "barriers",
    "DoubleBarrier": "barriers",
    "Config": "config",
    "Counter": "counter",
    "Registration": "discovery",
    "Services": "discovery",
    "Election": "election",
    "Leaders": "election",
    "Observer": "election",
    "Heartbeat": "liveness",
    "Monitor": "liveness",
    "Mutex": "locks",
    "ReadWriteLock": "locks",
    "Semaphore": "locks",
    "Changes": "mirror",
    "Mirror": "mirror",
    "Presence": "presence",
    "PriorityQueue": "queues",
    "Queue": "queues",
    "Session": "session",
    "Signal": "signals",
    "Transaction": "stm",
    "Task": "tasks",
    "Tasks": "tasks",
}


_FUNCTIONS = {"atomically": "stm", "publish": "config"}


def __getattr__(name: str) -> Any:
    plain, colour = name, "_sync"
    if name.startswith("Async"):
        plain, colour = name.removeprefix("Async"), "_async"
    elif name.endswith("_async"):
        plain, colour = name.removesuffix("_async"), "_async"
    where = _WHERE.get(plain) or _FUNCTIONS.get(plain)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    inside = plain if plain in _FUNCTIONS else name
    return getattr(import_module(f"{__name__}.{colour}.{where}"), inside)
