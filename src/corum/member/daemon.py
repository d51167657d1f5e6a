"""The process around a member: from its Config to its exit code.

Signals end it in good order; the exit code then is etcd's: the process dies by the signal it got
(143 for SIGTERM as a shell sees it). A service manager is told when the member is ready.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from traceback import format_exc
from types import FrameType
from typing import Any, Final

from corum import logs, versions
from corum.config import Config
from corum.member import tls
from corum.member.beginning import of_flags
from corum.member.from_flags import settings_of
from corum.member.settings import Settings
from corum.membership.bootstrap import BootstrapError, ClusterFull, WasRemoved
from corum.wal import DataDir
from corum.wal.datadir import Contents

_log = logs.get()
PANICKED: Final = 2
"""Exit code of a member that found itself wrong."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _lock_memory() -> None:
    """Raises BootstrapError that says what to do."""
    from corum.member.memory_lock import lock_memory

    try:
        lock_memory()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        text = f"--memory-mlock: {why}; raise the limit (ulimit -l), or leave the flag out"
        raise BootstrapError(text) from None


def has_run(settings: Settings) -> bool:
    """Is there a log already? Then flags about the beginning of a cluster are ignored."""
    data = DataDir(
        Path(settings.data_dir or ""), Path(settings.wal_dir) if settings.wal_dir else None
    )
    return data.has_wal()


def _in_words(error: Exception) -> str:
    """What went wrong; of a file its name first, without Python's number."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}"
    return str(error) or repr(error)


class Daemon:
    """One process, one member."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.signal = 0
        self.runtime: Any = None

    def run(self) -> int:
        """Until a signal, a failure or removal; the exit code (a signal ends the process
        itself)."""
        settings = settings_of(self.config)
        try:
            was = DataDir(Path(settings.data_dir or "")).contents()
            if was is Contents.BOTH:
                raise BootstrapError("invalid datadir; both member and proxy directories exist")
            if was is Contents.PROXY:  # whatever the flags say now
                return self._be_proxy(self.config.initial_cluster)
            if self.config.proxy != "off" and was is not Contents.MEMBER:
                return self._be_proxy(self._cluster_behind())
            if self.config.memory_mlock:
                _lock_memory()
        except (tls.TlsError, BootstrapError, OSError) as error:
            _log.fatal("failed to start etcd", error=_in_words(error))
            return 1
        self._announce(settings)
        try:
            from corum.member.runtime import Runtime

            settings = self._secured(settings)
            if not has_run(settings):
                settings = of_flags(settings, self.config, self._say)
            self.runtime = Runtime(settings, self._say)
        except ClusterFull as full:
            if self.config.discovery_fallback != "proxy":
                _log.warn("do not reuse discovery token; generate a new one to bootstrap a cluster")
                told = "failed to bootstrap; discovery token was already used"
                _log.fatal(told, error=str(full))
                return 1
            _log.info("discovery cluster is full; falling back to proxy")
            return self._be_proxy(full.cluster)
        except WasRemoved as error:
            _log.warn("server error", error=str(error))
            _log.warn("data-dir used by this member must be removed")
            return 0
        except Exception as error:
            self._advise(error)
            _log.fatal(
                "discovery failed" if isinstance(error, BootstrapError) else "failed to start etcd",
                error=_in_words(error),
            )
            return 1
        return self._serve(settings)

    def _serve(self, settings: Settings) -> int:
        self._heed_signals()
        self.runtime.ready = self._ready
        if self.signal:
            self.runtime.stop()
        try:
            self.runtime.run()
        except Exception as error:  # a bug, or a disk or peer that cannot be true: wrong is worse
            fields = {"error": str(error) or repr(error), "stacktrace": format_exc()}
            _log.log("panic", "stopped by a failure", fields)
            return PANICKED
        _log.info("closed etcd server", name=settings.node.name, data_dir=settings.data_dir)
        if self.runtime.failure is not None:
            return 1
        self._die_of_signal()
        return 0

    def _heed_signals(self) -> None:
        for number in _SIGNALS:
            signal.signal(number, self._signalled)

    def _die_of_signal(self) -> None:
        """As whoever sent one expects; nothing without."""
        if self.signal:
            signal.signal(self.signal, signal.SIG_DFL)
            os.kill(os.getpid(), self.signal)

    def _secured(self, settings: Settings) -> Settings:
        """With the certificates that the flags name or ask for; raises TlsError."""
        client, peer = tls.prepare(self.config, settings.data_dir or "", self._say)
        for what, port in (("peer", peer), ("client", client)):
            if port is not None:
                _log.info(f"starting with {what} TLS", tls_info=str(port))
        return replace(settings, client_tls=client, peer_tls=peer)

    def _advise(self, error: Exception) -> None:
        """What to do about a discovery token that cannot be used (again)."""
        token = self.config.discovery or self.config.discovery_token
        if not token or not isinstance(error, BootstrapError):
            return
        text = str(error)
        fields = {"discovery_token": token, "error": text}
        if "duplicate id" in text:
            _log.warn("member has been registered with discovery service", **fields)
            _log.warn("but could not find valid cluster configuration")
            _log.warn("check data dir if previous bootstrap succeeded")
            _log.warn("or use a new discovery token if previous bootstrap failed")
        elif "duplicate name" in text:
            _log.warn("member with duplicated name has already been registered", **fields)
            _log.warn("do not reuse discovery token; generate a new one to bootstrap a cluster")
        elif isinstance(error, ClusterFull) or "discovery cluster" in text:
            _log.warn("failed to bootstrap; discovery token was already used", **fields)
            _log.warn("do not reuse discovery token; generate a new one to bootstrap a cluster")

    def _cluster_behind(self) -> str:
        """The members that --proxy is to forward to, as an `--initial-cluster`."""
        config = self.config
        if config.discovery:
            from corum.member import discovery

            return discovery.cluster(config.discovery, config.discovery_proxy, self._say)
        if config.discovery_srv:
            from corum.member import dns_srv

            return dns_srv.cluster(config.discovery_srv, config.discovery_srv_name)
        return config.initial_cluster

    def _be_proxy(self, cluster: str) -> int:
        """Forward to a cluster instead of being one of it."""
        from corum.member.listeners import listen_all
        from corum.proxy.v2_proxy import ProxyRuntime

        _log.info("starting the v2 proxy", initial_cluster=cluster)
        config = self.config
        urls = list(config.listen_client_urls)
        client, peer = tls.prepare(config, config.data_dir or f"{config.name}.etcd", self._say)
        self.runtime = ProxyRuntime(
            config,
            cluster,
            self._say,
            lambda wire: listen_all(wire, urls, client and client.server(), grpc=False),
            peer and peer.client(),
        )
        self._heed_signals()
        self.runtime.run()
        self._die_of_signal()
        return 0

    def _announce(self, settings: Settings) -> None:
        node = settings.node
        cpus = os.cpu_count() or 1
        usable = len(os.sched_getaffinity(0))
        system, machine = versions.os_arch()
        fresh = not has_run(settings)
        _log.info(
            "starting an etcd server",
            etcd_version=node.server_version,
            git_sha=versions.GIT_SHA,
            go_version=versions.go_version(),
            go_os=system,
            go_arch=machine,
            max_cpu_set=usable,
            max_cpu_available=cpus,
            member_initialized=not fresh,
            name=node.name,
            data_dir=settings.data_dir,
            wal_dir=settings.wal_dir or "",
            heartbeat_interval=f"{self.config.heartbeat_interval}ms",
            election_timeout=f"{self.config.election_timeout}ms",
            snapshot_count=node.snapshot_count,
            max_wals=settings.max_wals,
            max_snapshots=settings.max_snapshots,
            initial_advertise_peer_urls=list(settings.initial_advertise_peer_urls),
            listen_peer_urls=settings.listen_peer_urls,
            advertise_client_urls=list(node.client_urls),
            listen_client_urls=settings.listen_client_urls,
            initial_cluster=self.config.initial_cluster if fresh else "",
            initial_cluster_state=self.config.initial_cluster_state,
            initial_cluster_token=settings.initial_cluster_token if fresh else "",
            quota_backend_bytes=node.quota_bytes,
            pre_vote=settings.pre_vote,
        )

    def _say(self, level: str, message: str, **fields: Any) -> None:
        name = fields.pop("logger", "")
        logs.get(name).log(level, message, fields)

    def _ready(self) -> None:
        for address in self.runtime.addresses:
            _log.info("ready to serve client requests")
            secure = any(tls.is_secure(url) for url in self.config.listen_client_urls)
            _log.info(
                "serving client traffic securely"
                if secure
                else "serving client traffic insecurely; this is strongly discouraged!",
                traffic="grpc+http",
                address=address,
            )
        notify("READY=1")

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            return
        self.signal = number
        _log.info("received signal; shutting down", signal=signal.strsignal(number))
        if self.runtime is not None:
            self.runtime.stop()


def notify(state: str) -> None:
    """Tell the service manager (sd_notify); nothing when none asked for it."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    _log.info("notifying init daemon")
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(address)
            sock.sendall(state.encode())
        except OSError as error:
            _log.warn("failed to notify init daemon", error=str(error))
            return
    _log.info("successfully notified init daemon")


def run(config: Config) -> int:
    """What `etcd` does once its flags are read."""
    try:
        return Daemon(config).run()
    except BootstrapError as error:
        _log.fatal("discovery failed", error=str(error))
        return 1
    finally:
        sys.stderr.flush()
