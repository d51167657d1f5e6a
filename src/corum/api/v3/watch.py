"""The Watch service: requests of a stream to the hub, the hub's answers to the stream (rpc §5)."""

from __future__ import annotations

from typing import Any, Final

from corum import errors
from corum.api.v3.calls import Service, decoded
from corum.pb import rpc
from corum.server.auth import EarlyToken
from corum.server.node import Node

PROGRESS_JITTER: Final = 0.1
UNREAD_MAX: Final = 1_000
"""Requests of a stream that are answered while its client reads nothing; etcd reads no more of them
then, and so stops the client, which a client that means well does not notice."""


class WatchService(Service):
    """One bidirectional method; every message creates, cancels or asks for progress."""

    PATH = "/etcdserverpb.Watch/"

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._unread: dict[int, int] = {}
        """Answers to requests since a stream was blocked."""

    def streams(self) -> dict[str, Any]:
        """(open, message, end) by method name."""
        return {"Watch": (self.opened, self.message, self.half_closed)}

    def opened(self, call: int, meta: Any) -> None:
        """A stream began; its progress interval carries up to 10 % of jitter."""
        node = self.node
        node.check_open(meta)
        interval = node.config.watch_progress_ns
        jitter = int(interval * PROGRESS_JITTER * node.dice.random())
        node.watch.open(call, node.now_ns, interval + jitter)

    def half_closed(self, call: int) -> bool:
        """The client sends no more; as in etcd, what it watches goes on (True: keep it open)."""
        return True

    def closed(self, call: int) -> None:
        """The call is gone."""
        self._unread.pop(call, None)
        self.node.watch.close(call)

    def message(self, call: int, message: bytes, meta: Any) -> None:
        """A WatchRequest; one without a member is ignored."""
        if self.node.watch.is_blocked(call):
            unread = self._unread[call] = self._unread.get(call, 0) + 1
            if unread > UNREAD_MAX:
                raise errors.TOO_MANY_REQUESTS()
        elif self._unread:
            self._unread.pop(call, None)
        request = decoded(rpc.WatchRequest, message)
        kind = request.WhichOneof("request_union")
        hub = self.node.watch
        self.node.applier.tell_watchers()
        if kind == "create_request":
            output = self._create(call, request.create_request, meta)
        elif kind == "cancel_request":
            output = hub.cancel(call, request.cancel_request.watch_id)
        elif kind == "progress_request":
            output = hub.progress(call)
        else:
            return
        self.node.out.messages += output

    def _create(self, call: int, request: Any, meta: Any) -> list[tuple[int, bytes]]:
        node = self.node
        key = request.key or b"\0"
        try:
            node.gate.read(meta, key, request.range_end)
        except EarlyToken:
            raise
        except errors.EtcdError as error:
            return node.watch.refuse(
                call, f"rpc error: code = {errors.code_name(error.code)} desc = {error.text}"
            )
        filters = request.filters
        return node.watch.create(
            call,
            key,
            request.range_end,
            start_revision=request.start_revision,
            watch_id=request.watch_id,
            progress_notify=request.progress_notify,
            no_put=rpc.WatchCreateRequest.NOPUT in filters,
            no_delete=rpc.WatchCreateRequest.NODELETE in filters,
            prev_kv=request.prev_kv,
            fragment=request.fragment,
        )
