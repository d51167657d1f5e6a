"""One member: wires the rooms, and gives the API what it works with.

A turn of the loop: the API dispatches what arrived (`begin` ... calls ... `end`). Calls validate
and queue; `end` proposes the batch, drives Raft, applies what is committed, serves the reads that
became due and hands all answers over. No I/O here: log, transport, jobs and dice are ports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from corum import errors
from corum.backend import schema
from corum.backend.backend import Backend, BackendFull
from corum.lease import Lessor
from corum.membership.members import Members
from corum.mvcc.store import Store
from corum.mvcc.watch import WatchHub
from corum.pb import raft_internal, rpc
from corum.pb.lenient import internal_request
from corum.raft import (
    Entry,
    EntryType,
    MemoryStorage,
    Message,
    MessageType,
    RaftError,
    RawNode,
    ReadState,
    Role,
    RoleChange,
    Snapshot,
    SoftState,
)
from corum.server import operations as op
from corum.server.apply import Applier
from corum.server.auth import Auth
from corum.server.commits import Commits
from corum.server.compactions import Compactions
from corum.server.corruption import Corruption
from corum.server.drive import Driver
from corum.server.entries import plain_put
from corum.server.forwarding import Forwarding
from corum.server.gate import Gate, OpenGate
from corum.server.handover import Handover
from corum.server.headers import Headers
from corum.server.installation import Installation
from corum.server.leases import Leases
from corum.server.listeners import LongCall
from corum.server.maintenance import DEFRAGMENT_POLL_NS, Defragmentation, Downloads
from corum.server.outbox import Outbox
from corum.server.peering import NoPeers, Peering
from corum.server.ports import NodeConfig, Ports
from corum.server.proposals import APPLY_GAP_MAX, Answer, Proposals, Waiter
from corum.server.publish import Versions
from corum.server.ranges import Ranges
from corum.server.reads import Reads
from corum.server.reconfiguration import Reconfiguration
from corum.server.slowness import Slowness
from corum.server.snapshotting import Snapshotting
from corum.server.space import CORRUPT, NOSPACE, PUT_COST, Alarms, Space
from corum.server.v2 import V2
from corum.server.v2 import decode as decode_v2
from corum.server.v2_guard import V2_ENTRY
from corum.values import NS_PER_MS, LeaseId

BACKLOG_BATCHES: Final = 4
"""Batches that may gather while one is written; beyond, proposals wait for the disk."""
HAS_LEADER: Final = 2
"""Where `meta` holds the `hasleader` metadata."""
REMOVE_NODE: Final = 1


class Node:
    """See the module's docstring. Owned by the loop thread."""

    def __init__(
        self,
        config: NodeConfig,
        ports: Ports,
        raft: RawNode,
        storage: MemoryStorage,
        members: Members,
        backend: Backend,
        *,
        start_ms: int,
    ) -> None:
        self.config = config
        self.ports = ports
        self.dice = ports.dice
        self.secrets = ports.secrets
        self.members = members
        self.backend = backend
        self.raft = raft
        self.raft_storage = storage
        self.now_ns = 0
        self.writable = False
        self.disk_full = False
        """The log cannot be written: writes are refused; what waits is written later."""
        self.room_bytes = 0
        """What the quota leaves, as of the beginning of this turn."""
        self.stopping = False
        self.out = Outbox()
        self.long_calls: dict[int, LongCall] = {}
        self.headers = Headers(members.cluster, members.local)
        self.store = Store(backend)
        self.lessor = Lessor(config.lease_ttl_min_s)
        self.watch = WatchHub(
            self.store, self.headers.at, fragment_bytes=config.request_bytes_max + 512 * 1024
        )
        self.out.blocked = self._stream_blocked
        self.alarms = Alarms(backend)
        self.space = Space(backend, config.quota_bytes, self._raise_no_space)
        self.gate: Gate | OpenGate = OpenGate()
        self.applier = Applier(
            self.store, self.lessor, backend, self.watch, self.headers, self.alarms, self._say
        )
        self.applier.alarm_changed = self._alarm_changed
        self.proposals = Proposals(
            members.local, start_ms, config.request_bytes_max, config.timeout_ns
        )
        self.peers: Peering = NoPeers()
        self.members_changed: Callable[[], None] = lambda: None
        """Told after the member list changed."""
        self.round_trip: Callable[[int, int], None] = lambda member, took_ns: None
        """Told how long the way to a member and back takes, now and then."""
        self.snapshots_in_flight = 0
        """Snapshots being sent to members: the log is not cut short meanwhile."""
        self.messages_refused_total = 0
        self.forwarding = Forwarding(self)
        self.reads = Reads(config.timeout_ns, self.proposals.ids.next()[0])
        self.ranges = Ranges(self.store, self.applier, self.headers, self.out, ports)
        election_ns = config.election_ms * NS_PER_MS
        self.leases = Leases(self.lessor, self, election_ns, checkpoints=config.lease_checkpoints)
        self.commits = Commits(
            backend,
            ports.jobs,
            config.batch_interval_ns,
            config.batch_operations_max,
            self._commit_failed,
        )
        snapshot = storage.snapshot()
        self.applied_index, self.applied_term = snapshot.index, snapshot.term
        self.consistent_index = schema.from_u64(backend.get(schema.META, schema.CONSISTENT_INDEX))
        """What the backend held when this member started; entries up to here are not applied to it
        again."""
        self._consistent_term = schema.from_u64(backend.get(schema.META, schema.TERM))
        self.soft = SoftState(0, Role.FOLLOWER)
        self.leader_changes_total = self.leader_since_ns = 0
        self.replaying = snapshot.index < self.committed
        """True until everything that was committed before this start is applied."""
        ports.log.full = self.log_full
        self.slowness = Slowness(
            config.tick_ns,
            election_ns,
            ports.transition,
            apply_ns=config.slow_apply_ns,
            request_ns=config.slow_request_ns,
        )
        ports.log.slow = self.slowness.sync
        self.driver = Driver(raft, storage, ports.log, self, members.local)
        self.reconfiguration = Reconfiguration(self)
        self.installation = Installation(self)
        self.handover = Handover(self)
        self.snapshotting = Snapshotting(self, ports.snapshots)
        self.corruption = Corruption(self)
        self.versions = Versions(self)
        self.v2 = V2(self)
        self.v2.recover(snapshot.data)
        self.started_unix_ns = self.leader_since_unix_ns = ports.unix_time_ns()
        self.compactions = Compactions(self)
        self.defragmentation = Defragmentation(self)
        self.downloads = Downloads(self)
        self.applier.operations |= {
            op.CLUSTER_VERSION_SET: self.versions.apply_version,
            op.CLUSTER_MEMBER_ATTR_SET: self.versions.apply_attributes,
            op.DOWNGRADE_INFO_SET: self.versions.apply_downgrade,
            op.V2_REQUEST: self.v2.apply,
        }
        self.auth = Auth(self)
        self._raising_no_space = False
        self.first_commit = self.committed
        self._next_tick_ns = 0
        self._hurries = config.hurries
        self.restore()

    def restore(self) -> None:
        """Take over what the backend holds beside the key space."""
        self.lessor.restore(
            self.backend.range(schema.LEASE),
            {key: LeaseId(lease) for lease, key in self.store.leased_keys()},
        )
        alarms: list[tuple[int, int]] = []
        for key, _ in self.backend.range(schema.ALARM):
            alarm = rpc.AlarmMember.FromString(key)
            alarms.append((alarm.memberID, alarm.alarm))
        self.alarms.restore(alarms)
        self.auth.store.restore(self.backend)
        self.gate = self.auth.gate

    # ---- admission: what every call is asked first

    @property
    def leader(self) -> int:
        """The leader's id as this member knows it; 0 without one."""
        return self.soft.leader

    @property
    def is_leader(self) -> bool:
        """Does this member lead?"""
        return self.soft.role == Role.LEADER

    @property
    def _leader_is_lost(self) -> bool:
        """Is there no way to the leader? What would be lost on it waits, as nobody has it: for the
        way, or for the next leader."""
        leader = self.soft.leader
        return leader not in (0, self.members.local) and not self.peers.active_since(leader)

    @property
    def is_learner(self) -> bool:
        """Is this member a learner?"""
        me = self.members.me
        return me is not None and me.is_learner

    def check_open(self, meta: Any) -> None:
        """A call that needs a running member: raises NO_LEADER when the client demands one."""
        if self.stopping:
            raise errors.STOPPED()
        if meta is not None and meta[HAS_LEADER] == "true" and not self.soft.leader:
            raise errors.NO_LEADER()

    def check_local(self, meta: Any) -> None:
        """A read of this member's own state; served while the cluster is corrupt, as by etcd."""
        self.check_open(meta)

    def check_writable(self, meta: Any) -> None:
        """A call that will be proposed."""
        self.check_open(meta)
        if self.alarms.corrupt:
            raise errors.CORRUPT()
        if self.disk_full or self.driver.halted:
            raise errors.NO_SPACE()
        if self.committed - self.applied_index > APPLY_GAP_MAX:
            raise errors.TOO_MANY_REQUESTS()

    # ---- proposals

    def propose(
        self,
        operation: int,
        message: bytes,
        request: Any,
        call: Any,
        *,
        answer: Answer | None = None,
        prefix: bytes = b"",
    ) -> None:
        """Replicate a client's request; its result is the answer to `call`."""
        self.proposals.add(operation, message, request, call, self.now_ns, answer, prefix)

    def propose_own(
        self, op: int, message: bytes, request: Any, answer: Answer | None = None
    ) -> None:
        """Replicate something of this member's own."""
        then = answer or _nobody_waits
        self.proposals.add(op, message, request, None, self.now_ns, then, self.gate.own())

    def propose_as_leader(self, op: int, message: bytes, request: Any) -> None:
        """Replicate what only a leader may say; dropped, not forwarded, when another one leads."""
        self.propose_own(op, message, request)
        self.proposals.for_leader.append(self.proposals.queued[-1])

    def confirm(self, then: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        """Call `then` as a linearizable read is answered; raises TOO_MANY_REQUESTS."""
        self.reads.add(lambda *_: then(), _Waiting(failed), None)

    def refuse(self, call: Any, error: errors.EtcdError) -> None:
        """End a call that failed before it was carried out; `call` may be somebody's `fail`."""
        if isinstance(call, int):
            self.out.error(call, error)
        elif call is not None:
            call.fail(error)

    # ---- a turn of the loop

    def begin(self, now_ns: int) -> None:
        """A turn begins at `now_ns` (monotonic)."""
        self.now_ns = now_ns
        self.applier.now_ns = now_ns
        self.leases.now_ns = now_ns
        self.writable = not (
            self.stopping or self.disk_full or self.driver.halted or self.alarms.corrupt
        ) and (self.committed - self.applied_index <= APPLY_GAP_MAX)
        self.room_bytes = self.space.room()

    def end(self) -> None:
        """Everything that follows from what was dispatched since `begin`."""
        now_ns = self.now_ns
        if now_ns >= self._next_tick_ns:
            self._tick(now_ns)
        if self.versions.due(now_ns):
            self.versions.tick(now_ns)
        if self.auth.early:
            self.auth.resume()
        context = self.reads.begin_round(now_ns)
        if context is not None:
            self.raft.read_index(context)
        if self.proposals.for_leader:
            self.proposals.check_leader(self.raft.is_leader)
        if self.driver.halted and self.commits.resting:
            self.driver.halted = False
            self.ports.transition("info", "there is room for the backend again")
            self._room_changed()
        self.proposals.held = self._leader_is_lost or (
            self.commits.in_flight
            and self.backend.pending_operations > BACKLOG_BATCHES * self.config.batch_operations_max
        )
        self.driver.pump(self.proposals)
        reads = self.reads.ready(self.applied_index)
        if reads:
            self.ranges.timed(self.gate.serve, reads)
        self.snapshotting.step()
        if self.defragmentation.active:
            self.defragmentation.step()
        if self.installation.active:
            self.installation.step()
        if self.commits.due(now_ns):
            self.commits.run(*self.backend_position, now_ns)
        if self.applier.watchers_due:
            self.applier.tell_watchers()
        if self.watch.has_work:
            self._say(self.watch.sync_slice())
        if self.store.compaction is not None:
            self.compactions.step(now_ns)
        self.out.flush(self.ports.transport)

    def wait_ms(self, now_ns: int) -> int:
        """How long the loop may sleep when nothing arrives."""
        if self.watch.has_work or self.driver.wants_turn or self.versions.due(now_ns):
            return 0
        until = self._next_tick_ns
        if self.applier.has_untold:
            until = min(until, self.applier.tell_at_ns)
        if self.defragmentation.active:
            until = min(until, now_ns + DEFRAGMENT_POLL_NS)
        if self.store.compaction is not None:
            until = min(until, self.compactions.next_ns)
        return max(0, -(-(until - now_ns) // NS_PER_MS))

    def _tick(self, now_ns: int) -> None:
        if self.is_leader:
            self.slowness.heartbeat(now_ns - self._next_tick_ns)
        self._next_tick_ns = max(self._next_tick_ns + self.config.tick_ns, now_ns)
        self.raft.tick()
        if self._hurries:
            self._hurry()
        self.ports.log.retry(now_ns)
        for waiter in self.proposals.overdue(now_ns):
            self._timed_out(waiter)
        for _, call, _, _ in self.reads.overdue(now_ns):
            self.refuse(call, errors.TIMEOUT())
        for context in self.reads.retry(now_ns):
            self.raft.read_index(context)
        self.leases.tick(now_ns)
        self.forwarding.tick()
        self.handover.tick(now_ns)
        self.v2.tick(now_ns)
        self.auth.tick(now_ns)
        self.corruption.tick(now_ns)
        read_ns = self.ports.clock_ns()  # this turn may have begun long ago
        self.slowness.tick(now_ns, self.ports.unix_time_ns() - (read_ns - now_ns))
        self.compactions.tick(now_ns)
        self._say(self.watch.tick(now_ns))

    def _hurry(self) -> None:
        """The first election need not wait for a leader of whom we would have heard by now: two
        others are there (as etcd; or the only one)."""
        others = [one for one in self.members.by_id if one != self.members.local]
        active = sum(self.peers.active_since(one) > 0 for one in others)
        if self.leader:
            self._hurries = False
        elif others and active >= min(2, len(others)):
            self._hurries = False
            for _ in range(self.config.election_ticks - 2):
                self.raft.tick()

    # ---- what the driver gives back (see `drive.Machine`)

    def apply(self, entries: list[Entry]) -> None:
        """Apply committed entries in order and answer who waits for them."""
        operations = self.applier.operations
        if self.space.room() < self.config.request_bytes_max + PUT_COST:
            operations = self.space.guarded(operations)
        waiting = self.proposals.waiting
        replies, out = self.out.replies, self.out
        self.applier.begin_batch()
        start_ns = self.ports.clock_ns()
        consistent, counts = self.consistent_index, self.applier.counts
        rights = self.auth.store
        oldest: Any = entries[0].request
        for entry in entries:
            waiter: Any = entry.request
            if waiter is not None:
                entry.request = None
                operation, request = waiter[2], waiter[3]
                waiter = waiting.pop(waiter[0], None)
            elif entry.type != EntryType.NORMAL:
                self.reconfiguration.apply(entry)
                continue
            elif not entry.data:
                continue
            else:
                operation, request, waiter = self._decode(entry)
            if entry.index <= consistent:
                self.versions.replay(operation, request)
                continue
            refusal = self.auth.refusal(entry, operation) if rights.enabled else None
            result = operations[operation](request) if refusal is None else refusal
            if operation in counts:
                counts[operation] += 1
            if waiter is None:
                continue
            answer = waiter[4]
            if answer is not None:
                answer(waiter[1], result)
            elif type(result) is bytes:
                replies.append((waiter[1], result))
            else:
                out.error(waiter[1], result)
        self.applier.end_batch()
        took_ns = self.ports.clock_ns() - start_ns
        asked_ns = 0 if oldest is None else oldest[5] - self.proposals.timeout_ns
        waited_ns = self.now_ns - asked_ns if asked_ns else 0
        self.applier.measured(len(entries), took_ns, waited_ns)
        self.slowness.applied(len(entries), took_ns, waited_ns)
        last = entries[-1]
        self.applied_index = last.index
        self.applied_term = last.term
        if self.replaying and self.applied_index >= self.first_commit:
            self.replaying = False

    def keep_snapshot(self, snapshot: Snapshot) -> None:
        """A leader's snapshot goes to the disk."""
        self.installation.keep(snapshot)

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """A leader's snapshot replaces everything here."""
        self.installation.install(snapshot)

    def receive(self, messages: list[Message]) -> None:
        """Messages of other members. Those that Raft refuses are counted, nothing more."""
        raft, step = self.raft, self.raft.step
        gathers = raft.is_leader or not raft.leader
        for message in messages:
            proposes = message.type == MessageType.PROP and message.entries and not message.term
            if proposes and gathers and self.proposals.forward(message, self.now_ns):
                self.reconfiguration.heard_of(message.entries)
                continue  # with our own, when the log is free and there is a leader
            try:
                step(message)
            except RaftError:
                self.messages_refused_total += 1

    def send(self, messages: list[Message]) -> None:
        """Messages to other members."""
        self.ports.send(messages)

    def soft_state_changed(self, state: SoftState) -> None:
        """Who leads, and what this member is, changed."""
        was_leader = self.is_leader
        if state.leader and state.leader != self.soft.leader:
            self.leader_changes_total += 1
            self.leader_since_unix_ns = self.ports.unix_time_ns()
            self.leader_since_ns = self.now_ns
        self.slowness.leader_changed(self.soft.leader, state.leader, self.now_ns)
        self.soft = state
        self.headers.set_term(self.raft.raft.term)
        if self.is_leader and not was_leader:
            self.leases.lead(self.now_ns)
        elif was_leader and not self.is_leader:
            self.leases.follow()
        self.versions.leader_changed()
        self.reads.leader_changed()
        self.handover.leader_changed()

    def roles_changed(self, changes: list[RoleChange]) -> None:
        """For the log of the member."""
        me = f"{self.members.local:x}"
        names = {Role.FOLLOWER: "follower", Role.CANDIDATE: "candidate"}
        names |= {Role.LEADER: "leader", Role.PRE_CANDIDATE: "pre-candidate"}
        for change in changes:
            self.headers.set_term(change.term)
            text = f"{me} became {names[change.role]} at term {change.term}"
            self.ports.transition("info", text, logger="raft")
            if change.role == Role.LEADER:
                text = f"raft.node: {me} elected leader {me} at term {change.term}"
                self.ports.transition("info", text, logger="raft")

    def read_confirmed(self, state: ReadState) -> None:
        """A round of linearizable reads may be served at this index."""
        self.reads.confirmed(state.context, state.index)

    def membership_changed(self, kind: int, member: int) -> None:
        """A configuration change was applied."""
        self.ports.transition(
            "info",
            ("added member", "removed member", "updated member", "added member")[kind],
            **{"cluster-id": f"{self.members.cluster:x}"},
            **{"local-member-id": f"{self.members.local:x}", "added-peer-id": f"{member:x}"},
        )
        self.members_changed()
        if kind == REMOVE_NODE and member == self.members.local and not self.replaying:
            self.ports.removed()

    @property
    def committed(self) -> int:
        """Index of the last committed entry."""
        return self.raft.raft.log.committed

    @property
    def backend_position(self) -> tuple[int, int]:
        """Index and term of the last entry in the backend: ahead of what is applied while a restart
        replays entries that the backend has already."""
        if self.applied_index < self.consistent_index:
            return self.consistent_index, self._consistent_term
        return self.applied_index, self.applied_term

    @property
    def term(self) -> int:
        """Raft's current term."""
        return self.raft.raft.term

    def _decode(self, entry: Any) -> tuple[int, Any, Any]:
        """(operation, request, waiter or None) of an entry that was not proposed here just now."""
        plain = plain_put(entry.data)
        if plain is not None:
            return op.PUT, plain[1], self.proposals.waiting.pop(plain[0], None)
        try:
            whole = raft_internal.InternalRaftRequest.FromString(entry.data)
        except Exception:  # upb's DecodeError: a v2 request stands in the log as itself
            if entry.data.startswith(V2_ENTRY):
                request_id, v2_request = decode_v2(entry.data)
                return op.V2_REQUEST, v2_request, self.proposals.waiting.pop(request_id, None)
            whole = internal_request(entry.data)
        request_id = whole.header.ID or whole.ID
        for field, message in whole.ListFields():
            if field.number not in (op.HEADER, 1):
                return field.number, message, self.proposals.waiting.pop(request_id, None)
        raise ValueError(f"entry {entry.index} holds no request")

    def _say(self, output: list[tuple[int, bytes]]) -> None:
        if output:
            self.out.messages += output

    # ---- streams

    def _stream_blocked(self, call: int) -> None:
        long = self.long_calls.get(call)
        if long is not None:
            long.blocked()
        elif not self.downloads.blocked(call):
            self.watch.blocked(call)

    def stream_writable(self, call: int) -> None:
        """A stream that was blocked has room again."""
        long = self.long_calls.get(call)
        if long is not None:
            long.writable()
        elif not self.downloads.writable(call):
            self.watch.unblocked(call)

    # ---- membership

    def propose_conf_change(
        self, kind: int, member: int, context: bytes, call: Any, answer: Answer | None
    ) -> None:
        """See `Reconfiguration.propose`."""
        self.reconfiguration.propose(kind, member, context, call, answer)

    def transfer_leadership(
        self, target: int, done: Callable[[BaseException | None], None]
    ) -> None:
        """Hand over to `target`; the leader itself is there already."""
        self.handover.start(target, done)

    def _timed_out(self, waiter: Waiter) -> None:
        """Say why a proposal was not decided in time, as etcd does."""
        call, answer = waiter[1], waiter[4]
        error = self._why_late(waiter[5] - self.config.timeout_ns)
        unproposed = waiter[0] in self.proposals.never_proposed and not self._leader_is_lost
        if unproposed and waiter[2] not in (0, op.V2_REQUEST):
            error = errors.DEADLINE_PASSED()  # etcd gives up before it waits for an answer
        if call is None and answer is not None:
            answer(call, error)
        else:
            self.refuse(call, error)

    def _why_late(self, since_ns: int) -> errors.EtcdError:
        lost_ns = self.leader_since_ns - 2 * self.config.election_ticks * self.config.tick_ns
        if lost_ns < since_ns < self.leader_since_ns:
            return errors.TIMEOUT_DUE_TO_LEADER_FAIL()
        if self.is_leader:
            voters = self.members.voters
            active = [self.peers.active_since(m.id) for m in voters if m.id != self.members.local]
            reached = 1 + sum(0 < since <= since_ns for since in active)
            if reached <= len(voters) // 2:
                return errors.TIMEOUT_DUE_TO_CONNECTION_LOST()
        elif self.leader and not 0 < self.peers.active_since(self.leader) <= since_ns:
            return errors.TIMEOUT_DUE_TO_CONNECTION_LOST()
        return errors.TIMEOUT()

    # ---- alarms and failures

    def _raise_no_space(self) -> None:
        if self._raising_no_space or self.alarms.no_space:
            return
        self._raising_no_space = True
        self.raise_alarm(NOSPACE)

    def raise_alarm(self, alarm: int, member: int | None = None) -> None:
        """Have the cluster told of an alarm of this member, or of another one."""
        whose = self.members.local if member is None else member
        request = rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, memberID=whose, alarm=alarm)
        self.propose_own(op.ALARM, request.SerializeToString(), request)

    def _alarm_changed(self) -> None:
        self._raising_no_space = False
        kinds = [
            {NOSPACE: "NOSPACE", CORRUPT: "CORRUPT"}.get(k, "?") for _, k in self.alarms.get(0, 0)
        ]
        self.ports.transition("warn", "alarm raised" if kinds else "alarm disarmed", alarms=kinds)

    def _commit_failed(self, error: BaseException) -> None:
        if not isinstance(error, BackendFull):
            self.ports.fatal("failed to commit to the backend", error)
            return
        self.ports.transition("error", "failed to commit to the backend", error=str(error))
        if len(self.reconfiguration.conf_state.voters) > 1:
            self.driver.halted = True  # an alarm would stop the others, who have room
            self._room_changed()
        else:
            self._raise_no_space()

    def log_full(self, error: str | None) -> None:
        """The log's disk is full, or (None) is not any more."""
        self.disk_full = error is not None
        if error is not None:
            self.ports.transition("error", "no room for the log: refusing writes", error=error)
        else:
            self.ports.transition("info", "there is room for the log again")
        self._room_changed()

    def _room_changed(self) -> None:
        """One of several that is silent for want of room has no leader and is none: its clients are
        told so. What Raft thinks meanwhile is not told, and holds again afterwards."""
        silent = self.disk_full or self.driver.halted
        known = self.raft.raft.soft_state()
        if silent and len(self.reconfiguration.conf_state.voters) > 1:
            known = SoftState(0, Role.FOLLOWER)
        if known != self.soft:
            self.soft_state_changed(known)

    def stop(self) -> None:
        """Answer everybody who waits that the server stops."""
        self.stopping = True
        for waiter in self.proposals.drop_all():
            self.refuse(waiter[1], errors.STOPPED())
        for call in self.long_calls:
            self.out.error(call, errors.STOPPED())
        self.out.flush(self.ports.transport)


class _Waiting:
    """Stands where a read's call id stands."""

    __slots__ = ("fail",)

    def __init__(self, fail: Callable[[BaseException], None]) -> None:
        self.fail = fail


def _nobody_waits(call: Any, result: Any) -> None:
    """The answer of a proposal of our own."""
