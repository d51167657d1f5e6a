"""How a cluster comes to be: from flags to ids and a first list of members.

`--initial-cluster` maps names to peer URLs; ids follow from URLs and token, so every member of a
static cluster computes the same list by itself (peer-wire §7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from corum.membership.members import Member, cluster_id, member_id
from corum.values import ClusterId, MemberId, value


class BootstrapError(Exception):
    """The flags do not make a cluster; the text is etcd's."""


class ClusterFull(BootstrapError):
    """Discovery: all places are taken; `cluster` is what the others registered."""

    def __init__(self, cluster: str) -> None:
        super().__init__("discovery: cluster is full")
        self.cluster = cluster


@value
class FirstList:
    """What a new cluster starts with."""

    cluster: ClusterId
    local: MemberId
    members: tuple[Member, ...]


def static(
    initial_cluster: Mapping[str, Sequence[str]], token: str, name: str, advertised: Sequence[str]
) -> FirstList:
    """A new cluster from `--initial-cluster`; raises BootstrapError with etcd's words."""
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
    check_advertised(initial_cluster[name], advertised, initial_cluster)
    ids = [m.id for m in members.values()]
    if len(set(ids)) != len(ids):
        raise BootstrapError("member ids are not unique")
    for member_name, member in members.items():
        member.name = member_name
    ordered = tuple(sorted(members.values(), key=lambda m: m.id))
    return FirstList(cluster_id(ids), members[name].id, ordered)


def check_advertised(
    mine: Sequence[str], advertised: Sequence[str], initial_cluster: Mapping[str, Sequence[str]]
) -> None:
    """`--initial-cluster` and `--initial-advertise-peer-urls` must name the same URLs."""
    missing = sorted(set(mine) - set(advertised))
    if missing:
        raise BootstrapError(
            f"--initial-cluster has {','.join(missing)} but missing from "
            f"--initial-advertise-peer-urls={','.join(sorted(advertised))}"
        )
    extra = sorted(set(advertised) - set(mine))
    if extra:
        raise BootstrapError(
            f"--initial-advertise-peer-urls has {','.join(extra)} but missing from "
            f"--initial-cluster={render(initial_cluster)}"
        )


def render(initial_cluster: Mapping[str, Sequence[str]]) -> str:
    """`a=http://x,b=http://y` of a map."""
    return ",".join(f"{n}={u}" for n, urls in initial_cluster.items() for u in urls)
