"""The store as a list of all that happened: slow, and simple enough to be obviously right."""

from __future__ import annotations

from corum.mvcc.revision import KeyValue, encode_kv


class Model:
    """Every key's versions, oldest first; None is a deletion."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = -1
        self.history: dict[bytes, list[tuple[int, KeyValue | None]]] = {}

    def at(self, key: bytes, revision: int) -> KeyValue | None:
        found = None
        for main, kv in self.history.get(key, []):
            if main <= revision:
                found = kv
        return found

    def range(self, key: bytes, end: bytes, revision: int) -> list[KeyValue]:
        """All live keys of the range at `revision`, by key."""
        if not end:
            inside = [k for k in self.history if k == key]
        elif end == b"\0":
            inside = [k for k in self.history if k >= key]
        else:
            inside = [k for k in self.history if key <= k < end]
        found = [self.at(k, revision) for k in sorted(inside)]
        return [kv for kv in found if kv is not None]

    def put(self, main: int, key: bytes, value: bytes, lease: int) -> KeyValue | None:
        old = self.at(key, main)
        if old is None:
            kv = KeyValue(key, main, main, 1, value, lease)
        else:
            kv = KeyValue(key, old.create_revision, main, old.version + 1, value, lease)
        self.history.setdefault(key, []).append((main, kv))
        return old

    def delete(self, main: int, key: bytes, end: bytes) -> list[KeyValue]:
        gone = self.range(key, end, main)
        for kv in gone:
            self.history[kv.key].append((main, None))
        return gone

    def changes(self, revision: int) -> set[tuple[int, bytes, bytes | None]]:
        return {
            (main, key, None if kv is None else encoded(kv))
            for key, versions in self.history.items()
            for main, kv in versions
            if main >= revision
        }

    def kept(self) -> set[tuple[int, bytes]]:
        """(main, key) of every revision that finished compaction leaves in the store."""
        out: set[tuple[int, bytes]] = set()
        for key, versions in self.history.items():
            for at, (main, kv) in enumerate(versions):
                following = versions[at + 1][0] if at + 1 < len(versions) else None
                superseded = following is not None and following <= self.compacted
                buried = kv is None and main < self.compacted
                if not superseded and not buried:
                    out.add((main, key))
        return out


def encoded(kv: KeyValue) -> bytes:
    return encode_kv(kv.key, kv.create_revision, kv.mod_revision, kv.version, kv.value, kv.lease)
