"""Go etcd 3.5.1's answers and its `.snap`, reproduced byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corum.v2store import Request, Store, apply, capture, recover

from .scenario import SCENARIO, SLEEP
from .steps import Answer, S, ours, step, times, without_ttl

GOLDEN = Path(__file__).parent / "golden"
SAVED = (GOLDEN / "store.json").read_text()


def started() -> Store:
    """The store after the writes of a fresh member: attributes and cluster version."""
    store = Store()
    for event in json.loads(SAVED)["WatcherHub"]["EventHistory"]["Queue"]["Events"][:3]:
        node = event["node"]
        exist = False if event["action"] == "create" else None
        request = Request("PUT", node["key"], val=node["value"], prev_exist=exist)
        apply(store, request, 0)
    assert store.index == 3
    return store


def sleep(store: Store, now_ns: int) -> None:
    """SYNC well before anything with a long TTL is due."""
    due = store.tree.expiry.due(now_ns + 10 * S)
    if due is not None:
        store.delete_expired(now_ns + 10 * S, due.expire_ns)


def converse() -> tuple[Store, list[tuple[str, Answer, Answer]]]:
    """The scenario with our store: (step, our answer, Go's answer)."""
    store = started()
    recorded = iter(json.loads((GOLDEN / "answers.json").read_text()))
    pairs = []
    now_ns = 0
    for each in SCENARIO:
        if each is SLEEP:
            sleep(store, now_ns)
            continue
        go = Answer(**next(recorded))
        now_ns = max(now_ns, times(go.body)[1] or 0)
        pairs.append((str(each), ours(store, each, go.body, now_ns), go))
    return store, pairs


_, PAIRS = converse()


@pytest.mark.parametrize(("said", "our", "go"), PAIRS, ids=[said for said, _, _ in PAIRS])
def test_same_answer(said: str, our: Answer, go: Answer) -> None:
    """Status, body and X-Etcd-Index of every step."""
    assert without_ttl(our).body == without_ttl(go).body
    assert our == go, said


def test_same_snapshot() -> None:
    """The saved store: nodes, history, indexes and counters (except of internal reads)."""
    store, _ = converse()
    saved = json.loads(SAVED)
    filler = 0
    while store.index < saved["CurrentIndex"]:
        ours(store, step("PUT", "/filler", value=filler), "")
        filler += 1
    for name in ("getsSuccess", "getsFail"):  # Go also reads its own /2 tree
        store.stats.counts[name] = saved["Stats"][name]
    assert capture(store).encode().decode() == SAVED


def test_recovered_snapshot_saves_the_same_bytes() -> None:
    """Nothing is lost or changed on the way in and out."""
    store = Store()
    recover(store, SAVED.encode())
    assert capture(store).encode().decode() == SAVED
    assert store.has_ttl_keys
