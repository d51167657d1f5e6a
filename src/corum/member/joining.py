"""Joining a cluster that runs: its members are asked who they are (peer-wire §4)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from corum import _transport as wire
from corum.member.asking import TIMEOUT_MS, Answer, ask_all
from corum.membership.bootstrap import BootstrapError, FirstList, Resolve, difference
from corum.membership.members import Member
from corum.peer.rules import minor
from corum.values import ClusterId, MemberId, value

CLUSTER_ID: Final = "x-etcd-cluster-id"
ASK_MS: Final = 1_000
"""For who starts a new cluster: the others need not be there yet."""


@value
class Running:
    """A cluster as one of its members tells."""

    cluster: ClusterId
    members: list[Member]


def join(
    mine: FirstList, version: str, resolve: Resolve, tls: wire.ClientTls | None = None
) -> FirstList:
    """The cluster as its members know it, checked against the flags; raises BootstrapError.

    `version`: the newest cluster version that this member understands.
    """
    running = ask_members(_others(mine), tls, TIMEOUT_MS)
    if running is None:
        raise BootstrapError(
            "cannot fetch cluster info from peer urls: "
            "could not retrieve cluster information from the given URLs"
        )
    if len(running.members) != len(mine.members):
        raise _refused(running, "member count is unequal")
    known_version = cluster_version(_others(mine), tls)
    if known_version is not None and minor(version) < minor(known_version):
        raise BootstrapError("incompatible with current running cluster")
    left = list(running.members)
    members: list[Member] = []
    local = MemberId(0)
    for member in mine.members:
        known = _same_place(member, left, resolve)
        if known is None:
            raise _refused(running, "unmatched member while checking PeerURLs")
        left.remove(known)
        if member.id == mine.local:
            local = known.id
        members.append(known)
    return FirstList(running.cluster, local, tuple(members))


def check_unknown(mine: FirstList, tls: wire.ClientTls | None = None) -> None:
    """Who begins a new cluster must not be known to the others as a member that ran already: its
    data would be missing where a majority counts on it. Raises BootstrapError."""
    running = ask_members(_others(mine), tls, ASK_MS)
    if running is None:
        return
    for member in running.members:
        if member.id == mine.local and member.client_urls:
            raise BootstrapError(f"member {mine.local:x} has already been bootstrapped")


def _others(mine: FirstList) -> list[str]:
    return [url for m in mine.members if m.id != mine.local for url in m.peer_urls]


def _same_place(member: Member, among: Sequence[Member], resolve: Resolve) -> Member | None:
    for known in among:  # what needs no name server first
        if sorted(known.peer_urls) == sorted(member.peer_urls):
            return known
    for known in among:
        if difference(known.peer_urls, member.peer_urls, resolve) is None:
            return known
    return None


def _refused(running: Running, why: str) -> BootstrapError:
    urls = [url for member in running.members for url in member.peer_urls]
    return BootstrapError(
        f"error validating peerURLs {{ClusterID:{running.cluster:x} "
        f"PeerURLs:[{' '.join(urls)}]}}: {why}"
    )


def ask_members(urls: Sequence[str], tls: wire.ClientTls | None, timeout_ms: int) -> Running | None:
    """The cluster as the first of `urls` that answers knows it; None when none does."""
    if not urls:
        return None
    with wire.Transport() as transport:
        answers = ask_all(transport, "GET", urls, "/members", timeout_ms=timeout_ms, tls=tls)
        return next((found for _, one in answers if (found := _told(one)) is not None), None)


def cluster_version(urls: Sequence[str], tls: wire.ClientTls | None) -> str | None:
    """What the first of `urls` that answers says; None when none does, or it is not decided."""
    with wire.Transport() as transport:
        for _, answer in ask_all(transport, "GET", urls, "/version", timeout_ms=ASK_MS, tls=tls):
            try:
                found = str(json.loads(answer.body)["etcdcluster"])
            except (ValueError, KeyError, TypeError):
                continue
            return found if minor(found) != (0, 0) else None
    return None


def _told(answer: Answer) -> Running | None:
    if answer.status != 200:
        return None
    try:
        listed: Any = json.loads(answer.body)
        members = [Member.from_json(json.dumps(one).encode()) for one in listed]
        return Running(ClusterId(int(answer.headers[CLUSTER_ID], 16)), members)
    except (ValueError, KeyError, TypeError):
        return None
