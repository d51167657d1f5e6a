"""Counters of /v2/stats/store. They are part of the snapshot, so they survive a restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from corum.v2store.errors import NOT_FILE, ROOT_READ_ONLY, TEST_FAILED
from corum.v2store.events import (
    COMPARE_AND_DELETE,
    COMPARE_AND_SWAP,
    CREATE,
    DELETE,
    GET,
    SET,
    UPDATE,
)

_NAMES: Final = {
    GET: "gets",
    SET: "sets",
    DELETE: "delete",
    UPDATE: "update",
    CREATE: "create",
    COMPARE_AND_SWAP: "compareAndSwap",
    COMPARE_AND_DELETE: "compareAndDelete",
}

# etcd counts these refusals as successes; measured, and kept, since the counters are replicated.
_COUNTED_AS_SUCCESS: Final = {
    DELETE: (ROOT_READ_ONLY,),
    UPDATE: (ROOT_READ_ONLY, NOT_FILE),
    COMPARE_AND_SWAP: (ROOT_READ_ONLY,),
    COMPARE_AND_DELETE: (NOT_FILE, TEST_FAILED),
}


class Stats:
    """Successes and failures by action, expirations, and the waiters when last asked for."""

    def __init__(self, saved: Mapping[str, int] | None = None) -> None:
        saved = saved or {}
        self.counts: dict[str, int] = {}
        for name in _NAMES.values():
            for outcome in ("Success", "Fail"):
                self.counts[name + outcome] = saved.get(name + outcome, 0)
        for name in ("expireCount", "watchers"):
            self.counts[name] = saved.get(name, 0)

    def succeeded(self, action: str) -> None:
        self.counts[_NAMES[action] + "Success"] += 1

    def failed(self, action: str, code: int) -> None:
        fine = code in _COUNTED_AS_SUCCESS.get(action, ())
        self.counts[_NAMES[action] + ("Success" if fine else "Fail")] += 1

    def to_json(self) -> str:
        """In etcd's order."""
        return "{" + ",".join([f'"{name}":{count}' for name, count in self.counts.items()]) + "}"
