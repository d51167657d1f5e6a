"""/health, /livez, /readyz, /version, /metrics, /debug/vars: pure handlers.

A probe may need a read that takes a round through the cluster, so probes answer through `done`.
The member gives `Facts`, which are there, and `Read`, which is asked for. Nothing here waits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs

from corum.api.http_rules import JSON, TEXT, Answer, not_found, text_answer, wrong_verb
from corum.metrics import Metrics, Server
from corum.prometheus import CONTENT_TYPE
from corum.values import value
from corum.versions import Emulated

Done = Callable[[Answer], None]
Read = Callable[[bool, Callable[[str | None], None]], None]
"""`read(serializable, then)`: range over one key as root; `then(None)` or `then(error text)`."""


@value
class Facts:
    """What a member knows without asking anybody."""

    alarms: tuple[str, ...]  # "NOSPACE", "CORRUPT"
    has_leader: bool
    is_learner: bool


_CHECKS: Final[dict[str, tuple[str, ...]]] = {
    "livez": ("serializable_read",),
    "readyz": ("data_corruption", "serializable_read", "linearizable_read", "non_learner"),
}
_READS: Final = {"serializable_read": True, "linearizable_read": False}


def probe_named(path: str) -> str | None:
    """ "health", "livez" or "readyz" if `path` (without query) is one of theirs, else None."""
    first = path.lstrip("/").partition("/")[0]
    return first if path == "/health" or first in _CHECKS else None


def probe(
    verb: str,
    path: str,
    query: str,
    *,
    facts: Facts,
    read: Read,
    done: Done,
    metrics: Server,
    emulated: Emulated,
) -> None:
    """Answer a probe (a path that `probe_named` knows) by calling `done` once."""
    if verb != "GET":
        done(wrong_verb("GET"))
    elif path == "/health":
        _health(query, facts, read, done, metrics, emulated)
    else:
        _Checks(path, query, facts, read, done, metrics).start()


def _health(
    query: str, facts: Facts, read: Read, done: Done, metrics: Server, emulated: Emulated
) -> None:
    asked = parse_qs(query)
    serializable = asked.get("serializable", [""])[0] == "true"

    def finish(reason: str) -> None:
        (metrics.health_failures if reason else metrics.health_success).add()
        done(_health_answer(reason, emulated))

    alarms = [alarm for alarm in facts.alarms if alarm not in asked.get("exclude", ())]
    if alarms:
        known = alarms[0] in ("NOSPACE", "CORRUPT")
        finish(f"ALARM {alarms[0]}" if known else "ALARM UNKNOWN")
    elif not facts.has_leader and not serializable:
        finish("RAFT NO LEADER")
    else:
        read(serializable, lambda error: finish(f"RANGE ERROR:{error}" if error else ""))


def _health_answer(reason: str, emulated: Emulated) -> Answer:
    body: dict[str, str] = {"health": "false" if reason else "true"}
    if emulated.health_reason:
        body["reason"] = reason
    text = json.dumps(body, separators=(",", ":"))
    if reason:
        return text_answer(503, text)
    return Answer(200, (TEXT,), text.encode())


class _Checks:
    """One request to /livez or /readyz: its checks, one after the other."""

    def __init__(
        self, path: str, query: str, facts: Facts, read: Read, done: Done, metrics: Server
    ) -> None:
        self.kind, _, self.only = path.strip("/").partition("/")
        asked = parse_qs(query, keep_blank_values=True)
        excluded = asked.get("exclude", ())
        names = (self.only,) if self.only else _CHECKS[self.kind]
        self.waiting = [name for name in names if name not in excluded or self.only]
        self.verbose = "verbose" in asked
        self.facts = facts
        self.read = read
        self.done = done
        self.metrics = metrics
        self.results: list[tuple[str, str | None]] = []

    def start(self) -> None:
        """Answer at once for an unknown check, else run them."""
        if self.only and self.only not in _CHECKS[self.kind]:
            self.done(not_found())
        else:
            self.next()

    def next(self) -> None:
        """Run the next check, or answer when there is none left."""
        if not self.waiting:
            self.done(self.answer())
            return
        name = self.waiting.pop(0)
        if name in _READS:
            self.read(
                _READS[name],
                lambda error: self.record(name, f"range error: {error}" if error else None),
            )
        elif name == "data_corruption":
            is_corrupt = "CORRUPT" in self.facts.alarms
            self.record(name, "alarm activated: CORRUPT" if is_corrupt else None)
        else:
            is_learner = self.facts.is_learner
            self.record(name, "not supported for learner" if is_learner else None)

    def record(self, name: str, error: str | None) -> None:
        """Keep a result and go on."""
        self.results.append((name, error))
        self.metrics.healthcheck.labels(self.kind, name).set(0 if error else 1)
        status = "error" if error else "success"
        self.metrics.healthchecks_total.labels(self.kind, name, status).add()
        self.next()

    def answer(self) -> Answer:
        """ "ok", or the lines of all checks."""
        failed = any(error for _, error in self.results)
        lines = "".join(_result_line(name, error) for name, error in self.results)
        if failed:
            return text_answer(503, lines)
        return text_answer(200, lines + "ok" if self.verbose else "ok")


def _result_line(name: str, error: str | None) -> str:
    return f"[-]{name} failed: {error}\n" if error else f"[+]{name} ok\n"


def version(verb: str, emulated: Emulated, cluster: str | None, storage: str | None) -> Answer:
    """/version; `cluster` and `storage` are full versions, None while they are not known."""
    if verb != "GET":
        return wrong_verb("GET")
    body = {"etcdserver": emulated.server, "etcdcluster": cluster or "not_decided"}
    if emulated.storage_version:
        body["storage"] = storage or "unknown"
    return Answer(200, (JSON,), json.dumps(body, separators=(",", ":")).encode())


def metrics_page(metrics: Metrics, process: Callable[[], Iterable[str]]) -> Answer:
    """/metrics; `process` is `process_metrics.lines` (or what stands in for it in a simulation)."""
    text = metrics.text() + "\n".join(process()) + "\n"
    return Answer(200, (("content-type", CONTENT_TYPE),), text.encode())


def debug_vars(argv: Sequence[str], more: Mapping[str, object]) -> Answer:
    """/debug/vars as Go's expvar writes it; `more`: "raft.status", "memstats", ..."""
    pairs = sorted({"cmdline": list(argv), **more}.items())
    lines = ",\n".join(f"{json.dumps(name)}: {_dumps(found)}" for name, found in pairs)
    content_type = ("content-type", "application/json; charset=utf-8")
    return Answer(200, (content_type,), f"{{\n{lines}\n}}\n".encode())


def _dumps(found: object) -> str:
    return json.dumps(found, separators=(",", ":"))
