"""Joining a cluster that runs: its members are asked who they are (peer-wire §4)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from corum import _transport as wire
from corum.member.asking import ask
from corum.membership.bootstrap import BootstrapError, FirstList
from corum.membership.members import Member
from corum.values import ClusterId, MemberId

CLUSTER_ID: Final = "x-etcd-cluster-id"


def join(
    mine: FirstList,
    initial_cluster: Mapping[str, Sequence[str]],
    tls: wire.ClientTls | None = None,
) -> FirstList:
    """The cluster as its members know it, checked against the flags; raises BootstrapError."""
    own = next(m for m in mine.members if m.id == mine.local)
    others = [url for m in mine.members if m is not own for url in m.peer_urls]
    cluster, found = ask_members(others, tls)
    if len(found) != len(mine.members):
        raise _refused(others, "member count is unequal")
    by_urls = {tuple(sorted(m.peer_urls)): m for m in found}
    members: list[Member] = []
    local = MemberId(0)
    for member in mine.members:
        known = by_urls.get(tuple(sorted(member.peer_urls)))
        if known is None:
            raise _refused(others, "unmatched member while checking PeerURLs")
        if member is own:
            local = known.id
        members.append(known)
    return FirstList(cluster, local, tuple(members))


def _refused(urls: Sequence[str], why: str) -> BootstrapError:
    return BootstrapError(f"error validating peerURLs {list(urls)}: {why}")


def ask_members(
    urls: Sequence[str], tls: wire.ClientTls | None = None
) -> tuple[ClusterId, list[Member]]:
    """(cluster id, members) from the first of `urls` that answers; raises BootstrapError."""
    with wire.Transport() as transport:
        for url in urls:
            answer = ask(transport, "GET", url, "/members", tls=tls)
            if answer is None or answer.status != 200:
                continue
            try:
                listed: Any = json.loads(answer.body)
                members = [Member.from_json(json.dumps(one).encode()) for one in listed]
                return ClusterId(int(answer.headers[CLUSTER_ID], 16)), members
            except (ValueError, KeyError, TypeError):
                continue
    raise BootstrapError(
        "cannot fetch cluster info from peer urls: "
        "could not retrieve cluster information from the given URLs"
    )
