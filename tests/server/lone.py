"""A real node in memory whose world is told what to do: time, workers and log are the test's."""

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from corum.backend import schema
from corum.backend.memory_backend import MemoryBackend, MemoryDisk
from corum.member import boot
from corum.member.memory_log import MemoryLog
from corum.raft import Config, Message, RawNode
from corum.server.node import Node
from corum.server.outbox import whole
from corum.server.ports import NodeConfig
from corum.values import NS_PER_MS

UNIX_NS = 1_700_000_000_000_000_000
TURNS_MAX = 100
PEER = "http://127.0.0.1:2380"


class HandJobs:
    """Workers that work when `run` is called, one job after the other."""

    def __init__(self) -> None:
        self.queue: deque[tuple[Callable[[], object], Callable[[object], None]]] = deque()

    def start(self, run: Callable[[], object], done: Callable[[object], None]) -> None:
        self.queue.append((run, done))

    start_urgent = start

    def run(self) -> int:
        """Do what is queued, and what follows from it; how many jobs there were."""
        count = 0
        while self.queue:
            work, done = self.queue.popleft()
            try:
                result = work()
            except Exception as error:
                result = error
            done(result)
            count += 1
        return count


class Wire:
    """Remembers the answers."""

    def __init__(self) -> None:
        self.replies: dict[int, bytes] = {}
        self.failures: dict[int, tuple[int, str]] = {}
        self.sent: list[tuple[int, bytes]] = []

    def reply(self, batch: Any) -> None:
        self.replies.update({call: whole(message) for call, message in batch})

    def fail(self, batch: Any) -> None:
        self.failures.update({call: (code, text) for call, code, text in batch})

    def send(self, batch: Any) -> list[int]:
        self.sent += batch
        return []


class Lone:
    """The ports of a node, and the node."""

    def __init__(self, *, elect: bool = True, log: Any = None, **options: Any) -> None:
        self.transport = Wire()
        self.jobs = HandJobs()
        self.log = log or MemoryLog()
        self.dice = self.secrets = random.Random(1)
        self.lines: list[str] = []
        self.sent: list[Message] = []
        self.published_count = 0
        self.was_removed = False
        self.failure: BaseException | None = None
        self.now_ns = 0
        self.wall_offset_ns = 0
        self._call = 0
        self.disk = MemoryDisk()
        first = boot.new_members({"default": [PEER]}, "etcd-cluster", "default", [PEER])
        booted = boot.in_memory(first)
        raft = RawNode(
            Config(id=first.local, dice=self.dice, async_storage_writes=True), booted.storage
        )
        config = NodeConfig(**{"client_urls": ("http://127.0.0.1:2379",), **options})
        self.backend = MemoryBackend(self.disk)
        self.node = Node(
            config, self, raft, booted.storage, booted.members, self.backend, start_ms=0
        )
        self.turn(0)
        if elect:
            self.node.raft.campaign()
            self.turn(0)

    def turn(self, after_ms: int = 0, *calls: Callable[[], None]) -> None:
        """Let time pass, make the calls, end the turn; workers and loop go on until all is done."""
        self.now_ns += after_ms * NS_PER_MS
        self.node.begin(self.now_ns)
        for call in calls:
            call()
        self.node.end()
        for _ in range(TURNS_MAX):
            if not self.jobs.run() and self.node.wait_ms(self.now_ns):
                return
            self.node.begin(self.now_ns)
            self.node.end()
        raise AssertionError(f"still at work after {TURNS_MAX} turns")

    def propose(self, operation: int, request: Any) -> int:
        """Propose a request in a turn of its own; the call's number."""
        self._call += 1
        call, message = self._call, request.SerializeToString()
        self.turn(0, lambda: self.node.propose(operation, message, request, call))
        return call

    def disk_index(self) -> int:
        """The consistent index that a crash now would leave."""
        found = MemoryBackend(self.disk).get(schema.META, schema.CONSISTENT_INDEX)
        return schema.from_u64(found)

    # ---- ports

    @property
    def snapshots(self) -> Any:
        return self.log

    def transition(self, level: str, message: str, **fields: Any) -> None:
        self.lines.append(message)

    def published(self) -> None:
        self.published_count += 1

    def removed(self) -> None:
        self.was_removed = True

    def bug(self, where: str, error: Exception) -> None:
        raise error

    def unix_time_ns(self) -> int:
        return UNIX_NS + self.now_ns + self.wall_offset_ns

    def clock_ns(self) -> int:
        return self.now_ns

    def send(self, messages: list[Message]) -> None:
        self.sent += messages

    def fatal(self, message: str, error: BaseException) -> None:
        self.failure = error
