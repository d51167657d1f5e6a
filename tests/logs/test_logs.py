"""Log lines as zap writes them, and where they go."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from corum import logs
from corum.log_sinks import PlainFile, RotatingFile, Rotation, RotationError, read_rotation

MOMENT_NS = 1_795_256_037_524_262_999


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    logs.configure()


def record(level: str = "info", **fields: object) -> logs.Record:
    return logs.Record(level, "became leader", fields, caller="a/b.py:7", wall_ns=MOMENT_NS)


def test_json_line() -> None:
    """level, ts in microseconds with Z, caller, msg, then fields with dashes."""
    line = logs.json_line(record(term=3, member_id="8e9e", urls=("a",), ok=True, none=None))
    assert line == (
        '{"level":"info","ts":"2026-11-21T10:13:57.524262Z","caller":"a/b.py:7",'
        '"msg":"became leader","term":3,"member-id":"8e9e","urls":["a"],"ok":true,"none":null}\n'
    )


def test_console_line() -> None:
    """Columns apart by tabs, fields as spaced JSON."""
    assert logs.console_line(record("warn", a=1, b='x":y')) == (
        '2026-11-21T10:13:57.524262Z\twarn\ta/b.py:7\tbecame leader\t{"a": 1, "b": "x\\":y"}\n'
    )


@pytest.mark.parametrize(
    "value",
    ['a"b\\\n\t\x00', "é\u2028", b"\xff\xfe", "\ud800", float("nan"), {"k": [1, {}]}, object],
)
def test_every_line_is_json(tmp_path: Path, value: object) -> None:
    """Whatever a field holds, the line parses."""
    logs.configure(outputs=(str(tmp_path / "log"),))
    logs.get("raft").info("odd", value=value)
    (line,) = (tmp_path / "log").read_bytes().splitlines()
    loaded = json.loads(line)
    assert (loaded["msg"], loaded["logger"]) == ("odd", "raft")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", loaded["ts"])
    assert re.fullmatch(r"logs/test_logs\.py:\d+", loaded["caller"])


def test_levels(tmp_path: Path) -> None:
    """What is below the level is not written."""
    logs.configure(level="warn", outputs=(str(tmp_path / "log"),))
    log = logs.get().bind(member="m")
    log.info("no")
    log.warn("yes")
    log.log("debug", "no", {})
    found = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(one["level"], one["msg"], one["member"]) for one in found] == [
        ("warn", "yes", "m"),
    ]


def test_a_bug_has_its_stack(tmp_path: Path) -> None:
    """An unexpected exception is logged at error with a stack trace, on one line."""
    logs.configure(outputs=(str(tmp_path / "log"),))
    try:
        raise KeyError("x")
    except KeyError as error:
        logs.get().bug("handler failed", error)
    loaded = json.loads((tmp_path / "log").read_text())
    assert loaded["level"] == "error"
    assert "KeyError" in loaded["stacktrace"]


def test_several_outputs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each output gets every line."""
    logs.configure(outputs=("stdout", "stderr", str(tmp_path / "log")))
    logs.get().info("hello")
    out, err = capfd.readouterr()
    assert out == err == (tmp_path / "log").read_text()


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    """The caller hears of it, and the log stays what it was."""
    with pytest.raises(OSError, match="No such file"):
        logs.configure(outputs=(str(tmp_path / "missing" / "log"),))


def test_a_full_disk_does_not_stop_the_program() -> None:
    """/dev/full refuses every write; logging goes on in silence."""
    sink = PlainFile("/dev/full")
    sink.write(b"line\n", "info")
    sink.close()


def test_rotation_sets_the_full_file_aside(tmp_path: Path) -> None:
    """A file beyond its size is renamed with the time; only so many are kept."""
    path = tmp_path / "etcd.log"
    sink = RotatingFile(str(path), Rotation(20, 0, 2, local_time=False, compress=False))
    for number in range(6):
        sink.write(b"0123456789-%d\n" % number, "info")
        os.utime(path)
    sink.close()
    backups = sorted(name for name in os.listdir(tmp_path) if name != "etcd.log")
    assert path.read_bytes() == b"0123456789-5\n"
    assert 1 <= len(backups) <= 2
    assert all(re.fullmatch(r"etcd-[\d-]+T[\d-]+\.\d{3}\.log", name) for name in backups)


def test_compressed_backups(tmp_path: Path) -> None:
    """With compress, what is set aside is gzip."""
    path = tmp_path / "etcd.log"
    sink = RotatingFile(str(path), Rotation(10, 0, 0, local_time=True, compress=True))
    sink.write(b"first line\n", "info")
    sink.write(b"second\n", "info")
    sink.close()
    (backup,) = tmp_path.glob("*.gz")
    assert backup.read_bytes()[:2] == b"\x1f\x8b"


def test_rotation_settings() -> None:
    """lumberjack's names; 0 for the size means 100 MB; bad JSON is told in Go's words."""
    found = read_rotation('{"maxsize": 0, "maxage": 3, "maxbackups": 2, "compress": true}')
    assert found == Rotation(100 << 20, 3, 2, local_time=False, compress=True)
    for text, reason in (
        ("", "unexpected end of JSON input"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ("[]", "cannot unmarshal"),
        ('{"maxsize": "a"}', "maxsize"),
    ):
        with pytest.raises(RotationError, match=reason):
            read_rotation(text)
