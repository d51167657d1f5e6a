"""The v2 key space: a second state machine under the same log (v2-store.md).

In: committed requests (`apply`), local reads and waits (`Store.get`, `Store.watch`), times as
arguments. Out: events with etcd's JSON, errors with etcd's codes, and, for those who wait, waiters
with something to take (`Store.hub.take_told()`, to be emptied after every applied entry).

Invariants: one index for all writes and expirations, the same on every member; a refused request
changes nothing but the statistics; the last 1,000 events are kept; a snapshot is etcd's, byte for
byte.

Reading order: `tree` (nodes), `store` (operations), `history` (events and waiters), `snapshot`,
`requests`; `gojson`, `events`, `errors` and `stats` are what they write with.
"""

from corum.v2store.errors import V2Error
from corum.v2store.events import Event, NodeView
from corum.v2store.history import Waiter
from corum.v2store.requests import Request, apply
from corum.v2store.snapshot import capture, recover
from corum.v2store.store import (
    CLUSTER_PREFIX,
    KEYS_PREFIX,
    MEMBERS_PREFIX,
    REMOVED_PREFIX,
    Store,
)

__all__ = [
    "CLUSTER_PREFIX",
    "KEYS_PREFIX",
    "MEMBERS_PREFIX",
    "REMOVED_PREFIX",
    "Event",
    "NodeView",
    "Request",
    "Store",
    "V2Error",
    "Waiter",
    "apply",
    "capture",
    "recover",
]
