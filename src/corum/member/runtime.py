"""A running member: the loop thread's body, and everything it owns from sockets to files.

    boot (data directory -> log, backend, members) -> node -> services -> listeners -> loop

The loop: wait for events without the GIL, dispatch them, let the node end its turn. Everything else
happens in the transport's thread, the log's thread or a worker, and comes back as an event.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from corum import _transport as wire
from corum import versions
from corum.api.front import Front
from corum.api.methods import METHODS
from corum.api.router import METADATA_KEYS, Router
from corum.api.services import services_of
from corum.backend.backend import Backend
from corum.backend.lmdb_backend import LmdbBackend
from corum.backend.memory_backend import MemoryBackend
from corum.member import boot
from corum.member.beginning import check_version, first_list
from corum.member.jobs import Jobs
from corum.member.listeners import listen_all
from corum.member.log_files import LogFiles
from corum.member.memory_log import MemoryLog
from corum.member.received import Received
from corum.member.settings import Settings
from corum.membership.bootstrap import FirstList, WasRemoved
from corum.membership.members import Member
from corum.metrics import Disk
from corum.raft import Config as RaftConfig
from corum.raft import Message, RawNode, Snapshot
from corum.server.node import Node
from corum.server.ports import NodeConfig
from corum.values import NS_PER_MS
from corum.wal import DataDir, SnapshotFiles

if TYPE_CHECKING:
    from corum.peer.transport import Peers

EVENTS_MAX: Final = 4_096
FINISH_MS: Final = 500
"""For the calls that a member has taken when it is told to stop."""
LINGER_MS: Final = 100
"""A leader that handed over passes on what others send it until they know of the new one."""
FINISH_POLL_MS: Final = 5
FINISH_POLLS: Final = 2
"""In so many turns no call must be open: the transport begins to refuse in its own time."""
GC_THRESHOLD: Final = 100_000
REMOVED_NS: Final = 1_000 * NS_PER_MS
"""A member that was removed stays so long, to tell others and to answer."""
PURGE_NS: Final = 30_000 * NS_PER_MS

REMOVED: Final = "the member has been permanently removed from the cluster"

Say = Callable[..., None]
"""`say(level, message, **fields)`: a line for operators."""


class Runtime:
    """One member. Made and run by one thread; `stop` may be called from any."""

    def __init__(self, settings: Settings, say: Say, *, embedded: bool = False) -> None:
        """`embedded`: the process is somebody else's, so its garbage collector is left alone.

        Opens everything and listens; raises BootstrapError, WalError, BackendError, OSError."""
        self.settings = settings
        self._say = say
        self._embedded = embedded
        self._stop_wanted = False
        self.failure: BaseException | None = None
        self.was_removed = False
        self._stop_ns = 0
        self._peers: Peers | None = None
        self._received: Any = None
        self._others: tuple[Member, ...] = ()
        self._leaving = False
        self.ready: Callable[[], None] = lambda: None
        """Called once, when the member has published itself and serves clients."""
        self._cleanup: list[Callable[[], None]] = []
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    # ---- opening

    def _open(self) -> None:
        settings = self.settings
        self.dice = random.Random()
        self.secrets = random.SystemRandom()
        self.transport = self._wire()
        self._cleanup.append(self.transport.close)
        self.jobs = Jobs(self.transport, settings.node.name)
        self._cleanup.append(self.jobs.close)
        self._dial_tls = settings.peer_tls and settings.peer_tls.client()
        self._data = self._data_dir()
        # Others are asked before they can ask us: who listens has asked already, so that members
        # that begin together never wait for each other.
        first = None if self._data is not None and self._data.has_wal() else self._first_list()
        self._listen()
        booted = self._boot(first)
        booted.members.learners_max = settings.max_learners
        storage = booted.storage
        raft = RawNode(
            RaftConfig(
                id=booted.members.local,
                dice=self.dice,
                election_ticks=settings.node.election_ticks,
                pre_vote=settings.pre_vote,
                async_storage_writes=True,
            ),
            storage,
        )
        self.node = Node(
            self._node_config(),
            self,
            raft,
            storage,
            booted.members,
            self.backend,
            start_ms=time.time_ns() // NS_PER_MS,
        )
        if settings.initial_corrupt_check and self.node.consistent_index:
            from corum.member import initial_check

            initial_check.check(self.node, self._dial_tls, self._say)
        self.router = Router(self.node, services_of(self.node))
        emulated = versions.EMULATED[settings.emulate_version]
        self.front = Front(self.node, self.router, self.transport, emulated, settings.http)
        self._measure_log(self.router.metrics.disk)
        self.router.peer_listeners = self._peer_listeners
        self.router.meet_peers = self.meet_peers
        self.node.members_changed = self._members_changed
        self._members_changed()
        self._next_purge_ns = time.monotonic_ns() + PURGE_NS

    def _wire(self) -> wire.Transport:
        settings = self.settings
        return wire.Transport(
            wire.Settings(
                methods=METHODS,
                metadata_keys=METADATA_KEYS,
                recv_max_bytes=settings.node.request_bytes_max + 512 * 1024,
                streams_max=settings.streams_max,
                high_water_bytes=1 << 20,
                low_water_bytes=1 << 18,
                keepalive_min_time_ms=settings.keepalive_min_time_ms,
                keepalive_interval_ms=settings.keepalive_interval_ms,
                keepalive_timeout_ms=settings.keepalive_timeout_ms,
            )
        )

    def _measure_log(self, disk: Disk) -> None:
        log = self.log
        if isinstance(log, LogFiles):
            log.observe = disk.wal_fsync_duration_seconds.observe_ns
            disk.wal_write_bytes_total.source = lambda: log.written_bytes

    def _node_config(self) -> NodeConfig:
        """With the addresses that clients reach us at, where none are told."""
        settings = self.settings
        if settings.node.client_urls:
            return settings.node
        scheme = "https" if settings.client_tls else "http"
        urls = tuple(f"{scheme}://{address}" for address in self.addresses)
        return replace(settings.node, client_urls=urls)

    def _listen(self) -> None:
        settings = self.settings
        peer_tls, client_tls = settings.peer_tls, settings.client_tls
        peers = listen_all(
            self.transport,
            settings.listen_peer_urls,
            peer_tls and peer_tls.server(),
            grpc=False,
            streaming=("/raft/snapshot",),
        )
        tls = client_tls and client_tls.server()
        clients = listen_all(self.transport, settings.listen_client_urls, tls)
        extra = listen_all(self.transport, settings.listen_client_http_urls, tls, grpc=False)
        tls = client_tls and client_tls.server(ask_clients=False)
        extra += listen_all(self.transport, settings.listen_metrics_urls, tls, grpc=False)
        self._peer_listeners = frozenset(listener.id for listener in peers)
        self.addresses = [listener.address for listener in clients]
        self._cleanup += [listener.close for listener in peers + clients + extra]

    def _data_dir(self) -> DataDir | None:
        settings = self.settings
        if settings.data_dir is None:
            return None
        wal_dir = Path(settings.wal_dir) if settings.wal_dir else None
        return DataDir(Path(settings.data_dir), wal_dir)

    def _first_list(self) -> FirstList:
        settings = self.settings
        first = first_list(settings, self._dial_tls, self._say)
        if settings.initial_cluster_state == "existing":
            self._others = tuple(m for m in first.members if m.id != first.local)
        return first

    def _boot(self, first: FirstList | None) -> boot.Booted:
        """`first`: of a new member; None when there is a log."""
        settings, data = self.settings, self._data
        if data is None:
            assert first is not None
            self.backend: Backend = MemoryBackend()
            self.log: Any = MemoryLog()
            return boot.in_memory(first)
        data.create()
        data.lock()
        self._cleanup.append(data.unlock)
        self._received = Received(data)
        if first is None:
            self._received.take_over_etcd(self._say)
        self.backend = LmdbBackend(data.backend)
        self._cleanup.append(self.backend.close)
        if first is None:
            booted = boot.restart(data, self.backend, force_new_cluster=settings.force_new_cluster)
            self._received.forget()  # what the log does not name, or what was just taken over
            if settings.defragment_bytes:
                self._defragment(settings.defragment_bytes)
        elif self._others:
            booted = boot.join(data, first)
        else:
            booted = boot.create(data, first)
        assert booted.wal is not None
        if booted.members.local in booted.members.removed:
            raise WasRemoved(REMOVED)
        check_version(booted.members.version, settings.node.cluster_version)
        self.log = LogFiles(
            booted.wal,
            SnapshotFiles(data.snap),
            wire.LogWriter(self.transport),
            self.jobs,
            self.fatal,
            sync=settings.sync,
        )
        # Workers first: what they read from the backend must be there until they have ended.
        self._cleanup += [self.log.close, self.jobs.close]
        return booted

    def _defragment(self, threshold_bytes: int) -> None:
        """Rewrite the database if that frees as much (--bootstrap-defrag-threshold-megabytes)."""
        backend = self.backend
        sizes = {
            "current-db-size-bytes": backend.size,
            "current-db-size-in-use-bytes": backend.size_in_use,
        }
        if backend.size - backend.size_in_use < threshold_bytes:
            limit = {"bootstrap-defrag-threshold-bytes": threshold_bytes}
            self._say("info", "skipping defragmentation", **sizes, **limit)
            return
        self._say("info", "defragmenting", **sizes)
        job = backend.defragment()
        assert job is not None, "nobody else has the backend yet"
        error = job.run()
        backend.defragmented(job)
        if error is not None:  # as large as before it serves, too
            self._say("error", "failed to defragment", error=str(error))
        else:
            self._say("info", "finished defragmenting", **{"current-db-size-bytes": backend.size})

    # ---- ports of the node

    @property
    def snapshots(self) -> Any:
        """Where the node keeps snapshots: with the log."""
        return self.log

    def transition(self, level: str, message: str, **fields: Any) -> None:
        """A line for operators."""
        self._say(level, message, **fields)

    def published(self) -> None:
        """The cluster knows this member."""
        node = self.node
        self._say(
            "info",
            "published local member to cluster through raft",
            **{"local-member-id": f"{node.members.local:x}"},
            **{
                "local-member-attributes": f"{{Name:{node.config.name} ClientURLs:"
                f"[{' '.join(node.config.client_urls)}]}}"
            },
            **{"cluster-id": f"{node.members.cluster:x}", "publish-timeout": "7s"},
        )
        self.ready()

    def removed(self) -> None:
        """This member was removed: leave."""
        if self.was_removed:
            return
        self._say("warn", "server error", error=REMOVED)
        self._say("warn", "data-dir used by this member must be removed")
        self.was_removed = True
        self._stop_ns = self.node.now_ns + REMOVED_NS
        self._next_purge_ns = min(self._next_purge_ns, self._stop_ns)

    def bug(self, where: str, error: Exception) -> None:
        """A handler failed unexpectedly: worth a line, not worth the member."""
        self._say("error", "failed to handle a request", method=where, error=repr(error))

    def unix_time_ns(self) -> int:
        """Now, for ids of new members and expiries of v2 nodes."""
        return time.time_ns()

    def clock_ns(self) -> int:
        """Now, on the loop's clock."""
        return time.monotonic_ns()

    def send(self, messages: list[Message]) -> None:
        """Messages to other members."""
        self.meet_peers().send(messages)

    def meet_peers(self) -> Peers:
        """What talks to other members; made when there is one: a lone member does without."""
        if self._peers is None:
            from corum.peer.transport import Peers

            self._peers = Peers(
                self.node,
                self.transport,
                self,
                self._connect,
                self.settings.initial_advertise_peer_urls,
                self._received,
            )
            self.node.peers = self.router.peers = self._peers
            for member in self._others:
                self._peers.remember(member.id, member.peer_urls)
        return self._peers

    def _connect(self, url: str) -> wire.Channel:
        dial_ms = 1_000 + self.settings.node.election_ms
        return self.transport.connect(
            url,
            wire.ChannelSettings(
                tls=self._dial_tls,
                user_agent="Go-http-client/1.1",
                connect_timeout_ms=dial_ms,
                backoff_min_ms=50,
                backoff_max_ms=100,
            ),
        )

    def _members_changed(self) -> None:
        if self._peers is not None:
            self._peers.sync()
        elif self._others or any(m.id != self.node.members.local for m in self.node.members):
            self.meet_peers()

    def install(self, snapshot: Snapshot) -> None:
        """A received backend takes the place of the one in use."""
        assert self._received is not None
        self._received.install(self.backend, snapshot)
        self.jobs.start(lambda: self._received.release(snapshot.index), _nothing)

    def fatal(self, message: str, error: BaseException) -> None:
        """Stop without answering anybody: what is not on the disk was not done."""
        self._say("fatal", message, error=str(error))
        self.failure = error
        self._stop_wanted = True

    # ---- the loop

    def run(self) -> None:
        """Serve until `stop`; afterwards everything is closed."""
        node, now_ns = self.node, time.monotonic_ns
        if not self._embedded:
            gc.freeze()  # what was imported stays: no collection need look at it
            gc.set_threshold(GC_THRESHOLD, 50, 1000)
            gc.enable()
        try:
            node.begin(now_ns())
            node.end()
            self._campaign_alone()
            while not self._stop_wanted:
                self._turn(node.wait_ms(now_ns()))
                if node.now_ns >= self._next_purge_ns:
                    self._purge()
        except BaseException as error:
            self.failure = self.failure or error
            raise
        finally:
            self._shut_down()

    def _turn(self, wait_ms: int) -> None:
        """What has arrived, or arrives within `wait_ms`, and all that follows from it."""
        node = self.node
        events = self.transport.poll(wait_ms, EVENTS_MAX)
        node.begin(time.monotonic_ns())
        if events:
            self.router.dispatch(events)
        node.end()
        self.front.keys.tell()
        if self._peers is not None:
            self._peers.turn()

    def _campaign_alone(self) -> None:
        """A lone voter need not wait for an election timeout: nobody can object."""
        node = self.node
        node.driver.pump(node.proposals)
        if node.reconfiguration.conf_state.voters == (node.members.local,):
            node.raft.campaign()
            node.end()

    def _purge(self) -> None:
        if self.was_removed and self.node.now_ns >= self._stop_ns:
            self._stop_wanted = True
        self._next_purge_ns = self.node.now_ns + PURGE_NS
        settings, data = self.settings, self._data
        if data is None:
            return
        self.jobs.start(lambda: data.purge(settings.max_snapshots, settings.max_wals), self._purged)

    def _purged(self, result: object) -> None:
        if isinstance(result, BaseException):
            self._say("warn", "failed to purge files", error=str(result))
            return
        assert isinstance(result, list)
        for path in cast("list[Path]", result):
            self._say("info", "purged", path=str(path))

    def stop(self) -> None:
        """From any thread: end the loop after the turn it is in."""
        self.transport.post((self._leave, None))

    def _leave(self, _: object) -> None:
        """Hand over to another member first, if there is one; its followers need not wait."""
        successor = self.node.handover.successor()
        if not successor or self._leaving:
            self._stop_wanted = True
            return
        self._leaving = True
        self._say("info", "leadership transfer starting", transferee=f"{successor:x}")
        self.node.handover.start(successor, self._handed_over)

    def _handed_over(self, error: BaseException | None) -> None:
        if error is not None:
            self._say("warn", "leadership transfer failed", error=str(error))
        self._stop_wanted = True

    def _shut_down(self) -> None:
        """Answer who waits, put on the disk what is known, close everything."""
        node = self.node
        if self.failure is None:
            self._finish_calls()
            node.stop()
            self._flush_backend()
        self.close()

    def _finish_calls(self) -> None:
        """Take no new call, and go on until those that were taken are answered.

        A call that is left without an answer may have been carried out, so no client may repeat it.
        What was not read yet is refused by GOAWAY: clients know that, and repeat it elsewhere.
        """
        transport, now_ns = self.transport, time.monotonic_ns
        until_ns = now_ns() + FINISH_MS * NS_PER_MS
        linger_ns = now_ns() + self._leaving * LINGER_MS * NS_PER_MS
        transport.drain(FINISH_MS)
        quiet = 0
        while (quiet < FINISH_POLLS or now_ns() < linger_ns) and now_ns() < until_ns:
            self.router.end_streams()
            self._turn(min(self.node.wait_ms(now_ns()), FINISH_POLL_MS))
            others = self._peers.readers if self._peers is not None else 0
            quiet = quiet + 1 if transport.stats()["calls"] <= others else 0

    def _flush_backend(self) -> None:
        """One last transaction, so that the next start has nothing to replay."""
        deadline = time.monotonic() + 5
        while self.node.commits.in_flight and time.monotonic() < deadline:
            for event in self.transport.poll(100, EVENTS_MAX):
                if event[0] == wire.POSTED:
                    done, result = event[1]
                    done(result)
        self.backend.flush_own()
        batch = self.backend.seal(*self.node.backend_position)
        if batch is not None and batch.write() is None:
            self.backend.committed(batch)

    def close(self) -> None:
        """Free everything, last opened first. Idempotent."""
        while self._cleanup:
            self._cleanup.pop()()


def _nothing(_: object) -> None:
    """Wakes the loop."""
