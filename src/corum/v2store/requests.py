"""A replicated v2 request, and which operation of the store it asks for (v2-store.md §2)."""

from __future__ import annotations

from corum.v2store.errors import V2Error
from corum.v2store.events import Event
from corum.v2store.store import Store
from corum.values import value


@value
class Request:
    """etcdserverpb.Request without what only the HTTP side looks at. Paths are internal (/1/…)."""

    method: str
    path: str = ""
    val: str = ""
    dir: bool = False
    prev_value: str = ""
    prev_index: int = 0
    prev_exist: bool | None = None
    expiration_ns: int = 0  # absolute; 0: no TTL given
    recursive: bool = False
    sorted: bool = False
    refresh: bool = False
    time_ns: int = 0  # of SYNC


def apply(store: Store, request: Request, now_ns: int) -> Event | V2Error | None:
    """Carry out one committed request; None for SYNC. Refusals are values: all members share them.

    Raises ValueError for a method that is no v2 method (etcd answers "unknown method").
    """
    try:
        return _perform(store, request, now_ns)
    except V2Error as error:
        return error.with_traceback(None)


def _perform(store: Store, request: Request, now_ns: int) -> Event | None:
    match request.method:
        case "POST":
            return store.create(
                request.path,
                request.val,
                directory=request.dir,
                unique=True,
                expire_ns=request.expiration_ns,
                now_ns=now_ns,
            )
        case "PUT":
            return _put(store, request, now_ns)
        case "DELETE" if request.prev_index > 0 or request.prev_value:
            return store.compare_and_delete(
                request.path, request.prev_value, request.prev_index, now_ns=now_ns
            )
        case "DELETE":
            return store.delete(
                request.path, directory=request.dir, recursive=request.recursive, now_ns=now_ns
            )
        case "QGET":
            return store.get(
                request.path, recursive=request.recursive, ordered=request.sorted, now_ns=now_ns
            )
        case "SYNC":
            store.delete_expired(request.time_ns, now_ns)
            return None
        case _:
            raise ValueError(f"unknown v2 method {request.method!r}")


def _put(store: Store, request: Request, now_ns: int) -> Event:
    """prevExist decides first, then prevValue and prevIndex, else it is a plain set."""
    compares = request.prev_index > 0 or request.prev_value != ""
    if request.prev_exist is False:
        return store.create(
            request.path,
            request.val,
            directory=request.dir,
            expire_ns=request.expiration_ns,
            now_ns=now_ns,
        )
    if compares:
        return store.compare_and_swap(
            request.path,
            request.prev_value,
            request.prev_index,
            request.val,
            expire_ns=request.expiration_ns,
            refresh=request.refresh,
            now_ns=now_ns,
        )
    if request.prev_exist:
        return store.update(
            request.path,
            request.val,
            expire_ns=request.expiration_ns,
            refresh=request.refresh,
            now_ns=now_ns,
        )
    return store.set(
        request.path,
        request.val,
        directory=request.dir,
        expire_ns=request.expiration_ns,
        refresh=request.refresh,
        now_ns=now_ns,
    )
