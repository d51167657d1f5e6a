"""What a transaction of memory has read and written, and what follows for its commit. Pure.

The four isolations are those of Go's clientv3/concurrency, so that transactions of both kinds can
work on the same keys: each sends as conditions that what it relies on is still so.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from corum.client.requests import delete, get, mod_revision, put

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corum.client.requests import Condition, Operation
    from corum.client.results import KeyValue


class Isolation(Enum):
    """What other transactions may do meanwhile without making this one start again.

    SERIALIZABLE_SNAPSHOT: neither change what it read nor what it writes. All reads are of one
      revision; the outcome is as if it had run alone.
    SERIALIZABLE: not change what it read; keys that it only writes may change. All reads are of
      one revision.
    REPEATABLE_READ: not change what it read; a key read twice gives the same, but two keys may be
      read at different revisions, which an attempt that will not be committed can notice.
    READ_COMMITTED: change anything. Every read gives something that was committed, the writes
      happen together; updates of others can be overwritten.
    """

    SERIALIZABLE_SNAPSHOT = "serializable snapshot"
    SERIALIZABLE = "serializable"
    REPEATABLE_READ = "repeatable read"
    READ_COMMITTED = "read committed"


SNAPSHOTS = (Isolation.SERIALIZABLE_SNAPSHOT, Isolation.SERIALIZABLE)


class Sets:
    """One attempt: keys read (None: not there), keys written (None: deleted).

    `fetched` are keys that came unasked, with an earlier answer; nothing depends on them yet.
    """

    __slots__ = ("fetched", "isolation", "reads", "revision", "writes")

    def __init__(self, isolation: Isolation) -> None:
        self.isolation = isolation
        self.fetched: dict[bytes, KeyValue | None] = {}
        self.reads: dict[bytes, KeyValue | None] = {}
        self.writes: dict[bytes, bytes | None] = {}
        self.revision = 0
        """At which the first read took place; 0: none yet."""

    def fetch(self, keys: Iterable[bytes], kvs: Iterable[KeyValue], revision: int) -> None:
        """`kvs` is what there was of `keys` at `revision`."""
        found = {kv.key: kv for kv in kvs}
        self.fetched.update((key, found.get(key)) for key in keys)
        self.revision = self.revision or revision

    def missing(self, keys: Iterable[bytes]) -> list[bytes]:
        """Those of `keys` that must be fetched before they can be read."""
        known = self.fetched.keys()
        if self.isolation is not Isolation.READ_COMMITTED:
            known |= self.reads.keys()
        return [key for key in dict.fromkeys(keys) if key not in known]

    def read(self, key: bytes) -> KeyValue | None:
        """What the attempt sees of a key that is not missing, and from now on relies on."""
        if key in self.fetched:
            found = self.fetched.pop(key)
            if key not in self.reads or self.isolation is Isolation.READ_COMMITTED:
                self.reads[key] = found
        return self.reads[key]

    @property
    def read_revision(self) -> int:
        """Where further reads must look; 0: at the newest state."""
        return self.revision if self.isolation in SNAPSHOTS else 0

    def conditions(self) -> list[Condition]:
        """What must hold at the commit."""
        if self.isolation is Isolation.READ_COMMITTED:
            return []
        made = [
            mod_revision(key) == (kv.mod_revision if kv else 0) for key, kv in self.reads.items()
        ]
        if self.isolation is Isolation.SERIALIZABLE_SNAPSHOT and self.reads:
            made += [
                mod_revision(key) < self.revision + 1
                for key in self.writes
                if key not in self.reads
            ]
        return made

    def operations(self) -> list[Operation]:
        """What the commit writes."""
        return [
            delete(key) if content is None else put(key, content)
            for key, content in self.writes.items()
        ]

    def rereads(self) -> list[Operation]:
        """What a refused commit reads instead, so that the next attempt need not."""
        return [get(key) for key in self.reads]

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to commit: it wrote nothing and saw one revision."""
        if self.writes:
            return False
        return self.isolation is not Isolation.REPEATABLE_READ or len(self.reads) <= 1
