"""The same v2 command lines (ETCDCTL_API=2) to Go's etcdctl 3.5.1 and ours."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from corum.cli.etcdctl_v2 import api, commands, members
from oracle import servers

sys.path.append(str(Path(__file__).parent))

from twice import Step, both, step

pytestmark = [pytest.mark.compat, pytest.mark.process, pytest.mark.slow]

OUTPUTS = ("simple", "extended", "json")

KEYS = [
    *[step("-o", output, "set", "/a", output) for output in OUTPUTS],
    *[step("-o", output, "get", "/a") for output in OUTPUTS],
    step("set"),
    step("get"),
    step("set", "/a"),
    step("set", "/a", stdin="from\nstdin\n"),
    *[step("-o", output, "get", "/none") for output in OUTPUTS],
    step("mk", "/a", "1"),
    step("mk", "/b/c", "1"),
    step("get", "/b"),
    step("ls", "--sort"),
    step("ls", "--sort", "/b"),
    step("ls", "-p", "-r", "--sort", "/"),
    step("ls", "/a"),
    step("ls", "/none"),
    *[step("-o", output, "ls", "-r", "--sort", "/") for output in ("json", "extended")],
    step("mkdir", "/d"),
    step("mkdir", "/d"),
    *[step("-o", output, "mkdir", f"/d{output}") for output in OUTPUTS],
    step("setdir", "/d"),
    step("setdir", "/dnew"),
    step("set", "/a", "x", "--swap-with-value", "no"),
    step("set", "--swap-with-value", "from\nstdin\n", "/a", "x"),
    step("set", "/a", "y", "--swap-with-index", "1"),
    *[step("-o", output, "update", "/a", output) for output in OUTPUTS],
    step("update", "/none", "1"),
    step("update", "/none"),
    step("set", "-ttl", "100", "/t", "1"),
    step("rm", "/b"),
    step("rm", "--dir", "/b"),
    step("rm", "-r", "/b"),
    step("rm", "/none"),
    step("rm", "--with-value", "no", "/a"),
    step("rm", "--with-index", "1", "/a"),
    *[step("-o", output, "rm", "/a") for output in OUTPUTS],
    step("rmdir", "/d"),
    step("rmdir", "/none"),
    step("mk", "--in-order", "/q", "v"),
    *[step("-o", output, "mk", "--in-order", "/q", "v") for output in OUTPUTS],
    step("--debug", "set", "/x", "a b&c"),
    step("--debug", "rm", "/x"),
    step("--debug", "get", "--quorum=false", "/q"),
    step("--debug", "mkdir", "/y"),
    step("--debug", "mk", "--in-order", "/q", ""),
    step("--debug", "rmdir", "/y"),
    step("-o", "nosuch", "get", "/q"),
    step("setdir", "/y", "--ttl", "100"),
    step("updatedir", "/y"),
    step("updatedir", "/none"),
    step("--no-sync", "get", "/q"),
    step("set", "/blank key/ü", "ä"),
    step("get", "/blank key/ü"),
    step("set", "--", "/dash", "-v"),
    step("get", "dash"),
    step("nosuch"),
    step("--badflag", "get", stdout=False),
    step("get", "--badflag", stdout=False),
    step("set", "/ttl", "1", "--ttl", "x", stdout=False),
    step("watch"),
    step("exec-watch"),
    step("exec-watch", "/a"),
    step("watch", "--after-index", "3", "/a"),
    step("watch", "-r", "--after-index", "3", "/"),
    step("-o", "json", "watch", "-r", "--after-index", "5", "/"),
    step("--version", stdout=False),
]

MEMBERS = [
    step("member", "list"),
    step("member", "add"),
    step("member", "add", "a"),
    step("member", "add", "a", "b", "c"),
    step("member", "remove"),
    step("member", "remove", "123"),
    step("member", "update"),
    step("member", "update", "1", "http://127.0.0.1:1"),
    step("cluster-health"),
]

USERS = [
    step("user", "add"),
    step("user", "add", "u1:p"),
    step("user", "add", "u1:p"),
    step("user", "list"),
    step("user", "get", "u1"),
    step("user", "get", "none"),
    step("role", "add", "r1"),
    step("role", "add", "r1"),
    step("role", "list"),
    step("role", "get", "r1"),
    step("role", "get", "none"),
    step("role", "grant", "r1", "--path", "/zz", "--read"),
    step("role", "grant", "r1", "--path", "zz", "--read"),
    step("role", "grant", "r1", "--path", "/a"),
    step("role", "grant", "r1"),
    step("role", "grant", "r1", "--path", "/pub/*", "--readwrite"),
    step("role", "grant", "r1", "--path", "/w", "--write"),
    step("role", "get", "r1"),
    step("role", "revoke", "r1", "--path", "/w", "--write"),
    step("role", "revoke", "r1", "--path", "/w", "--rw"),
    step("role", "grant"),
    step("role", "grant", "r1", "--path", "/x", "--rw", "--read"),
    step("user", "grant", "u1", "--roles", "r1"),
    step("user", "grant", "u1", "--roles", "r1"),
    step("user", "get", "u1"),
    step("user", "revoke", "u1", "--roles", "r1"),
    step("user", "revoke", "u1", "--roles", "r1"),
    step("user", "grant", "u1"),
    step("user", "grant"),
    step("user", "remove", "u1"),
    step("user", "remove", "u1"),
    step("role", "remove", "r1"),
    step("role", "remove", "r1"),
    step("role", "remove"),
    step("auth", "enable"),
    step("auth", "disable"),
    step("user", "add", "root:p"),
    step("auth", "enable"),
    step("auth", "enable"),
    step("user", "list"),
    step("-u", "root:p", "user", "list"),
    step("-u", "root:p", "role", "get", "guest"),
    step("-u", "root:p", "role", "get", "root"),
    step("-u", "root:x", "user", "list"),
    step("-u", "root:p", "role", "revoke", "guest", "--path", "/*", "--rw"),
    step("set", "/a", "1"),
    step("-u", "root:x", "get", "/q"),
    step("-u", "root:p", "auth", "disable"),
    step("auth", "disable"),
    step("user", "remove", "root"),
]


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(KEYS, id="keys"),
        pytest.param(MEMBERS, id="members"),
        pytest.param(USERS, id="users"),
    ],
)
def test_same_as_go(steps: list[Step], tmp_path: Path, go_tools: Path) -> None:
    """Every line gets the same output, complaint and exit status from both."""
    go, ours = both(tmp_path, go_tools, steps, api="2")
    differing = [
        f"{' '.join(g.words)}\n  go   {g.status} {g.out!r} {g.err!r}\n"
        f"  ours {o.status} {o.out!r} {o.err!r}"
        for g, o in zip(go, ours, strict=True)
        if (g.status, g.out, g.err) != (o.status, o.out, o.err)
    ]
    assert not differing, "\n".join([f"{len(differing)} of {len(go)} differ", *differing])


TROUBLE = [
    ["set", "/x", "1"],
    ["--no-sync", "get", "/x"],
    ["watch", "/x"],
    ["member", "list"],
    ["member", "add", "z", "http://127.0.0.1:9"],
    ["member", "remove", "1"],
    ["role", "list"],
    ["cluster-health"],
]


def asked_both(go_tools: Path, endpoints: str, words: list[str]) -> tuple[object, object]:
    environment = servers.plain_environment({"ETCDCTL_API": "2"})
    ours = [sys.executable, "-m", "corum.cli.etcdctl"]
    done = [
        subprocess.run(
            [*tool, "--endpoints", endpoints, *words],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )
        for tool in ([str(go_tools / "etcdctl")], ours)
    ]  # fmt: skip
    go, our = ((one.returncode, one.stdout, one.stderr) for one in done)
    return go, our


def test_health_is_asked_for_ever(
    tmp_path: Path,
    our_program: servers.Program,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each round has the whole time limit, not what the ones before it have left."""
    asleep_s: list[float] = []

    def sleep(seconds: float) -> None:
        if len(asleep_s) == 2:
            raise KeyboardInterrupt
        asleep_s.append(seconds)

    monkeypatch.setattr(members, "sleep", sleep)
    monkeypatch.setattr(api, "monotonic", lambda: time.monotonic() + sum(asleep_s))
    with servers.running(our_program, tmp_path) as server, pytest.raises(KeyboardInterrupt):
        commands.run(["--endpoints", server.client_url, "cluster-health", "--forever"])
    assert asleep_s == [10, 10]
    assert capsys.readouterr().out.count("cluster is healthy") == 3


def test_no_v2_and_no_server_are_told_alike(
    tmp_path: Path, go_tools: Path, our_program: servers.Program
) -> None:
    """A member that does not serve v2, and two that are not there (Go takes them in any order)."""
    with servers.running(our_program, tmp_path, "--enable-v2=false") as server:
        for words in TROUBLE:
            go, ours = asked_both(go_tools, server.client_url, words)
            assert ours == go, words
    gone = "http://127.0.0.1:1,http://127.0.0.1:1"
    for words in TROUBLE:
        go, ours = asked_both(go_tools, gone, words)
        assert ours == go, words
