"""The same conversation twice: Go's etcdctl and ours, each on a fresh Go etcd 3.5.1.

Both servers use the same ports one after the other, so that cluster ids, member ids, revisions
and raft terms are equal; what remains different by nature (lease ids, times, sizes) is masked.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from oracle import servers

OURS = [sys.executable, "-m", "corum.cli.etcdctl"]
MASKS = (
    (r"(?m)^[0-9a-f]{16}$", "<lease>"),
    (r"lease [0-9a-f]{16}", "lease <lease>"),
    (r"(?m)^[0-9a-f]{16}, unstarted", "<new>, unstarted"),
    (r"[Tt]ook( = |\":\"|\" : )[0-9.]+(µs|ms|s)", r"took\1<took>"),
    (r"remaining\(\d+s\)", "remaining(<n>s)"),
    (r"\d+(\.\d)? [kM]B", "<size>"),
    (r'"(dbSize|dbSizeInUse|raftIndex|raftAppliedIndex|ttl)":\d+', r'"\1":<n>'),
    (r'"(DBSize|RaftIndex|RaftAppliedIndex|TTL)" : \d+', r'"\1" : <n>'),
    (r"true, false, (\d+), \d+, \d+,", r"true, false, \1, <n>, <n>,"),
)


@dataclass(frozen=True)
class Step:
    """One command line. `save` names groups of regular expressions found in its output, for
    `{name}` in later lines; their values are masked everywhere."""

    words: tuple[str, ...]
    stdin: bytes = b""
    environment: dict[str, str] = field(default_factory=dict)
    save: dict[str, str] = field(default_factory=dict)
    stdout: bool = True  # compare the standard output too


def step(*words: str, stdin: str | bytes = b"", **keywords: object) -> Step:
    data = stdin.encode() if isinstance(stdin, str) else stdin
    return Step(words, data, **keywords)  # type: ignore[arg-type]


@dataclass
class Answer:
    words: tuple[str, ...]
    status: int
    out: str
    err: str


Tool = Callable[[list[str], bytes, dict[str, str]], tuple[int, bytes, bytes]]


def program(argv: list[str]) -> Tool:
    """A command line program, started anew for every line."""

    def run(words: list[str], data: bytes, environment: dict[str, str]) -> tuple[int, bytes, bytes]:
        ran = subprocess.run(
            [*argv, *words],
            input=data,
            capture_output=True,
            check=False,
            timeout=30,
            env=environment,
        )
        return ran.returncode, ran.stdout, ran.stderr

    return run


@contextlib.contextmanager
def ours_forked(folder: Path) -> Iterator[Tool]:
    """Our etcdctl in children of one process (see `forker`)."""
    names = {name: folder / name for name in ("stdin", "stdout", "stderr")}
    forker = [sys.executable, str(Path(__file__).with_name("forker.py"))]
    process = subprocess.Popen(
        forker,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(servers.REPOSITORY / "src")},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    inbox, outbox = process.stdin, process.stdout

    def run(words: list[str], data: bytes, environment: dict[str, str]) -> tuple[int, bytes, bytes]:
        names["stdin"].write_bytes(data)
        names["stdout"].write_bytes(b"")
        names["stderr"].write_bytes(b"")
        files = {name: str(path) for name, path in names.items()}
        inbox.write(json.dumps({"words": words, "environment": environment, **files}) + "\n")
        inbox.flush()
        status = int(outbox.readline())
        return status, names["stdout"].read_bytes(), names["stderr"].read_bytes()

    try:
        yield run
    finally:
        inbox.close()
        process.wait(30)
        outbox.close()


def talk(tool: Tool, endpoint: str, steps: list[Step], api: str) -> list[Answer]:
    """The answers of `tool` to all steps, one after the other."""
    scheme = "http://" if api == "2" else ""
    known: dict[str, str] = {}
    answers: list[Answer] = []
    for one in steps:
        words = [word.format(**known) if "{" in word else word for word in one.words]
        environment = servers.plain_environment({"ETCDCTL_API": api, **one.environment})
        status, out_bytes, err_bytes = tool(
            [f"--endpoints={scheme}{endpoint}", *words], one.stdin, environment
        )
        out = out_bytes.decode("utf-8", "backslashreplace")
        err = err_bytes.decode("utf-8", "backslashreplace")
        for name, pattern in one.save.items():
            found = re.search(pattern, out)
            assert found, f"{words}: no {pattern} in {out!r} {err!r}"
            known[name] = found[1]
        shown = tuple(_masked(word, known) for word in one.words)
        out = _masked(out, known) if one.stdout else ""
        answers.append(Answer(shown, status, out, _masked(_plain(err), known)))
    return answers


def _plain(err: str) -> str:
    """Without logs, terminal complaints, and the second copy of an error that cobra prints."""
    lines = [
        line
        for line in err.split("\n")
        if not line.startswith(('{"level"', "stty:", "WARNING:")) and line.strip()
    ]
    kept: list[str] = []
    for line in lines:
        if line.startswith("Usage:"):
            break
        if line not in kept:
            kept.append(line)
    return "\n".join(kept)


def _masked(text: str, known: dict[str, str]) -> str:
    for name, value in known.items():
        text = text.replace(value, f"<{name}>")
        if re.fullmatch(r"[0-9a-f]{6,16}", value):
            text = text.replace(str(int(value, 16)), f"<{name}>")
    for pattern, replacement in MASKS:
        text = re.sub(pattern, replacement, text)
    return text


def both(
    folder: Path, go_tools: Path, steps: list[Step], api: str = "3"
) -> tuple[list[Answer], list[Answer]]:
    """Go's answers and ours."""
    go = servers.Program("go-3.5.1", (str(go_tools / "etcd"),))
    server = servers.Server(go, folder / "go", ("--enable-v2=true",))
    found: list[list[Answer]] = []
    with ours_forked(folder) as ours:
        for tool in (program([str(go_tools / "etcdctl")]), ours):
            try:
                server.start()
                found.append(talk(tool, server.endpoint, steps, api))
            finally:
                server.kill()
                shutil.rmtree(server.data_dir, ignore_errors=True)
    return found[0], found[1]
