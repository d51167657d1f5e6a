"""Random conversations, carried out by Go etcd 3.5.1 and by our store side by side."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from corum.v2store import Request, Store, apply
from corum.v2store.tree import clean
from oracle import servers

from .steps import Step, now_ns, ours, step, theirs, without_ttl

PATHS = ["/a", "/a/b", "/a/b/c", "/a/_h", "/_h/x", "/d", "/d/e", "/ab", "/", "/a//b/../c/"]


def any_step(dice: random.Random, store: Store) -> Step:
    """A request that clients may send; the index of a compare is often right."""
    path = dice.choice(PATHS[:-1])
    verb = dice.choice(["PUT", "PUT", "PUT", "PUT", "POST", "DELETE", "GET", "WAIT"])
    if verb == "GET":
        form = {"sorted": "true", "recursive": dice.choice(["true", "false"])}
    elif verb == "WAIT":
        since = dice.randint(max(1, store.index - 30), store.index)
        form = {
            "wait": "true",
            "waitIndex": str(since),
            "recursive": dice.choice(["true", "false"]),
        }
        verb = "GET"
    else:
        form = write_form(dice, store, verb)
    return step(verb, path, **form)


def write_form(dice: random.Random, store: Store, verb: str) -> dict[str, str]:
    form: dict[str, str] = {}
    if verb in ("PUT", "POST"):
        if dice.random() < 0.2:
            form["dir"] = "true"
        else:
            form["value"] = dice.choice(["", "1", "2", "<3>"])
        if dice.random() < 0.3:
            form["ttl"] = str(dice.randint(500, 5_000))
        if "ttl" in form and dice.random() < 0.3:
            form["refresh"] = "true"
            form.pop("value", None)
        if (
            "ttl" not in form and dice.random() < 0.1
        ):  # with a TTL the answer would not tell the expiry
            form["noValueOnSuccess"] = "true"
    else:
        form |= {name: dice.choice(["true", "false"]) for name in ("dir", "recursive")}
    if verb == "PUT" and dice.random() < 0.3:
        form["prevExist"] = dice.choice(["true", "false"])
    if verb != "POST" and dice.random() < 0.3:
        form["prevValue"] = dice.choice(["1", "2"])
    if verb != "POST" and dice.random() < 0.2:
        form["prevIndex"] = str(dice.choice([store.index, store.index - 1, 1]))
    return form


def updates_a_directory(store: Store, each: Step) -> bool:
    """Go etcd 3.5 answers an internal error there (older ones and we do not)."""
    compares = each.form.get("prevValue") or int(each.form.get("prevIndex", 0))
    if each.verb != "PUT" or each.form.get("prevExist") != "true" or compares:
        return False
    node = store.tree.root
    for name in clean("/1" + each.path).split("/")[1:]:
        if node.children is None or name not in node.children:
            return False
        node = node.children[name]
    return node.is_dir


@pytest.mark.process
@pytest.mark.compat
@pytest.mark.parametrize("seed", [1])
@pytest.mark.slow
def test_random_requests_get_the_same_answers(
    seed: int, go_program: servers.Program, tmp_path: Path
) -> None:
    """2,700 requests, so that the history overflows: status, body, index, statistics agree."""
    dice = random.Random(seed)
    with servers.running(go_program, tmp_path, "--enable-v2") as server:
        store = Store()
        for path in ("/0/members/x/raftAttributes", "/0/members/x/attributes", "/0/version"):
            apply(store, Request("PUT", path, prev_exist=False), 0)
        store.stats.counts |= dict.fromkeys(store.stats.counts, 0)
        before = statistics(server)
        for number in range(2_700):
            each = any_step(dice, store) if number % 4 else step("PUT", "/fill", value=number)
            if updates_a_directory(store, each):
                continue
            if "wait" in each.form:
                our = ours(store, each, "")
                go = theirs(server.client_port, each, 10 if our.body else 0.02)
            else:
                go = theirs(server.client_port, each)
                our = ours(store, each, go.body, now_ns())
            assert without_ttl(our) == without_ttl(go), f"seed {seed}: {each}"
        gone = {"getsSuccess", "getsFail", "watchers"}
        after = statistics(server)
        assert store.index > 1_000
        counts = {k: v - before[k] for k, v in after.items() if k not in gone}
        assert counts == {k: v for k, v in store.stats.counts.items() if k not in gone}


def statistics(server: servers.Server) -> dict[str, int]:
    return json.loads(server.http("GET", "/v2/stats/store")[1])
