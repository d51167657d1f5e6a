"""Clients as generators: `response = yield from client.ask(...)`, `yield sleep(ns)`.

What a process yields is a function that is given a callback and calls it once, later.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final

from corum import errors
from corum.api.methods import METHODS
from corum.pb.methods import methods
from corum.sim.calls import BROKEN, REFUSED, Calls
from corum.sim.world import World

Later = Callable[[Callable[[Any], None]], None]
Process = Generator[Later, Any, None]

INDEX: Final = {path: number for number, (path, _) in enumerate(METHODS)}
_RESPONSES: Final = {path: method.response_class for path, method in methods().items()}

GAVE_UP: Final = "sim: the client gave up"
UNKNOWN: Final = frozenset(
    (
        BROKEN,
        GAVE_UP,
        errors.TIMEOUT.text,
        errors.TIMEOUT_DUE_TO_LEADER_FAIL.text,
        errors.TIMEOUT_DUE_TO_CONNECTION_LOST.text,
        errors.STOPPED.text,
    )
)


@dataclass(slots=True)
class Operation:
    """A call of a client: when it began and ended (tickets), what was asked and answered."""

    client: str
    name: str  # KV/Put
    request: Any
    invoked: int
    invoked_ns: int
    returned: int = 0  # 0: not yet
    returned_ns: int = 0
    response: Any = None
    code: int = 0
    text: str = ""
    revision: int = 0
    """Of the header; for a write found in the history by its content, the one it made."""

    is_doubtful: bool = False
    """Refused, and carried out nevertheless, or not."""

    @property
    def succeeded(self) -> bool:
        return self.response is not None

    @property
    def is_unknown(self) -> bool:
        """Nobody can say whether it was carried out."""
        unheard = not self.returned or self.text in UNKNOWN or self.is_doubtful
        return self.response is None and unheard

    def __str__(self) -> str:
        words = str(self.request).replace("\n", " ").strip()
        end = self.text or (f"revision {self.revision}" if self.succeeded else "no answer")
        return f"{self.client} {self.name} {{{words}}} [{self.invoked}, {self.returned}] {end}"


def spawn(process: Process) -> None:
    """Run a process to its first wait; it goes on by itself."""
    _advance(process, None)


def _advance(process: Process, result: Any) -> None:
    try:
        wait = process.send(result)
    except StopIteration:
        return
    wait(lambda answer: _advance(process, answer))


class Client:
    """One client of the member; every call it makes is in `operations`."""

    def __init__(
        self, world: World, network: Calls, name: str, operations: list[Operation]
    ) -> None:
        self.world = world
        self.network = network
        self.name = name
        self.operations = operations
        self.token = ""
        """Shown with every call."""
        self.doubtful: frozenset[str] = frozenset()
        """Refusals of what may have been carried out nevertheless."""

    def sleep(self, duration_ns: int) -> Later:
        """Wait."""
        return lambda resume: self.world.after(duration_ns, lambda: resume(None))

    def ask(self, name: str, request: Any, patience_ns: int = 0) -> Later:
        """Call `name` (KV/Put); the process goes on with its Operation.

        With `patience_ns` the client gives up after so long, and will never know.
        """
        world, path = self.world, f"/etcdserverpb.{name}"
        operation = Operation(self.name, name, request, world.ticket(), world.now_ns)
        self.operations.append(operation)
        world.trace(f"{self.name}: {name}")

        def begin(resume: Callable[[Any], None]) -> None:
            def end(code: int, text: str) -> None:
                if operation.returned:
                    return
                operation.returned, operation.returned_ns = world.ticket(), world.now_ns
                operation.code, operation.text = code, text
                operation.is_doubtful = text in self.doubtful
                world.trace(f"{self.name}: {name} {operation.revision} {text}")
                resume(operation)

            def answered(message: bytes) -> None:
                operation.response = _RESPONSES[path]().FromString(message)
                operation.revision = operation.response.header.revision

            def give_up() -> None:
                if not operation.returned:
                    call.cancel()
                    operation.response = None
                    end(errors.CANCELLED, GAVE_UP)

            def answered_once(message: bytes) -> None:
                answered(message)
                call.cancel()
                end(errors.OK, "")

            index, message = INDEX[path], request.SerializeToString()
            if METHODS[index][1] == "unary":
                call = self.network.unary(index, message, answered, end, self.token)
            else:
                call = self.network.stream(index, answered_once, end)
                call.send(message)
            if patience_ns:
                world.after(patience_ns, give_up)

        return begin


__all__ = ["REFUSED", "Client", "Later", "Operation", "Process", "spawn"]
