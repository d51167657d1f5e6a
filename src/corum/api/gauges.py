"""What /metrics says of a node: values are read when somebody asks, not kept up to date.

Histograms are fed by whoever measured, a batch at a time.
"""

from __future__ import annotations

from collections.abc import Mapping

from corum.api.router import Router
from corum.metrics import Metrics
from corum.server.node import Node
from corum.server.operations import DELETE_RANGE, NAMES, PUT, RANGE, TXN
from corum.versions import Emulated, go_version

_V2_READS = {"gets": "get"}
_V2_WRITES = {
    "sets": "set",
    "create": "create",
    "update": "update",
    "delete": "delete",
    "compareAndSwap": "compareAndSwap",
    "compareAndDelete": "compareAndDelete",
}
_ALARMS = {1: "NOSPACE", 2: "CORRUPT"}


def measure(metrics: Metrics, node: Node, emulated: Emulated, features: Mapping[str, bool]) -> None:
    """Tie every metric that a node can answer to where it is kept."""
    _server(metrics, node, emulated)
    _disk(metrics, node)
    _mvcc(metrics, node)
    _leases(metrics, node)
    applied, served = metrics.server.apply_duration_seconds, metrics.server.request_duration_seconds
    ranged = metrics.server.range_duration_seconds.labels("true")

    def observe(operation: int, took_ns: int, times: int, waited_ns: int) -> None:
        applied.labels("v3", NAMES[operation], "true").observe_ns(took_ns, times)
        if waited_ns:
            served.labels(NAMES[operation], "true").observe_ns(waited_ns + took_ns * times, times)

    def observe_range(took_ns: int, times: int) -> None:
        ranged.observe_ns(took_ns, times)
        served.labels("Range", "true").observe_ns(took_ns, times)

    node.applier.observe = observe
    node.ranges.observe = observe_range
    trips = metrics.network.peer_round_trip_time_seconds
    node.round_trip = lambda member, took_ns: trips.labels(f"{member:x}").observe_ns(took_ns)
    for name, on in features.items():
        metrics.server.feature_enabled.labels(name, "").set(float(on))


def _server(metrics: Metrics, node: Node, emulated: Emulated) -> None:
    server = metrics.server
    server.has_leader.source = lambda: float(node.leader != 0)
    server.is_leader.source = lambda: float(node.is_leader)
    server.is_learner.source = lambda: float(node.is_learner)
    server.leader_changes_seen_total.source = lambda: node.leader_changes_total
    server.proposals_committed_total.source = lambda: node.committed
    server.proposals_applied_total.source = lambda: node.applied_index
    server.proposals_pending.source = lambda: len(node.proposals.waiting)
    server.proposals_failed_total.source = lambda: node.proposals.failed_total
    server.slow_read_indexes_total.source = lambda: node.reads.slow_total
    server.read_indexes_failed_total.source = lambda: node.reads.failed_total
    server.heartbeat_send_failures_total.source = lambda: node.slowness.late_heartbeats_total
    server.slow_apply_total.source = lambda: node.slowness.slow_applies_total
    server.quota_backend_bytes.source = lambda: node.space.quota_bytes
    reconfiguration, installation = node.reconfiguration, node.installation
    server.learner_promote_successes.source = lambda: reconfiguration.promotions_total
    server.snapshot_apply_in_progress_total.source = lambda: float(installation.installing)
    server.lease_expired_total.source = lambda: node.leases.expired_total
    server.auth_revision.source = lambda: node.auth.store.revision
    server.id.labels(f"{node.members.local:x}").set(1)
    server.version.labels(emulated.server).set(1)
    server.go_version.labels(go_version()).set(1)


def _disk(metrics: Metrics, node: Node) -> None:
    disk = metrics.disk
    node.commits.observe = disk.backend_commit_duration_seconds.observe_ns
    node.defragmentation.observe = disk.backend_defrag_duration_seconds.observe_ns
    node.downloads.observe = disk.backend_snapshot_duration_seconds.observe_ns
    disk.defrag_inflight.source = lambda: float(node.defragmentation.active)


def _mvcc(metrics: Metrics, node: Node) -> None:
    mvcc, counts = metrics.mvcc, node.applier.counts
    mvcc.range_total.source = lambda: node.ranges.ranges_total + counts[RANGE]
    mvcc.put_total.source = lambda: counts[PUT]
    mvcc.delete_total.source = lambda: counts[DELETE_RANGE]
    mvcc.txn_total.source = lambda: counts[TXN]
    mvcc.db_total_size_in_bytes.source = lambda: node.backend.size
    mvcc.db_total_size_in_use_in_bytes.source = lambda: node.backend.size_in_use
    mvcc.db_open_read_transactions.source = lambda: node.backend.open_views
    mvcc.keys_total.source = lambda: node.store.keys_total
    mvcc.current_revision.source = lambda: node.store.revision
    mvcc.compact_revision.source = lambda: max(node.store.compacted, 0)
    mvcc.events_total.source = lambda: node.watch.events_total
    mvcc.watcher_total.source = lambda: node.watch.watcher_count
    mvcc.watch_stream_total.source = lambda: node.watch.stream_count
    mvcc.slow_watcher_total.source = lambda: node.watch.slow_count
    node.compactions.observe = mvcc.db_compaction_total_duration_milliseconds.observe
    mvcc.db_compaction_last.source = lambda: node.compactions.last_unix_s
    mvcc.db_compaction_keys_total.source = lambda: node.compactions.rows_total


def _leases(metrics: Metrics, node: Node) -> None:
    node.applier.granted = metrics.leases.ttl_total.observe
    metrics.leases.granted_total.source = lambda: node.applier.granted_total
    metrics.leases.revoked_total.source = lambda: node.applier.revoked_total
    metrics.leases.renewed_total.source = lambda: node.leases.renewed_total


def _peers(metrics: Metrics, node: Node) -> None:
    network, local = metrics.network, f"{node.members.local:x}"
    network.known_peers.clear()
    network.active_peers.clear()
    network.known_peers.labels(local, local).set(1)
    for member, found in node.peers.statistics().items():
        remote = f"{member:x}"
        network.known_peers.labels(local, remote).set(1)
        network.active_peers.labels(local, remote).set(float(node.peers.active_since(member) > 0))
        network.disconnected_peers_total.labels(local, remote).value = found.losses
        network.peer_sent_bytes_total.labels(remote).value = found.sent_bytes
        network.peer_received_bytes_total.labels(remote).value = found.received_bytes
        network.peer_sent_failures_total.labels(remote).value = found.fail
        network.snapshot_send_success.labels(remote).value = found.snapshots_sent
        network.snapshot_send_failures.labels(remote).value = found.snapshots_lost
        network.snapshot_receive_success.labels(remote).value = found.snapshots_received
        network.snapshot_receive_failures.labels(remote).value = found.snapshots_refused


def refresh(metrics: Metrics, node: Node, router: Router, moved: Mapping[str, int]) -> None:
    """Families whose children come and go, and what others count, just before they are shown.

    `moved`: the transport's statistics.
    """
    server = metrics.server
    _peers(metrics, node)
    metrics.network.client_grpc_received_bytes_total.value = moved["grpc_received_bytes"]
    metrics.network.client_grpc_sent_bytes_total.value = moved["grpc_sent_bytes"]
    for reason, count in node.reconfiguration.promotions_failed.items():
        server.learner_promote_failures.labels(reason).value = count
    server.alarms.clear()
    for member, alarm in node.alarms.get(0, 0):
        server.alarms.labels(f"{member:x}", _ALARMS.get(alarm, "UNKNOWN")).set(1)
    server.cluster_version.clear()
    if node.members.version:
        minor = ".".join(node.members.version.split(".")[:2])
        server.cluster_version.labels(minor).set(1)
    for version, count in router.versions.items():
        server.client_requests_total.labels("unary", version or "unknown").value = count
    counts = node.v2.store.stats.counts
    for name, action in _V2_READS.items():
        metrics.v2.reads_total.labels(action).value = counts[name + "Success"]
        metrics.v2.reads_failed_total.labels(action).value = counts[name + "Fail"]
    for name, action in _V2_WRITES.items():
        metrics.v2.writes_total.labels(action).value = counts[name + "Success"]
        metrics.v2.writes_failed_total.labels(action).value = counts[name + "Fail"]
    metrics.v2.expires_total.value = counts["expireCount"]
    metrics.v2.watchers.value = node.v2.store.hub.count
