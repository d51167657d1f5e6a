"""`/v2/keys`: reads from the store, writes through the log, waits that may last for ever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from corum import errors as grpc_errors
from corum.api.http_rules import JSON, Answer, canonical, lines_of, wrong_verb
from corum.api.v2 import forms
from corum.api.v2.access import Access
from corum.server.node import Node
from corum.v2store import KEYS_PREFIX, Event, V2Error, Waiter, errors
from corum.v2store.store import COMPONENTS_MAX

VERBS: Final = ("HEAD", "GET", "PUT", "POST", "DELETE")
READS: Final = ("GET", "HEAD")
WAITERS_MAX: Final = 100_000
"""Waiting requests of one member; beyond it 503."""

BLOCKED_EVENTS_MAX: Final = 50
"""Events that wait for a client whose connection is full already."""


class Streams(Protocol):
    """The transport's streamed answers."""

    def http_start(self, call: int, status: int, headers: Any) -> None: ...
    def http_send(self, call: int, chunk: bytes) -> bool: ...
    def http_finish(self, call: int) -> None: ...


class Answers(Protocol):
    """Where whole answers go."""

    def answer(self, call: int, answer: Answer) -> None: ...

    def answer_with(self, call: int, status: int, lines: bytes, body: bytes) -> None: ...
    def cors(self, call: int) -> list[tuple[str, str]]: ...


class Keys:
    """Requests to the v2 key space."""

    def __init__(self, node: Node, front: Answers, streams: Streams, access: Access) -> None:
        self._node = node
        self._access = access
        self._front = front
        self._streams = streams
        self._waiters: dict[Waiter, int] = {}
        self._calls: dict[int, Waiter] = {}
        self._blocked: set[int] = set()
        self._last_line: tuple[Event | None, bytes] = (None, b"")
        self._cluster = ("x-etcd-cluster-id", f"{node.members.cluster:x}")
        self._fixed = lines_of(canonical((JSON, self._cluster)))

    def request(
        self,
        call: int,
        verb: str,
        path: str,
        query: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        peer: Any,
    ) -> None:
        """One request; `path` still has its escapes."""
        if verb not in VERBS:
            self._front.answer(call, wrong_verb(*VERBS))
            return
        try:
            kind = "" if verb in READS else dict(headers).get("content-type", "")
            form = forms.form_of(query, kind, body, verb)
            wanted = forms.parse(verb, path, form, self._node.ports.unix_time_ns())
        except V2Error as error:
            self._refuse(call, error)
            return
        if self._access.rights.enabled:
            recursive = wanted.request.recursive
            self._access.with_key(
                call,
                verb,
                path,
                recursive,
                dict(headers),
                peer,
                lambda: self._carry_out(call, verb, wanted),
            )
        else:
            self._carry_out(call, verb, wanted)

    def _carry_out(self, call: int, verb: str, wanted: forms.Wanted) -> None:
        try:
            node = self._node
            if verb not in READS:
                node.check_open(None)
                if wanted.request.path.count("/") > COMPONENTS_MAX and verb != "DELETE":
                    cause = f"more than {COMPONENTS_MAX} path components"
                    raise V2Error(errors.RAFT_INTERNAL, cause, node.v2.store.index)
                pending = Pending(self, call, wanted.no_value)
                node.v2.propose(wanted.request, pending, self._proposed)
            elif wanted.wait and not wanted.quorum:
                self._wait(call, wanted)
            elif wanted.quorum:
                node.check_open(None)
                node.reads.add(self._read_latest, Pending(self, call), wanted)
            else:
                self._read(call, wanted)
        except V2Error as error:
            self._refuse(call, error)
        except grpc_errors.EtcdError as error:
            self._refuse(call, V2Error(errors.RAFT_INTERNAL, error.text))

    def _read(self, call: int, wanted: forms.Wanted) -> None:
        request = wanted.request
        event = self._node.v2.store.get(
            request.path,
            recursive=request.recursive,
            ordered=request.sorted,
            now_ns=self._node.ports.unix_time_ns(),
        )
        self._tell(call, event, wanted.no_value)

    def _read_latest(self, pending: Pending, wanted: forms.Wanted) -> None:
        """This member has all that was committed when the request came."""
        try:
            self._read(pending.call, wanted)
        except V2Error as error:
            self._refuse(pending.call, error)

    def _proposed(self, pending: Pending, result: Event | V2Error) -> None:
        """What became of a request in the log."""
        if isinstance(result, V2Error):
            self._refuse(pending.call, result)
        else:
            self._tell(pending.call, result, pending.no_value)

    def _tell(self, call: int, event: Event, no_value: bool) -> None:
        body = event.to_json(KEYS_PREFIX, no_value=no_value).encode("utf-8", "replace") + b"\n"
        raft = self._node.raft.raft
        lines = b"%bX-Etcd-Index: %d\r\nX-Raft-Index: %d\r\nX-Raft-Term: %d\r\n" % (
            self._fixed, event.etcd_index, raft.log.committed, raft.term
        )  # fmt: skip
        self._front.answer_with(call, 201 if event.created else 200, lines, body)

    def refuse(self, call: int, cause: str) -> None:
        """A request that the cluster could not decide in time."""
        self._refuse(call, V2Error(errors.RAFT_INTERNAL, cause))

    def _refuse(self, call: int, error: V2Error) -> None:
        headers = (JSON, self._cluster, ("x-etcd-index", str(error.index)))
        body = error.to_json(KEYS_PREFIX).encode("utf-8", "replace") + b"\n"
        self._front.answer(call, Answer(error.http_status, headers, body))

    def _headers(self, index: int) -> tuple[tuple[str, str], ...]:
        node = self._node
        return (
            JSON,
            self._cluster,
            ("x-etcd-index", str(index)),
            ("x-raft-index", str(node.committed)),
            ("x-raft-term", str(node.term)),
        )

    # ---- waiting

    def _wait(self, call: int, wanted: forms.Wanted) -> None:
        if len(self._waiters) >= WAITERS_MAX:
            raise V2Error(errors.RAFT_INTERNAL, "too many waiting requests")
        request = wanted.request
        waiter = self._node.v2.store.watch(
            request.path, recursive=request.recursive, stream=wanted.stream, since=wanted.since
        )
        self._waiters[waiter] = call
        self._calls[call] = waiter
        headers = canonical(self._headers(waiter.start_index)) + self._front.cors(call)
        self._streams.http_start(call, 200, headers)
        self.tell()

    def tell(self) -> None:
        """Send what waiters have heard since the last time; once per turn."""
        for waiter in self._node.v2.told():
            call = self._waiters.get(waiter)
            if call is not None:
                self._drain(call, waiter)

    def _drain(self, call: int, waiter: Waiter) -> None:
        """Send what it heard; a client that does not read keeps its events until they are too many,
        then its answer ends, so that it knows that it missed some (etcd: buffer of 100)."""
        if call not in self._blocked:
            for event in waiter.take():
                if self._streams.http_send(call, self._line(event)):
                    self._blocked.add(call)
        elif len(waiter.events) > BLOCKED_EVENTS_MAX:
            self._node.v2.store.hub.remove(waiter)
        if waiter.removed:
            self._forget(call)
            self._streams.http_finish(call)

    def _line(self, event: Event) -> bytes:
        """What a waiter is told; mostly many are told the same."""
        if event is not self._last_line[0]:
            line = event.to_json(KEYS_PREFIX).encode("utf-8", "replace") + b"\n"
            self._last_line = (event, line)
        return self._last_line[1]

    def writable(self, call: int) -> bool:
        """A blocked answer has room again; False when it is none of ours."""
        waiter = self._calls.get(call)
        if waiter is None:
            return False
        self._blocked.discard(call)
        self._drain(call, waiter)
        return True

    def closed(self, call: int) -> None:
        """A client went away."""
        waiter = self._calls.get(call)
        if waiter is not None:
            self._node.v2.store.hub.remove(waiter)
            self._forget(call)

    def _forget(self, call: int) -> None:
        del self._waiters[self._calls.pop(call)]
        self._blocked.discard(call)


class Pending:
    """Stands where a call stands until the cluster has decided it, or has not in time."""

    __slots__ = ("_keys", "call", "no_value")

    def __init__(self, keys: Keys, call: int, no_value: bool = False) -> None:
        self._keys = keys
        self.call = call
        self.no_value = no_value

    def fail(self, error: grpc_errors.EtcdError) -> None:
        """See `Node.refuse`."""
        self._keys.refuse(self.call, error.text)
