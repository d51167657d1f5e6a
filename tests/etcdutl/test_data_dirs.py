"""backup, migrate, check v2store, defrag, status and hashkv on directories of real members."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corum.cli import command
from corum.cli.etcdutl.commands import PROGRAM
from corum.wal import DataDir
from oracle import servers
from oracle.servers import Server

pytestmark = [pytest.mark.process, pytest.mark.slow]

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SNAPSHOT_EVERY = "--snapshot-count=15"


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Ran]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run etcdutl in this process."""

    def run(*words: object) -> Ran:
        code = command.run(PROGRAM, [str(word) for word in words])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run


KINDS = ["ours", "go", "ours without snapshot", "go without snapshot"]


@pytest.fixture(scope="module", params=KINDS)
def template(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A member with v2 and v3 keys, before and behind a snapshot if there is one; it is stopped."""
    kind: str = request.param
    program = request.getfixturevalue("our_program" if kind.startswith("ours") else "go_program")
    flags = (
        ["--enable-v2"] if kind.endswith("without snapshot") else ["--enable-v2", SNAPSHOT_EVERY]
    )
    server = Server(program, tmp_path_factory.mktemp("template"), flags)
    try:
        server.start()
        fill(server)
        assert server.stop() in (0, 143)
        yield server
    finally:
        server.kill()


@pytest.fixture
def filled(template: Server, tmp_path: Path) -> Iterator[Server]:
    """The same with a copy of its data."""
    server = Server(template.program, tmp_path / "filled", template.flags)
    shutil.copytree(template.data_dir, server.data_dir)
    yield server
    server.kill()


def fill(server: Server) -> None:
    for number in range(12):
        put_v2(server, f"/early/{number}", "x")
        put_v3(server, f"k{number}", f"v{number}")
    put_v2(server, "/late", "y")
    put_v3(server, "late", "z")


def put_v2(server: Server, key: str, text: str) -> None:
    url = f"{server.client_url}/v2/keys{key}"
    request = urllib.request.Request(url, f"value={text}".encode(), FORM, method="PUT")
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status in (200, 201)


def get_v2(server: Server, key: str) -> str | None:
    status, body = server.http("GET", f"/v2/keys{key}")
    return json.loads(body)["node"]["value"] if status == 200 else None


def put_v3(server: Server, key: str, text: str) -> None:
    body = {"key": base64.b64encode(key.encode()).decode()}
    body["value"] = base64.b64encode(text.encode()).decode()
    status, answer = server.http("POST", "/v3/kv/put", json.dumps(body).encode())
    assert status == 200, answer


def count_v3(server: Server) -> int:
    body = b'{"key":"AA==","range_end":"AA==","count_only":true}'
    status, answer = server.http("POST", "/v3/kv/range", body)
    assert status == 200, answer
    return int(json.loads(answer).get("count", 0))


def members(server: Server) -> list[dict[str, object]]:
    status, body = server.http("GET", "/v2/members")
    assert status == 200, body
    return json.loads(body)["members"]


def named_members(server: Server) -> list[dict[str, object]]:
    """Once all of them have published themselves."""
    end = time.monotonic() + 20
    while not all(each["name"] for each in members(server)) and time.monotonic() < end:
        time.sleep(0.01)
    return members(server)


@pytest.mark.parametrize("v3", [True, False])
def test_a_new_cluster_goes_on_from_a_backup(
    run: Run, filled: Server, v3: bool, long: bool
) -> None:
    """Its only member is the new one, and all keys are there; v3 keys unless they were left out."""
    if not (v3 or long or SNAPSHOT_EVERY in filled.flags):
        pytest.skip("seldom different: --long")
    before = members_on_disk(run, filled)
    target = filled.folder / "copy" / "data"
    words = ["--data-dir", filled.data_dir, "--backup-dir", target, f"--with-v3={str(v3).lower()}"]
    ran = run("backup", *words)
    assert (ran.code, ran.out) == (0, ""), ran.err
    assert members_on_disk(run, filled) == before, "the source was changed"
    flags = ["--enable-v2", "--force-new-cluster"]
    server = Server(filled.program, filled.folder / "copy", flags, name="other")
    try:
        server.start()
        found = named_members(server)
        assert [each["name"] for each in found] == ["other"]
        assert (get_v2(server, "/early/3"), get_v2(server, "/late")) == ("x", "y")
        assert count_v3(server) == (13 if v3 else 0)
        put_v2(server, "/late", "again")
        put_v3(server, "more", "v")
        server.stop()
        server.flags = ["--enable-v2"]
        server.start()
        assert get_v2(server, "/late") == "again"
        assert [each["id"] for each in members(server)] == [each["id"] for each in found]
    finally:
        server.kill()


def members_on_disk(run: Run, server: Server) -> str:
    return run("hashkv", database(server)).out


def database(server: Server) -> Path:
    data = DataDir(server.data_dir)
    return data.backend if data.backend.exists() else data.bbolt


def test_gos_backup_is_taken_over(
    run: Run, go_program: servers.Program, our_program: servers.Program, go_tools: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Our member starts from what Go's etcdutl made."""
    source = Server(go_program, tmp_path / "go", ["--enable-v2", SNAPSHOT_EVERY])
    server = Server(our_program, tmp_path / "ours", ["--force-new-cluster"])
    try:
        source.start()
        fill(source)
        source.stop()
        tool = [str(go_tools / "etcdutl"), "backup", "--data-dir", str(source.data_dir)]
        subprocess.run([*tool, "--backup-dir", str(server.data_dir)], check=True)
        server.start()
        assert get_v2(server, "/late") == "y"
        assert count_v3(server) == 13
        assert len(members(server)) == 1
    finally:
        source.kill()
        server.kill()


def test_a_running_member_of_ours_is_backed_up(
    run: Run, our_server: Server, tmp_path: Path
) -> None:
    """As etcdctl backup always could; what was answered before is in it."""
    fill(our_server)
    target = tmp_path / "copy" / "data"
    ran = run("backup", "--data-dir", our_server.data_dir, "--backup-dir", target)
    assert ran.code == 0, ran.err
    put_v2(our_server, "/late", "not in the backup")
    server = Server(our_server.program, tmp_path / "copy", ["--force-new-cluster"])
    try:
        server.start()
        assert get_v2(server, "/late") == "y"
        assert count_v3(server) == 13
    finally:
        server.kill()


def test_a_backup_into_a_used_directory_is_refused(run: Run, filled: Server) -> None:
    """Nothing is overwritten, and the directory stays as it was."""
    before = sorted(filled.data_dir.rglob("*"))
    ran = run("backup", "--data-dir", filled.data_dir, "--backup-dir", filled.data_dir)
    assert ran.code == 1
    assert "to be empty, got [" in ran.err
    assert sorted(filled.data_dir.rglob("*")) == before


def test_a_backup_of_nothing_leaves_nothing(run: Run, tmp_path: Path) -> None:
    """No half directory that a member might start from."""
    ran = run("backup", "--data-dir", tmp_path / "none", "--backup-dir", tmp_path / "copy")
    assert ran.code == 1
    assert ran.err.startswith("Error: ")
    assert not (tmp_path / "copy" / "member").exists()


def test_storage_versions_up_and_down(run: Run, filled: Server) -> None:
    """Each step says what it did; the field is there from 3.6 on; the member still starts."""

    def migrate(version: str, *more: str) -> Ran:
        return run("migrate", "--data-dir", filled.data_dir, "--target-version", version, *more)

    def status() -> str:
        return json.loads(run("snapshot", "status", database(filled), "-w", "json").out)["version"]

    keys = run("hashkv", database(filled)).out
    assert migrate("3.5").code == 0
    assert status() == ""
    assert "storage version up-to-date" in migrate("3.5").err
    up = migrate("3.7")
    assert up.err.count("updated storage version") == 2
    assert status() == "3.7.0"
    assert migrate("3.6").code == 0
    assert status() == "3.6.0"
    beyond = migrate("3.9")
    assert (beyond.code, beyond.err) == (
        1,
        'Error: cannot create migration plan: version "3.8.0" is not supported\n',
    )
    assert migrate("3.9", "--force").code == 0
    assert status() == "3.9.0"
    assert migrate("3.5", "--force").code == 0
    assert status() == ""
    assert run("hashkv", database(filled)).out == keys
    filled.start()
    assert count_v3(filled) == 13


@pytest.mark.compat
def test_migrate_refuses_what_gos_refuses(run: Run, go_newest: Path) -> None:
    """The same refusals with the same status, from Go's newest etcdutl and ours."""
    for words in (
        [], ["--data-dir", "x"], ["--data-dir", "x", "--target-version", "3"],
        ["--data-dir", "x", "--target-version", "x.y"],
        ["--data-dir", "x", "--target-version", "3.4"],
        ["--data-dir", "x", "--target-version", "3.6.1"],
    ):  # fmt: skip
        go = subprocess.run([str(go_newest), "migrate", *words], capture_output=True, text=True)
        ours = run("migrate", *words)
        assert (ours.code, ours.err.splitlines()[0]) == (go.returncode, go.stderr.splitlines()[0])


@pytest.fixture(scope="session")
def go_newest() -> Path:
    """etcdutl of the newest Go etcd, where it was built."""
    tool = servers.REPOSITORY / ".build" / "bin" / "etcdutl"
    if not tool.exists():
        pytest.skip("the newest Go etcd is not built")
    return tool


def test_v2_keys_are_found_in_snapshot_and_log(run: Run, filled: Server) -> None:
    """What stands in the way of etcd 3.6 is named, and where it is."""
    ran = run("check", "v2store", "--data-dir", filled.data_dir)
    where = "both v2store and WAL records" if SNAPSHOT_EVERY in filled.flags else "WAL records"
    assert (ran.code, ran.err) == (1, f"Error: detected custom v2 content in {where}\n")


def test_a_member_without_v2_keys_passes_the_check(
    run: Run, our_server: Server, tmp_path: Path
) -> None:
    """Members and versions, which are v2 content too, are no reason to complain."""
    put_v3(our_server, "k", "v")
    our_server.stop()
    ran = run("check", "v2store", "--data-dir", our_server.data_dir)
    assert (ran.code, ran.out) == (
        0,
        "No custom content found in both v2store and WAL records.\n",
    ), ran.err


def test_upkeep_of_either_kind_of_file(run: Run, filled: Server, tmp_path: Path) -> None:
    """status, hashkv, defrag and restore take our backend file as they take bbolt's."""
    path = database(filled)
    status = run("snapshot", "status", path)
    assert status.code == 0, status.err
    hashed = run("hashkv", path)
    assert run("defrag", "--data-dir", filled.data_dir).code == 0
    assert run("hashkv", path).out == hashed.out
    assert run("snapshot", "status", path).out.split(", ")[:3] == status.out.split(", ")[:3]
    words = ["--skip-hash-check", "--data-dir", tmp_path / "new"]
    ran = run("snapshot", "restore", path, *words)
    assert ran.code == 0, ran.err
    assert run("hashkv", DataDir(tmp_path / "new").backend).out == hashed.out


def test_status_of_a_file_is_that_of_a_saved_snapshot(run: Run, our_server: Server) -> None:
    """Hash, revision and keys of the file in use equal those of the snapshot that it sends."""
    fill(our_server)
    ctl = Path(our_server.program.argv[0]).with_name("etcdctl")
    saved = our_server.folder / "saved.db"
    assert servers.etcdctl(ctl, our_server, "snapshot", "save", str(saved)).returncode == 0
    our_server.stop()
    sent = json.loads(run("snapshot", "status", saved, "-w", "json").out)
    kept = json.loads(run("snapshot", "status", database(our_server), "-w", "json").out)
    assert (kept["revision"], kept["totalKey"]) == (sent["revision"], sent["totalKey"]) == (14, 13)


def test_completion_names_every_command(run: Run) -> None:
    """As etcdctl's."""
    for shell in ("bash", "zsh", "fish"):
        text = run("completion", shell).out
        assert "etcdutl" in text
        assert "migrate" in text
    assert run("completion", "tcl").code == 1
