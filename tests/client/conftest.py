"""One Go etcd 3.5.1 and one of ours for all tests of this folder; a test with an `endpoint` runs
against both, on an empty key space."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from corum.client._sync.client import Client
from oracle import servers


@pytest.fixture(scope="session")
def go_server(
    go_program: servers.Program, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    folder: Path = tmp_path_factory.mktemp("client-go")
    with servers.running(go_program, folder, "--enable-v2=true") as server:
        yield server


@pytest.fixture(scope="session")
def our_shared_server(
    our_program: servers.Program, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    folder: Path = tmp_path_factory.mktemp("client-ours")
    with servers.running(our_program, folder, "--enable-v2=true") as server:
        yield server


@pytest.fixture(params=["go-3.5.1", "ours"])
def server(request: pytest.FixtureRequest) -> servers.Server:
    name = "go_server" if request.param == "go-3.5.1" else "our_shared_server"
    server: servers.Server = request.getfixturevalue(name)
    with Client(server.endpoint) as client:
        client.delete("", from_key=True)
    return server


@pytest.fixture
def endpoint(server: servers.Server) -> str:
    return server.endpoint


@pytest.fixture
def client(endpoint: str) -> Iterator[Client]:
    with Client(endpoint) as client:
        yield client
