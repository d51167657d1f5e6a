"""Clients of the v2 API: what they ask and are told, those who wait for one event after the other,
and those who let events stream."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from corum.sim.calls import Call, Calls
from corum.sim.sessions import GAVE_UP, UNKNOWN, Later, Process
from corum.sim.v2_model import V2Request
from corum.sim.world import World
from corum.values import NS_PER_MS

PREFIX: Final = "/v2/keys"
RAFT_INTERNAL: Final = 300
INDEX_CLEARED: Final = 401


@dataclass(slots=True)
class V2Operation:
    """A request: when it began and ended (tickets), what was asked and answered."""

    client: str
    request: V2Request
    invoked: int
    returned: int = 0  # 0: not yet
    status: int = 0
    index: int = 0
    """X-Etcd-Index."""
    body: dict[str, Any] = field(default_factory=dict[str, Any])
    text: str = ""
    """Why there is no answer."""

    @property
    def succeeded(self) -> bool:
        return self.status in (200, 201)

    @property
    def code(self) -> int:
        """Of a refusal by the store; 0: none, or none by the store."""
        code = int(self.body.get("errorCode", 0))
        return code if code < RAFT_INTERNAL else 0

    @property
    def is_unknown(self) -> bool:
        """Nobody can say whether it was carried out."""
        return not self.returned or self.text in UNKNOWN

    def __str__(self) -> str:
        end = self.text or f"{self.status} at {self.index}: {json.dumps(self.body)}"
        return f"{self.client} {self.request} [{self.invoked}, {self.returned}] {end}"


def head_of(message: bytes) -> tuple[int, int, bytes]:
    """(status, X-Etcd-Index, what stands behind the headers)."""
    head, _, rest = message.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status), int(headers.get("X-Etcd-Index", 0)), rest


class V2Client:
    """One client; every request that it makes is in `operations`."""

    def __init__(
        self, world: World, calls: Calls, name: str, operations: list[V2Operation]
    ) -> None:
        self.world = world
        self.calls = calls
        self.name = name
        self.operations = operations

    def sleep(self, duration_ns: int) -> Later:
        """Wait."""
        return lambda resume: self.world.after(duration_ns, lambda: resume(None))

    def ask(self, request: V2Request, patience_ns: int = 0) -> Later:
        """The process goes on with its V2Operation; with `patience_ns` it may give up."""
        world = self.world
        operation = V2Operation(self.name, request, world.ticket())
        self.operations.append(operation)
        world.trace(f"{self.name}: {request.verb} {request.key} {request.form()}")

        def begin(resume: Callable[[Any], None]) -> None:
            pieces: list[bytes] = []

            def end(_: int, text: str) -> None:
                if operation.returned:
                    return
                operation.returned = world.ticket()
                if text or not pieces:
                    operation.text = text or GAVE_UP
                else:
                    _read_answer(operation, b"".join(pieces))
                world.trace(f"{self.name}: {operation.status} {operation.index} {operation.text}")
                resume(operation)

            def give_up() -> None:
                if not operation.returned:
                    call.cancel()
                    end(0, GAVE_UP)

            call = send(self.calls, request, pieces.append, end)
            if patience_ns:
                world.after(patience_ns, give_up)

        return begin


def send(
    calls: Calls,
    request: V2Request,
    on_message: Callable[[bytes], None],
    on_end: Callable[[int, str], None],
) -> Call:
    """A request on its way: parameters in the body, or in the target of what has none."""
    form = request.form()
    target = f"{PREFIX}{request.key}"
    if request.verb in ("GET", "DELETE"):
        target, form = f"{target}?{form}" if form else target, ""
    return calls.http(request.verb, target, form.encode(), on_message, on_end)


def _read_answer(operation: V2Operation, answer: bytes) -> None:
    operation.status, operation.index, body = head_of(answer)
    operation.body = json.loads(body) if body.strip() else {}
    if operation.body.get("errorCode") == RAFT_INTERNAL:
        operation.text = operation.body["cause"]


@dataclass(slots=True)
class Heard:
    """Events of one request, or of one that goes on where another ended."""

    begin: int
    """The first index that it was to hear of."""
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    gaps: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """[from, to) indexes that the history of a member did not have any more."""
    over: bool = False

    @property
    def next(self) -> int:
        """The first index that was not heard of yet."""
        return int(self.events[-1]["node"]["modifiedIndex"]) + 1 if self.events else self.begin


class V2Watcher:
    """Waits for the next event, again and again; what it missed meanwhile is in the history."""

    def __init__(self, client: V2Client, key: str) -> None:
        self.client = client
        self.request = V2Request("GET", key, wait=True, recursive=True)
        self.heard = [Heard(1)]
        self.next = 1
        """The first index not heard of."""

    def run(self) -> Process:
        """The process; it never ends."""
        client, heard = self.client, self.heard[0]
        while True:
            ask = V2Request("GET", self.request.key, wait=True, recursive=True, since=self.next)
            found: V2Operation = yield client.ask(ask)
            if found.status == 200 and found.body:
                heard.events.append(found.body)
                self.next = int(found.body["node"]["modifiedIndex"]) + 1
            elif found.body.get("errorCode") == INDEX_CLEARED:
                start = int(found.body["cause"].partition("[")[2].partition("/")[0])
                heard.gaps.append((self.next, start))
                self.next = start
            else:
                yield client.sleep(client.world.delay(20 * NS_PER_MS))


class V2Stream:
    """Has events stream from now on; leaves after a while and begins anew, knowing nothing."""

    def __init__(self, client: V2Client, key: str, stay_ns: int) -> None:
        self.client = client
        self.request = V2Request("GET", key, wait=True, recursive=True, stream=True)
        self.stay_ns = stay_ns
        self.heard: list[Heard] = []
        self.leaves = True
        """Set it to False for a stream that stays."""
        self._resume: Callable[[Any], None] | None = None

    def run(self) -> Process:
        """The process; it never ends."""
        while True:
            yield self._connect
            yield self.client.sleep(self.client.world.delay(20 * NS_PER_MS))

    def _connect(self, resume: Callable[[Any], None]) -> None:
        current: list[Heard] = []
        done: list[bool] = []

        def message(data: bytes) -> None:
            if not current:
                status, index, data = head_of(data)
                if status != 200:
                    return
                current.append(Heard(index + 1))
                self.heard.append(current[0])
            current[0].events += [json.loads(line) for line in data.splitlines()]

        def end(*_: Any) -> None:
            if done:
                return
            done.append(True)
            for each in current:
                each.over = True
            resume(None)

        def leave() -> None:
            if not done and self.leaves:
                call.cancel()
                end()

        call = send(self.client.calls, self.request, message, end)
        self.client.world.after(self.client.world.delay(self.stay_ns), leave)
