"""One Go etcd for all tests of this folder that need a server; keys are cleared between them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from corum.client._sync.client import Client
from oracle import servers


@pytest.fixture(scope="session")
def go_server(
    go_program: servers.Program, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    folder: Path = tmp_path_factory.mktemp("client")
    with servers.running(go_program, folder) as server:
        yield server


@pytest.fixture
def endpoint(go_server: servers.Server) -> str:
    with Client(go_server.endpoint) as client:
        client.delete("", from_key=True)
    return go_server.endpoint


@pytest.fixture
def client(endpoint: str) -> Iterator[Client]:
    with Client(endpoint) as client:
        yield client
