"""Probes and pages of the client port."""

import json
from collections.abc import Callable

import pytest

from corum.api import status
from corum.api.http_rules import (
    Answer,
    clean_path,
    cors_headers,
    host_refusal,
    hostname,
)
from corum.metrics import Metrics
from corum.versions import EMULATED

WELL = status.Facts(alarms=(), has_leader=True, is_learner=False)


class Prober:
    """Asks a probe of a member whose reads end as told."""

    def __init__(self, facts: status.Facts = WELL, errors: dict[bool, str] | None = None) -> None:
        self.facts = facts
        self.errors = errors or {}
        self.metrics = Metrics()
        self.reads: list[bool] = []

    def read(self, serializable: bool, then: Callable[[str | None], None]) -> None:
        self.reads.append(serializable)
        then(self.errors.get(serializable))

    def get(self, target: str, verb: str = "GET", version: str = "3.7") -> Answer:
        path, _, query = target.partition("?")
        answers: list[Answer] = []
        status.probe(
            verb,
            path,
            query,
            facts=self.facts,
            read=self.read,
            done=answers.append,
            metrics=self.metrics.server,
            emulated=EMULATED[version],
        )
        (answer,) = answers
        return answer


def test_healthy() -> None:
    """A linearizable read decides; 3.4's body has no reason."""
    prober = Prober()
    answer = prober.get("/health")
    assert (answer.status, answer.body) == (200, b'{"health":"true","reason":""}')
    assert prober.get("/health", version="3.4").body == b'{"health":"true"}'
    prober.get("/health?serializable=true")
    assert prober.reads == [False, False, True]
    assert prober.metrics.server.health_success.value == 3


@pytest.mark.parametrize(
    ("facts", "errors", "target", "reason"),
    [
        (status.Facts(("NOSPACE",), True, False), {}, "/health", "ALARM NOSPACE"),
        (
            status.Facts(("NOSPACE", "CORRUPT"), True, False),
            {},
            "/health?exclude=NOSPACE",
            "ALARM CORRUPT",
        ),
        (status.Facts((), False, False), {}, "/health", "RAFT NO LEADER"),
        (
            WELL,
            {False: "etcdserver: request timed out"},
            "/health",
            "RANGE ERROR:etcdserver: request timed out",
        ),
        (WELL, {True: "x"}, "/health?serializable=true", "RANGE ERROR:x"),
    ],
)
def test_unhealthy(facts: status.Facts, errors: dict[bool, str], target: str, reason: str) -> None:
    """503 and the first thing that is wrong: alarms, leader, read."""
    prober = Prober(facts, errors)
    answer = prober.get(target)
    assert (answer.status, answer.body[-1:]) == (503, b"\n")
    assert json.loads(answer.body) == {"health": "false", "reason": reason}
    assert prober.metrics.server.health_failures.value == 1


def test_no_leader_does_not_matter_for_a_local_read() -> None:
    """serializable=true asks this member only."""
    assert Prober(status.Facts((), False, False)).get("/health?serializable=true").status == 200


def test_livez_and_readyz() -> None:
    """ok; verbose lists the checks; a check can be asked for alone or left out."""
    prober = Prober()
    assert prober.get("/livez").body == b"ok\n"
    assert prober.get("/readyz?verbose").body == (
        b"[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n"
        b"[+]non_learner ok\nok\n"
    )
    assert prober.get("/readyz/linearizable_read").body == b"ok\n"
    assert prober.get("/livez/linearizable_read").status == 404
    assert prober.get("/readyz?exclude=linearizable_read").status == 200
    assert prober.get("/livez", verb="POST").status == 405
    text = prober.metrics.text()
    assert 'etcd_server_healthcheck{name="serializable_read",type="livez"} 1' in text


def test_not_ready() -> None:
    """Each failing check says why; livez fails only for this member's own reads."""
    prober = Prober(status.Facts(("CORRUPT",), True, True), {False: "timed out"})
    answer = prober.get("/readyz")
    assert answer.status == 503
    assert answer.body == (
        b"[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n"
        b"[-]linearizable_read failed: range error: timed out\n"
        b"[-]non_learner failed: not supported for learner\n\n"
    )
    assert prober.get("/livez").status == 200
    text = prober.metrics.text()
    assert (
        'etcd_server_healthchecks_total{name="linearizable_read",status="error",type="readyz"} 1'
        in text
    )


def test_probe_names() -> None:
    """Which paths are probes."""
    assert [status.probe_named(p) for p in ("/health", "/livez/x", "/readyz", "/healthz", "/")] == [
        "health",
        "livez",
        "readyz",
        None,
        None,
    ]


def test_version() -> None:
    """storage since 3.6; unknown parts have words of their own."""
    new = json.loads(status.version("GET", EMULATED["3.7"], "3.7.0", None).body)
    assert new == {"etcdserver": "3.7.3", "etcdcluster": "3.7.0", "storage": "unknown"}
    old = json.loads(status.version("GET", EMULATED["3.5"], None, None).body)
    assert old == {"etcdserver": "3.5.35", "etcdcluster": "not_decided"}
    assert status.version("POST", EMULATED["3.5"], None, None).status == 405


def test_pages() -> None:
    """/metrics is Prometheus text, /debug/vars a JSON object of several lines."""
    page = status.metrics_page(Metrics(), lambda: ["up 1"])
    assert page.body.endswith(b"\nup 1\n")
    assert dict(page.headers)["content-type"].startswith("text/plain; version=0.0.4")
    found = status.debug_vars(["etcd"], {"raft.status": {"id": "1"}})
    assert json.loads(found.body) == {"cmdline": ["etcd"], "raft.status": {"id": "1"}}


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("/", "/"),
        ("/health", "/health"),
        ("//health", "/health"),
        ("/v2//keys/", "/v2/keys/"),
        ("/a/../health", "/health"),
        ("/a/./b", "/a/b"),
        ("/../..", "/"),
        ("", "/"),
    ],
)
def test_paths_are_cleaned(path: str, cleaned: str) -> None:
    """As Go's mux redirects them."""
    assert clean_path(path) == cleaned


def test_cors() -> None:
    """All origins by default; with a list only those on it."""
    assert ("access-control-allow-origin", "*") in cors_headers((), None)
    assert ("access-control-allow-origin", "*") in cors_headers(("*",), "http://a")
    assert ("access-control-allow-origin", "http://a") in cors_headers(("http://a",), "http://a")
    assert cors_headers(("http://a",), "http://b") == ()
    assert cors_headers(("http://a",), None) == ()


def test_host_whitelist() -> None:
    """A Host that is not on the list is refused with 421, whatever its port."""
    assert host_refusal(("*",), "evil") is None
    assert host_refusal(("localhost", "::1"), "localhost:2379") is None
    assert host_refusal(("localhost", "::1"), "[::1]:2379") is None
    refused = host_refusal(("localhost",), "evil.example:2379")
    assert refused is not None
    assert refused.status == 421
    assert b"CVE-2018-5702" in refused.body
    assert [hostname(h) for h in ("a", "a:1", "[::1]", "::1")] == ["a", "a", "::1", "::1"]
