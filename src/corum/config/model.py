"""`Config`: every flag of etcd with its kind, default and meaning. The one table of flags.

Field names are the flags' names with `_` for `-`. Durations are nanoseconds; the older flags
`heartbeat_interval`, `election_timeout` and `proxy_*` are milliseconds, as their texts are. A
Config that came out of `corum.config` is complete and valid; it is not changed afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar, dataclass_transform

from corum.config.kinds import (
    BOOL,
    DURATION,
    FEATURES,
    INT,
    ORIGINS,
    TEXT,
    UINT,
    UINT32,
    URLS,
    WORDS,
    Kind,
    choice,
)
from corum.values import GIB, NS_PER_MS, NS_PER_S, value

T = TypeVar("T")

PEER_URL: Final = "http://localhost:2380"
CLIENT_URL: Final = "http://localhost:2379"
ROTATION: Final = (
    '{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}'
)
_MINUTE: Final = 60 * NS_PER_S


@value
class Flag:
    """What the command line knows about one field of Config."""

    name: str
    group: str
    kind: Kind
    default: Any
    help: str
    is_idle: bool = False
    """Taken for etcd's sake: nothing here does what it asks for."""


@value
class _Declared:
    """A field of Config that is a flag; the decorator turns it into both."""

    group: str
    kind: Kind
    default: Any
    help: str
    is_idle: bool = False


class _Group:
    """Declares fields under one heading of `--help`."""

    def __init__(self, title: str) -> None:
        self.title = title

    def __call__(self, default: T, kind: Kind, meaning: str) -> T:
        declared: Any = _Declared(self.title, kind, default, meaning)
        return declared

    def idle(self, default: T, kind: Kind, meaning: str) -> T:
        """A flag that is taken for etcd's sake: nothing here does what it asks for."""
        text = f"{meaning} No effect here."
        declared: Any = _Declared(self.title, kind, default, text, is_idle=True)
        return declared


_member = _Group("Member")
_cluster = _Group("Clustering")
_proxy = _Group("Proxy (v2)")
_security = _Group("Security")
_auth = _Group("Auth")
_watching = _Group("Profiling, monitoring and tracing")
_logging = _Group("Logging")
_checks = _Group("Corruption checks")
_unsafe = _Group("Unsafe")
_own = _Group("corum's own")


FLAGS: Final[dict[str, Flag]] = {}
"""Every flag by its name, in the order of `--help`."""


@dataclass_transform(kw_only_default=True)
def _settings(cls: type[T]) -> type[T]:
    """A slotted class whose fields have defaults; those that are flags go into FLAGS.

    For 120 fields `dataclass` would cost every start of the daemon 6 ms.
    """
    names = list(cls.__annotations__)
    rest = {name: found for name, found in vars(cls).items() if name not in names}
    defaults: dict[str, Any] = {}
    for name in names:
        default = defaults[name] = vars(cls)[name]
        if isinstance(default, _Declared):
            defaults[name] = default.default
            flag = name.replace("_", "-")
            FLAGS[flag] = Flag(
                flag, default.group, default.kind, default.default, default.help, default.is_idle
            )

    def init(self: T, **given: Any) -> None:
        for name, found in defaults.items():
            setattr(self, name, given.pop(name, found))
        assert not given, f"no such settings: {', '.join(given)}"

    for name in ("__dict__", "__weakref__"):
        rest.pop(name, None)
    made: Any = type(cls.__name__, cls.__bases__, {**rest, "__slots__": names, "__init__": init})
    return made


@_settings
class Config:
    """Settings of one member. Build it with `corum.config.parse` or `corum.config.of`."""

    # fmt: off
    name: str = _member("default", TEXT, "Name of this member; must stand in --initial-cluster.")
    data_dir: str = _member("", TEXT, "Directory that holds everything this member stores.")
    wal_dir: str = _member("", TEXT, "Separate directory for the log; empty: within the data directory.")
    snapshot_count: int = _member(10_000, UINT, "Applied entries between two snapshots of the state.")
    snapshot_catchup_entries: int = _member(5_000, UINT, "Log entries kept behind a snapshot for slow followers.")
    heartbeat_interval: int = _member(100, UINT, "Milliseconds between the leader's heartbeats.")
    election_timeout: int = _member(1_000, UINT, "Milliseconds without a leader before an election; at least 5 heartbeats.")
    initial_election_tick_advance: bool = _member(True, BOOL, "Skip most of the first election timeout after a start.")
    listen_peer_urls: tuple[str, ...] = _member((PEER_URL,), URLS, "Where to listen for other members.")
    listen_client_urls: tuple[str, ...] = _member((CLIENT_URL,), URLS, "Where to listen for clients: gRPC, and HTTP unless that has its own.")
    listen_client_http_urls: tuple[str, ...] = _member((), URLS, "Where to listen for clients' HTTP requests only.")
    max_snapshots: int = _member(5, UINT, "Snapshot files to keep; 0 keeps all.")
    max_wals: int = _member(5, UINT, "Log files to keep; 0 keeps all.")
    memory_mlock: bool = _member(False, BOOL, "Lock the process's memory, so that it is never swapped out.")
    quota_backend_bytes: int = _member(0, INT, "Size of the database beyond which writes are refused; 0: 2 GiB, negative: none.")
    backend_bbolt_freelist_type: str = _member.idle("map", choice("array", "map"), "How bbolt keeps its list of free pages.")
    backend_batch_interval: int = _member(0, DURATION, "Longest time between two commits of the backend; 0: 100ms.")
    backend_batch_limit: int = _member(0, INT, "Most operations between two commits of the backend; 0: 10000.")
    max_txn_ops: int = _member(128, UINT, "Most operations in one transaction.")
    max_request_bytes: int = _member(1_572_864, UINT, "Longest request accepted from a client.")
    max_concurrent_streams: int = _member(0xFFFFFFFF, UINT32, "Most streams open at once on one client connection.")
    grpc_keepalive_min_time: int = _member(5 * NS_PER_S, DURATION, "Shortest time between two pings that a client may send.")
    grpc_keepalive_interval: int = _member(120 * _MINUTE, DURATION, "Silence after which a client connection is pinged; 0: never.")
    grpc_keepalive_timeout: int = _member(20 * NS_PER_S, DURATION, "How long to wait for the answer to such a ping.")
    enable_grpc_gateway: bool = _member(True, BOOL, "Serve the JSON gateway under /v3/.")
    enable_v2: bool = _member(True, BOOL, "Serve the v2 API.")
    cors: tuple[str, ...] = _member(("*",), ORIGINS, "Origins that browsers may call from; * allows all.")
    host_whitelist: tuple[str, ...] = _member(("*",), WORDS, "Host names accepted in plain HTTP requests; * accepts all.")
    raft_read_timeout: int = _member(5 * NS_PER_S, DURATION, "Silence after which a connection from a peer is given up.")
    raft_write_timeout: int = _member(5 * NS_PER_S, DURATION, "How long a write to a peer may take.")
    socket_reuse_address: bool = _member.idle(False, BOOL, "Set SO_REUSEADDR on listeners.")
    socket_reuse_port: bool = _member.idle(False, BOOL, "Set SO_REUSEPORT on listeners.")
    bootstrap_defrag_threshold_megabytes: int = _member(0, UINT, "Rewrite the database at a start if that frees so many MiB; 0: never.")
    warning_apply_duration: int = _member(100 * NS_PER_MS, DURATION, "Log a warning when applying an entry takes longer.")
    warning_unary_request_duration: int = _member(300 * NS_PER_MS, DURATION, "Log a warning when a write waits longer for its answer.")
    watch_progress_notify_interval: int = _member(10 * _MINUTE, DURATION, "Time between progress notifications to watchers that asked for them.")
    max_learners: int = _member(1, INT, "Most learners in the cluster.")

    initial_advertise_peer_urls: tuple[str, ...] = _cluster((PEER_URL,), URLS, "This member's peer URLs as the others reach them.")
    initial_cluster: str = _cluster(f"default={PEER_URL}", TEXT, "All members of a new cluster: name=url,name=url; a name stands before each of its URLs.")
    initial_cluster_state: str = _cluster("new", choice("new", "existing"), "new, or existing to join a cluster that runs already.")
    initial_cluster_token: str = _cluster("etcd-cluster", TEXT, "Goes into the ids, so that clusters cannot be mixed up.")
    advertise_client_urls: tuple[str, ...] = _cluster((CLIENT_URL,), URLS, "This member's client URLs as clients reach them.")
    discovery: str = _cluster("", TEXT, "URL of a v2 discovery service to bootstrap from.")
    discovery_token: str = _cluster("", TEXT, "v3 discovery: the cluster's token.")
    discovery_endpoints: tuple[str, ...] = _cluster((), WORDS, "v3 discovery: endpoints of the discovery service.")
    discovery_dial_timeout: int = _cluster(2 * NS_PER_S, DURATION, "v3 discovery: how long connecting may take.")
    discovery_request_timeout: int = _cluster(5 * NS_PER_S, DURATION, "v3 discovery: how long a request may take.")
    discovery_keepalive_time: int = _cluster(2 * NS_PER_S, DURATION, "v3 discovery: silence before a ping.")
    discovery_keepalive_timeout: int = _cluster(6 * NS_PER_S, DURATION, "v3 discovery: how long to wait for a ping's answer.")
    discovery_insecure_transport: bool = _cluster(True, BOOL, "v3 discovery: talk without TLS.")
    discovery_insecure_skip_tls_verify: bool = _cluster(False, BOOL, "v3 discovery: do not check the server's certificate.")
    discovery_cert: str = _cluster("", TEXT, "v3 discovery: certificate file.")
    discovery_key: str = _cluster("", TEXT, "v3 discovery: key file.")
    discovery_cacert: str = _cluster("", TEXT, "v3 discovery: file of the certificate authority.")
    discovery_user: str = _cluster("", TEXT, "v3 discovery: user, or user:password.")
    discovery_password: str = _cluster("", TEXT, "v3 discovery: password.")
    discovery_fallback: str = _cluster("proxy", choice("exit", "proxy"), "When discovery finds the cluster full: exit, or go on as a v2 proxy.")
    discovery_proxy: str = _cluster("", TEXT, "HTTP proxy on the way to the v2 discovery service.")
    discovery_srv: str = _cluster("", TEXT, "DNS domain whose SRV records name the members.")
    discovery_srv_name: str = _cluster("", TEXT, "Suffix of the SRV service: _etcd-server-ssl-<suffix>._tcp.")
    strict_reconfig_check: bool = _cluster(True, BOOL, "Refuse membership changes that would lose the quorum.")
    pre_vote: bool = _cluster(True, BOOL, "Ask before an election whether it could be won.")
    auto_compaction_mode: str = _cluster("periodic", TEXT, "periodic (by time) or revision (by count).")
    auto_compaction_retention: str = _cluster("0", TEXT, "History to keep: a duration, or hours, or revisions; 0: all of it.")
    compaction_batch_limit: int = _cluster(1_000, INT, "Most revisions deleted in one step of a compaction.")
    compaction_sleep_interval: int = _cluster(10 * NS_PER_MS, DURATION, "Pause between two steps of a compaction.")
    downgrade_check_time: int = _cluster.idle(5 * NS_PER_S, DURATION, "Time between two looks at the state of a downgrade.")
    v2_deprecation: str = _cluster("not-yet", choice("not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone"), "How far the v2 store is retired: from write-only on its API is not served.")
    feature_gates: tuple[tuple[str, bool], ...] = _cluster((), FEATURES, "Features to turn on or off: Name=true,Name=false.")

    proxy: str = _proxy("off", choice("off", "readonly", "on"), "Run as a v2 proxy instead of a member: off, readonly, on.")
    proxy_failure_wait: int = _proxy(5_000, UINT, "Milliseconds an endpoint stays failed.")
    proxy_refresh_interval: int = _proxy(30_000, UINT, "Milliseconds between refreshes of the endpoints.")
    proxy_dial_timeout: int = _proxy(1_000, UINT, "Milliseconds connecting may take; 0: any time.")
    proxy_write_timeout: int = _proxy.idle(5_000, UINT, "Milliseconds a write may take; 0: any time.")
    proxy_read_timeout: int = _proxy(0, UINT, "Milliseconds a read may take; 0: any time.")

    cert_file: str = _security("", TEXT, "Certificate of the client port.")
    key_file: str = _security("", TEXT, "Key of the client port.")
    client_cert_file: str = _security("", TEXT, "Certificate for this member's own calls to a client port; empty: --cert-file.")
    client_key_file: str = _security("", TEXT, "Key for --client-cert-file.")
    client_cert_auth: bool = _security(False, BOOL, "Demand certificates from clients.")
    client_crl_file: str = _security("", TEXT, "Revoked client certificates.")
    client_cert_allowed_hostname: tuple[str, ...] = _security((), WORDS, "Host names accepted in client certificates.")
    trusted_ca_file: str = _security("", TEXT, "Certificate authority of the clients.")
    auto_tls: bool = _security(False, BOOL, "Make a certificate for the client port.")
    peer_cert_file: str = _security("", TEXT, "Certificate of the peer port.")
    peer_key_file: str = _security("", TEXT, "Key of the peer port.")
    peer_client_cert_file: str = _security("", TEXT, "Certificate for calls to peers; empty: --peer-cert-file.")
    peer_client_key_file: str = _security("", TEXT, "Key for --peer-client-cert-file.")
    peer_client_cert_auth: bool = _security(False, BOOL, "Demand certificates from peers.")
    peer_trusted_ca_file: str = _security("", TEXT, "Certificate authority of the peers.")
    peer_cert_allowed_cn: tuple[str, ...] = _security((), WORDS, "Common names accepted in peer certificates.")
    peer_cert_allowed_hostname: tuple[str, ...] = _security((), WORDS, "Host names accepted in peer certificates.")
    peer_auto_tls: bool = _security(False, BOOL, "Make a certificate for the peer port.")
    peer_crl_file: str = _security("", TEXT, "Revoked peer certificates.")
    peer_skip_client_san_verification: bool = _security.idle(False, BOOL, "Do not compare a peer's address with its certificate.")
    self_signed_cert_validity: int = _security(1, UINT, "Years that certificates we make are valid.")
    cipher_suites: tuple[str, ...] = _security((), WORDS, "TLS cipher suites to allow; empty: all safe ones.")
    tls_min_version: str = _security("TLS1.2", TEXT, "Oldest TLS version: TLS1.2 or TLS1.3.")
    tls_max_version: str = _security("", TEXT, "Newest TLS version: TLS1.2 or TLS1.3; empty: any.")

    auth_token: str = _auth("simple", TEXT, "Kind of tokens: simple, or jwt with its options.")
    bcrypt_cost: int = _auth(10, UINT, "Cost of a password's hash, 4 to 31.")
    auth_token_ttl: int = _auth(300, UINT, "Seconds that a simple token lives.")

    enable_pprof: bool = _watching(False, BOOL, "Serve /debug/pprof/ on the client port.")
    metrics: str = _watching("basic", choice("basic", "extensive"), "basic, or extensive to add a histogram of each RPC.")
    listen_metrics_urls: tuple[str, ...] = _watching((), URLS, "Further listeners for /metrics and /health.")
    enable_distributed_tracing: bool = _watching.idle(False, BOOL, "Send traces to an OpenTelemetry collector.")
    distributed_tracing_address: str = _watching.idle("localhost:4317", TEXT, "The collector.")
    distributed_tracing_service_name: str = _watching.idle("etcd", TEXT, "The service's name in traces.")
    distributed_tracing_instance_id: str = _watching.idle("", TEXT, "This member's name in traces.")
    distributed_tracing_sampling_rate: int = _watching.idle(0, INT, "Traces of a million requests.")

    logger: str = _logging("zap", TEXT, "zap: JSON lines or the console format.")
    log_format: str = _logging("json", TEXT, "json or console.")
    log_level: str = _logging("info", TEXT, "debug, info, warn, error, dpanic, panic or fatal.")
    log_outputs: tuple[str, ...] = _logging(("default",), WORDS, "default (stderr, or the journal), stdout, stderr, systemd/journal, or files.")
    enable_log_rotation: bool = _logging(False, BOOL, "Rotate the log file, if there is just one.")
    log_rotation_config_json: str = _logging(ROTATION, TEXT, "When to rotate: sizes in MB, ages in days.")

    corrupt_check_time: int = _checks(0, DURATION, "Time between comparisons of the members' hashes; 0: never.")
    compact_hash_check_time: int = _checks(_MINUTE, DURATION, "Time between comparisons of compaction hashes.")

    unsafe_no_fsync: bool = _unsafe(False, BOOL, "Do not sync: a power loss then loses acknowledged writes.")
    force_new_cluster: bool = _unsafe(False, BOOL, "Start as the only member of the cluster that the data come from.")

    emulate_version: str = _own("3.7", choice("3.4", "3.5", "3.6", "3.7"), "Minor version of etcd to report, with its JSON shapes, for old clients.")

    # Not flags: what the sources and the rules found out.
    features: Mapping[str, bool] = MappingProxyType({})
    """Every feature gate's state."""
    members: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """`initial_cluster` taken apart: name -> sorted peer URLs."""
    config_file: str = ""
    given: frozenset[str] = frozenset()
    """Names of the flags that command line, environment or file set."""
    notes: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    """(level, message, fields): log these once logging works."""
    # fmt: on

    @property
    def quota_bytes(self) -> int | None:
        """The database's size limit in effect; None without one."""
        if self.quota_backend_bytes < 0:
            return None
        return self.quota_backend_bytes or 2 * GIB

    @property
    def batch_interval_ns(self) -> int:
        """Longest time between commits of the backend."""
        return self.backend_batch_interval or 100 * NS_PER_MS

    @property
    def serves_v2(self) -> bool:
        """Is the v2 API there?"""
        return self.enable_v2 and self.v2_deprecation == "not-yet"

    @property
    def batch_operations_max(self) -> int:
        """Most operations between commits of the backend."""
        return self.backend_batch_limit or 10_000
