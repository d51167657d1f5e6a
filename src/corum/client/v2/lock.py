"""A lock on the v2 API, fair among its waiters: keys in order below one directory.

Whoever holds the first key holds the lock; every other waiter waits for the key just before its
own to go. A holder that dies loses its key when the TTL is over. So a holder that stalls for longer
than its TTL may think it still holds the lock: `is_acquired` asks.
"""

from __future__ import annotations

import uuid
from time import monotonic
from typing import TYPE_CHECKING

from corum.client.v2.errors import (
    EtcdEventIndexCleared,
    EtcdKeyNotFound,
    EtcdLockExpired,
    EtcdWatchTimedOut,
)

if TYPE_CHECKING:
    from corum.client.v2.client import Client


class Lock:
    """The lock `lock_name` of a cluster. As a context manager it is held inside."""

    def __init__(self, client: Client, lock_name: str) -> None:
        self.client = client
        self.name = lock_name
        self.uuid = uuid.uuid4().hex
        self.path = f"{client.lock_prefix.rstrip('/')}/{lock_name}"
        self._key: str | None = None  # ours, while we wait for or hold the lock

    @property
    def is_taken(self) -> bool:
        """Whether `acquire` has succeeded and `release` has not been called since."""
        return self._key is not None

    @property
    def is_acquired(self) -> bool:
        """Whether the lock is ours now, asked of the cluster. EtcdLockExpired: it was, once."""
        if self._key is None:
            return False
        queue = self._queue()
        if self._key not in queue:
            self._key = None
            raise EtcdLockExpired(f"lock {self.name} ran out")
        return queue[0] == self._key

    def acquire(
        self, blocking: bool = True, lock_ttl: int | None = 3600, timeout: float = 0
    ) -> bool:
        """Wait for the lock; False when it is not to be had, at once or within `timeout` seconds.

        lock_ttl: seconds it is ours without being acquired again; None: until released.
        """
        end = monotonic() + timeout if timeout else None
        self._enter(lock_ttl)
        try:
            while (before := self._before()) is not None:
                if not blocking or (end is not None and monotonic() >= end):
                    self.release()
                    return False
                self._wait_for(before, end)
        except BaseException:
            self.release()
            raise
        return True

    def release(self) -> None:
        """Give it up; one that has run out is no error."""
        key, self._key = self._key, None
        if key is not None:
            try:
                self.client.delete(key)
            except EtcdKeyNotFound:
                pass

    def __enter__(self) -> Lock:
        self.acquire(blocking=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _enter(self, ttl: int | None) -> None:
        """Have a key in the queue: the one that is there already lives on for `ttl` more."""
        if self._key is not None:
            try:
                self.client.write(self._key, self.uuid, ttl=ttl, prevExist=True)
            except EtcdKeyNotFound:
                self._key = None
            else:
                return
        self._key = self.client.write(self.path, self.uuid, ttl=ttl, append=True).key

    def _before(self) -> tuple[str, int] | None:
        """The key in front of ours and from when on to watch it; None: the lock is ours."""
        found = self.client.read(self.path, recursive=True, quorum=True)
        queue = sorted(leaf.key or "" for leaf in found.leaves)
        if self._key not in queue:
            raise EtcdLockExpired(f"lock {self.name} ran out while it was waited for")
        at = queue.index(self._key)
        return (queue[at - 1], found.etcd_index + 1) if at else None

    def _queue(self) -> list[str]:
        found = self.client.read(self.path, recursive=True, quorum=True)
        return sorted(leaf.key or "" for leaf in found.leaves)

    def _wait_for(self, before: tuple[str, int], end: float | None) -> None:
        """Until something happened to the key in front, or `end`."""
        left = 0 if end is None else max(end - monotonic(), 0.001)
        try:
            self.client.watch(before[0], index=before[1], timeout=left)
        except (EtcdWatchTimedOut, EtcdEventIndexCleared):
            pass
