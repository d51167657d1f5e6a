"""The judges of the v2 API find what they are for: members that are broken on purpose."""

from __future__ import annotations

from typing import Any

import pytest

from corum.sim.cluster_simulation import ClusterSimulation
from corum.sim.features import Features
from corum.sim.v2_checks import check_waits
from corum.sim.v2_workload import V2Workload
from corum.sim.world import Violation
from corum.v2store import Event, Waiter
from corum.v2store.store import Store
from corum.v2store.tree import Node

SEEDS = range(80_014, 80_022)
"""One is enough, mostly; which, changes with all that changes the dice."""

WANTED = {"set", "create", "compareAndSwap", "expire", "delete"}


def run(seed: int) -> V2Workload:
    simulation = ClusterSimulation(seed, features=Features(v2=True))
    simulation.run()
    v2 = simulation.workload.v2
    assert v2 is not None
    return v2


@pytest.mark.slow
def test_a_run_reaches_what_it_is_for_and_a_lost_event_is_noticed() -> None:
    for seed in SEEDS:
        v2 = run(seed)
        actions = {change.action for change in v2.record.changes.values()}
        streamed = any(heard.events for stream in v2.streams for heard in stream.heard)
        if actions >= WANTED and streamed:
            break
    assert actions >= WANTED
    assert streamed
    heard = v2.watchers[0].heard[0]
    events, heard.events = heard.events, heard.events[:-1]
    with pytest.raises(Violation, match="v2wait"):
        check_waits(v2.record, v2.watchers, v2.streams)
    heard.events = [*events, events[-1]]
    with pytest.raises(Violation, match="v2wait"):
        check_waits(v2.record, v2.watchers, v2.streams)


def run_some() -> None:
    for seed in SEEDS:
        run(seed)


def _by_own_clock(self: Store, cutoff_ns: int, now_ns: int) -> list[Event]:
    return _EXPIRE(self, now_ns, now_ns)


def _whatever_there_was(self: Store, path: str, prev_value: str, prev_index: int) -> Node:
    return _COMPARE(self, path, "", 0)


def _of_yesterday(self: Store, path: str, **options: Any) -> Event:
    found = _GET(self, path, **options)
    found.etcd_index += 1
    return found


def _deaf(self: Any, waiter: Waiter) -> None:
    """Who comes late hears nothing of what happened meanwhile."""
    waiter.since = max(waiter.since, waiter.start_index + 1)
    _WAIT(self, waiter)


_EXPIRE, _COMPARE, _GET = Store.delete_expired, Store._compare, Store.get
_WAIT = type(Store().hub).wait


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "broken"),
    [
        pytest.param("store.Store.delete_expired", _by_own_clock, marks=pytest.mark.long),
        pytest.param("store.Store._compare", _whatever_there_was, marks=pytest.mark.long),
        ("store.Store.get", _of_yesterday),
        pytest.param("history.WaiterHub.wait", _deaf, marks=pytest.mark.long),
    ],
)
def test_a_store_that_is_wrong_is_found_out(
    monkeypatch: pytest.MonkeyPatch, name: str, broken: Any
) -> None:
    monkeypatch.setattr(f"corum.v2store.{name}", broken)
    with pytest.raises(Violation, match=r"v2"):
        run_some()
