"""What clients of the v2 API do: random requests on few keys, some with a TTL, and waits.

Values are unique, so that a write can be recognized in the history whoever answered for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from corum.sim.calls import Calls
from corum.sim.sessions import Process
from corum.sim.v2_clients import Heard, V2Client, V2Operation, V2Stream, V2Watcher
from corum.sim.v2_model import V2Record, V2Request
from corum.sim.world import World
from corum.values import NS_PER_MS, NS_PER_S

PLAIN: Final = ("/a", "/b", "/c", "/d/x", "/d/y")
MORTAL: Final = ("/t0", "/t1", "/d/x")
FOLDERS: Final = ("/d", "/q")
OPERATIONS_MAX: Final = 50
"""Of each client."""
PATIENCE_NS: Final = 12 * NS_PER_S
"""More than a member takes to give a request up."""


class V2Workload:
    """All clients of the v2 API."""

    def __init__(self, world: World, network: Callable[[], Calls], record: V2Record) -> None:
        """Each client gets its own `network()`."""
        self.world = world
        self.record = record
        self.operations: list[V2Operation] = []
        self.running = 0
        self._network = network
        self._values = 0
        self._known: dict[str, tuple[str, int]] = {}
        """Key -> the value and index that somebody was told last."""
        self._think_ns = world.dice.choice((20, 80)) * NS_PER_MS
        self._impatience = world.dice.choice((0.0, 0.3))
        self.watchers = [V2Watcher(self.client(f"v2wait {key}"), key) for key in ("/", "/a", "/d")]
        self.streams = [V2Stream(self.client("v2stream"), "/", 2 * NS_PER_S)]
        plain = (self.put, self.put, self.swap, self.swap, self.get, self.get)
        rest = (self.create, self.update, self.delete, self.post, self.renew, self.folder)
        self._kinds = [(kind, world.between(1, 10)) for kind in (*plain, *rest)]

    def client(self, name: str) -> V2Client:
        """One more."""
        return V2Client(self.world, self._network(), name, self.operations)

    def processes(self, is_over: Callable[[], bool]) -> list[Process]:
        """All of them; who makes requests ends when it `is_over`."""
        found = [self._user(self.client(f"v2client{n}"), is_over) for n in range(2)]
        return [*found, *[each.run() for each in (*self.watchers, *self.streams)]]

    def _user(self, client: V2Client, is_over: Callable[[], bool]) -> Process:
        self.running += 1
        kinds, weights = zip(*self._kinds, strict=True)
        for _ in range(OPERATIONS_MAX):
            if is_over():
                break
            make: Callable[[], V2Request] = self.world.dice.choices(kinds, weights)[0]
            found: V2Operation = yield client.ask(make(), self._patience_ns())
            self._learn(found)
            pause_ns = 100 * NS_PER_MS if found.text else self._think_ns
            yield client.sleep(self.world.delay(pause_ns))
        self.running -= 1

    def _patience_ns(self) -> int:
        if not self.world.chance(self._impatience):
            return PATIENCE_NS
        return self.world.delay(self.world.dice.choice((5, 1_000)) * NS_PER_MS)

    def _learn(self, found: V2Operation) -> None:
        node = found.body.get("node", {})
        if found.succeeded and "value" in node:
            self._known[node["key"]] = (node["value"], node["modifiedIndex"])

    def caught_up(self) -> bool:
        """Do all who wait, and the streams that are open, know of everything?"""
        streams = [(each, heard) for each in self.streams for heard in each.heard if not heard.over]
        return all(
            each.next > last_heard(self.record, each.request, heard)
            for each in self.watchers
            for heard in each.heard
        ) and all(
            heard.next > last_heard(self.record, each.request, heard) for each, heard in streams
        )

    # ---- requests

    def _key(self) -> str:
        return self.world.dice.choice(PLAIN + MORTAL)

    def _text(self) -> str:
        self._values += 1
        return f"v{self._values}"

    def _ttl(self, key: str) -> str:
        wanted = key in MORTAL and self.world.chance(0.7)
        return str(self.world.between(1, 4)) if wanted else ""

    def put(self) -> V2Request:
        """Whatever there was."""
        key = self._key()
        return V2Request("PUT", key, self._text(), self._ttl(key))

    def create(self) -> V2Request:
        """If it is not there."""
        key = self._key()
        return V2Request("PUT", key, self._text(), self._ttl(key), prev_exist=False)

    def update(self) -> V2Request:
        """If it is there."""
        key = self._key()
        return V2Request("PUT", key, self._text(), self._ttl(key), prev_exist=True)

    def renew(self) -> V2Request:
        """A new TTL without a new value; nobody who waits hears of it."""
        key = self.world.dice.choice(MORTAL)
        ttl = str(self.world.between(1, 4))
        return V2Request("PUT", key, ttl=ttl, prev_exist=True, refresh=True)

    def swap(self) -> V2Request:
        """If it is as it was a moment ago: by value, by index, or both."""
        key = self._key()
        text, index = self._known.get(key, ("nothing", 1))
        kind = self.world.between(1, 3)
        return V2Request(
            "PUT",
            key,
            self._text(),
            self._ttl(key),
            prev_value=text if kind & 1 else "",
            prev_index=index if kind & 2 else 0,
        )

    def delete(self) -> V2Request:
        """Also if it is as it was a moment ago."""
        key = self._key()
        text, index = self._known.get(key, ("nothing", 1))
        match self.world.between(0, 3):
            case 0:
                return V2Request("DELETE", key, prev_value=text)
            case 1:
                return V2Request("DELETE", key, prev_index=index)
            case _:
                return V2Request("DELETE", key)

    def post(self) -> V2Request:
        """One more in a queue."""
        return V2Request("POST", "/q", self._text(), "2" if self.world.chance(0.3) else "")

    def folder(self) -> V2Request:
        """A directory comes, goes, or gets a TTL."""
        key = self.world.dice.choice(FOLDERS)
        ttl = str(self.world.between(1, 4)) if self.world.chance(0.5) else ""
        match self.world.between(0, 4):
            case 0:
                return V2Request("PUT", key, ttl=ttl, directory=True)
            case 1 | 2:
                return V2Request("PUT", key, ttl=ttl, directory=True, prev_exist=True)
            case 3:
                return V2Request("DELETE", key, directory=True)
            case _:
                return V2Request("DELETE", key, recursive=True)

    def get(self) -> V2Request:
        """The newest, or what some member has."""
        dice = self.world.dice
        key = dice.choice((*PLAIN, *MORTAL, *FOLDERS, "/", "/"))
        return V2Request(
            "GET",
            key,
            recursive=dice.random() < 0.5,
            ordered=dice.random() < 0.5,
            quorum=dice.random() < 0.6,
        )


def concerns(record: V2Record, request: V2Request, index: int) -> bool:
    """Is whoever waits with this request to hear of this index?"""
    change = record.changes[index]
    if change.refresh:
        return False
    return change.path == request.path or change.path.startswith(request.path + "/")


def last_heard(record: V2Record, request: V2Request, heard: Heard) -> int:
    """The newest index from its beginning on that concerns it; 0: none."""
    for index in range(record.index, heard.begin - 1, -1):
        if concerns(record, request, index):
            return index
    return 0
