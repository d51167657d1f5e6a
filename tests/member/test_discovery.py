"""What a discovery service may hold, and what a member makes of it; the service is one of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest

import corum
from corum.client.options import Options
from corum.member import discovery, discovery_v3
from corum.membership.bootstrap import BootstrapError, ClusterFull

TOKEN = "6c007a14875d53d9bf0ef5a6fc0257c817f0fb83"
ME = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
OTHER = "b=http://127.0.0.1:3"


def say(level: str, message: str, **fields: Any) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def member() -> Iterator[corum.Member]:
    with corum.Member() as one:
        yield one


@pytest.fixture
def url(member: corum.Member) -> Iterator[str]:
    """An empty v2 token."""
    path = f"http://{member.endpoint}/v2/keys/disc/{TOKEN}"
    yield path
    send("DELETE", f"{path}?recursive=true")


def send(verb: str, url: str, value: str = "") -> None:
    body = f"value={value}".encode() if value else None
    with urlopen(Request(url, body, method=verb), timeout=10) as answer:
        assert answer.status in (200, 201)


@pytest.fixture
def service(member: corum.Member) -> Iterator[corum.Client]:
    """An empty v3 registry."""
    with corum.Client(member.endpoint) as client:
        yield client
        client.delete("/_etcd/registry/", prefix=True)


def join_v3(member: corum.Member) -> str:
    return discovery_v3.join(Options(member.endpoint), TOKEN, "a", ME, say)


def test_v2_a_token_of_one_place(url: str) -> None:
    """Who registers gets the list, with all its URLs under its name."""
    send("PUT", f"{url}/_config/size", "1")
    mine = f"a={ME[0]},a={ME[1]}"
    assert discovery.join(url, "a", ME, "", say) == mine
    assert discovery.cluster(url, "", say) == mine
    with pytest.raises(BootstrapError, match="found duplicate id"):
        discovery.join(url, "a", ME, "", say)
    with pytest.raises(ClusterFull) as full:
        discovery.join(url, "b", ["http://127.0.0.1:3"], "", say)
    assert full.value.cluster == mine


@pytest.mark.parametrize(
    ("size", "text"),
    [("", "size key not found"), ("zero", "size key is bad"), ("0", "size key is bad")],
)
def test_v2_a_token_needs_a_size(url: str, size: str, text: str) -> None:
    """It is made by whoever writes the size."""
    send("PUT", f"{url}/_config/{'size' if size else 'other'}", size or "1")
    with pytest.raises(BootstrapError) as caught:
        discovery.join(url, "a", ME, "", say)
    assert str(caught.value) == f"failed to join discovery cluster (discovery: {text})"


def test_v2_two_of_one_name_are_no_cluster(url: str) -> None:
    """Ids differ, names must as well."""
    send("PUT", f"{url}/_config/size", "2")
    send("PUT", f"{url}/abc", "a=http://127.0.0.1:3")
    with pytest.raises(BootstrapError, match="found duplicate name"):
        discovery.join(url, "a", ME, "", say)


@pytest.mark.parametrize(
    ("url", "text"),
    [(":x", 'parse ":x": missing protocol scheme'), ("foo://x", 'protocol scheme "foo"')],
)
def test_v2_a_url_must_be_one(url: str, text: str) -> None:
    """Nobody is asked."""
    with pytest.raises(BootstrapError, match=text):
        discovery.join(url, "a", ME, "", say)


def test_v3_a_token_of_one_place(member: corum.Member, service: corum.Client) -> None:
    """Registering a second time changes nothing; who is late is told."""
    service.put(f"/_etcd/registry/{TOKEN}/_config/size", "1")
    mine = f"a={ME[0]},a={ME[1]}"
    assert join_v3(member) == mine
    assert join_v3(member) == mine
    with pytest.raises(ClusterFull) as full:
        discovery_v3.join(Options(member.endpoint), TOKEN, "b", ["http://127.0.0.1:3"], say)
    assert full.value.cluster == mine


def test_v3_the_first_are_in(member: corum.Member, service: corum.Client) -> None:
    """Order is that of registration, not of ids."""
    service.put(f"/_etcd/registry/{TOKEN}/_config/size", "2")
    service.put(f"/_etcd/registry/{TOKEN}/members/ffffffffffffffff", OTHER)
    assert join_v3(member) == f"{OTHER},a={ME[0]},a={ME[1]}"


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("_config/other", "2", "discovery: size key not found"),
        ("_config/size", "many", "discovery: size key is bad"),
        ("members/xyz", OTHER, "invalid peer registry key"),
        ("members/1", "nobody", "invalid peer info returned from discovery service"),
        ("members/1", "a=http://127.0.0.1:3", "found duplicate peer from discovery service"),
    ],
)
def test_v3_what_is_found_is_checked(
    member: corum.Member, service: corum.Client, key: str, value: str, text: str
) -> None:
    """Keys that others left are no members."""
    if "_config" not in key:
        service.put(f"/_etcd/registry/{TOKEN}/_config/size", "2")
    service.put(f"/_etcd/registry/{TOKEN}/{key}", value)
    with pytest.raises(BootstrapError) as caught:
        join_v3(member)
    assert str(caught.value) == f"failed to join discovery cluster ({text})"
