"""How a cluster comes to be: from flags to ids and a first list of members.

`--initial-cluster` maps names to peer URLs; ids follow from URLs and token, so every member of a
static cluster computes the same list by itself (peer-wire §7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from corum.membership.members import Member, cluster_id, member_id
from corum.values import ClusterId, MemberId, value

Resolve = Callable[[str], str]
"""A URL with an address in the place of its host name; raises OSError."""


class BootstrapError(Exception):
    """The flags do not make a cluster; the text is etcd's."""


class WasRemoved(BootstrapError):
    """This data directory is that of a member which is none any more, for good."""


class ClusterFull(BootstrapError):
    """Discovery: all places are taken; `cluster` is what the others registered."""

    def __init__(self, cluster: str) -> None:
        super().__init__("failed to join discovery cluster (discovery: cluster is full)")
        self.cluster = cluster


@value
class FirstList:
    """What a new cluster starts with."""

    cluster: ClusterId
    local: MemberId
    members: tuple[Member, ...]


def static(
    initial_cluster: Mapping[str, Sequence[str]],
    token: str,
    name: str,
    advertised: Sequence[str],
    resolve: Resolve = str,
) -> FirstList:
    """A new cluster from `--initial-cluster`; raises BootstrapError with etcd's words.

    `resolve` turns the host names of URLs into addresses, asked only where texts differ.
    """
    members: dict[str, Member] = {}
    seen: set[str] = set()
    for member_name, urls in initial_cluster.items():
        if seen.intersection(urls) or len(set(urls)) != len(urls):
            raise BootstrapError(f"initial cluster {render(initial_cluster)} has duplicate url")
        seen.update(urls)
        identity = member_id(urls, token)
        members[member_name] = Member(identity, sorted(urls))
    if name not in members:
        raise BootstrapError(
            f'couldn\'t find local name "{name}" in the initial cluster configuration'
        )
    if not members[name].peer_urls:
        raise BootstrapError(f'member "{name}" has no peer URLs in the initial cluster')
    check_advertised(name, sorted(initial_cluster[name]), sorted(advertised), resolve)
    ids = [m.id for m in members.values()]
    for member_name, member in members.items():
        member.name = member_name
    ordered = tuple(sorted(members.values(), key=lambda m: m.id))
    return FirstList(cluster_id(ids), members[name].id, ordered)


def check_advertised(
    name: str, mine: Sequence[str], advertised: Sequence[str], resolve: Resolve
) -> None:
    """`--initial-cluster` and `--initial-advertise-peer-urls` must lead to the same places."""
    why = difference(advertised, mine, resolve)
    if why is None:
        return
    missing = [url for url in mine if url not in advertised]
    if missing:
        raise BootstrapError(
            f"--initial-cluster has {render({name: missing})} but missing from "
            f"--initial-advertise-peer-urls={','.join(advertised)} ({why})"
        )
    extra = [url for url in advertised if url not in mine]
    raise BootstrapError(
        f"--initial-advertise-peer-urls has {','.join(extra)} but missing from "
        f"--initial-cluster={render({name: advertised})}"
    )


def difference(ours: Sequence[str], theirs: Sequence[str], resolve: Resolve) -> str | None:
    """How two lists of URLs differ, in etcd's words; None when they lead to the same places."""
    if sorted(ours) == sorted(theirs):
        return None
    if len(ours) != len(theirs):
        return f"len({_quoted(ours)}) != len({_quoted(theirs)})"
    try:
        resolved = sorted(map(resolve, ours)), sorted(map(resolve, theirs))
    except OSError as error:
        return f"failed to resolve: {error}"
    for one, other in zip(*resolved, strict=True):
        if one != other:
            return f'resolved urls: "{one}" != "{other}"'
    return None


def _quoted(urls: Sequence[str]) -> str:
    return "[" + " ".join(f'"{url}"' for url in urls) + "]"


def render(initial_cluster: Mapping[str, Sequence[str]]) -> str:
    """`a=http://x,b=http://y` of a map, by name as etcd does."""
    return ",".join(sorted(f"{n}={u}" for n, urls in initial_cluster.items() for u in urls))
