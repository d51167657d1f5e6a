"""Fixtures for tests of programs that use etcd; pytest finds them by itself (docs/testing.md).

`etcd` is a member in this process, empty for every test; `etcd_client` and `etcd_async_client` talk
to it; `etcd_cluster` is three real processes that can be killed, paused and cut off;
`etcd_simulated` lives in virtual time.
Nothing of corum is imported before a test asks for one of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corum import AsyncClient, Client, LocalCluster, Member
    from corum.sim.playground import SimulatedEtcd

MARK = "etcd"
CLUSTER_MARK = "etcd_cluster"
SIMULATED_MARK = "etcd_simulated"
CLUSTER_MEMBERS = 3


class Etcd:
    """Where a test finds its etcd. `member` is None for one that runs elsewhere."""

    def __init__(self, endpoint: str, member: Member | None = None) -> None:
        self.endpoint = endpoint
        self.member = member

    @property
    def host(self) -> str:
        return self.endpoint.rpartition("://")[2].rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    @property
    def url(self) -> str:
        return f"http://{self.endpoint.rpartition('://')[2]}"

    def clean(self) -> None:
        """Take away keys, leases, alarms, users and roles. Authentication must be off."""
        from corum import Client

        with Client(self.endpoint) as client:
            client.disarm()
            for lease in client.leases():
                client.revoke(lease)
            client.delete("", from_key=True)
            for user in client.auth.users():
                client.auth.delete_user(user)
            for role in client.auth.roles():
                client.auth.delete_role(role)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("etcd", "etcd for tests (corum)")
    group.addoption(
        "--etcd-endpoint",
        metavar="HOST:PORT",
        help="use the etcd that runs there, and EMPTY it before every test that uses it",
    )
    group.addoption(
        "--etcd-own-member",
        action="store_true",
        help="start a new member for every test (about 0.1 s) instead of emptying one",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARK}(**options): a member of the test's own, with these options of corum.Member",
    )
    config.addinivalue_line(
        "markers",
        f"{CLUSTER_MARK}(members=3, **options): options of corum.LocalCluster for `etcd_cluster`",
    )
    config.addinivalue_line(
        "markers",
        f"{SIMULATED_MARK}(members=1, seed=1, **options): what `etcd_simulated` is made of",
    )


@pytest.fixture(scope="session")
def etcd_shared(request: pytest.FixtureRequest) -> Iterator[Etcd]:
    """One etcd for the whole run, not emptied: what `etcd` lends out."""
    from corum import Member

    endpoint = request.config.getoption("--etcd-endpoint")
    if endpoint:
        yield Etcd(str(endpoint))
        return
    with Member() as member:
        yield Etcd(member.endpoint, member)


@pytest.fixture
def etcd(request: pytest.FixtureRequest) -> Iterator[Etcd]:
    """An etcd without keys, leases and users.

    The shared one, emptied; or a new one for a test marked `etcd(...)` and with
    --etcd-own-member.
    """
    mark = request.node.get_closest_marker(MARK)
    if mark is None and not request.config.getoption("--etcd-own-member"):
        shared: Etcd = request.getfixturevalue("etcd_shared")
        shared.clean()
        yield shared
        return
    from corum import Member

    options: dict[str, Any] = mark.kwargs if mark is not None else {}
    with Member(**options) as member:
        yield Etcd(member.endpoint, member)


@pytest.fixture
def etcd_client(etcd: Etcd) -> Iterator[Client]:
    """A synchronous client of `etcd`."""
    from corum import Client

    with Client(etcd.endpoint) as client:
        yield client


@pytest.fixture
def etcd_async_client(etcd: Etcd) -> Iterator[AsyncClient]:
    """An asynchronous client of `etcd`, for the event loop that first uses it."""
    import asyncio

    from corum import AsyncClient

    client = AsyncClient(etcd.endpoint)
    try:
        yield client
    finally:
        asyncio.run(client.aclose())  # the test's loop has ended by now


@pytest.fixture
def etcd_cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """Three members as processes, ready and with a leader, for this test alone."""
    from corum import LocalCluster

    mark = request.node.get_closest_marker(CLUSTER_MARK)
    options: dict[str, Any] = {"members": CLUSTER_MEMBERS, **(mark.kwargs if mark else {})}
    with LocalCluster(**options) as cluster:
        cluster.leader()
        yield cluster


@pytest.fixture
def etcd_simulated(request: pytest.FixtureRequest) -> SimulatedEtcd:
    """Etcd in virtual time: a lease of an hour expires in a millisecond."""
    from corum.sim.playground import SimulatedEtcd

    mark = request.node.get_closest_marker(SIMULATED_MARK)
    options: dict[str, Any] = mark.kwargs if mark is not None else {}
    return SimulatedEtcd(**options)
