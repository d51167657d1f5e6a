"""v2 key requests as a client sends them, carried out by our store or by a real daemon."""

from __future__ import annotations

import http.client
import re
import time
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from corum.v2store import KEYS_PREFIX, Request, Store, V2Error, apply
from corum.v2store.gojson import parse_time

S = 1_000_000_000


@dataclass(frozen=True)
class Step:
    verb: str
    path: str
    form: dict[str, str]

    def __str__(self) -> str:
        return f"{self.verb} {self.path} {urlencode(self.form)}"


@dataclass(frozen=True)
class Answer:
    """`index` is X-Etcd-Index."""

    status: int
    body: str
    index: int


def step(verb: str, path: str, **form: object) -> Step:
    return Step(verb, path, {key: str(item) for key, item in form.items()})


def _true(step_: Step, name: str) -> bool:
    return step_.form.get(name) == "true"


def ours(store: Store, step_: Step, recorded: str, now_ns: int | None = None) -> Answer:
    """Our answer. The expiry and, where it shows, the time are read off the `recorded` body."""
    expire_ns, told_now_ns = times(recorded)
    now_ns = now_ns if told_now_ns is None else told_now_ns
    path = KEYS_PREFIX + step_.path
    if step_.verb == "GET":
        return _ours_get(store, step_, path, now_ns or 0)
    exist = step_.form.get("prevExist")
    request = Request(
        step_.verb,
        path,
        val=step_.form.get("value", ""),
        dir=_true(step_, "dir"),
        prev_value=step_.form.get("prevValue", ""),
        prev_index=int(step_.form.get("prevIndex", 0)),
        prev_exist=None if exist is None else exist == "true",
        expiration_ns=expire_ns if "ttl" in step_.form else 0,
        recursive=_true(step_, "recursive"),
        refresh=_true(step_, "refresh"),
    )
    outcome = apply(store, request, now_ns or 0)
    assert outcome is not None
    if isinstance(outcome, V2Error):
        return Answer(outcome.http_status, outcome.to_json(KEYS_PREFIX) + "\n", outcome.index)
    body = outcome.to_json(KEYS_PREFIX, no_value=_true(step_, "noValueOnSuccess"))
    return Answer(201 if outcome.created else 200, body + "\n", outcome.etcd_index)


def _ours_get(store: Store, step_: Step, path: str, now_ns: int) -> Answer:
    try:
        if _true(step_, "wait"):
            waiter = store.watch(
                path,
                recursive=_true(step_, "recursive"),
                stream=False,
                since=int(step_.form["waitIndex"]),
            )
            events = waiter.take()
            store.hub.remove(waiter)
            body = events[0].to_json(KEYS_PREFIX) + "\n" if events else ""
            return Answer(200, body, waiter.start_index)
        event = store.get(
            path,
            recursive=_true(step_, "recursive"),
            ordered=_true(step_, "sorted"),
            now_ns=now_ns,
        )
    except V2Error as error:
        return Answer(error.http_status, error.to_json(KEYS_PREFIX) + "\n", error.index)
    return Answer(200, event.to_json(KEYS_PREFIX) + "\n", event.etcd_index)


def times(recorded: str) -> tuple[int, int | None]:
    """(absolute expiry of the node, now) behind a recorded answer, where they can be told."""
    expiry = re.search(r'"expiration":"([^"]+)"', recorded)
    if expiry is None:
        return 0, None
    expire_ns = parse_time(expiry[1])
    ttl = re.match(r',"ttl":(-?\d+)', recorded[expiry.end() :])
    return expire_ns, expire_ns - (int(ttl[1]) if ttl else 0) * S


def theirs(port: int, step_: Step, timeout_s: float = 10) -> Answer:
    """What a daemon on this port answers; an empty body when a wait does not end in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    target = "/v2/keys" + quote(step_.path)
    encoded = urlencode(step_.form)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    if step_.verb in ("GET", "DELETE"):
        connection.request(step_.verb, f"{target}?{encoded}" if encoded else target)
    else:
        connection.request(step_.verb, target, encoded, headers)
    try:
        answer = connection.getresponse()
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        try:
            body = answer.read().decode()
        except TimeoutError:
            body = ""
        return Answer(answer.status, body, int(answer.getheader("X-Etcd-Index", "0")))
    finally:
        connection.close()


def without_ttl(answer: Answer) -> Answer:
    """Listings show seconds that depend on the moment."""
    return Answer(answer.status, re.sub(r',"ttl":-?\d+', "", answer.body), answer.index)


def now_ns() -> int:
    return time.time_ns()
