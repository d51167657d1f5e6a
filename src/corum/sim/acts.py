"""What runs of one and of several members share: acts with an end, and the judge's questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from corum.pb import rpc
from corum.sim.checkers import check
from corum.sim.sessions import Operation, Process, spawn
from corum.sim.watch_checks import check_hashes, check_watches
from corum.sim.watchers import WatchStream
from corum.sim.workload import TTL_MAX_S, Workload
from corum.sim.world import Violation, World
from corum.values import NS_PER_MS, NS_PER_S

LEASES_GONE_NS: Final = 2 * (TTL_MAX_S + 1 + 4 + 1) * NS_PER_S
"""Longest TTL, an election timeout, one retry of a revocation, some checks; by a slow clock."""

QUIET: Final = 0.1
QUIET_NS: Final = 10 * NS_PER_S

W = TypeVar("W", bound=Workload)


class Acts(Generic[W]):
    """One seed, whatever runs in its world."""

    world: World
    workload: W
    act_ns: int
    """Virtual time that an act may take."""
    answer_ns: int
    """In which the judge must be answered."""
    patience_ns: int = 0
    """After which the judge asks again; 0: after an answer only."""

    def act(self, done: Callable[[], bool], complaint: str, limit_ns: int = 0) -> None:
        """Let the world run until `done`. Raises Violation."""
        if not self.world.run_until(done, limit_ns or self.act_ns):
            raise Violation(complaint)

    def ask(self, name: str, request: Any) -> Operation:
        """Ask until there is an answer."""
        client = self.workload.client("judge")
        found: list[Operation] = []

        def process() -> Process:
            while not found:
                operation: Operation = yield client.ask(name, request, self.patience_ns)
                if operation.succeeded:
                    found.append(operation)
                else:
                    yield client.sleep(100 * NS_PER_MS)

        spawn(process())
        self.act(lambda: bool(found), f"no answer to {name}", self.answer_ns)
        return found[0]

    def everything(self) -> Operation:
        """All keys."""
        return self.ask("KV/Range", rpc.RangeRequest(key=b"\0", range_end=b"\0"))

    def fastest(self) -> float:
        """How fast the fastest of all clocks may run."""
        return 1.0

    def leases_left(self) -> bool:
        """Does any member hold one?"""
        raise NotImplementedError

    def let_leases_expire(self) -> None:
        """Raises Violation when one is left. Now and then nothing happens for a while after."""
        self.world.run_until(lambda: not self.leases_left(), LEASES_GONE_NS)
        if self.world.chance(QUIET):
            self.world.run_for(QUIET_NS)
        leases = self.ask("Lease/LeaseLeases", rpc.LeaseLeasesRequest()).response.leases
        if leases:
            raise Violation(f"leases that do not expire: {leases}")

    def unchanged(self, before: Operation, event: str) -> Operation:
        """All keys, as they were `before` some event."""
        after = self.everything()
        if (before.response.kvs, before.revision) != (after.response.kvs, after.revision):
            raise Violation(f"{event} has changed {before} to {after}")
        return after

    def watchers_get_to(self, revision: int) -> None:
        """Every watch hears of everything, or that there is nothing."""
        streams = [self.workload.auditor, *self.workload.watchers]
        for stream in streams:
            spawn(self._hurry(stream))
        self.act(
            lambda: all(
                watch.next > revision for each in streams for watch in each.watches.values()
            ),
            f"watchers do not get to {revision}",
            self.answer_ns,
        )

    def verdict(self) -> None:
        """What clients were told, against the history. Raises Violation."""
        workload = self.workload
        check(workload.auditor, workload.operations, self.fastest())
        history = workload.auditor.history
        check_watches(history, [workload.auditor, *workload.watchers])
        check_hashes(history, workload.operations)

    def _hurry(self, stream: WatchStream) -> Process:
        """Have a stream tell how far it is, so that silence can be told from loss."""
        stream.patience_ns = 0
        while True:
            stream.ask_progress()
            yield lambda resume: self.world.after(500 * NS_PER_MS, lambda: resume(None))
