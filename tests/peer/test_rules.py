"""Who is refused on the peer port, and with which words."""

from __future__ import annotations

import pytest

from corum.peer.rules import Identity, member_id, urls
from corum.versions import CORUM_VERSION

US = Identity(local=0x1F, cluster=0xABC, server_version="3.5.1")


def lowered(identity: Identity) -> dict[str, str]:
    return {name.lower(): text for name, text in identity.headers(["http://a:1"], 7)}


def test_headers_of_a_stream() -> None:
    """Ids are hexadecimal without leading zeros."""
    assert US.headers(["http://a:1", "http://b:2"], 0x44D446F3684099F) == [
        ("X-Server-From", "1f"),
        ("X-Server-Version", "3.5.1"),
        ("X-Corum-Version", CORUM_VERSION),
        ("X-Min-Cluster-Version", "3.0.0"),
        ("X-Etcd-Cluster-ID", "abc"),
        ("X-PeerURLs", "http://a:1,http://b:2"),
        ("X-Raft-To", "44d446f3684099f"),
    ]


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({}, None),
        ({"x-server-version": "3.9.0"}, None),
        ({"x-server-version": "2.3.8"}, (412, "incompatible version")),
        ({"x-min-cluster-version": "3.6.0"}, (412, "incompatible version")),
        ({"x-etcd-cluster-id": "abd"}, (412, "cluster ID mismatch")),
    ],
)
def test_refusals(change: dict[str, str], refusal: tuple[int, str] | None) -> None:
    """A newer member is welcome, an older cluster or another one is not."""
    assert US.refusal(lowered(US) | change) == refusal


def test_nobody_is_an_etcd_2_0() -> None:
    """Without headers somebody is taken for version 2.0.0."""
    assert US.refusal({"x-etcd-cluster-id": "abc"}) == (412, "incompatible version")


def test_ids_and_urls_that_are_none() -> None:
    """Text from outside never raises."""
    assert member_id("xyz") == 0
    assert urls("http://a:1,ftp://b,") == ["http://a:1"]
