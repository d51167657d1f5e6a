"""What a node is given: what it is told of itself, and the world outside."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

from corum.auth import SimpleTokens
from corum.auth.passwords import COST_DEFAULT
from corum.raft import Message, Snapshot
from corum.server.auth import Tokens
from corum.server.auto_compaction import Policy
from corum.server.commits import Jobs
from corum.server.drive import Log
from corum.server.outbox import Answers
from corum.server.snapshotting import SnapshotKeeper
from corum.values import NS_PER_MS, value


@value
class NodeConfig:
    """What the rooms of a member are told; times in ns unless named otherwise."""

    tick_ns: int = 100 * NS_PER_MS
    election_ticks: int = 10
    election_ms: int = 1_000
    timeout_ns: int = 7_000 * NS_PER_MS
    request_bytes_max: int = 1_572_864
    txn_ops_max: int = 128
    quota_bytes: int = 0
    batch_interval_ns: int = 100 * NS_PER_MS
    batch_operations_max: int = 10_000
    watch_progress_ns: int = 600_000 * NS_PER_MS
    compaction_rows: int = 1_000
    compaction_pause_ns: int = 10 * NS_PER_MS
    snapshot_count: int = 10_000
    snapshot_catchup_entries: int = 5_000
    lease_checkpoints: bool = False
    corrupt_check_ns: int = 0
    """Between two comparisons of all members' hashes; 0: never."""
    compact_hash_check_ns: int = 0
    """The same as of compactions."""
    strict_reconfig: bool = True
    server_version: str = "3.7.0"
    cluster_version: str = "3.7.0"
    name: str = "default"
    client_urls: tuple[str, ...] = ()
    reports_storage: bool = True
    peer_read_ns: int = 5_000 * NS_PER_MS
    """Silence of another member after which its connection is given up; and of one that takes
    nothing `peer_write_ns`."""
    peer_write_ns: int = 5_000 * NS_PER_MS
    slow_apply_ns: int = 100 * NS_PER_MS
    slow_request_ns: int = 300 * NS_PER_MS
    """Worth a warning."""
    hurries: bool = False
    """Once the others are there it does not wait for most of the first election timeout."""
    auto_compaction: Callable[[], Policy] | None = None
    """Makes the policy; None: nothing is compacted unless asked."""
    tokens: Callable[[], Tokens] = SimpleTokens
    bcrypt_cost: int = COST_DEFAULT
    client_cert_auth: bool = False
    """A client certificate's CN names the user of calls without token."""

    @property
    def lease_ttl_min_s(self) -> int:
        """The shortest lease: 1.5 election timeouts, in whole seconds (rpc §6)."""
        ticks = (3 * self.election_ticks) // 2
        return -(-ticks * self.tick_ns // (1_000 * NS_PER_MS))


class Ports(Protocol):
    """The world outside: everything a member does to it goes through here."""

    @property
    def transport(self) -> Answers: ...
    @property
    def jobs(self) -> Jobs: ...
    @property
    def log(self) -> Log: ...
    @property
    def snapshots(self) -> SnapshotKeeper: ...
    @property
    def dice(self) -> random.Random: ...
    @property
    def secrets(self) -> random.Random:
        """Dice that nobody can foretell (tokens)."""
        ...

    def transition(self, level: str, message: str, **fields: Any) -> None:
        """Something an operator wants to read; cores do not log, they say."""
        ...

    def published(self) -> None:
        """The member is known to the cluster: it is ready to serve."""
        ...

    def removed(self) -> None:
        """The member was removed from the cluster: it stops for good."""
        ...

    def bug(self, where: str, error: Exception) -> None:
        """A handler raised what it should not have."""
        ...

    def unix_time_ns(self) -> int:
        """The wall clock, which may jump: for what is told, never for how long something takes."""
        ...

    def clock_ns(self) -> int:
        """The clock of `begin`, read again within a turn."""
        ...

    def send(self, messages: list[Message]) -> None:
        """Messages to other members."""
        ...

    def install(self, snapshot: Snapshot) -> None:
        """The backend that was received with this snapshot takes the place of the one in use."""
        ...

    def fatal(self, message: str, error: BaseException) -> None:
        """The member cannot go on: stop the process, answer nobody."""
        ...
