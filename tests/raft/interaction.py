"""Several members in one process, driven by the commands of the interaction scripts.

To the commands of the shared scripts (listed in their README) ours add: `read-index <id> <ctx>`,
`report-snapshot <from> <to> status=ok|failed`, `apply-snapshot-delay <id> <on|off>` (the
application is still preparing its snapshot), and the options `inflight-bytes`, `message-bytes`
and `uncommitted-bytes` of `add-nodes`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from corum.raft import (
    APPEND_THREAD,
    NO_LIMIT,
    ConfChange,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    Config,
    ConfState,
    Entry,
    EntryType,
    HardState,
    MemoryStorage,
    Message,
    MessageType,
    RaftError,
    RawNode,
    ReadOnly,
    Snapshot,
    Transition,
    decode,
)
from corum.raft.messages import APPLY_THREAD
from corum.raft.storage import SnapshotTemporarilyUnavailable
from raft import describe
from raft.datadriven import Command

ELECTION_TICKS = 3
HEARTBEAT_TICKS = 1
_TRANSITION = {
    "auto": Transition.AUTO,
    "implicit": Transition.JOINT_IMPLICIT,
    "explicit": Transition.JOINT_EXPLICIT,
}
_CHANGE = {
    "v": ConfChangeType.ADD_NODE,
    "l": ConfChangeType.ADD_LEARNER_NODE,
    "r": ConfChangeType.REMOVE_NODE,
    "u": ConfChangeType.UPDATE_NODE,
}


class ScriptStorage(MemoryStorage):
    """Sends the state after the last applied entry as a snapshot, without having been asked."""

    __slots__ = ("delayed", "history")

    def __init__(self, first: Snapshot) -> None:
        super().__init__()
        self.history = [first]
        self.delayed = False
        if first.index:
            self.apply_snapshot(first)

    def snapshot(self) -> Snapshot:
        if self.delayed:
            raise SnapshotTemporarilyUnavailable
        return self.history[-1]


@dataclass
class Node:
    raw: RawNode
    storage: ScriptStorage
    is_async: bool
    append_work: list[Message] = field(default_factory=list)
    apply_work: list[Message] = field(default_factory=list)


def parse_changes(words: list[str]) -> tuple[ConfChangeSingle, ...]:
    """`v1 l2 r3 u4`: voter, learner, remove, update."""
    return tuple(ConfChangeSingle(_CHANGE[word[0]], int(word[1:])) for word in words)


class Interaction:
    """The network between the members is `messages`: what was sent and not delivered."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.messages: list[Message] = []
        self._lines: list[str] = []
        self._indent = ""
        self._quiet = False

    def handle(self, command: Command) -> str:
        """Run one command and return what it prints."""
        self._lines = []
        method: Callable[[Command], None] = getattr(self, "_" + command.name.replace("-", "_"))
        try:
            method(command)
        except RaftError as error:
            self._lines.append(str(error))
        return "\n".join(self._lines) or "ok"

    def _print(self, text: str) -> None:
        if not self._quiet:
            self._lines += [self._indent + line for line in text.split("\n")]

    @contextmanager
    def _indented(self) -> Iterator[None]:
        self._indent += "  "
        yield
        self._indent = self._indent[2:]

    def _node(self, command: Command, place: int = 0) -> Node:
        return self.nodes[int(command.positional()[place]) - 1]

    def _chosen(self, command: Command) -> list[Node]:
        ids = command.positional()
        return [self.nodes[int(key) - 1] for key in ids] if ids else self.nodes

    # Setting up

    def _log_level(self, command: Command) -> None:
        self._quiet = command.positional()[0] == "none"

    def _add_nodes(self, command: Command) -> None:
        index = int(command.value("index", "0"))
        members = ConfState(
            voters=tuple(int(key) for key in command.option("voters") or ()),
            learners=tuple(int(key) for key in command.option("learners") or ()),
        )
        first = Snapshot(index, 1 if index else 0, members, command.value("content").encode())
        for _ in range(int(command.positional()[0])):
            storage = ScriptStorage(first)
            config = self._config(command, len(self.nodes) + 1, index)
            node = Node(RawNode(config, storage), storage, config.async_storage_writes)
            self.nodes.append(node)

    def _config(self, command: Command, member: int, index: int) -> Config:
        lease = command.value("read-only") == "lease-based"
        return Config(
            id=member,
            dice=random.Random(member),
            election_ticks=ELECTION_TICKS,
            heartbeat_ticks=HEARTBEAT_TICKS,
            applied=index,
            check_quorum=command.flag("checkquorum"),
            pre_vote=command.flag("prevote"),
            read_only=ReadOnly.LEASE_BASED if lease else ReadOnly.SAFE,
            async_storage_writes=command.flag("async-storage-writes"),
            message_bytes_max=int(command.value("message-bytes", str(NO_LIMIT))),
            committed_bytes_max=int(command.value("max-committed-size-per-ready", str(NO_LIMIT))),
            uncommitted_bytes_max=int(command.value("uncommitted-bytes", str(NO_LIMIT))),
            inflight_messages_max=int(command.value("inflight", str(2**31))),
            inflight_bytes_max=int(command.value("inflight-bytes", str(NO_LIMIT))),
            disable_conf_change_validation=command.flag("disable-conf-change-validation"),
            step_down_on_removal=command.flag("step-down-on-removal"),
        )

    def _set_randomized_election_timeout(self, command: Command) -> None:
        ticks = int(command.value("timeout"))
        self._node(command).raw.raft.set_randomized_election_ticks(ticks)

    # Inputs

    def _campaign(self, command: Command) -> None:
        self._node(command).raw.campaign()

    def _propose(self, command: Command) -> None:
        data = command.text.split(" ", 2)[2].encode()
        self._node(command).raw.propose([Entry(data=data)])

    def _propose_conf_change(self, command: Command) -> None:
        changes = parse_changes([word for line in command.input for word in line.split()])
        change: ConfChange | ConfChangeV2
        if command.flag("v1"):
            (single,) = changes
            change = ConfChange(single.type, single.node_id)
        else:
            transition = _TRANSITION[command.value("transition", "auto")]
            change = ConfChangeV2(changes, transition)
        self._node(command).raw.propose_conf_change(change)

    def _read_index(self, command: Command) -> None:
        if not self._node(command).raw.read_index(command.positional()[1].encode()):
            self._print("no leader to ask")

    def _forget_leader(self, command: Command) -> None:
        self._node(command).raw.forget_leader()

    def _transfer_leadership(self, command: Command) -> None:
        source = self.nodes[int(command.value("from")) - 1]
        source.raw.transfer_leader(int(command.value("to")))

    def _report_unreachable(self, command: Command) -> None:
        self._node(command).raw.report_unreachable(int(command.positional()[1]))

    def _report_snapshot(self, command: Command) -> None:
        member = int(command.positional()[1])
        self._node(command).raw.report_snapshot(member, command.value("status") == "ok")

    def _apply_snapshot_delay(self, command: Command) -> None:
        self._node(command).storage.delayed = command.positional()[1] == "on"

    def _tick_election(self, command: Command) -> None:
        for _ in range(ELECTION_TICKS):
            self._node(command).raw.tick()

    def _tick_heartbeat(self, command: Command) -> None:
        for _ in range(HEARTBEAT_TICKS):
            self._node(command).raw.tick()

    # Work

    def _process_ready(self, command: Command) -> None:
        nodes = self._chosen(command)
        for node in nodes:
            if len(nodes) == 1:
                self._do_ready(node)
                continue
            self._print(f"> {node.raw.raft.id} handling Ready")
            with self._indented():
                self._do_ready(node)

    def _do_ready(self, node: Node) -> None:
        ready = node.raw.ready()
        self._print(describe.ready(ready))
        if not node.is_async:
            self._write(node, ready.hard_state, ready.entries, ready.snapshot)
            self._apply(node, ready.committed_entries)
        for msg in ready.messages:
            if msg.to == APPEND_THREAD:
                node.append_work.append(msg)
            elif msg.to == APPLY_THREAD:
                node.apply_work.append(msg)
            else:
                self.messages.append(msg)
        if not node.is_async:
            node.raw.advance(ready)

    def _write(self, node: Node, hard_state: HardState | None, entries, snapshot) -> None:
        if hard_state is not None:
            node.storage.set_hard_state(hard_state)
        if snapshot is not None:
            assert not entries, "a snapshot together with entries"
            node.storage.apply_snapshot(snapshot)
            node.storage.history.append(snapshot)
        node.storage.append(list(entries))

    def _apply(self, node: Node, entries) -> None:
        for entry in entries:
            last = node.storage.history[-1]
            conf_state, data = last.conf_state, last.data
            if entry.type == EntryType.NORMAL:
                data += entry.data
            else:
                conf_state = node.raw.apply_conf_change(decode(entry))
            node.storage.history.append(Snapshot(entry.index, entry.term, conf_state, data))

    def _process_append_thread(self, command: Command) -> None:
        self._threads(command, "append", self._do_append)

    def _process_apply_thread(self, command: Command) -> None:
        self._threads(command, "apply", self._do_apply)

    def _threads(self, command: Command, name: str, work: Callable[[Node], None]) -> None:
        nodes = self._chosen(command)
        for node in nodes:
            if len(nodes) == 1:
                work(node)
                continue
            self._print(f"> {node.raw.raft.id} processing {name} thread")
            with self._indented():
                work(node)

    def _do_append(self, node: Node) -> None:
        if not node.append_work:
            self._print("no append work to perform")
            return
        msg = node.append_work.pop(0)
        hard_state = HardState(msg.term, msg.vote, msg.commit)
        changed = None if hard_state == HardState() else hard_state
        self._work(msg, lambda: self._write(node, changed, msg.entries, msg.snapshot))

    def _do_apply(self, node: Node) -> None:
        if not node.apply_work:
            self._print("no apply work to perform")
            return
        msg = node.apply_work.pop(0)
        self._work(msg, lambda: self._apply(node, msg.entries))

    def _work(self, msg: Message, action: Callable[[], None]) -> None:
        self._print("Processing:")
        self._print(describe.message(msg, with_responses=False))
        action()
        self._print("Responses:")
        for answer in msg.responses:
            self._print(describe.message(answer))
        self.messages += msg.responses

    def _deliver_msgs(self, command: Command) -> None:
        kind = command.value("type")
        delivered = 0
        for key, values in command.arguments:
            if key == "type":
                continue
            drop = key == "drop"
            for member in values if drop and values else [key]:
                delivered += self._deliver(int(member), drop=drop, kind=kind)
        if not delivered:
            self._print("no messages")

    def _deliver(self, member: int, *, drop: bool = False, kind: str = "") -> int:
        mine: list[Message] = []
        rest: list[Message] = []
        wanted = describe.message_type(kind) if kind else None
        for msg in self.messages:
            is_local = drop and msg.type in _LOCAL_ANSWERS
            matching = msg.to == member and wanted in (None, msg.type) and not is_local
            (mine if matching else rest).append(msg)
        self.messages = rest
        for msg in mine:
            if drop:
                self._print("dropped: " + describe.message(msg))
                continue
            self._print(describe.message(msg))
            try:
                self.nodes[member - 1].raw.step(msg)
            except RaftError as error:
                self._print(str(error))
        return len(mine)

    def _stabilize(self, command: Command) -> None:
        nodes = self._chosen(command)
        quiet_before = self._quiet
        if command.option("log-level"):
            self._quiet = command.value("log-level") == "none"
        while self._stabilize_round(nodes):
            pass
        self._quiet = quiet_before

    def _stabilize_round(self, nodes: list[Node]) -> bool:
        """One pass over the nodes; False if there was nothing to do."""
        before = sum(1 for node in nodes if self._under(node, "handling Ready", self._one_ready))
        for node in nodes:
            before += self._under(node, "receiving messages", self._all_messages)
        for node in nodes:
            before += self._under(node, "processing append thread", self._all_appends)
        for node in nodes:
            before += self._under(node, "processing apply thread", self._all_applies)
        return before > 0

    def _under(self, node: Node, title: str, work: Callable[[Node], bool]) -> bool:
        """Do `work` below a title, which goes away again if there was nothing to do."""
        place = len(self._lines)
        with self._indented():
            did = work(node)
        if did and not self._quiet:
            self._lines.insert(place, f"> {node.raw.raft.id} {title}")
        return did

    def _one_ready(self, node: Node) -> bool:
        if not node.raw.has_ready():
            return False
        self._do_ready(node)
        return True

    def _all_messages(self, node: Node) -> bool:
        return self._deliver(node.raw.raft.id) > 0

    def _all_appends(self, node: Node) -> bool:
        did = bool(node.append_work)
        while node.append_work:
            self._do_append(node)
        return did

    def _all_applies(self, node: Node) -> bool:
        did = bool(node.apply_work)
        while node.apply_work:
            self._do_apply(node)
        return did

    def _send_snapshot(self, command: Command) -> None:
        source, target = (int(key) for key in command.positional())
        node = self.nodes[source - 1]
        msg = Message(
            MessageType.SNAP,
            to=target,
            sender=source,
            term=node.raw.status().term,
            snapshot=node.storage.snapshot(),
        )
        self.messages.append(msg)
        self._print(describe.message(msg))

    def _compact(self, command: Command) -> None:
        self._node(command).storage.compact(int(command.positional()[1]))
        self._raft_log(command)

    # Looking

    def _raft_log(self, command: Command) -> None:
        storage = self._node(command).storage
        first, last = storage.first_index(), storage.last_index()
        if last < first:
            self._print(f"log is empty: first index={first}, last index={last}")
        for entry in storage.entries(first, last + 1):
            self._print(describe.entry(entry))

    def _raft_state(self, command: Command) -> None:
        for node in self.nodes:
            status = node.raw.status()
            voter = status.id in status.configuration.voters()
            self._print(
                f"{status.id}: {describe.role(status.role)} "
                f"({'Voter' if voter else 'Non-Voter'}) Term:{status.term} Lead:{status.leader}"
            )

    def _status(self, command: Command) -> None:
        self._print(describe.progress_map(self._node(command).raw.status().progress))


_LOCAL_ANSWERS = (MessageType.STORAGE_APPEND_RESP, MessageType.STORAGE_APPLY_RESP)
