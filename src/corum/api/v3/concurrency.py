"""The Lock and Election services (rpc §10): etcd's client recipes, done by the member.

A waiter owns a key `<name>/<lease id in hex>`; who has the oldest key holds the lock, or leads.
Whoever waits, waits for the next older key to vanish, so that one release wakes one waiter. What a
waiter sees of older keys is this member's applied state: it holds its own key already, hence every
older one, and no older one can come.

A recipe is a generator that yields the steps it waits for; `Errand` walks it. When the client goes
away, the recipe is told so at its next step and cleans up. All refusals are Unknown, as etcd's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final, TypeAlias

from corum import errors
from corum.api.v3.calls import Service, decoded
from corum.mvcc.txn import plan_of
from corum.pb import electionpb, kv, lockpb, rpc
from corum.pb.wire import bytes_field
from corum.server import operations as op
from corum.server.auth import EarlyToken
from corum.server.listeners import Change, Ear
from corum.server.node import HAS_LEADER, Node

SESSION_TTL_S: Final = 60
"""Of the lease that a call without one gets; nobody keeps it alive."""
ERRANDS_MAX: Final = 100_000
"""Calls under way; beyond it TOO_MANY_REQUESTS."""
UNSENT_MAX: Final = 1_000
"""Messages for an observer that does not read; then its call ends."""

Step: TypeAlias = Callable[["Errand"], None]
"""Starts something that ends in `errand.resume(result)`."""
Recipe: TypeAlias = Generator[Step, Any, bytes | None]
"""Its result answers the call; None ends a stream."""


class Errand:
    """One call of several steps; see the module's docstring."""

    __slots__ = (
        "_ear", "_full", "_gone", "_recipe", "_told", "_unsent", "call", "meta", "node", "streams"
    )  # fmt: skip

    def __init__(self, node: Node, call: int, meta: Any, *, streams: bool = False) -> None:
        if len(node.long_calls) >= ERRANDS_MAX:
            raise errors.TOO_MANY_REQUESTS()
        self.node = node
        self.call = call
        self.meta = meta
        self.streams = streams
        self._gone = self._told = self._full = False
        self._ear: Ear | None = None
        self._unsent: deque[bytes] = deque()

    def start(self, recipe: Recipe) -> None:
        """Go the first steps; the rest follows when their results come."""
        self._recipe = recipe
        self.node.long_calls[self.call] = self
        self.resume(None)

    def resume(self, result: Any) -> None:
        """The step's result, or the error that came of it."""
        try:
            if isinstance(result, BaseException):
                step = self._recipe.throw(result)
            else:
                step = self._recipe.send(result)
            self._begin(step)
        except StopIteration as end:
            self._end(end.value)
        except errors.EtcdError as error:
            self._end(errors.EtcdError(errors.UNKNOWN, error.text))
        except Exception as error:
            self.node.ports.bug(type(self).__name__, error)
            self._end(errors.EtcdError(errors.INTERNAL, repr(error)))

    def _begin(self, step: Step) -> None:
        """A step that cannot even begin is an error inside the recipe, like one that failed."""
        try:
            self.check_present()
            self.node.check_open(None)
            step(self)
        except errors.EtcdError as error:
            self.resume(error)

    def check_present(self) -> None:
        """Tells the recipe, once, that its client went away; the steps of its cleanup go on."""
        if self._gone and not self._told:
            self._told = True
            raise errors.CLIENT_CANCELED()

    def _end(self, result: Any) -> None:
        node = self.node
        node.long_calls.pop(self.call, None)
        if self._gone:
            return
        if result is None:
            node.out.finish(self.call)
        else:
            node.out.answer(self.call, result)

    # ---- what happens to it

    def fail(self, error: errors.EtcdError) -> None:
        """See `Node.refuse`: a proposal or read of it was not decided."""
        self.resume(error)

    def gone(self) -> None:
        """See `LongCall`; what was proposed is awaited before the recipe hears of it."""
        self._gone = True
        if self._ear is not None:
            self.node.applier.listeners.drop(self._ear)
            self._ear = None
            self._told = True
            self.resume(errors.CLIENT_CANCELED())

    def leaderless(self) -> None:
        """See `LongCall`; ends streams only, and only of clients that demand a leader."""
        if self.streams and self.meta[HAS_LEADER] == "true":
            self.gone()
            self.node.out.error(self.call, errors.NO_LEADER())

    def blocked(self) -> None:
        """See `LongCall`."""
        self._full = True

    def writable(self) -> None:
        """See `LongCall`."""
        self._full = False
        unsent, self._unsent = self._unsent, deque()
        self.node.out.messages += [(self.call, message) for message in unsent]

    def send(self, message: bytes) -> None:
        """A message of a stream. Raises when the client has left too many unread."""
        if not self._full:
            self.node.out.messages.append((self.call, message))
        elif len(self._unsent) < UNSENT_MAX:
            self._unsent.append(message)
        else:
            raise errors.EtcdError(errors.UNKNOWN, "election: observe closed early")

    # ---- steps of recipes

    def grant(self) -> Generator[Step, Any, int]:
        """A lease of its own; its id."""
        node = self.node
        node.check_writable(None)
        lease = node.dice.getrandbits(63) or 1
        request = rpc.LeaseGrantRequest(ID=lease, TTL=SESSION_TTL_S)
        user = node.gate.any_user(self.meta)
        yield _proposed(op.LEASE_GRANT, request, request, user)
        return lease

    def txn(self, request: Any) -> Generator[Step, Any, Any]:
        """A transaction through the log; its TxnResponse."""
        node = self.node
        node.check_writable(None)
        node.space.admit(request.ByteSize())
        plan = plan_of(request)
        user = node.gate.txn(self.meta, plan)
        return rpc.TxnResponse.FromString((yield _proposed(op.TXN, request, plan, user)))

    def delete(self, key: bytes) -> Generator[Step, Any, Any]:
        """Delete a key; its DeleteRangeResponse."""
        if not key:
            raise errors.EMPTY_KEY()
        request = rpc.DeleteRangeRequest(key=key)
        self.node.check_writable(None)
        user = self.node.gate.delete(self.meta, request)
        answer = yield _proposed(op.DELETE_RANGE, request, request, user)
        return rpc.DeleteRangeResponse.FromString(answer)

    def first(self, folder: bytes) -> Generator[Step, Any, Any]:
        """The oldest key of a folder as the cluster has it now; None when there is none."""

        def read(errand: Errand) -> None:
            asked = rpc.RangeRequest(key=folder, range_end=end_of(folder))
            reads = errand.node.reads
            reads.add(lambda *_: errand.resume(None), errand, asked, errand.meta)

        yield read
        return self.oldest(folder)

    def oldest(self, folder: bytes) -> Any:
        """The oldest key of a folder as this member has it; None when there is none."""
        return self._one(folder, sort_order=rpc.RangeRequest.ASCEND)

    def change(self, key: bytes, after: int, *, whole: bool = True) -> Generator[Step, Any, Change]:
        """The first change after a revision, of a key or of a folder."""

        def listen(errand: Errand) -> None:
            def heard(change: Change) -> None:
                errand._ear = None
                errand.resume(change)

            errand._ear = errand.node.applier.listen(key, after, heard, whole=whole)

        return (yield listen)

    def older_gone(self, folder: bytes, revision: int) -> Generator[Step, Any, bool]:
        """Wait until no key of the folder is older than `revision`; was there one?"""
        waited = False
        while True:
            self.node.gate.read(self.meta, folder, end_of(folder))
            older = self._one(
                folder, sort_order=rpc.RangeRequest.DESCEND, max_create_revision=revision - 1
            )
            if older is None:
                return waited
            waited = True
            while (yield from self.change(older.key, self.node.store.revision))[2] is not None:
                pass

    def _one(self, folder: bytes, **more: Any) -> Any:
        asked = rpc.RangeRequest(
            key=folder,
            range_end=end_of(folder),
            limit=1,
            sort_target=rpc.RangeRequest.CREATE,
            **more,
        )
        found = self.node.ranges.now(asked).kvs
        return kv.KeyValue.FromString(found[0]) if found else None


def _proposed(operation: int, message: Any, request: Any, user: bytes) -> Step:
    """Replicate a request; the result is its response's bytes."""

    def propose(errand: Errand) -> None:
        errand.node.propose(
            operation,
            message.SerializeToString(),
            request,
            errand,
            answer=lambda _, result: errand.resume(result),
            prefix=user,
        )

    return propose


def folder_of(name: bytes) -> bytes:
    """What all keys of a lock or an election begin with."""
    return name + b"/"


def end_of(folder: bytes) -> bytes:
    """The end of the range of a folder's keys."""
    return folder[:-1] + b"0"  # what follows the slash


def created_at(key: bytes, revision: int) -> Any:
    """The comparison that a key was created at this revision; at 0: it is not there."""
    return rpc.Compare(
        key=key,
        target=rpc.Compare.CREATE,
        result=rpc.Compare.EQUAL,
        create_revision=revision,
    )


def _put(key: bytes, value: bytes, lease: int) -> Any:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, lease=lease))


def _get(key: bytes) -> Any:
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key))


def _delete(key: bytes) -> Any:
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))


class _Recipes(Service):
    """A service whose calls are errands."""

    def _go(
        self, call: int, meta: Any, recipe: Callable[[Errand], Recipe], *, streams: bool = False
    ) -> None:
        """Begin an errand for a caller whose token is good."""
        node = self.node
        node.check_open(meta)
        try:
            node.gate.caller(meta)
        except EarlyToken:
            raise
        except errors.EtcdError as error:
            raise errors.EtcdError(errors.UNKNOWN, error.text) from None
        errand = Errand(node, call, meta, streams=streams)
        errand.start(recipe(errand))

    def _enter(
        self, errand: Errand, name: bytes, lease: int, value: bytes
    ) -> Generator[Step, Any, tuple[bytes, int, Any]]:
        """Be one of those who wait: (own key, its create revision, TxnResponse)."""
        key = folder_of(name) + b"%x" % lease
        request = rpc.TxnRequest(
            compare=[created_at(key, 0)], success=[_put(key, value, lease)], failure=[_get(key)]
        )
        answer = yield from errand.txn(request)
        if answer.succeeded:
            return key, answer.header.revision, answer
        return key, answer.responses[0].response_range.kvs[0].create_revision, answer

    def _leave(self, errand: Errand, key: bytes, revision: int) -> Generator[Step, Any, Any]:
        """Delete one's key, if it still is the one of this revision."""
        request = rpc.TxnRequest(compare=[created_at(key, revision)], success=[_delete(key)])
        return (yield from errand.txn(request))


class LockService(_Recipes):
    """Lock, Unlock."""

    PATH = "/v3lockpb.Lock/"

    def unary(self) -> dict[str, Any]:
        """Handlers by method name."""
        return {"Lock": self.lock, "Unlock": self.unlock}

    def lock(self, call: int, message: bytes, meta: Any) -> None:
        """Wait for the lock as long as the client does."""
        request = decoded(lockpb.LockRequest, message)
        self._go(call, meta, lambda errand: self._lock(errand, request))

    def _lock(self, errand: Errand, request: Any) -> Recipe:
        node = self.node
        lease = request.lease or (yield from errand.grant())
        key, created, answer = yield from self._enter(errand, request.name, lease, b"")
        revision = answer.header.revision
        try:
            if (yield from errand.older_gone(folder_of(request.name), created)):
                if node.store.get(key) is None:
                    raise errors.EtcdError(errors.UNKNOWN, "mutex: session is expired")
                revision = node.store.revision
            errand.check_present()
        except errors.EtcdError:
            yield from self._leave(errand, key, created)
            raise
        return node.headers.at(revision) + bytes_field(2, key)

    def unlock(self, call: int, message: bytes, meta: Any) -> None:
        """Delete the key that `Lock` answered with."""
        request = decoded(lockpb.UnlockRequest, message)
        self._go(call, meta, lambda errand: self._unlock(errand, request))

    def _unlock(self, errand: Errand, request: Any) -> Recipe:
        answer = yield from errand.delete(request.key)
        return self.node.headers.at(answer.header.revision)


class ElectionService(_Recipes):
    """Campaign, Proclaim, Leader, Observe, Resign."""

    PATH = "/v3electionpb.Election/"

    def unary(self) -> dict[str, Any]:
        """Handlers by method name."""
        return {
            "Campaign": self.campaign,
            "Proclaim": self.proclaim,
            "Leader": self.leader,
            "Observe": self.observe,
            "Resign": self.resign,
        }

    def campaign(self, call: int, message: bytes, meta: Any) -> None:
        """Wait to be elected as long as the client does."""
        request = decoded(electionpb.CampaignRequest, message)
        self._go(call, meta, lambda errand: self._campaign(errand, request))

    def _campaign(self, errand: Errand, request: Any) -> Recipe:
        lease = request.lease or (yield from errand.grant())
        key, created, answer = yield from self._enter(errand, request.name, lease, request.value)
        try:
            if not answer.succeeded and (
                answer.responses[0].response_range.kvs[0].value != request.value
            ):
                yield from self._say(errand, key, created, lease, request.value)
            waited = yield from errand.older_gone(folder_of(request.name), created)
            if waited and self.node.store.get(key) is None:
                raise errors.ELECTION_NOT_LEADER()
            errand.check_present()
        except errors.EtcdError:
            yield from self._leave(errand, key, created)
            raise
        leader = electionpb.LeaderKey(name=request.name, key=key, rev=created, lease=lease)
        header = self.node.headers.at(answer.header.revision)
        return header + bytes_field(2, leader.SerializeToString())

    def _say(
        self, errand: Errand, key: bytes, created: int, lease: int, value: bytes
    ) -> Generator[Step, Any, Any]:
        """A new value for one's key, if it still is the one of that revision."""
        request = rpc.TxnRequest(
            compare=[created_at(key, created)], success=[_put(key, value, lease)]
        )
        answer = yield from errand.txn(request)
        if not answer.succeeded:
            raise errors.ELECTION_NOT_LEADER()
        return answer

    def proclaim(self, call: int, message: bytes, meta: Any) -> None:
        """A leader says something new."""
        request = decoded(electionpb.ProclaimRequest, message)
        self._go(call, meta, lambda errand: self._proclaim(errand, request))

    def _proclaim(self, errand: Errand, request: Any) -> Recipe:
        if not request.HasField("leader"):
            raise errors.ELECTION_MISSING_LEADER_KEY()
        leader = request.leader
        lease = leader.lease or (yield from errand.grant())
        answer = yield from self._say(errand, leader.key, leader.rev, lease, request.value)
        return self.node.headers.at(answer.header.revision)

    def resign(self, call: int, message: bytes, meta: Any) -> None:
        """A leader steps down; no error when it does not lead any more."""
        request = decoded(electionpb.ResignRequest, message)
        self._go(call, meta, lambda errand: self._resign(errand, request))

    def _resign(self, errand: Errand, request: Any) -> Recipe:
        if not request.HasField("leader"):
            raise errors.ELECTION_MISSING_LEADER_KEY()
        answer = yield from self._leave(errand, request.leader.key, request.leader.rev)
        return self.node.headers.at(answer.header.revision)

    def leader(self, call: int, message: bytes, meta: Any) -> None:
        """Who leads, and what it said last."""
        request = decoded(electionpb.LeaderRequest, message)
        self._go(call, meta, lambda errand: self._leader(errand, request))

    def _leader(self, errand: Errand, request: Any) -> Recipe:
        found = yield from errand.first(folder_of(request.name))
        if found is None:
            raise errors.ELECTION_NO_LEADER()
        return self._told(self.node.store.revision, found.SerializeToString())

    def observe(self, call: int, message: bytes, meta: Any) -> None:
        """All that leaders say from now on, the present leader's last word first."""
        request = decoded(electionpb.LeaderRequest, message)
        self._go(call, meta, lambda errand: self._observe(errand, request), streams=True)

    def _observe(self, errand: Errand, request: Any) -> Recipe:
        folder = folder_of(request.name)
        store = self.node.store
        found = yield from errand.first(folder)
        while True:
            heard = store.revision
            if found is None:
                heard, key, stored = yield from errand.change(folder, heard, whole=False)
                while stored is None:
                    heard, key, stored = yield from errand.change(folder, heard, whole=False)
            else:
                key, stored = found.key, found.SerializeToString()
            while stored is not None:
                errand.send(self._told(heard, stored))
                heard, _, stored = yield from errand.change(key, heard)
            found = errand.oldest(folder)

    def _told(self, revision: int, stored: bytes) -> bytes:
        """A LeaderResponse."""
        return self.node.headers.at(revision) + bytes_field(2, stored)
