"""What the clients of a run do: random requests on few keys, leases that live and die, compaction.

Values are unique, so that a write can be recognized in the history whoever answered for it.
"""

from __future__ import annotations

from typing import Any, Final

from corum import errors
from corum.pb import rpc
from corum.sim.calls import Calls
from corum.sim.member import SimMember
from corum.sim.sessions import Client, Operation, Process
from corum.sim.watchers import Auditor, WatchStream
from corum.sim.world import World
from corum.values import NS_PER_MS, NS_PER_S

KEYS: Final = tuple(b"k%d" % n for n in range(8))
LEASED_KEYS: Final = tuple(b"l%d" % n for n in range(4))
TTL_MAX_S: Final = 5


class Workload:
    """All clients of one member."""

    def __init__(self, world: World, member: SimMember, *, operations: int, clients: int) -> None:
        """`operations` per client."""
        self.world = world
        self.member = member
        self.operations: list[Operation] = []
        self.auditor = Auditor(world, self.network())
        self.watchers: list[WatchStream] = []
        self.running: int = 0
        """Processes that are not finished."""
        self.users: int = 0
        """Those of them that make random requests."""
        self.leases: list[int] = []
        self._operations_each = operations
        self._clients = clients
        self._values = 0
        self._think_ns = world.dice.choice((200_000, 2 * NS_PER_MS, 20 * NS_PER_MS))
        self._compact_ns = 30 * self._think_ns
        kinds = (self.put, self.delete, self.txn, self.range, self.old_range, self.lease_use)
        self._kinds = [(kind, world.between(1, 10)) for kind in kinds]

    def network(self) -> Calls:
        """What one more client calls."""
        return self.member.network

    def patience_ns(self) -> int:
        """How long a client waits for an answer; 0: as long as it takes."""
        return self.world.delay(5 * NS_PER_MS) if self.world.chance(0.05) else 0

    def client(self, name: str) -> Client:
        """One more client of the member."""
        return Client(self.world, self.network(), name, self.operations)

    def processes(self) -> list[Process]:
        """Everything that runs beside the faults."""
        found = [self.auditor.run(), self._operator(self.client("operator"))]
        found += [self._user(self.client(f"client{n}")) for n in range(self._clients)]
        found.append(self._tenant(self.client("tenant")))
        found.append(self._compactor(self.client("compactor")))
        for number in range(self.world.between(1, 4)):
            self.watchers.append(self._watch_stream(f"watcher{number}"))
            found.append(self.watchers[-1].run())
        return found

    # ---- processes

    def _user(self, client: Client) -> Process:
        """Random requests, one after the other."""
        self.running += 1
        self.users += 1
        kinds, weights = zip(*self._kinds, strict=True)
        for _ in range(self._operations_each):
            if self.world.chance(0.1):
                self._volley(client)
            make = self.world.dice.choices(kinds, weights)[0]
            name, request = make()
            operation = yield client.ask(name, request, self.patience_ns())
            pause_ns = self._think_ns if operation.code != errors.UNAVAILABLE else 50 * NS_PER_MS
            yield client.sleep(self.world.delay(pause_ns))
        self.running -= 1
        self.users -= 1

    def is_over(self) -> bool:
        """Should those who accompany the users end, too?"""
        return False

    def _volley(self, client: Client) -> None:
        """Some requests at once, so that they share a log write; nobody waits for them here."""
        for _ in range(self.world.between(2, 8)):
            name, request = self.world.dice.choice((self.put, self.delete, self.txn))()
            client.ask(name, request)(lambda _: None)

    def _tenant(self, client: Client) -> Process:
        """Leases: granted, used, kept alive for a while, then revoked or left to expire."""
        self.running += 1
        world = self.world
        for _ in range(world.between(1, 4)):
            if self.is_over():
                break
            lease, ttl_s = world.between(1, 1 << 40), world.between(1, TTL_MAX_S)
            grant = rpc.LeaseGrantRequest(ID=lease, TTL=ttl_s)
            granted = yield client.ask("Lease/LeaseGrant", grant)
            if not granted.succeeded:
                yield client.sleep(100 * NS_PER_MS)
                continue
            self.leases.append(lease)
            for key in world.dice.sample(LEASED_KEYS, world.between(0, 3)):
                put = rpc.PutRequest(key=key, value=self.value(), lease=lease)
                yield client.ask("KV/Put", put)
            for _ in range(world.between(0, 5)):
                if self.is_over():
                    break
                yield client.sleep(granted.response.TTL * NS_PER_S // world.between(2, 4))
                yield from self._keep_alive(client, lease)
                yield client.ask("Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=lease))
            if world.chance(0.3):
                yield client.ask("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease))
        self.running -= 1

    def _keep_alive(self, client: Client, lease: int) -> Process:
        """As real clients do: again and again while the member is away."""
        for _ in range(500):
            if self.is_over():
                return
            renewal = rpc.LeaseKeepAliveRequest(ID=lease)
            operation = yield client.ask("Lease/LeaseKeepAlive", renewal)
            if operation.succeeded:
                return
            yield client.sleep(self.world.delay(NS_PER_MS))

    def _compactor(self, client: Client) -> Process:
        """Compacts only what the auditor has seen; defragments and hashes now and then."""
        self.running += 1
        world = self.world
        for _ in range(world.between(0, 8)):
            if self.is_over():
                break
            yield client.sleep(world.delay(self._compact_ns))
            revision = max(1, self.auditor.history.revision - world.between(0, 30))
            request = rpc.CompactionRequest(revision=revision, physical=world.chance(0.5))
            yield client.ask("KV/Compact", request)
            if world.chance(0.3):
                yield client.ask("Maintenance/Defragment", rpc.DefragmentRequest())
            yield client.ask("Maintenance/HashKV", rpc.HashKVRequest())
        self.running -= 1

    def _operator(self, client: Client) -> Process:
        """Disarms alarms once the disk has room."""
        member = self.member
        while True:
            yield client.sleep(300 * NS_PER_MS)
            if not member.is_up or member.disk.is_full:
                continue
            status = yield client.ask("Maintenance/Status", rpc.StatusRequest())
            if not status.succeeded or not status.response.errors:
                continue
            listed = yield client.ask("Maintenance/Alarm", rpc.AlarmRequest())
            for alarm in listed.response.alarms if listed.succeeded else ():
                disarm = rpc.AlarmRequest(
                    action=rpc.AlarmRequest.DEACTIVATE,
                    memberID=alarm.memberID,
                    alarm=alarm.alarm,
                )
                yield client.ask("Maintenance/Alarm", disarm)

    def _watch_stream(self, name: str) -> WatchStream:
        world, requests = self.world, list[Any]()
        for watch_id in range(1, world.between(1, 3) + 1):
            key, end = self.bounds()
            request = rpc.WatchCreateRequest(
                key=key,
                range_end=end,
                watch_id=watch_id,
                start_revision=world.dice.choice((0, 1, 5, 40)),
                prev_kv=world.chance(0.5),
                fragment=world.chance(0.5),
                progress_notify=world.chance(0.5),
            )
            if world.chance(0.3):
                request.filters.append(world.between(0, 1))
            requests.append(request)
        return WatchStream(
            world,
            self.network(),
            name,
            requests,
            read_ns=world.dice.choice((50_000, NS_PER_MS, 30 * NS_PER_MS)),
            patience_ns=world.dice.choice((0, 500 * NS_PER_MS)),
        )

    # ---- requests

    def value(self) -> bytes:
        """Not used before; now and then a long one."""
        self._values += 1
        return b"%d" % self._values + b"." * (400 if self.world.chance(0.05) else 0)

    def key(self) -> bytes:
        """One of few."""
        return self.world.dice.choice(KEYS)

    def bounds(self) -> tuple[bytes, bytes]:
        """A key, a range, a prefix, everything from a key on."""
        key = self.world.dice.choice(KEYS + LEASED_KEYS)
        end = self.world.dice.choice((b"", b"", key[:1] + b"9", b"z", b"\0"))
        return key, end

    def put(self) -> tuple[str, Any]:
        """A put in one of its forms."""
        dice = self.world.dice
        request = rpc.PutRequest(key=self.key(), value=self.value(), prev_kv=dice.random() < 0.3)
        if dice.random() < 0.1:
            request.ignore_lease = True
        return "KV/Put", request

    def lease_use(self) -> tuple[str, Any]:
        """A put under a lease that may be gone, or a look at one."""
        lease = self.world.dice.choice(self.leases) if self.leases else 7
        if self.world.chance(0.5):
            return "Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=lease, keys=True)
        key = self.world.dice.choice(LEASED_KEYS)
        return "KV/Put", rpc.PutRequest(key=key, value=self.value(), lease=lease)

    def delete(self) -> tuple[str, Any]:
        """Mostly of one key."""
        key, end = self.bounds()
        if self.world.chance(0.7):
            end = b""
        request = rpc.DeleteRangeRequest(key=key, range_end=end, prev_kv=self.world.chance(0.5))
        return "KV/DeleteRange", request

    def range(self) -> tuple[str, Any]:
        """A read of the newest state, linearizable or not."""
        dice = self.world.dice
        key, end = self.bounds()
        request = rpc.RangeRequest(
            key=key,
            range_end=end,
            serializable=dice.random() < 0.3,
            limit=dice.choice((0, 0, 1, 3)),
            keys_only=dice.random() < 0.1,
            count_only=dice.random() < 0.1,
            sort_order=dice.choice((0, 0, 1, 2)),
            sort_target=dice.choice((rpc.RangeRequest.KEY, rpc.RangeRequest.VALUE)),
        )
        return "KV/Range", request

    def old_range(self) -> tuple[str, Any]:
        """A read of the past, or of the future."""
        name, request = self.range()
        newest = self.auditor.history.revision
        request.revision = max(1, newest + 3 - self.world.between(0, 40))
        return name, request

    def txn(self) -> tuple[str, Any]:
        """A transaction that fails if another client was faster."""
        dice, keys = self.world.dice, self.world.dice.sample(KEYS, 4)
        request = rpc.TxnRequest()
        for key in keys[: dice.randint(0, 2)]:
            target = dice.choice((rpc.Compare.VERSION, rpc.Compare.MOD, rpc.Compare.CREATE))
            compare = request.compare.add(key=key, target=target, result=dice.choice((0, 1, 2, 3)))
            name = {0: "version", 1: "create_revision", 2: "mod_revision"}[target]
            setattr(compare, name, dice.choice((0, 1, 3, self.auditor.history.revision)))
        for branch in (request.success, request.failure):
            self._fill(branch, dice.sample(keys, 4))
        return "KV/Txn", request

    def _fill(self, branch: Any, keys: list[bytes]) -> None:
        for key in keys[: self.world.between(0, 3)]:
            match self.world.between(0, 3):
                case 0 | 1:
                    branch.add().request_put.CopyFrom(
                        rpc.PutRequest(key=key, value=self.value(), prev_kv=True)
                    )
                case 2:
                    branch.add().request_delete_range.CopyFrom(rpc.DeleteRangeRequest(key=key))
                case _:
                    branch.add().request_range.CopyFrom(rpc.RangeRequest(key=key))
