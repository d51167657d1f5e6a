"""What a running member is told, wherever it comes from: flags, or a program that embeds one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from corum import versions
from corum.api.front import Rules
from corum.member.tls import PortTls
from corum.server.ports import NodeConfig
from corum.values import value


@value
class Settings:
    """`data_dir` None: everything in memory. Port 0 in a listen URL: any free one."""

    node: NodeConfig
    data_dir: str | None
    initial_cluster: Mapping[str, Sequence[str]]
    initial_advertise_peer_urls: Sequence[str]
    listen_client_urls: list[str]
    listen_peer_urls: list[str]
    wal_dir: str | None = None
    initial_cluster_state: str = "new"
    force_new_cluster: bool = False
    initial_corrupt_check: bool = False
    initial_cluster_token: str = "etcd-cluster"
    listen_metrics_urls: list[str] | tuple[str, ...] = ()
    listen_client_http_urls: list[str] | tuple[str, ...] = ()
    streams_max: int = 4_294_967_295
    keepalive_min_time_ms: int = 5_000
    keepalive_interval_ms: int = 7_200_000
    keepalive_timeout_ms: int = 20_000
    pre_vote: bool = True
    sync: bool = True
    max_snapshots: int = 5
    max_wals: int = 5
    max_learners: int = 1
    http: Rules = Rules()
    client_tls: PortTls | None = None
    peer_tls: PortTls | None = None
    defragment_bytes: int = 0
    """Free space in the database that is worth rewriting it at a start; 0: never."""
    emulate_version: str = versions.DEFAULT
