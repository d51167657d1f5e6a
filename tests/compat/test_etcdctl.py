"""Unmodified Go etcdctl 3.5.1 prints the same, whichever server answers.

Each script is a list of command lines, run on Go etcd and on ours; output, errors and exit
status are compared. Ids, ports, sizes and durations are masked. `{lease}` is the lease that the
script's last `lease grant` printed.
"""

import re
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from corum.pb import rpc
from oracle import servers
from oracle.pair import Pair

pytestmark = [pytest.mark.compat, pytest.mark.process, pytest.mark.slow]

WATCH_TIMEOUT_S = 8.0


@dataclass(frozen=True)
class Line:
    """A command with what is typed into it."""

    words: str
    stdin: str = ""


FORMATS = ("simple", "json", "fields", "protobuf", "table")
SETUP = [
    "put a 1",
    "put b 2",
    "put a 3",
    "put ab 4",
    "put 'with space' 'a value'",
    "put empty ''",
    "put c '日本語'",
]

Script = list[str | Line]

SCRIPTS: dict[str, Script] = {
    "put": [
        "put a 1",
        "put a 2 --prev-kv",
        Line("put a", stdin="from standard input"),
        "get a",
        "put --ignore-value a",
        "put --ignore-value missing",
        "put --ignore-value a value",
        "put --lease=1234 a 1",
        "put --ignore-lease missing 1",
        "put -- -dash 1",
        "get -- -dash",
        "put",
        "put a b c",
        "put '' x",
    ],
    "get": [
        *SETUP,
        "get a",
        "get a --print-value-only",
        "get a --keys-only",
        "get a --prefix",
        "get a --prefix --keys-only",
        "get a b",
        "get a --from-key --limit 2",
        "get '' --prefix",
        "get '' --from-key --count-only",
        "get '' --prefix --count-only --write-out=fields",
        "get a --hex",
        "get a --consistency=s",
        "get a --consistency=x",
        "get a --rev=100000",
        "get a --rev=-1",
        "get missing",
        "get empty",
        "get c",
        "get c --hex -w json",
        "get",
        "get a b --prefix",
        "get a --prefix --from-key",
        "get a --no-such-flag",
    ],
    "get in order": [
        *SETUP,
        *[
            f"get '' --prefix --order={order} --sort-by={by} --keys-only"
            for order in ("ASCEND", "DESCEND")
            for by in ("CREATE", "KEY", "MODIFY", "VALUE", "VERSION")
        ],
        "get '' --prefix --order=UPWARDS",
        "get '' --prefix --sort-by=LUCK",
    ],
    "get in every format": [
        *SETUP,
        *[f"get a --prefix -w {form}" for form in FORMATS],
        *[f"get missing -w {form}" for form in FORMATS],
        "get a -w nonsense",
    ],
    "put and del in every format": [
        *[f"put k{form} 1 --prev-kv -w {form}" for form in FORMATS],
        *[f"put k{form} 2 --prev-kv -w {form}" for form in FORMATS],
        *[f"del k{form} --prev-kv -w {form}" for form in FORMATS],
        *[f"del k{form} --prev-kv -w {form}" for form in FORMATS],
    ],
    "del": [
        *SETUP,
        "del a",
        "del a",
        "del a --prefix --prev-kv",
        "del b d",
        "del '' --from-key",
        "del",
        "get '' --prefix",
    ],
    "txn": [
        *SETUP,
        Line("txn", 'value("a") = "3"\n\nput t yes\nget t\n\nput t no\n\n'),
        Line("txn", 'value("a") = "4"\n\nput t yes\n\nput t no\nget a --prefix\n\n'),
        Line("txn", 'mod("a") > "0"\ncreate("none") = "0"\n\ndel a --prev-kv\nget a\n\nget b\n\n'),
        Line("txn", 'version("a") = "0"\n\nget b\n\n\n'),
        Line("txn", "\nput x 1\nput x 2\n\n\n"),
        Line("txn", 'nonsense("a") = "0"\n\n\n\n'),
        Line("txn -w json", "\nput y 1\nget y\n\n\n"),
        Line("txn -w fields", "\nget y\ndel y\n\n\n"),
        Line("txn -i", 'ver("a") = "0"\n\nput z 1\n\nput z 2\n\n'),
    ],
    "lease": [  # one key while keys are listed: Go lists several in any order
        "lease grant 300",
        "put l1 x --lease={lease}",
        "get l1 -w fields",
        "lease timetolive {lease}",
        "lease timetolive {lease} --keys",
        "lease timetolive {lease} --keys -w json",
        "lease timetolive {lease} --keys -w fields",
        "put l2 x --lease={lease}",
        "lease timetolive 1234",
        "lease list",
        "lease list -w json",
        "lease keep-alive --once {lease}",
        "lease keep-alive --once {lease} -w json",
        "lease keep-alive --once 1234",
        "lease revoke {lease}",
        "lease revoke {lease}",
        "lease revoke zzz",
        "lease grant",
        "lease grant x",
        "lease grant 0",
        "lease grant 9000000001",
        "lease timetolive {lease}",
        "get l --prefix",
        "lease grant 50 -w json",
        "lease grant 50 -w fields",
    ],
    "compaction": [
        *SETUP,
        "compaction 3",
        "compaction 3",
        "compaction 1",
        "compaction 100000",
        "compaction",
        "compaction x",
        "compaction 5 --physical",
        "get a --rev=3",
        "get a --rev=5",
        "watch a --rev=2",
    ],
    "defrag, alarm, hash": [
        "put a 1",
        "defrag",
        "alarm list",
        "alarm disarm",
        "alarm list -w json",
        "endpoint hashkv",
        "endpoint hashkv -w json",
        "move-leader 1234",
    ],
    "endpoint": [
        "endpoint health",
        "endpoint health -w table",
        "endpoint health -w json",
        "endpoint health --cluster",
        "endpoint status",
        "endpoint status -w table",
        "endpoint status -w json",
        "endpoint status -w fields",
        "endpoint status --cluster",
        "endpoint health --endpoints=127.0.0.1:1 --command-timeout=300ms",
    ],
    "member": [
        *[f"member list -w {form}" for form in FORMATS],
        "member remove 1234",
        "member remove zzz",
        "member update 1234 --peer-urls=http://127.0.0.1:1",
        "member promote 1234",
        "member add x",
    ],
    "lock": [
        "lock name true",
        "lock name false",
        "lock name echo held",
        "get name --prefix --keys-only",
    ],
    "unknown": ["nonsense", "get -w", "--bad-flag"],
}

_MASKS: list[tuple[str, str]] = [
    (r'"(member_id|cluster_id|leader|ID|id|lease|lease_id)":\d+', r'"\1":N'),
    (r'"(took|Took|granted-ttl-x|raft_index|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse)":'
     r'"?[\w.µ]+"?', r'"\1":N'),
    (r'"(Member_?ID|Cluster_?ID|Lease_?ID|Leader)" ?: ?\d+', r'"\1" : N'),
    (r'"(RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse|LeaseID|ID|Lease|TTL_remaining)" ?: ?\d+',
     r'"\1" : N'),
    (r'"Version" ?: ?"[\d.]+"|"version":"[\d.]+"', "VERSION"),
    (r"took = [\d.]+[µmn]?s|took[\": ]+[\d.]+[µmn]?s", "took T"),
    (r"\b[\d.]+[µmn]s\b", "T"),
    (r"\b\d+(\.\d+)? [kM]?B\b", "SIZE"),
    (r"(true, (?:false, )?\d+), \d+, \d+,", r"\1, N, N,"),  # raft index and applied index
    (r"(\| +true \| +(?:false \| +)?\d+ \|) +\d+ \| +\d+ \|", r"\1 N | N |"),
    (r"remaining\(\d+s\)", "remaining(Ns)"),
    (r'"ttl":\d+', '"ttl":N'),
    (r'"TTL" : \d+', '"TTL" : N'),
    (r"[─-]{3,}", "---"),
    (r" +\|", " |"),
    (r"\| +", "| "),
    (r'(ENDPOINT, |"hash" ?: ?)\d+', r"\1HASH"),  # chosen lease ids are in it
    (r"\b3\.[4-9]\.\d+(-[\w.]+)?\b", "3.x"),
]  # fmt: skip


def mask(text: str, names: dict[str, str]) -> str:
    """Text without what may differ; `names` maps this server's own ids and URLs to words."""
    for own, word in names.items():
        text = text.replace(own, word)
    text = re.sub(r"^\{\"level\".*\n", "", text, flags=re.M)  # the client library's own log
    for pattern, word in _MASKS:
        text = re.sub(pattern, word, text)
    return text


class Typist:
    """Runs a script's lines against one server and keeps what they printed, masked."""

    def __init__(self, tool: Path, server: servers.Server, ids: dict[str, str]) -> None:
        self.tool, self.server = tool, server
        self.names = dict(ids)
        self.lease = "1"

    def type(self, line: str | Line) -> tuple[str, int, str, str]:
        line = Line(line) if isinstance(line, str) else line
        words = shlex.split(line.words.replace("{lease}", self.lease))
        done = servers.etcdctl(self.tool, self.server, *words, stdin=line.stdin)
        granted = re.search(r"lease ([0-9a-f]+) granted", done.stdout)
        if granted:
            self.lease = granted[1]
            self.names = {self.lease: "LEASE", str(int(self.lease, 16)): "LEASE"} | self.names
        return line.words, done.returncode, self.mask(done.stdout), self.mask(done.stderr)

    def mask(self, text: str) -> str:
        text = re.sub(r"lease [0-9a-f]{9,16}", "lease ID", mask(text, self.names))
        text = re.sub(r"^[0-9a-f]{15,16}$", "ID", text, flags=re.M)
        return re.sub(r"^(\w+)/[0-9a-f]{9,16}$", r"\1/ID", text, flags=re.M)


def typists(pair: Pair, tools: Path) -> tuple[Typist, Typist]:
    status = pair.call("Maintenance/Status", rpc.StatusRequest())
    both = []
    for server, answer in zip(pair.servers, status, strict=True):
        member, cluster = answer.header.member_id, answer.header.cluster_id
        ids = {
            server.client_url: "CLIENT-URL",
            server.endpoint: "ENDPOINT",
            server.peer_url: "PEER-URL",
            f"{member:x}": "MEMBER",
            f"{cluster:x}": "CLUSTER",
            str(member): "MEMBER",
            str(cluster): "CLUSTER",
        }
        both.append(Typist(tools / "etcdctl", server, ids))
    return both[0], both[1]


def masked_protobuf(words: str, out: str) -> str:
    """Protobuf output holds ids as bytes: only that there is any can be compared."""
    return "PROTOBUF" if "protobuf" in words and out else out


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(pair: Pair, go_tools: Path, name: str) -> None:
    """Every line of the script gives the same output, errors and exit status."""
    go, ours = typists(pair, go_tools)
    for line in SCRIPTS[name]:
        words, *wanted = go.type(line)
        _, *got = ours.type(line)
        wanted[1] = masked_protobuf(words, wanted[1])
        got[1] = masked_protobuf(words, got[1])
        assert got == wanted, words


def watched(typist: Typist, words: str, lines: int, stdin: str = "") -> list[str]:
    """What a watch printed until it had printed so many lines."""
    argv = [str(typist.tool), f"--endpoints={typist.server.endpoint}", *shlex.split(words)]
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=servers.plain_environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    alarm = time.monotonic() + WATCH_TIMEOUT_S
    got: list[str] = []
    try:
        process.stdin.write(stdin)
        process.stdin.flush()
        while len(got) < lines and time.monotonic() < alarm:
            line = process.stdout.readline()
            if not line:
                break
            got.append(mask(line, typist.names))
    finally:
        process.kill()
        process.communicate()
    return got


WATCHES = {
    "one key": ("watch a --rev={first}", 12),
    "one key with previous values": ("watch a --rev={first} --prev-kv", 14),
    "a prefix": ("watch a --prefix --rev={first}", 15),
    "a range": ("watch a c --rev={first}", 16),
    "as json": ("watch a --prefix --rev={first} -w json", 1),
    "as fields": ("watch a --rev={first} -w fields", 20),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", WATCHES)
def test_watch(pair: Pair, go_tools: Path, name: str) -> None:
    """A watch over the past prints the same events in the same words."""
    both = typists(pair, go_tools)
    first = pair.same("KV/Put", rpc.PutRequest(key=b"first"))["header"]["revision"] + 1
    for typist in both:
        for line in ["put a 1", "put a 2", "put ab x", "put b y", "del a", "put a 3"]:
            typist.type(line)
    words, lines = WATCHES[name]
    go, ours = (watched(typist, words.format(first=first), lines) for typist in both)
    assert len(go) == lines, go
    assert ours == go


@pytest.mark.timeout(60)
def test_watch_runs_a_command(pair: Pair, go_tools: Path) -> None:
    """`watch ... -- command` gives the command the same environment."""
    both = typists(pair, go_tools)
    first = pair.same("KV/Put", rpc.PutRequest(key=b"a", value=b"1"))["header"]["revision"]
    words = f"watch a --rev={first} -- sh -c 'env | grep ^ETCD_WATCH | sort'"
    go, ours = (watched(typist, words, 7) for typist in both)
    assert ours == go
    assert any("ETCD_WATCH_KEY" in line for line in go), go


@pytest.mark.timeout(60)
def test_snapshot(pair: Pair, go_tools: Path, tmp_path: Path) -> None:
    """A snapshot of ours is read by Go's etcdutl, and a Go etcd restored from it has our keys."""
    both = typists(pair, go_tools)
    states = []
    for which, typist in zip(("go", "ours"), both, strict=True):
        for line in SETUP:
            typist.type(line)
        file = tmp_path / f"{which}.db"
        saved = servers.etcdctl(typist.tool, typist.server, "snapshot", "save", str(file))
        assert saved.returncode == 0, saved.stderr
        assert f"Snapshot saved at {file}" in saved.stdout
        states.append(restored_state(go_tools, file, tmp_path / f"{which}-restored"))
    assert states[1] == states[0]


def restored_state(tools: Path, file: Path, folder: Path) -> tuple[str, str]:
    """Revision of a snapshot file, and all keys of a Go etcd restored from it."""
    status = run(tools / "etcdutl", "snapshot", "status", str(file), "-w", "json")
    revision = re.search(r'"revision":(\d+)', status)
    assert revision, status
    server = servers.Server(servers.Program("go", (str(tools / "etcd"),)), folder)
    run(
        tools / "etcdutl",
        "snapshot",
        "restore",
        str(file),
        f"--data-dir={server.data_dir}",
        f"--initial-cluster=default={server.peer_url}",
        f"--initial-advertise-peer-urls={server.peer_url}",
    )
    try:
        server.start()
        keys = servers.etcdctl(tools / "etcdctl", server, "get", "", "--prefix", "-w", "fields")
    finally:
        server.kill()
    lines = [line for line in keys.stdout.splitlines() if not re.match(r'"\w+ID"|"RaftTerm"', line)]
    return revision[1], "\n".join(lines)


def run(tool: Path, *words: str) -> str:
    done = subprocess.run(
        [str(tool), *words],
        capture_output=True,
        text=True,
        check=False,
        env=servers.plain_environment(),
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
