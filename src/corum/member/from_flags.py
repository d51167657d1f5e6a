"""What the flags of the daemon mean for a member: each setting a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from corum import versions
from corum.api.front import Rules
from corum.auth import JwtTokens, SimpleTokens, parse_options
from corum.config import Config
from corum.config.rules import compaction_retention
from corum.member.settings import Settings
from corum.server.auto_compaction import ByRevision, Periodic, Policy
from corum.server.ports import NodeConfig
from corum.values import NS_PER_MS, NS_PER_S


def settings_of(config: Config) -> Settings:
    """What the member is told, from what the flags say."""
    return Settings(
        node_config_of(config),
        config.data_dir or f"{config.name}.etcd",
        config.members,
        config.initial_advertise_peer_urls,
        list(config.listen_client_urls),
        list(config.listen_peer_urls),
        wal_dir=config.wal_dir or None,
        initial_cluster_state=config.initial_cluster_state,
        force_new_cluster=config.force_new_cluster,
        initial_corrupt_check=config.features["InitialCorruptCheck"],
        initial_cluster_token=config.initial_cluster_token,
        listen_metrics_urls=list(config.listen_metrics_urls),
        listen_client_http_urls=list(config.listen_client_http_urls),
        streams_max=config.max_concurrent_streams,
        keepalive_min_time_ms=config.grpc_keepalive_min_time // NS_PER_MS,
        keepalive_interval_ms=config.grpc_keepalive_interval // NS_PER_MS,
        keepalive_timeout_ms=config.grpc_keepalive_timeout // NS_PER_MS,
        pre_vote=config.pre_vote,
        sync=not config.unsafe_no_fsync,
        max_snapshots=config.max_snapshots,
        max_wals=config.max_wals,
        max_learners=config.max_learners,
        http=rules_of(config),
        emulate_version=config.emulate_version,
        defragment_bytes=config.bootstrap_defrag_threshold_megabytes << 20,
    )


def node_config_of(config: Config) -> NodeConfig:
    """What its node is told."""
    emulated = versions.EMULATED[config.emulate_version]
    return NodeConfig(
        tick_ns=config.heartbeat_interval * NS_PER_MS,
        election_ticks=max(2, config.election_timeout // config.heartbeat_interval),
        election_ms=config.election_timeout,
        timeout_ns=(5_000 + 2 * config.election_timeout) * NS_PER_MS,
        request_bytes_max=config.max_request_bytes,
        txn_ops_max=config.max_txn_ops,
        quota_bytes=config.quota_backend_bytes,
        batch_interval_ns=config.backend_batch_interval or 100 * NS_PER_MS,
        batch_operations_max=config.batch_operations_max,
        watch_progress_ns=config.watch_progress_notify_interval,
        compaction_rows=config.compaction_batch_limit,
        compaction_pause_ns=config.compaction_sleep_interval,
        snapshot_count=config.snapshot_count,
        snapshot_catchup_entries=config.snapshot_catchup_entries,
        lease_checkpoints=config.features["LeaseCheckpoint"],
        corrupt_check_ns=config.corrupt_check_time,
        compact_hash_check_ns=(
            config.compact_hash_check_time if config.features["CompactHashCheck"] else 0
        ),
        strict_reconfig=config.strict_reconfig_check,
        server_version=emulated.server,
        cluster_version=emulated.cluster,
        name=config.name,
        client_urls=tuple(config.advertise_client_urls),
        reports_storage=emulated.storage_version,
        peer_read_ns=config.raft_read_timeout,
        peer_write_ns=config.raft_write_timeout,
        slow_apply_ns=config.warning_apply_duration,
        slow_request_ns=config.warning_unary_request_duration,
        hurries=config.initial_election_tick_advance,
        auto_compaction=auto_compaction_of(config),
        tokens=lambda: tokens_of(config),
        bcrypt_cost=config.bcrypt_cost,
        client_cert_auth=config.client_cert_auth,
    )


def rules_of(config: Config) -> Rules:
    """What the flags say about HTTP."""
    return Rules(
        config.cors,
        config.host_whitelist,
        gateway=config.enable_grpc_gateway,
        pprof=config.enable_pprof,
        v2=config.serves_v2,
        features=config.features,
        storage_version="emulate-version" in config.given,
    )


def auto_compaction_of(config: Config) -> Callable[[], Policy] | None:
    """What makes the compaction policy that the flags ask for; None for none."""
    retention = compaction_retention(config)
    if retention == 0:
        return None
    if config.auto_compaction_mode == "revision":
        return lambda: ByRevision(retention)
    return lambda: Periodic(retention)


def tokens_of(config: Config) -> SimpleTokens | JwtTokens:
    """The kind of tokens that --auth-token asks for.

    Raises TokenOptionsError for what cannot be used, OSError for unreadable key files.
    """
    options = parse_options(config.auth_token)
    if options.kind == "simple":
        return SimpleTokens(config.auth_token_ttl * NS_PER_S)
    public = Path(options.public_key_path).read_bytes() if options.public_key_path else b""
    private = Path(options.private_key_path).read_bytes() if options.private_key_path else None
    return JwtTokens(options.sign_method, public, private, options.ttl_s)
