"""What a member that has no log yet begins with: its flags, a discovery service or DNS, and what
members that run already say. Nothing of this is asked of a member that has run before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from corum.config.urls import BadUrl, parse_cluster
from corum.member import names
from corum.membership.bootstrap import BootstrapError, FirstList, static
from corum.peer.rules import minor

if TYPE_CHECKING:
    from corum import _transport as wire
    from corum.config import Config
    from corum.member.settings import Settings

Say = Callable[..., None]


def of_flags(settings: Settings, config: Config, say: Say) -> Settings:
    """`settings` with the list that the flags or a service give; may wait for other members.

    Raises BootstrapError, ClusterFull.
    """
    mine = list(settings.initial_advertise_peer_urls)
    token = settings.initial_cluster_token
    joins = config.initial_cluster_state == "existing"
    if joins and (config.discovery or config.discovery_endpoints):
        raise BootstrapError(
            "discovery URL should not be set when joining existing initial cluster"
        )
    if config.discovery:
        from corum.member import discovery

        token = config.discovery
        say("info", "joining discovery cluster", discovery_url=token)
        text = discovery.join(token, config.name, mine, config.discovery_proxy, say)
    elif config.discovery_endpoints:
        from corum.member import discovery_v3

        token = config.discovery_token
        endpoints = list(config.discovery_endpoints)
        say("info", "joining discovery cluster", discovery_endpoints=endpoints)
        options = discovery_v3.options_of(config)
        text = discovery_v3.join(options, token, config.name, mine, say)
    elif config.discovery_srv:
        from corum.member import dns_srv

        suffix = config.discovery_srv_name
        text = dns_srv.cluster(config.discovery_srv, suffix, config.name, mine)
    else:
        text = config.initial_cluster
    try:
        members = parse_cluster(text)
    except BadUrl as error:
        raise BootstrapError(f"error setting up initial cluster: {error}") from None
    return replace(settings, initial_cluster=members, initial_cluster_token=token)


def check_version(found: str | None, own: str) -> None:
    """A cluster may have gone on to what this member does not know; raises BootstrapError."""
    if found is not None and minor(own) < minor(found):
        raise BootstrapError(
            "invalid downgrade; server version is lower than determined cluster version"
        )


def first_list(settings: Settings, tls: wire.ClientTls | None, say: Say) -> FirstList:
    """The members of the cluster that this one begins or joins; raises BootstrapError."""

    def unknown(url: str, problem: str) -> None:
        say("warn", "failed to resolve URL Host", url=url, error=problem, retry_interval="1s")

    resolve = names.resolver(unknown)
    first = static(
        settings.initial_cluster,
        settings.initial_cluster_token,
        settings.node.name,
        settings.initial_advertise_peer_urls,
        resolve,
    )
    joins = settings.initial_cluster_state == "existing"
    if joins or len(first.members) > 1:
        from corum.member import joining

        if joins:
            return joining.join(first, settings.node.cluster_version, resolve, tls)
        joining.check_unknown(first, tls)
    return first
