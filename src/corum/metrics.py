"""Every metric of a member once, under etcd's name: `metrics.server.has_leader` is
`etcd_server_has_leader`.

`Metrics()` belongs to one member, so that several can live in one process. A room gets the group
it feeds. Kinds, labels and buckets are etcd's (3.4 to 3.7), misleading ones included: some `_total`
are gauges. Families with labels appear after their first use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from corum.errors import code_name
from corum.prometheus import Histogram, Registry, exponential, header

_MS_TO_8S: Final = exponential(0.001, 2, 14)
_REQUESTS: Final = exponential(0.0001, 2, 20)
_HTTP: Final = exponential(0.0005, 2, 13)
_SNAPSHOTS: Final = exponential(0.1, 2, 10)
_GRPC: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CODES: Final = 17


class Server:
    """`etcd_server_*`: consensus and requests."""

    def __init__(self, r: Registry) -> None:
        p = "etcd_server_"
        self.has_leader = r.gauge(p + "has_leader", "Is there a leader: 1 or 0.")
        self.is_leader = r.gauge(p + "is_leader", "Is this member the leader: 1 or 0.")
        self.is_learner = r.gauge(p + "is_learner", "Is this member a learner: 1 or 0.")
        self.leader_changes_seen_total = r.counter(
            p + "leader_changes_seen_total", "Leader changes seen."
        )
        self.heartbeat_send_failures_total = r.counter(
            p + "heartbeat_send_failures_total", "Heartbeats sent late (overloaded or slow disk)."
        )
        self.proposals_committed_total = r.gauge(
            p + "proposals_committed_total", "Last committed index."
        )
        self.proposals_applied_total = r.gauge(p + "proposals_applied_total", "Last applied index.")
        self.proposals_pending = r.gauge(p + "proposals_pending", "Proposals waiting.")
        self.proposals_failed_total = r.counter(p + "proposals_failed_total", "Failed proposals.")
        self.slow_read_indexes_total = r.counter(
            p + "slow_read_indexes_total", "Read indexes that took too long."
        )
        self.read_indexes_failed_total = r.counter(
            p + "read_indexes_failed_total", "Failed read indexes."
        )
        self.slow_apply_total = r.counter(p + "slow_apply_total", "Slow applications of entries.")
        self.apply_duration_seconds = r.histograms(
            p + "apply_duration_seconds",
            "Applying one entry.",
            _REQUESTS,
            "version",
            "op",
            "success",
        )
        self.range_duration_seconds = r.histograms(
            p + "range_duration_seconds", "Serving a range.", _REQUESTS, "success"
        )
        self.request_duration_seconds = r.histograms(
            p + "request_duration_seconds", "Serving a request.", _MS_TO_8S, "type", "success"
        )
        self.client_requests_total = r.counters(
            p + "client_requests_total", "Requests by client version.", "type", "client_api_version"
        )
        self.learner_promote_failures = r.counters(
            p + "learner_promote_failures", "Failed promotions of learners.", "Reason"
        )
        self.learner_promote_successes = r.counter(
            p + "learner_promote_successes", "Promotions of learners."
        )
        self.snapshot_apply_in_progress_total = r.gauge(
            p + "snapshot_apply_in_progress_total", "Is a received snapshot being applied: 1 or 0."
        )
        self.quota_backend_bytes = r.gauge(p + "quota_backend_bytes", "Database size limit.")
        self._about(r, p)

    def _about(self, r: Registry, p: str) -> None:
        self.id = r.gauges(p + "id", "This member's id.", "server_id")
        self.version = r.gauges(p + "version", "Reported version.", "server_version")
        self.go_version = r.gauges(p + "go_version", "What runs it.", "server_go_version")
        self.feature_enabled = r.gauges(
            p + "feature_enabled", "State of each feature gate.", "name", "stage"
        )
        self.health_success = r.counter(p + "health_success", "Successful health checks.")
        self.health_failures = r.counter(p + "health_failures", "Failed health checks.")
        self.healthcheck = r.gauges(
            p + "healthcheck", "Result of the last check: 1 or 0.", "type", "name"
        )
        self.healthchecks_total = r.counters(
            p + "healthchecks_total", "Checks by result.", "type", "name", "status"
        )
        self.cluster_version = r.gauges(
            "etcd_cluster_version", "Version of the cluster.", "cluster_version"
        )
        d = "etcd_debugging_server_"
        self.alarms = r.gauges(d + "alarms", "1 for each active alarm.", "server_id", "alarm_type")
        self.lease_expired_total = r.counter(d + "lease_expired_total", "Leases expired.")
        self.auth_revision = r.gauge("etcd_debugging_auth_revision", "Revision of the auth store.")


class Disk:
    """`etcd_disk_*`, `etcd_snap_*`: log, backend and snapshot files."""

    def __init__(self, r: Registry) -> None:
        p = "etcd_disk_"
        self.wal_fsync_duration_seconds = r.histogram(
            p + "wal_fsync_duration_seconds", "Syncing the log.", _MS_TO_8S
        )
        self.wal_write_duration_seconds = r.histogram(
            p + "wal_write_duration_seconds", "Writing to the log.", _MS_TO_8S
        )
        self.wal_write_bytes_total = r.gauge(
            p + "wal_write_bytes_total", "Bytes written to the log."
        )
        self.backend_commit_duration_seconds = r.histogram(
            p + "backend_commit_duration_seconds", "Committing to the backend.", _MS_TO_8S
        )
        self.backend_defrag_duration_seconds = r.histogram(
            p + "backend_defrag_duration_seconds", "Defragmenting.", exponential(0.1, 2, 13)
        )
        self.backend_snapshot_duration_seconds = r.histogram(
            p + "backend_snapshot_duration_seconds",
            "Streaming the database.",
            exponential(0.01, 2, 17),
        )
        self.defrag_inflight = r.gauge(
            p + "defrag_inflight", "Is a defragmentation running: 1 or 0."
        )
        for part in ("rebalance", "spill", "write"):
            name = f"etcd_debugging_disk_backend_commit_{part}_duration_seconds"
            r.histogram(name, "A phase of bbolt's commit; our backend has none.", _MS_TO_8S)
        self.snap_fsync_duration_seconds = r.histogram(
            "etcd_snap_fsync_duration_seconds", "Syncing a .snap file.", _MS_TO_8S
        )
        self.snap_db_fsync_duration_seconds = r.histogram(
            "etcd_snap_db_fsync_duration_seconds", "Syncing a received database.", _MS_TO_8S
        )
        self.snap_db_save_total_duration_seconds = r.histogram(
            "etcd_snap_db_save_total_duration_seconds", "Saving a received database.", _SNAPSHOTS
        )
        d = "etcd_debugging_snap_save_"
        self.snap_save_marshalling_duration_seconds = r.histogram(
            d + "marshalling_duration_seconds", "Encoding a snapshot.", _MS_TO_8S
        )
        self.snap_save_total_duration_seconds = r.histogram(
            d + "total_duration_seconds", "Saving a snapshot.", _MS_TO_8S
        )


class Mvcc:
    """`etcd_mvcc_*`, `etcd_debugging_mvcc_*`: keys, revisions, watchers."""

    def __init__(self, r: Registry) -> None:
        p = "etcd_mvcc_"
        self.range_total = r.counter(p + "range_total", "Ranges.")
        self.put_total = r.counter(p + "put_total", "Puts.")
        self.delete_total = r.counter(p + "delete_total", "Deletes.")
        self.txn_total = r.counter(p + "txn_total", "Transactions.")
        self.db_total_size_in_bytes = r.gauge(p + "db_total_size_in_bytes", "Database size.")
        self.db_total_size_in_use_in_bytes = r.gauge(
            p + "db_total_size_in_use_in_bytes", "Part of the database that is in use."
        )
        self.db_open_read_transactions = r.gauge(
            p + "db_open_read_transactions", "Open views of the database."
        )
        self.hash_duration_seconds = r.histogram(
            p + "hash_duration_seconds", "Hashing the database.", exponential(0.01, 2, 15)
        )
        self.hash_rev_duration_seconds = r.histogram(
            p + "hash_rev_duration_seconds", "Hashing up to a revision.", exponential(0.01, 2, 15)
        )
        self._debugging(r, "etcd_debugging_mvcc_")

    def _debugging(self, r: Registry, p: str) -> None:
        self.keys_total = r.gauge(p + "keys_total", "Keys.")
        self.current_revision = r.gauge(p + "current_revision", "Current revision.")
        self.compact_revision = r.gauge(p + "compact_revision", "Compacted revision.")
        self.total_put_size_in_bytes = r.gauge(
            p + "total_put_size_in_bytes", "Bytes of all keys and values put."
        )
        self.watch_stream_total = r.gauge(p + "watch_stream_total", "Open watch streams.")
        self.watcher_total = r.gauge(p + "watcher_total", "Watchers.")
        self.slow_watcher_total = r.gauge(p + "slow_watcher_total", "Watchers catching up.")
        self.events_total = r.counter(p + "events_total", "Events sent.")
        self.pending_events_total = r.gauge(p + "pending_events_total", "Events not sent yet.")
        self.db_compaction_keys_total = r.counter(
            p + "db_compaction_keys_total", "Revisions deleted by compaction."
        )
        self.db_compaction_last = r.gauge(
            p + "db_compaction_last", "Unix time of the last compaction."
        )
        self.db_compaction_pause_duration_milliseconds = r.histogram(
            p + "db_compaction_pause_duration_milliseconds",
            "One step of a compaction.",
            exponential(1, 2, 13),
        )
        self.db_compaction_total_duration_milliseconds = r.histogram(
            p + "db_compaction_total_duration_milliseconds",
            "A whole compaction.",
            exponential(100, 2, 14),
        )
        self.index_compaction_pause_duration_milliseconds = r.histogram(
            p + "index_compaction_pause_duration_milliseconds",
            "Compacting the index.",
            exponential(0.5, 2, 14),
        )
        for old in ("range", "put", "delete", "txn"):  # names up to 3.4 and 3.5
            r.alias(f"{p}{old}_total", getattr(self, f"{old}_total"))
        r.alias(p + "db_total_size_in_bytes", self.db_total_size_in_bytes, "gauge")


class Leases:
    """`etcd_debugging_lease_*`."""

    def __init__(self, r: Registry) -> None:
        p = "etcd_debugging_lease_"
        self.granted_total = r.counter(p + "granted_total", "Leases granted.")
        self.revoked_total = r.counter(p + "revoked_total", "Leases revoked.")
        self.renewed_total = r.counter(p + "renewed_total", "Keepalives answered by the leader.")
        self.ttl_total = r.histogram(
            p + "ttl_total", "TTLs granted, in seconds.", exponential(1, 2, 24)
        )


class Watching:
    """`etcd_debugging_server_watch_send_loop_*` (3.7)."""

    def __init__(self, r: Registry) -> None:
        p = "etcd_debugging_server_watch_send_loop_"
        self.watch_stream_duration_seconds = r.histogram(
            p + "watch_stream_duration_seconds", "Sending a response of events.", _MS_TO_8S
        )
        self.watch_stream_duration_per_event_seconds = r.histogram(
            p + "watch_stream_duration_per_event_seconds", "The same, per event.", _MS_TO_8S
        )
        self.control_stream_duration_seconds = r.histogram(
            p + "control_stream_duration_seconds", "Sending a control response.", _MS_TO_8S
        )
        self.progress_duration_seconds = r.histogram(
            p + "progress_duration_seconds", "Sending a progress response.", _MS_TO_8S
        )


class Network:
    """`etcd_network_*`: clients and peers."""

    def __init__(self, r: Registry) -> None:
        p = "etcd_network_"
        self.client_grpc_received_bytes_total = r.counter(
            p + "client_grpc_received_bytes_total", "Bytes from gRPC clients."
        )
        self.client_grpc_sent_bytes_total = r.counter(
            p + "client_grpc_sent_bytes_total", "Bytes to gRPC clients."
        )
        self.server_stream_failures_total = r.counters(
            p + "server_stream_failures_total", "Streams that broke.", "Type", "API"
        )
        self.active_peers = r.gauges(p + "active_peers", "Peers connected.", "Local", "Remote")
        self.known_peers = r.gauges(p + "known_peers", "Peers known.", "Local", "Remote")
        self.disconnected_peers_total = r.counters(
            p + "disconnected_peers_total", "Lost peer connections.", "Local", "Remote"
        )
        self.peer_round_trip_time_seconds = r.histograms(
            p + "peer_round_trip_time_seconds",
            "Way to a peer and back.",
            exponential(0.0001, 2, 16),
            "To",
        )
        self.peer_sent_bytes_total = r.counters(p + "peer_sent_bytes_total", "To peers.", "To")
        self.peer_received_bytes_total = r.counters(
            p + "peer_received_bytes_total", "From peers.", "From"
        )
        self.peer_sent_failures_total = r.counters(
            p + "peer_sent_failures_total", "Messages that did not leave.", "To"
        )
        self.peer_received_failures_total = r.counters(
            p + "peer_received_failures_total", "Messages that could not be read.", "From"
        )
        self._snapshots(r, p)

    def _snapshots(self, r: Registry, p: str) -> None:
        self.snapshot_send_success = r.counters(p + "snapshot_send_success", "Sent.", "To")
        self.snapshot_send_failures = r.counters(p + "snapshot_send_failures", "Not sent.", "To")
        self.snapshot_send_inflights_total = r.gauges(
            p + "snapshot_send_inflights_total", "Being sent.", "To"
        )
        self.snapshot_send_total_duration_seconds = r.histograms(
            p + "snapshot_send_total_duration_seconds", "Sending.", _SNAPSHOTS, "To"
        )
        self.snapshot_receive_success = r.counters(
            p + "snapshot_receive_success", "Received.", "From"
        )
        self.snapshot_receive_failures = r.counters(
            p + "snapshot_receive_failures", "Not received.", "From"
        )
        self.snapshot_receive_inflights_total = r.gauges(
            p + "snapshot_receive_inflights_total", "Being received.", "From"
        )
        self.snapshot_receive_total_duration_seconds = r.histograms(
            p + "snapshot_receive_total_duration_seconds", "Receiving.", _SNAPSHOTS, "From"
        )


class V2:
    """`etcd_debugging_store_*`, `etcd_http_*`, `etcd_proxy_*`: the v2 API and its proxy."""

    def __init__(self, r: Registry) -> None:
        p = "etcd_debugging_store_"
        self.reads_total = r.counters(p + "reads_total", "Reads.", "action")
        self.reads_failed_total = r.counters(p + "reads_failed_total", "Failed reads.", "action")
        self.writes_total = r.counters(p + "writes_total", "Writes.", "action")
        self.writes_failed_total = r.counters(p + "writes_failed_total", "Failed writes.", "action")
        self.expires_total = r.counter(p + "expires_total", "Expired keys.")
        self.watch_requests_total = r.counter(p + "watch_requests_total", "Watch requests.")
        self.watchers = r.gauge(p + "watchers", "Watchers.")
        h = "etcd_http_"
        self.http_received_total = r.counters(h + "received_total", "Requests.", "method")
        self.http_failed_total = r.counters(h + "failed_total", "Refused.", "method", "code")
        self.http_successful_duration_seconds = r.histograms(
            h + "successful_duration_seconds", "Serving a request.", _HTTP, "method"
        )
        x = "etcd_proxy_"
        self.proxy_requests_total = r.counters(x + "requests_total", "Requests.", "method")
        self.proxy_handled_total = r.counters(x + "handled_total", "Answered.", "method", "code")
        self.proxy_dropped_total = r.counters(
            x + "dropped_total", "Given up.", "method", "proxying_error"
        )
        self.proxy_handling_duration_seconds = r.histograms(
            x + "handling_duration_seconds", "Forwarding a request.", _HTTP, "method"
        )


class GrpcProxy:
    """`etcd_grpc_proxy_*`: zero in a member, as in etcd."""

    def __init__(self, r: Registry) -> None:
        p = "etcd_grpc_proxy_"
        self.cache_hits_total = r.gauge(p + "cache_hits_total", "Answered from the cache.")
        self.cache_misses_total = r.gauge(p + "cache_misses_total", "Not in the cache.")
        self.cache_keys_total = r.gauge(p + "cache_keys_total", "Ranges in the cache.")
        self.events_coalescing_total = r.counter(p + "events_coalescing_total", "Shared events.")
        self.watchers_coalescing_total = r.gauge(
            p + "watchers_coalescing_total", "Watchers that share one."
        )


class Grpc:
    """`grpc_server_*` per method and code: plain lists, indexed as the transport counts methods."""

    def __init__(self, methods: Sequence[tuple[str, str]], *, extensive: bool = False) -> None:
        """`methods`: (path, "unary" | "server_stream" | "client_stream" | "bidi").

        `extensive` adds a histogram of each method (`--metrics extensive`): `observe` feeds it.
        """
        size = len(methods)
        self.started = [0] * size
        self.received = [0] * size
        self.sent = [0] * size
        self.handled = [[0] * _CODES for _ in range(size)]
        """handled[method][code]."""
        self.handling = [Histogram(_GRPC) for _ in range(size)] if extensive else []
        self._labels = [_grpc_labels(path, kind) for path, kind in methods]

    def lines(self) -> Iterable[str]:
        """The exposition of them all, for `Registry.collect`."""
        for name, counts, meaning in (
            ("grpc_server_msg_received_total", self.received, "Messages received."),
            ("grpc_server_msg_sent_total", self.sent, "Messages sent."),
            ("grpc_server_started_total", self.started, "Calls begun."),
        ):
            yield from header(name, "counter", meaning)
            for labels, count in zip(self._labels, counts, strict=True):
                yield f"{name}{{{labels}}} {count}"
        name = "grpc_server_handled_total"
        yield from header(name, "counter", "Calls ended, by code.")
        for labels, counts in zip(self._labels, self.handled, strict=True):
            for code, count in enumerate(counts):
                yield f'{name}{{grpc_code="{code_name(code)}",{labels}}} {count}'
        if self.handling:
            name = "grpc_server_handling_seconds"
            yield from header(name, "histogram", "Time from begin to end of a call.")
            for labels, histogram in zip(self._labels, self.handling, strict=True):
                yield from histogram.samples(name, labels)


def _grpc_labels(path: str, kind: str) -> str:
    service, _, method = path[1:].partition("/")
    grpc_type = "bidi_stream" if kind == "bidi" else kind
    return f'grpc_method="{method}",grpc_service="{service}",grpc_type="{grpc_type}"'


class Metrics:
    """All metrics of one member."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.server = Server(self.registry)
        self.disk = Disk(self.registry)
        self.mvcc = Mvcc(self.registry)
        self.leases = Leases(self.registry)
        self.watching = Watching(self.registry)
        self.network = Network(self.registry)
        self.v2 = V2(self.registry)
        self.grpc_proxy = GrpcProxy(self.registry)
        self.grpc: Grpc | None = None

    def serve_grpc(self, methods: Sequence[tuple[str, str]], *, extensive: bool = False) -> Grpc:
        """Add the metrics of a gRPC server; once."""
        assert self.grpc is None, "a member has one gRPC server"
        self.grpc = Grpc(methods, extensive=extensive)
        self.registry.collect(self.grpc.lines)
        return self.grpc

    def text(self) -> str:
        """Everything in Prometheus's exposition format."""
        return self.registry.text()
