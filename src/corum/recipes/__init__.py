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

from corum.recipes.errors import AlreadyThere, NotHeld, RecipeError, SessionExpired, TooMany

if TYPE_CHECKING:
    from corum.recipes._async.election import AsyncElection, AsyncLeaders, AsyncObserver
    from corum.recipes._async.locks import AsyncMutex, AsyncReadWriteLock, AsyncSemaphore
    from corum.recipes._async.session import AsyncSession
    from corum.recipes._sync.election import Election, Leaders, Observer
    from corum.recipes._sync.locks import Mutex, ReadWriteLock, Semaphore
    from corum.recipes._sync.session import Session

__all__ = [
    "AlreadyThere", "AsyncElection", "AsyncLeaders", "AsyncMutex", "AsyncObserver",
    "AsyncReadWriteLock", "AsyncSemaphore", "AsyncSession", "Election", "Leaders", "Mutex",
    "NotHeld", "Observer", "ReadWriteLock", "RecipeError", "Semaphore", "Session",
    "SessionExpired", "TooMany",
]  # fmt: skip

_WHERE = {
    "Election": "election",
    "Leaders": "election",
    "Observer": "election",
    "Mutex": "locks",
    "ReadWriteLock": "locks",
    "Semaphore": "locks",
    "Session": "session",
}


def __getattr__(name: str) -> Any:
    plain = name.removeprefix("Async")
    if plain not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    colour = "_sync" if plain == name else "_async"
    return getattr(import_module(f"{__name__}.{colour}.{_WHERE[plain]}"), name)
