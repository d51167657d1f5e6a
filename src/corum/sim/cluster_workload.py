"""The clients of a cluster: those of one member, each at any member, and those who change it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from corum import errors
from corum.pb import authpb, rpc
from corum.sim.auth_workload import AuthWorkload
from corum.sim.calls import Calls
from corum.sim.chaos import Chaos
from corum.sim.cluster import Balancer, Cluster, url_of
from corum.sim.features import PLAIN, Features
from corum.sim.machines import Machine
from corum.sim.sessions import Client, Later, Operation, Process
from corum.sim.v2_model import V2Record
from corum.sim.v2_workload import V2Workload
from corum.sim.workload import Workload
from corum.sim.world import World
from corum.values import NS_PER_MS, NS_PER_S

MEMBERS_MAX: Final = 5
NOT_SURELY_REFUSED: Final = frozenset((errors.NO_SPACE.text,))
"""What does not fit any more when it is applied is carried out and refused (as in etcd)."""
NO_PASSWORD: Final = authpb.UserAddOptions(no_password=True)


class ClusterWorkload(Workload):
    """All clients of a cluster."""

    def __init__(
        self,
        world: World,
        cluster: Cluster,
        chaos: Chaos,
        features: Features = PLAIN,
        *,
        operations: int,
        clients: int,
    ) -> None:
        """`operations` per client."""
        self.features = features
        self.cluster = cluster
        self.chaos = chaos
        self._restless = world.dice.choice((0.0, 0.1, 1.0))
        self._impatience = world.dice.choice((0.0, 0.3, 1.0))
        self._changes = world.dice.choice((0, 0, 4, 10))
        self._moves = world.dice.choice((0, 1, 4))
        self._guarded = world.dice.choice((0, 0, 20))
        super().__init__(world, cluster.machines[0], operations=operations, clients=clients)
        self._think_ns = world.dice.choice((5, 40, 120)) * NS_PER_MS
        self._compact_ns = 5 * self._think_ns
        self.v2: V2Workload | None = None
        if features.v2:
            record = cluster.invariants.v2 = V2Record(world, cluster.latest_unix_ns)
            self.v2 = V2Workload(world, self.network, record)
        self.alarmed: list[tuple[int, int]] = []
        """Times (tickets) in which there was an alarm."""
        self._disarms_late = False
        """An alarm may end at any time, as nobody knows what became of a request for that."""
        self.auth: AuthWorkload | None = None
        if features.auth:
            self.auth = AuthWorkload(world, self.client, self.value)

    def is_over(self) -> bool:
        """The faults are for the users: without them nothing is learnt."""
        return not self.users

    def network(self) -> Calls:
        """Any member."""
        return Balancer(self.cluster, restless=self._restless)

    def patience_ns(self) -> int:
        """Now and then less than an answer takes."""
        if not self.world.chance(self._impatience):
            return 0
        return self.world.delay(self.world.dice.choice((5, 1_000)) * NS_PER_MS)

    def client(self, name: str) -> Client:
        """One more client, of any member."""
        found = super().client(name)
        if self.features.quota_bytes:
            found.doubtful = NOT_SURELY_REFUSED
        return found

    def processes(self) -> list[Process]:
        """Those of one member, and some more."""
        found = super().processes()
        found.append(self._tenant(self.client("tenant2")))
        found.append(self._mover(self.client("mover")))
        found.append(self._architect(self.client("architect")))
        found.append(self._guard(self.client("guard")))
        if self.features.promotions:
            found.append(self._patron(self.client("patron")))
        if self.features.downgrades:
            found.append(self._reverter(self.client("reverter")))
        if self.v2 is not None:
            found += self.v2.processes(self.is_over)
        if self.auth is not None:
            found += self.auth.processes(self.is_over)
        return found

    def busy(self) -> bool:
        """Is anybody at work, of those who end by themselves?"""
        return any(each is not None and each.running for each in (self, self.v2, self.auth))

    def calm_down(self) -> None:
        """Nothing fails any more: who comes and goes, stays."""
        for stream in self.v2.streams if self.v2 is not None else ():
            stream.leaves = False

    def _operator(self, client: Client) -> Process:
        """Makes room, and disarms alarms once all disks have some."""
        while True:
            yield client.sleep(300 * NS_PER_MS)
            machines = self.cluster.up
            if not any(each.node.alarms.get(0, 0) for each in machines):
                continue
            if any(each.disk.is_full for each in machines):
                continue
            listed = yield client.ask("Maintenance/Alarm", rpc.AlarmRequest(), NS_PER_S)
            alarms = listed.response.alarms if listed.succeeded else ()
            if alarms and self.features.quota_bytes:
                yield from self._make_room(client)
            if alarms and not self._disarms_late:
                self.alarmed.append((listed.returned, self.world.ticket()))
            for alarm in alarms:
                disarm = rpc.AlarmRequest(
                    action=rpc.AlarmRequest.DEACTIVATE,
                    memberID=alarm.memberID,
                    alarm=alarm.alarm,
                )
                done = yield client.ask("Maintenance/Alarm", disarm, NS_PER_S)
                self._disarms_late = self._disarms_late or done.is_unknown

    def _make_room(self, client: Client) -> Process:
        """Of everybody: old revisions go, then their room."""
        request = rpc.CompactionRequest(revision=self.auditor.history.revision, physical=True)
        yield client.ask("KV/Compact", request, 3 * NS_PER_S)
        for machine in self.cluster.up:
            yield client.sleep(20 * NS_PER_MS)
            here = Client(self.world, machine.network, "operator", self.operations)
            yield here.ask("Maintenance/Defragment", rpc.DefragmentRequest(), 3 * NS_PER_S)
        self.world.counts["rooms made"] += 1

    def _reverter(self, client: Client) -> Process:
        """Begins a downgrade, and thinks better of it."""
        while not self.is_over():
            yield client.sleep(self.world.delay(600 * NS_PER_MS))
            begin = rpc.DowngradeRequest(action=rpc.DowngradeRequest.ENABLE, version="3.6.0")
            begun = yield client.ask("Maintenance/Downgrade", begin, 10 * NS_PER_S)
            self.world.counts["downgrades begun"] += begun.succeeded
            yield client.sleep(self.world.delay(NS_PER_S))
            yield from self.revert(client)

    def revert(self, client: Client) -> Generator[Later, Any, bool]:
        """End a downgrade. Is there none any more?"""
        end = rpc.DowngradeRequest(action=rpc.DowngradeRequest.CANCEL)
        ended: Operation = yield client.ask("Maintenance/Downgrade", end, 10 * NS_PER_S)
        return ended.succeeded or ended.text == errors.NO_INFLIGHT_DOWNGRADE.text

    def _patron(self, client: Client) -> Process:
        """Has every learner promoted, whoever added it."""
        while not self.is_over():
            yield client.sleep(self.world.delay(100 * NS_PER_MS))
            yield from self._promote(client)

    def _mover(self, client: Client) -> Process:
        """Has the leader hand over to somebody."""
        self.running += 1
        for _ in range(self._moves):
            yield client.sleep(self.world.delay(NS_PER_S))
            if self.is_over():
                break
            leader = self.cluster.leader
            target = self.world.dice.choice(self.cluster.members)
            if leader is None or not target.is_up:
                continue
            at_leader = Client(self.world, leader.network, "mover", self.operations)
            request = rpc.MoveLeaderRequest(targetID=target.node.members.local)
            yield at_leader.ask("Maintenance/MoveLeader", request, 3 * NS_PER_S)
        self.running -= 1

    def _guard(self, client: Client) -> Process:
        """Users and roles come and go; nobody is asked for them."""
        dice = self.world.dice
        for _ in range(self._guarded):
            yield client.sleep(self.world.delay(2 * self._think_ns))
            if self.is_over():
                return
            user, role = dice.choice(("u1", "u2", "u3")), dice.choice(("r1", "r2"))
            permission = authpb.Permission(permType=dice.choice((0, 1, 2)), key=self.key())
            name, request = dice.choice(
                (
                    ("Auth/UserAdd", rpc.AuthUserAddRequest(name=user, options=NO_PASSWORD)),
                    ("Auth/UserDelete", rpc.AuthUserDeleteRequest(name=user)),
                    ("Auth/UserGrantRole", rpc.AuthUserGrantRoleRequest(user=user, role=role)),
                    ("Auth/RoleAdd", rpc.AuthRoleAddRequest(name=role)),
                    ("Auth/RoleDelete", rpc.AuthRoleDeleteRequest(role=role)),
                    (
                        "Auth/RoleGrantPermission",
                        rpc.AuthRoleGrantPermissionRequest(name=role, perm=permission),
                    ),
                )
            )
            yield client.ask(name, request, self.patience_ns())

    # ---- membership

    def _architect(self, client: Client) -> Process:
        """Members come and go."""
        self.running += 1
        kinds = (self._add, self._add, self._remove, self._promote, self._promote, self._rename)
        for _ in range(self._changes):
            yield client.sleep(self.world.delay(200 * NS_PER_MS))
            if self.is_over():
                break
            yield from self.world.dice.choice(kinds)(client)
        self.running -= 1

    def _add(self, client: Client) -> Process:
        """One more machine, as a learner or as a voter at once."""
        if len(self.cluster.members) >= MEMBERS_MAX:
            return
        name = self.cluster.next_name()
        request = rpc.MemberAddRequest(peerURLs=[url_of(name)], isLearner=self.world.chance(0.6))
        added: Operation = yield client.ask("Cluster/MemberAdd", request, 10 * NS_PER_S)
        if added.succeeded:
            self._join(name, added.response.header.cluster_id, added.response.members)
            yield client.sleep(self.world.delay(300 * NS_PER_MS))
        elif added.is_unknown:
            yield from self.adopt(client)

    def adopt(self, client: Client) -> Generator[Later, Any, bool]:
        """Start the machines of members that nobody has started: of additions without an answer.
        Did the cluster say who its members are?"""
        request = rpc.MemberListRequest(linearizable=True)
        listed: Operation = yield client.ask("Cluster/MemberList", request, 10 * NS_PER_S)
        if not listed.succeeded:
            return False
        known = {url for each in self.cluster.machines for url in each.urls}
        for member in listed.response.members:
            if not known.intersection(member.peerURLs):
                name = member.peerURLs[0].split("//")[1].split(":")[0]
                self._join(name, listed.response.header.cluster_id, listed.response.members)
        return True

    def _join(self, name: str, cluster: int, listed: Any) -> None:
        member = next(one.ID for one in listed if one.peerURLs[0] == url_of(name))
        self.chaos.meets(self.cluster.join(name, cluster, listed, member))

    def _remove(self, client: Client) -> Process:
        """Any member goes, the leader too; three stay."""
        members = self.cluster.members
        if len(members) <= 3 and not (len(members) > 1 and self.world.chance(0.4)):
            return
        machine = self._any_known()
        if machine is None:
            return
        request = rpc.MemberRemoveRequest(ID=machine.node.members.local)
        yield client.ask("Cluster/MemberRemove", request, 10 * NS_PER_S)

    def _promote(self, client: Client) -> Process:
        """A learner becomes a voter, if it has caught up."""
        for machine in self.cluster.up:
            if machine.node.is_learner:
                request = rpc.MemberPromoteRequest(ID=machine.node.members.local)
                done = yield client.ask("Cluster/MemberPromote", request, 10 * NS_PER_S)
                self.world.counts["members promoted"] += done.succeeded
                return

    def _rename(self, client: Client) -> Process:
        """A member gets one more peer URL."""
        machine = self._any_known()
        if machine is None:
            return
        url = f"http://{machine.name}:{2390 + len(machine.urls)}"
        self.cluster.fabric.hosts[url] = machine
        machine.urls = [*machine.urls, url]
        request = rpc.MemberUpdateRequest(ID=machine.node.members.local, peerURLs=machine.urls)
        yield client.ask("Cluster/MemberUpdate", request, 10 * NS_PER_S)

    def _any_known(self) -> Machine | None:
        started = [each for each in self.cluster.members if hasattr(each, "node")]
        return self.world.dice.choice(started) if started else None
