"""A store that only remembers its history, and a reader of WatchResponse bytes."""

from __future__ import annotations

from dataclasses import dataclass, field


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def key_value(key: bytes, create: int, mod: int, version: int, value: bytes) -> bytes:
    out = b"\x0a" + varint(len(key)) + key + b"\x10" + varint(create) + b"\x18" + varint(mod)
    out += b"\x20" + varint(version)
    return out + (b"\x2a" + varint(len(value)) + value if value else b"")


class FakeStore:
    """`corum.mvcc.watch.History` over a list; transactions are lists of (key, value or None)."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = 0
        self.history: list[tuple[int, bytes, bytes | None]] = []
        self._live: dict[bytes, tuple[int, int]] = {}

    def transact(self, *writes: tuple[bytes, bytes | None]) -> list:
        """One revision; deletes of absent keys are nothing, as in etcd."""
        main = self.revision + 1
        changes = []
        for key, value in writes:
            if value is None:
                if self._live.pop(key, None) is not None:
                    changes.append((main, key, None))
                continue
            create, version = self._live.get(key, (main, 0))
            self._live[key] = (create, version + 1)
            changes.append((main, key, key_value(key, create, main, version + 1, value)))
        if changes:
            self.revision = main
            self.history += changes
        return changes

    def changes_since(self, revision: int, limit: int) -> list:
        assert revision >= self.compacted, "read of compacted history"
        found: list = []
        for change in self.history:
            if change[0] < revision:
                continue
            if len(found) >= limit and found[-1][0] != change[0]:
                break
            found.append(change)
        return found

    def kv_at(self, key: bytes, revision: int) -> bytes | None:
        if revision < self.compacted:
            return None
        found = None
        for main, changed, stored in self.history:
            if main <= revision and changed == key:
                found = stored
        return found


@dataclass
class Event:
    deleted: bool = False
    key: bytes = b""
    create: int = 0
    mod: int = 0
    version: int = 0
    value: bytes = b""
    prev: bytes | None = None
    kv: bytes = b""


@dataclass
class Response:
    revision: int = 0
    watch_id: int = 0
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    fragment: bool = False
    events: list[Event] = field(default_factory=list)


def header(revision: int) -> bytes:
    """Field 1 with cluster 7, member 9, the revision and term 2."""
    body = b"\x08\x07\x10\x09" + (b"\x18" + varint(revision) if revision else b"") + b"\x20\x02"
    return b"\x0a" + varint(len(body)) + body


def fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """(number, varint or bytes); numbers must not descend: that is the canonical order."""
    found: list[tuple[int, int | bytes]] = []
    at = 0

    def read() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    while at < len(data):
        tag = read()
        if tag & 7 == 0:
            found.append((tag >> 3, read()))
        else:
            assert tag & 7 == 2
            size = read()
            assert at + size <= len(data)
            found.append((tag >> 3, data[at : at + size]))
            at += size
    numbers = [number for number, _ in found]
    assert numbers == sorted(numbers)
    return found


def signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def decode_event(data: bytes) -> Event:
    event = Event()
    for number, item in fields(data):
        if number == 1:
            event.deleted = item == 1
        elif number == 2:
            event.kv = item
            for inner, part in fields(item):
                setattr(
                    event, {1: "key", 2: "create", 3: "mod", 4: "version", 5: "value"}[inner], part
                )
        else:
            event.prev = item
    return event


def decode(data: bytes) -> Response:
    response = Response()
    for number, item in fields(data):
        match number:
            case 1:
                response.revision = dict(fields(item)).get(3, 0)
            case 2:
                response.watch_id = signed(item)
            case 3:
                response.created = bool(item)
            case 4:
                response.canceled = bool(item)
            case 5:
                response.compact_revision = item
            case 6:
                response.cancel_reason = item.decode()
            case 7:
                response.fragment = bool(item)
            case 11:
                response.events.append(decode_event(item))
    return response
