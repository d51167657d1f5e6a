"""One embedded member for all recipes; every test has a name of its own below which it works."""

import re
from collections.abc import Iterator

import pytest

import corum


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    with corum.Member() as member:
        yield member.endpoint


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
