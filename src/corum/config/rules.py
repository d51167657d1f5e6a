"""What settings must satisfy together, with etcd's words for those that do not."""

from __future__ import annotations

from typing import Final

from corum.cli import gotext
from corum.config import urls
from corum.config.errors import ConfigError
from corum.config.model import Config

ELECTION_MS_MAX: Final = 50_000
_LEVELS: Final = ("debug", "info", "warn", "error", "dpanic", "panic", "fatal")
_SUITE_NAMES: Final = (
    "AES_128_GCM_SHA256 AES_256_GCM_SHA384 CHACHA20_POLY1305_SHA256 "
    "ECDHE_ECDSA_WITH_AES_128_CBC_SHA ECDHE_ECDSA_WITH_AES_128_CBC_SHA256 "
    "ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 ECDHE_ECDSA_WITH_AES_256_CBC_SHA "
    "ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 ECDHE_ECDSA_WITH_CHACHA20_POLY1305 "
    "ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 ECDHE_ECDSA_WITH_RC4_128_SHA "
    "ECDHE_RSA_WITH_3DES_EDE_CBC_SHA ECDHE_RSA_WITH_AES_128_CBC_SHA "
    "ECDHE_RSA_WITH_AES_128_CBC_SHA256 ECDHE_RSA_WITH_AES_128_GCM_SHA256 "
    "ECDHE_RSA_WITH_AES_256_CBC_SHA ECDHE_RSA_WITH_AES_256_GCM_SHA384 "
    "ECDHE_RSA_WITH_CHACHA20_POLY1305 ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 "
    "ECDHE_RSA_WITH_RC4_128_SHA RSA_WITH_3DES_EDE_CBC_SHA RSA_WITH_AES_128_CBC_SHA "
    "RSA_WITH_AES_128_CBC_SHA256 RSA_WITH_AES_128_GCM_SHA256 RSA_WITH_AES_256_CBC_SHA "
    "RSA_WITH_AES_256_GCM_SHA384 RSA_WITH_RC4_128_SHA"
)
_SUITES: Final = frozenset(f"TLS_{name}" for name in _SUITE_NAMES.split())
"""Names that etcd knows. Which of them we have is asked only where there is TLS."""
_SINGLE_OUTPUTS: Final = ("default", "stdout", "stderr", "systemd/journal")


def check(config: Config) -> None:
    """Raise ConfigError for the first rule that `config` breaks, in etcd's order."""
    _logging(config)
    _addresses(config)
    _bootstrap(config)
    _timing(config)
    if not config.advertise_client_urls:
        raise ConfigError(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly"
        )
    compaction_retention(config)
    if "enable-v2" in config.given and config.enable_v2 and not config.serves_v2:
        stage = config.v2_deprecation
        raise ConfigError(f"--enable-v2 and --v2-deprecation={stage} are mutually exclusive")
    _features(config)
    _tls(config)


def _logging(config: Config) -> None:
    if config.logger == "capnslog":
        raise ConfigError("--logger=capnslog is removed in v3.5")
    if config.logger != "zap":
        raise ConfigError(f"unknown logger option {gotext.quote(config.logger)}")
    if config.log_format not in ("json", "console"):
        raise ConfigError(
            f"unknown log format: {config.log_format}, supported values json, console"
        )
    if config.log_level not in _LEVELS:
        raise ConfigError(f"unrecognized level: {gotext.quote(config.log_level)}")
    if len(config.log_outputs) > 1 and "default" in config.log_outputs:
        raise ConfigError('multi logoutput for "default" is not supported yet')
    if config.enable_log_rotation:
        _rotation(config)


def _rotation(config: Config) -> None:
    from corum.log_sinks import RotationError, read_rotation

    files = [output for output in config.log_outputs if output not in _SINGLE_OUTPUTS]
    if len(config.log_outputs) != 1 or len(files) != 1:
        raise ConfigError(
            "--log-outputs requires a single file path when --log-rotate-config-json is defined"
        )
    try:
        read_rotation(config.log_rotation_config_json)
    except RotationError as error:
        raise ConfigError(f"improperly formatted log rotation config: {error}") from None


def _addresses(config: Config) -> None:
    try:
        urls.refuse_unbindable(config.listen_peer_urls)
        urls.refuse_unbindable(config.listen_client_urls)
        urls.refuse_unbindable(config.listen_client_http_urls)
        urls.refuse_unbindable(config.listen_metrics_urls)
    except urls.BadUrl as error:
        raise ConfigError(str(error)) from None
    for flag, listed in (
        ("initial-advertise-peer-urls", config.initial_advertise_peer_urls),
        ("advertise-client-urls", config.advertise_client_urls),
    ):
        try:
            urls.refuse_empty_host(listed)
        except urls.BadUrl as error:
            shown = gotext.quote(",".join(listed))
            raise ConfigError(f'--{flag} {shown} must be "host:port" ({error})') from None


def _bootstrap(config: Config) -> None:
    ways = (
        config.initial_cluster,
        config.discovery,
        config.discovery_endpoints,
        config.discovery_srv,
    )
    if sum(map(bool, ways)) > 1:
        raise ConfigError(
            "multiple discovery or bootstrap flags are set. Choose one of "
            '"initial-cluster", "discovery", "discovery-endpoints" or "discovery-srv"'
        )
    v2 = config.discovery or config.discovery_proxy
    if v2 and (config.discovery_token or config.discovery_endpoints):
        raise ConfigError(
            "both v2 discovery settings (discovery, discovery-proxy) and v3 discovery settings "
            "(discovery-token, discovery-endpoints) are set"
        )
    if bool(config.discovery_token) != bool(config.discovery_endpoints):
        raise ConfigError("both --discovery-token and --discovery-endpoints must be set")
    if "" in config.discovery_endpoints:
        raise ConfigError("--discovery-endpoints must not contain empty endpoints")


def _timing(config: Config) -> None:
    heartbeat, election = config.heartbeat_interval, config.election_timeout
    if heartbeat <= 0:
        raise ConfigError(f"--heartbeat-interval must be >0 (set to {heartbeat}ms)")
    if election <= 0:
        raise ConfigError(f"--election-timeout must be >0 (set to {election}ms)")
    if 5 * heartbeat > election:
        raise ConfigError(
            f"--election-timeout[{election}ms] should be at least as 5 times as "
            f"--heartbeat-interval[{heartbeat}ms]"
        )
    if election > ELECTION_MS_MAX:
        raise ConfigError(
            f"--election-timeout[{election}ms] is too long, "
            f"and should be set less than {ELECTION_MS_MAX}ms"
        )


def compaction_retention(config: Config) -> int:
    """What auto-compaction keeps: nanoseconds (periodic) or revisions (revision); 0: all."""
    mode, text = config.auto_compaction_mode, config.auto_compaction_retention
    if mode not in ("periodic", "revision"):
        shown = gotext.quote(mode)
        raise ConfigError(
            f"unknown auto-compaction-mode {shown}" if mode else "undefined auto-compaction-mode"
        )
    try:
        if mode == "revision":
            return max(0, gotext.parse_int(text))
        if text.isdigit():
            return int(text) * gotext.NS_PER_UNIT["h"]
        return gotext.parse_duration(text)
    except gotext.GoSyntaxError as error:
        raise ConfigError(f"error parsing CompactionRetention: {error}") from None


def _features(config: Config) -> None:
    features = config.features
    if features["LeaseCheckpointPersist"] and not features["LeaseCheckpoint"]:
        raise ConfigError(
            "enabling feature gate LeaseCheckpointPersist requires "
            "enabling feature gate LeaseCheckpoint"
        )
    if config.compact_hash_check_time <= 0:
        shown = gotext.format_duration(config.compact_hash_check_time)
        raise ConfigError(f"--compact-hash-check-time must be >0 (set to {shown})")
    if config.distributed_tracing_sampling_rate < 0:
        raise ConfigError("tracing sampling rate must be positive")
    if config.distributed_tracing_sampling_rate > 1_000_000:
        raise ConfigError("tracing sampling rate must be less than 1000000")


def _tls(config: Config) -> None:
    for name in (config.tls_min_version, config.tls_max_version):
        if name not in ("", "TLS1.2", "TLS1.3"):
            raise ConfigError(f"unexpected TLS version {gotext.quote(name)}")
    low, high = config.tls_min_version, config.tls_max_version
    if high and low > high:
        raise ConfigError(f"min version ({low}) is greater than max version ({high})")
    if low == "TLS1.3" and config.cipher_suites:
        raise ConfigError("cipher suites cannot be configured when only TLS1.3 is enabled")
    for suite in config.cipher_suites:
        if suite not in _SUITES:
            raise ConfigError(f"unexpected TLS cipher suite {gotext.quote(suite)}")
    if config.peer_cert_allowed_cn and config.peer_cert_allowed_hostname:
        raise ConfigError(
            "peerTLS: allowed-cn and allowed-hostname are mutually exclusive "
            f"(cn={','.join(config.peer_cert_allowed_cn)}, "
            f"hostname={','.join(config.peer_cert_allowed_hostname)})"
        )
