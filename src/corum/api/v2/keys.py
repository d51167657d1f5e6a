"""`/v2/keys`: reads from the store, writes through the log, waits that may last for ever."""

from __future__ import annotations

from typing import Any, Final, Protocol

from corum import errors as grpc_errors
from corum.api.http_rules import JSON, Answer, canonical, wrong_verb
from corum.api.v2 import forms
from corum.api.v2.access import Access
from corum.server.node import Node
from corum.v2store import KEYS_PREFIX, Event, V2Error, Waiter, errors

VERBS: Final = ("HEAD", "GET", "PUT", "POST", "DELETE")
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

    def cors(self, call: int) -> list[tuple[str, str]]: ...

    def answer_canonical(
        self, call: int, status: int, headers: list[tuple[str, str]], body: bytes
    ) -> None: ...


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
        self._cluster = ("x-etcd-cluster-id", f"{node.members.cluster:x}")
        self._fixed = canonical((JSON, self._cluster))

    def request(
        self,
        call: int,
        verb: str,
        path: str,
        query: str,
        headers: dict[str, str],
        body: bytes,
        peer: Any,
    ) -> None:
        """One request; `path` still has its escapes."""
        if verb not in VERBS:
            self._front.answer(call, wrong_verb(*VERBS))
            return
        try:
            form = forms.form_of(query, headers.get("content-type", ""), body, verb)
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
                headers,
                peer,
                lambda: self._carry_out(call, verb, wanted),
            )
        else:
            self._carry_out(call, verb, wanted)

    def _carry_out(self, call: int, verb: str, wanted: forms.Wanted) -> None:
        try:
            if wanted.wait and not wanted.quorum:
                self._wait(call, wanted)
            elif verb in ("GET", "HEAD") and not wanted.quorum:
                self._read(call, wanted)
            else:
                self._propose(call, wanted)
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

    def _propose(self, call: int, wanted: forms.Wanted) -> None:
        node = self._node
        if node.stopping:
            raise grpc_errors.STOPPED()
        node.out.converters[call] = _Failing(self, call)

        def answer(_: Any, result: Any) -> None:
            node.out.converters.pop(call, None)
            if isinstance(result, V2Error):
                self._refuse(call, result)
            else:
                self._tell(call, result, wanted.no_value)

        try:
            node.v2.propose(wanted.request, call, answer)
        except grpc_errors.EtcdError:
            node.out.converters.pop(call, None)
            raise

    def _tell(self, call: int, event: Event, no_value: bool) -> None:
        body = event.to_json(KEYS_PREFIX, no_value=no_value).encode("utf-8", "replace") + b"\n"
        node = self._node
        headers = [
            *self._fixed,
            ("X-Etcd-Index", str(event.etcd_index)),
            ("X-Raft-Index", str(node.committed)),
            ("X-Raft-Term", str(node.term)),
        ]
        self._front.answer_canonical(call, 201 if event.created else 200, headers, body)

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
                line = event.to_json(KEYS_PREFIX).encode("utf-8", "replace") + b"\n"
                if self._streams.http_send(call, line):
                    self._blocked.add(call)
        elif len(waiter.events) > BLOCKED_EVENTS_MAX:
            self._node.v2.store.hub.remove(waiter)
        if waiter.removed:
            self._forget(call)
            self._streams.http_finish(call)

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


class _Failing:
    """Stands in the outbox for a proposed request, should it fail before it is applied."""

    __slots__ = ("_call", "_keys")

    def __init__(self, keys: Keys, call: int) -> None:
        self._keys = keys
        self._call = call

    def reply(self, message: bytes) -> None:
        """Answers come by the proposal itself."""

    def fail(self, code: int, text: str) -> None:
        """It was not decided."""
        self._keys.refuse(self._call, text)

    def send(self, message: bytes) -> bool:
        """Never called."""
        return False
