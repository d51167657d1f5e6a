"""A first list of members from flags; texts are those of etcd 3.7.3, taken from its log."""

from __future__ import annotations

import pytest

from corum.membership.bootstrap import BootstrapError, difference, render, static

A, B, C = "http://127.0.0.1:1001", "http://127.0.0.1:1002", "http://127.0.0.1:1003"


def refused(cluster: dict[str, list[str]], advertised: list[str]) -> str:
    with pytest.raises(BootstrapError) as caught:
        static(cluster, "etcd-cluster", "a", advertised)
    return str(caught.value)


@pytest.mark.parametrize(
    ("cluster", "advertised", "text"),
    [
        ({"a": [A], "b": [A]}, [A], f"initial cluster a={A},b={A} has duplicate url"),
        ({"b": [A]}, [A], 'couldn\'t find local name "a" in the initial cluster configuration'),
        ({}, [A], 'couldn\'t find local name "a" in the initial cluster configuration'),
        (
            {"a": [B]},
            [A],
            f"--initial-cluster has a={B} but missing from --initial-advertise-peer-urls={A} "
            f'(resolved urls: "{A}" != "{B}")',
        ),
        (
            {"a": [A]},
            [A, B],
            f"--initial-advertise-peer-urls has {B} but missing from --initial-cluster=a={A},a={B}",
        ),
        (
            {"a": [A, B], "b": [C]},
            [A],
            f"--initial-cluster has a={B} but missing from --initial-advertise-peer-urls={A} "
            f'(len(["{A}"]) != len(["{A}" "{B}"]))',
        ),
    ],
)
def test_flags_that_make_no_cluster(
    cluster: dict[str, list[str]], advertised: list[str], text: str
) -> None:
    """Each with etcd's words."""
    assert refused(cluster, advertised) == text


def test_every_member_computes_the_same_list() -> None:
    """Names and the order of flags do not matter to ids; the token does."""
    cluster = {"a": [A], "b": [B], "c": [C]}
    first = static(cluster, "token", "a", [A])
    other = static(dict(reversed(cluster.items())), "token", "c", [C])
    assert first.members == other.members
    assert first.cluster == other.cluster
    assert first.local != other.local
    assert static(cluster, "other", "a", [A]).cluster != first.cluster


def test_a_name_and_the_address_behind_it_are_the_same_place() -> None:
    """Who advertises an address may stand under its name in the list; names are asked about only
    where the texts differ."""
    asked: list[str] = []

    def resolve(url: str) -> str:
        asked.append(url)
        return url.replace("a.example.com", "127.0.0.1")

    named = "http://a.example.com:1001"
    assert static({"a": [named]}, "t", "a", [named], resolve).members[0].peer_urls == [named]
    assert asked == []
    assert static({"a": [named]}, "t", "a", [A], resolve).members[0].peer_urls == [named]
    assert asked == [A, named]


def test_names_that_stay_unknown_are_told() -> None:
    """The reason is part of the message."""

    def resolve(url: str) -> str:
        raise OSError("no such host")

    assert difference([A], ["http://x:1"], resolve) == "failed to resolve: no such host"


def test_lists_are_shown_by_name() -> None:
    """As etcd prints a map of names and URLs."""
    assert render({"b": [B], "a": [C, A]}) == f"a={A},a={C},b={B}"
