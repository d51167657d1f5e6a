"""The same command lines to Go's etcdctl 3.5.1 and ours: output, complaints, exit status."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from twice import Step, both, step

pytestmark = [pytest.mark.compat, pytest.mark.process, pytest.mark.slow]

LEASE = {"save": {"lease": r"lease ([0-9a-f]{16})"}}
ODD_KEY, ODD_VALUE = "a\x01b\udcff", 'v\n"q"\udcfe'
FORMATS = ("simple", "json", "fields", "table", "protobuf")

KEYS = [
    step("put", "foo", "bar"),
    step("put", "foo", "bar2", "--prev-kv"),
    step("put", "foo", "b", "-w", "json", "--prev-kv"),
    step("put", "foo", "b", "-w=fields", "--prev-kv=true"),
    step("put", "foo", "b", "-w", "table"),
    step("put", "foo", stdin="from\nstdin\n"),
    step("put", "foo", "--", "-x"),
    step("get", "foo"),
    step("put", "foo", "b", "-w", "protobuf", "--prev-kv"),
    step("put", "foo"),
    step("put"),
    step("put", "a", "b", "c"),
    *[step("get", "foo", "-w", form) for form in FORMATS],
    *[step("get", "foo", "-w", form, "--hex") for form in FORMATS],
    *[step("get", "nosuch", "-w", form) for form in FORMATS],
    step("get", "foo", "--keys-only"),
    step("get", "foo", "--keys-only", "-w", "fields"),
    step("get", "foo", "--count-only"),
    step("get", "foo", "--count-only", "-w", "json"),
    step("get", "foo", "--count-only", "-w", "fields"),
    step("get", "foo", "--print-value-only"),
    step("put", ODD_KEY, ODD_VALUE),
    *[step("get", ODD_KEY, "-w", form) for form in FORMATS],
    step("get", ""),
    step("get", "", "--prefix", "--limit", "1", "-w", "json"),
    step("get", "", "--from-key", "--limit=1"),
    step("get", "--prefix", "--limit=1", "--", "f"),
    step("get"),
    step("get", "a", "b", "c"),
    step("get", "a", "b", "--prefix"),
    step("get", "a", "--prefix", "--from-key"),
    step("get", "a", "--keys-only", "--count-only"),
    step("get", "a", "--print-value-only", "-w", "json"),
    step("get", "a", "--order", "zz"),
    step("get", "a", "--sort-by", "zz"),
    step("get", "a", "--consistency", "zz"),
    step("get", "a", "--consistency", "s"),
    step("get", "foo", "--rev", "999"),
    step("get", "foo", "--rev", "3"),
    step("get", "foo", "-w", "nosuch"),
    *[step("put", f"k{n}", str(9 - n)) for n in range(5)],
    *[
        step("get", "k", "--prefix", "--order", order, "--sort-by", target)
        for order in ("ASCEND", "descend")
        for target in ("KEY", "VERSION", "create", "MODIFY", "VALUE")
    ],
    step("get", "k", "--prefix", "--sort-by", "VALUE"),
    step("del", "k0", "--prev-kv", "-w", "fields"),
    step("del", "nosuch", "-w", "json"),
    step("del", "k1", "--prev-kv", "-w", "json"),
    step("del", "k", "--prefix"),
    step("del"),
    step("del", "a", "b", "c"),
    step("del", "a", "--prefix", "--from-key"),
    step("del", "a", "b", "--prefix"),
    step("del", ""),
    step("compaction"),
    step("compaction", "x"),
    step("compaction", "4"),
    step("compaction", "4"),
    step("compaction", "5", "--physical", "-w", "json"),
    step("compaction", "999"),
    step("get", "foo", "--rev", "2"),
    step("watch", "foo", "--rev", "2"),
    step("del", "", "--from-key"),
]

LEASES = [
    step("lease", "grant", "100", **LEASE),
    step("lease", "grant", "100", "-w", "json", save={"json": r'"ID":(\d+)'}),
    step("lease", "grant", "100", "-w", "fields", save={"fields": r'"ID" : (\d+)'}),
    *[step("lease", "grant", *words) for words in (["x"], [], ["1", "2"], ["99999999999"])],
    step("put", "--lease={lease}", "lk", "v"),
    step("lease", "list", save={"a": r"leases\n(\w+)"}),
    *[step("lease", "list", "-w", form) for form in FORMATS],
    *[step("lease", "timetolive", "{lease}", "-w", form) for form in FORMATS],
    *[step("lease", "timetolive", "{lease}", "--keys", "-w", form) for form in FORMATS],
    *[step("lease", "timetolive", "123", "-w", form) for form in FORMATS],
    step("lease", "timetolive", "123", "--keys"),
    step("lease", "timetolive", "zz"),
    step("lease", "timetolive"),
    *[step("lease", "keep-alive", "{lease}", "--once", "-w", form) for form in FORMATS],
    step("lease", "keep-alive", "123", "--once"),
    step("lease", "keep-alive", "123"),
    step("lease", "keep-alive", "zz"),
    step("lease", "keep-alive"),
    step("put", "a", "b", "--lease", "77"),
    step("put", "a", "b", "--lease", "zz"),
    step("put", "a", "b", "--ignore-value"),
    step("put", "lk", "--ignore-value"),
    step("put", "nosuch", "--ignore-value"),
    step("put", "lk", "c", "--ignore-lease"),
    step("put", "nosuch", "b", "--ignore-lease"),
    step("get", "lk", "-w", "fields"),
    step("lease", "revoke", "123"),
    step("lease", "revoke", "zz"),
    step("lease", "revoke"),
    step("lease", "revok", "{lease}"),
    step("get", "lk"),
    *[step("lease", "revoke", "{lease}", "-w", form) for form in FORMATS],
    step("lease", "grant", "1"),
    step("lease", "grant", "--", "-1"),
]

MEMBER = {"save": {"member": r"^([0-9a-f]+),"}}
CLUSTER = [
    step("member", "list", **MEMBER),
    *[step("member", "list", "-w", form) for form in FORMATS],
    step("member", "list", "--hex", "-w", "fields"),
    *[step("endpoint", "status", "-w", form) for form in FORMATS],
    *[step("endpoint", "status", "--cluster", "-w", form) for form in ("simple", "fields")],
    *[step("endpoint", "health", "-w", form) for form in ("simple", "json", "fields", "protobuf")],
    *[step("endpoint", "hashkv", "-w", form) for form in FORMATS],
    step("endpoint", "hashkv", "--rev", "99999"),
    *[step("alarm", "list", "-w", form) for form in FORMATS],
    *[step("alarm", "disarm", "-w", form) for form in ("simple", "json", "table", "protobuf")],
    step("alarm", "list", "a"),
    step("alarm", "disarm", "a"),
    step("member", "add"),
    step("member", "add", "a"),
    step("member", "add", "a", "b"),
    step("member", "add", "a", "http://b:1"),
    step("member", "add", "a", "--peer-urls="),
    step("member", "add", "a", "--peer-urls=foo"),
    step("member", "add", "a", "--peer-urls=http://foo"),
    step("member", "add", "a", "--peer-urls=http://127.0.0.1:1/x"),
    step("member", "remove"),
    step("member", "remove", "zz"),
    step("member", "remove", "123"),
    step("member", "remove", "{member}"),
    step("member", "promote"),
    step("member", "promote", "123"),
    step("member", "promote", "{member}"),
    step("member", "update"),
    step("member", "update", "123"),
    step("member", "update", "123", "--peer-urls=http://127.0.0.1:1"),
    *[
        step("member", "update", "{member}", "--peer-urls=http://127.0.0.1:7777", "-w", form)
        for form in FORMATS
    ],
    step("move-leader"),
    step("move-leader", "zz"),
    step("move-leader", "1", "2"),
    step("move-leader", "1"),
    step("move-leader", "{member}"),
    step("member", "add", "x", "--peer-urls=http://127.0.0.1:1", "--learner", stdout=False),
    step("member", "list", "x", stdout=False),  # the new id decides the order
    step("snapshot", "save"),
    step("snapshot", "save", "a", "b"),
    step("snapshot", "save", "/nonexist/s.db"),
    step("version", "x", stdout=False),
]

AUTH = [
    *[step("role", "add", f"r{form}", "-w", form) for form in FORMATS],
    *[step("user", "add", f"u{form}:p", "-w", form) for form in FORMATS],
    *[step("role", "grant-permission", f"r{f}", "read", "foo", "-w", f) for f in FORMATS],
    *[step("role", "grant-permission", f"r{f}", "write", "a", "b", "-w", f) for f in FORMATS],
    *[step("user", "grant-role", f"u{form}", f"r{form}", "-w", form) for form in FORMATS],
    *[step("role", "get", "rjson", "-w", form) for form in FORMATS],
    *[step("user", "get", "ujson", "-w", form) for form in FORMATS],
    *[step("role", "list", "-w", form) for form in FORMATS],
    *[step("user", "list", "-w", form) for form in FORMATS],
    *[step("auth", "status", "-w", form) for form in FORMATS],
    step("user", "revoke-role", "ujson", "rjson", "-w", "json"),
    step("user", "revoke-role", "ufields", "rfields", "-w", "fields"),
    step("user", "get", "usimple", "--detail"),
    step("user", "get", "usimple", "--detail", "-w", "json"),
    step("role", "grant-permission", "rsimple", "readwrite", "p", "--prefix"),
    step("role", "grant-permission", "rsimple", "readwrite", "q", "--from-key"),
    step("role", "grant-permission", "rsimple", "read", "", "--prefix"),
    step("role", "get", "rsimple"),
    step("role", "revoke-permission", "rsimple", "a", "b"),
    step("role", "revoke-permission", "rsimple", "q", "--from-key"),
    step("role", "revoke-permission", "rsimple", "foo"),
    step("role", "revoke-permission", "rsimple", "p", "--prefix"),
    step("role", "revoke-permission", "rsimple", "foo"),
    step("role", "revoke-permission", "rsimple", "", "--prefix", "-w", "json"),
    step("role", "revoke-permission", "rsimple"),
    step("role", "get", "rsimple"),
    step("role", "get", "root"),
    step("role", "grant-permission", "rsimple", "bad", "foo"),
    step("role", "grant-permission", "rsimple", "read"),
    step("role", "grant-permission", "rsimple", "read", "a", "b", "--prefix"),
    step("role", "grant-permission", "rsimple", "read", "a", "b", "--from-key"),
    step("role", "grant-permission", "rsimple", "read", "a", "--prefix", "--from-key"),
    step("role", "add"),
    step("role", "add", ""),
    step("role", "add", "rjson"),
    step("role", "delete", "rtable"),
    step("role", "delete", "rjson", "-w", "json"),
    step("role", "delete"),
    step("role", "get"),
    step("role", "get", "nosuch"),
    step("role", "list", "x"),
    step("user", "add"),
    step("user", "add", ":p"),
    step("user", "add", "a:"),
    step("user", "add", "ujson:p"),
    step("user", "add", "b", "--interactive=false", stdin="pw\n"),
    step("user", "add", "c", "--new-user-password=p"),
    step("user", "add", "d", "--no-password"),
    step("user", "add", "d:p", "--no-password"),
    step("user", "passwd", "c", "--interactive=false", stdin="pw\n"),
    step("user", "passwd", "c", "--interactive=false", "-w", "json", stdin="pw\n"),
    step("user", "passwd"),
    step("user", "delete", "d"),
    step("user", "delete", "d"),
    step("user", "delete"),
    step("user", "list", "x"),
    step("user", "get"),
    step("user", "get", "nosuch"),
    step("user", "get", "a", "b"),
    step("user", "grant-role", "a"),
    step("user", "grant-role", "c", "nosuch"),
    step("user", "revoke-role", "c"),
    step("user", "revoke-role", "c", "rsimple"),
    step("--user", "u:p", "put", "foo", "bar"),
    step("--user", "u", "--password", "p", "get", "foo"),
    step("auth", "enable"),
    step("auth", "enable", "x"),
    step("auth", "disable"),
    step("auth", "status", "x"),
    step("user", "add", "root:r"),
    step("auth", "enable"),
    step("auth", "status"),
    step("get", "foo"),
    step("--user", "root:r", "get", "foo"),
    step("--user", "root:r", "auth", "status"),
    step("--user", "root:r", "role", "get", "root"),
    step("--user", "root", "--password", "r", "put", "foo", "bar"),
    step("--user", "root:wrong", "get", "foo"),
    step("--user", "nosuch:wrong", "get", "foo"),
    step("--user", "c:pw", "get", "foo"),
    step("--user", "c:pw", "user", "list"),
    step("--user", "root:r", "user", "grant-role", "c", "rsimple"),
    step("--user", "root:r", "role", "grant-permission", "rsimple", "read", "foo"),
    step("--user", "c:pw", "get", "foo"),
    step("--user", "c:pw", "put", "foo", "x"),
    step("get", "foo", environment={"ETCDCTL_USER": "c:pw"}),
    step("--user", "root:r", "auth", "disable"),
    step("get", "foo"),
]


def _txn(text: str, *words: str) -> Step:
    return step("txn", *words, stdin=text)


TXNS = [
    step("put", "foo", "bar"),
    step("put", "lk", "x"),
    *[
        _txn('value("foo") = "bar"\n\nget foo\nput a b --prev-kv\n\nget foo\n\n', "-w", form)
        for form in FORMATS
    ],
    _txn('value("foo") = "bar"\n\nget foo\nput a b --prev-kv\n\nget foo\n\n', "-i"),
    *[_txn("\ndel lk --prev-kv\n\n\n", "-w", form) for form in FORMATS],
    _txn('value("foo") = "bar"\n\nput a b\ndel a\n\nget foo\n\n'),
    _txn('value("foo") = "nobar"\n\nput a b\n\nget foo\n\n'),
    *[
        _txn(f"{compare}\n\nget foo\n\n\n")
        for compare in (
            "bad",
            'xx("foo") = "1"',
            'mod("foo") = "x"',
            'mod(foo) > "1"',
            'mod("foo") > 1',
            'ver("foo") > "0"\ncreate("foo") > "0"\nm("foo") > "0"\nc("foo") > "0"',
            'version("foo") != "0"',
            'val("foo") < "z"',
            'value("foo")="bar"',
            ' value("foo")  =  "bar" ',
            'value("f\\x00o") = "b\\xff"',
            'mod("foo") = ""',
        )
    ],
    *[
        _txn(f"\n{request}\n\n\n")
        for request in (
            "foo bar",
            "get",
            "put a",
            'put "a b" "c\\"d"\nget "a b"',
            "put 'x' 'y z'",
            "get --nosuch a",
            "get a --prefix --keys-only",
            "put a b\nput a c",
            "",
            "watch a",
            "txn",
            "get foo --print-value-only",
            "get a -w json",
            "get a --count-only",
        )
        if request != "put 'x' 'y z'"  # Go splits at blanks within single quotes
    ],
    step("txn", "a"),
]

COMPLAINTS = [
    step("nosuch"),
    step("get", "--nosuch", "k", stdout=False),
    step("get", "--limit=x", "k", stdout=False),
    step("get", "k", "--limit", stdout=False),
    step("get", "-z", "k", stdout=False),
    step("get", "k", "-w", stdout=False),
    step("get", "--=x", "k", stdout=False),
    step("get", "---x", "k", stdout=False),
    step("get", "--prefix=maybe", "k", stdout=False),
    step("--dial-timeout=zz", "get", "k", stdout=False),
    step("--dial-timeout=5", "get", "k", stdout=False),
    step("lease", "grant", "-1", stdout=False),
    step("help", "nosuch", stdout=False),
    step("pu"),
    step("l"),
    step("--cacert=", "get", "k"),
    step("--cacert=/nonexist", "get", "k"),
    step("get", "k", environment={"ETCDCTL_ENDPOINTS": "127.0.0.1:1"}),
    step("get", "k", environment={"ETCDCTL_DIAL_TIMEOUT": "zz", "ETCDCTL_NOSUCH": "1"}),
    step("lock"),
    step("lock", "l1", "sh", "-c", "x", stdout=False),
    step("lock", "--ttl=x", "l1", stdout=False),
    step("lock", "l1", "--", "nosuchcmd"),
    step("lock", "l1", "--", "sh", "-c", "exit 7"),
    step("lock", "l1", "echo", "hi"),
    step("elect"),
    step("elect", "e1"),
    step("elect", "-l", "e1", "p"),
    step("elect", "a", "b", "c"),
    step("check", "perf", "--load=zz"),
    step("check", "datascale", "--load=zz"),
    step("make-mirror"),
    step("make-mirror", "a", "b"),
    step("make-mirror", "--no-dest-prefix", "--dest-prefix=x", "a"),
    step("watch"),
    step("watch", "a", "b", "--prefix"),
    step("watch", "a", "--"),
    step("watch", "a", environment={"ETCDCTL_WATCH_KEY": "w1"}),
    step("watch", environment={"ETCDCTL_WATCH_RANGE_END": "w2"}),
    step("watch", "-i"),
    step("watch", "-i", "foo"),
    *[
        step("watch", "-i", stdin=line + "\n")
        for line in (
            "watch",
            "",
            "foo",
            "progress",
            "watch a b --prefix",
            "watch a --nosuch",
            "watch a -w json",
            "watch a --",
            "help",
        )
    ],
]


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(KEYS, id="keys"),
        pytest.param(LEASES, id="leases"),
        pytest.param(CLUSTER, id="cluster"),
        pytest.param(AUTH, id="auth"),
        pytest.param(TXNS, id="txn"),
        pytest.param(COMPLAINTS, id="complaints"),
    ],
)
def test_same_as_go(steps: list[Step], tmp_path: Path, go_tools: Path) -> None:
    """Every line gets the same output, complaint and exit status from both."""
    go, ours = both(tmp_path, go_tools, steps)
    differing = [
        f"{' '.join(g.words)}\n  go   {g.status} {g.out!r} {g.err!r}\n"
        f"  ours {o.status} {o.out!r} {o.err!r}"
        for g, o in zip(go, ours, strict=True)
        if (g.status, g.out, g.err) != (o.status, o.out, o.err)
    ]
    assert not differing, "\n".join([f"{len(differing)} of {len(go)} differ", *differing])
