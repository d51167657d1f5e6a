"""Old spellings of flags: experimental names, flags of etcd 2 and 0.4, ignored left-overs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from corum.config.kinds import BOOL, INT, TEXT, WORDS, Kind
from corum.config.model import FLAGS
from corum.values import value


@value
class Alias:
    """An old flag: the text it takes, and what it sets instead."""

    kind: Kind
    sets: Callable[[Any], dict[str, Any]]
    """New flag name -> value."""
    replaced_by: str
    """The new flag, or "" when there is none."""


def _renamed(new: str) -> Alias:
    return Alias(FLAGS[new].kind, lambda found: {new: found}, new)


def _gate(name: str) -> Alias:
    return Alias(BOOL, lambda on: {"feature-gates": ((name, on),)}, "feature-gates")


def _ignored(kind: Kind = TEXT) -> Alias:
    return Alias(kind, lambda _: {}, "")


def _address(new: str) -> Alias:
    return Alias(TEXT, lambda found: {new: (f"http://{found}",)} if found else {}, new)


def _authority(file: str, auth: str) -> Alias:
    return Alias(TEXT, lambda found: {file: found, auth: True} if found else {}, file)


_RENAMED: Final = (
    *("backend-bbolt-freelist-type", "bootstrap-defrag-threshold-megabytes"),
    *("compact-hash-check-time", "compaction-batch-limit", "compaction-sleep-interval"),
    *("corrupt-check-time", "distributed-tracing-address", "distributed-tracing-instance-id"),
    *("distributed-tracing-sampling-rate", "distributed-tracing-service-name"),
    *("downgrade-check-time", "enable-distributed-tracing", "memory-mlock"),
    *("peer-skip-client-san-verification", "snapshot-catchup-entries", "warning-apply-duration"),
    *("warning-unary-request-duration", "watch-progress-notify-interval"),
)
_GATES: Final = {
    "experimental-compact-hash-check-enabled": "CompactHashCheck",
    "experimental-enable-lease-checkpoint": "LeaseCheckpoint",
    "experimental-enable-lease-checkpoint-persist": "LeaseCheckpointPersist",
    "experimental-initial-corrupt-check": "InitialCorruptCheck",
    "experimental-stop-grpc-service-on-defrag": "StopGRPCServiceOnDefrag",
    "experimental-txn-mode-write-with-shared-buffer": "TxnModeWriteWithSharedBuffer",
}

ALIASES: Final[dict[str, Alias]] = {
    **{f"experimental-{new}": _renamed(new) for new in _RENAMED},
    **{old: _gate(name) for old, name in _GATES.items()},
    "addr": _address("advertise-client-urls"),
    "bind-addr": _address("listen-client-urls"),
    "peer-addr": _address("initial-advertise-peer-urls"),
    "peer-bind-addr": _address("listen-peer-urls"),
    "ca-file": _authority("trusted-ca-file", "client-cert-auth"),
    "peer-ca-file": _authority("peer-trusted-ca-file", "peer-client-cert-auth"),
    "debug": Alias(BOOL, lambda on: {"log-level": "debug"} if on else {}, "log-level"),
    "log-output": Alias(WORDS, lambda found: {"log-outputs": found}, "log-outputs"),
    "experimental-auto-compaction-retention": Alias(
        INT, lambda hours: {"auto-compaction-retention": str(hours)}, "auto-compaction-retention"
    ),
    "experimental-v3demo": _ignored(BOOL),
    "experimental-enable-v2v3": _ignored(),
    "log-package-levels": _ignored(),
    "next-cluster-version-compatible": _ignored(BOOL),
}
"""Flags that still work, by their old name."""

GATE_ALIASES: Final = _GATES
"""Old flag -> the feature gate that took its place."""

IGNORED: Final = frozenset(
    (
        *("cluster-active-size", "cluster-remove-delay", "cluster-sync-interval", "config"),
        *("force", "max-result-buffer", "max-retry-attempts", "peer-heartbeat-interval"),
        *("peer-election-timeout", "retry-interval", "snapshot", "v", "vv"),
        *("test.coverprofile", "test.outputdir"),
    )
)
"""Flags of etcd 0.4 and of test binaries: taken without a value, warned about, without effect."""
