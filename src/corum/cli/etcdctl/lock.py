"""lock and elect: a key of one's own under a name; the oldest one holds.

The key lives as long as the command: it hangs on a lease that is renewed meanwhile. Whoever waits
watches the key created before its own, so that the end of a holder wakes one waiter only.
"""

from __future__ import annotations

import os
import signal
import sys
from threading import Event, Thread
from typing import TYPE_CHECKING

from corum.cli.command import EXIT_ERROR, ExitError, bad_arguments
from corum.cli.etcdctl.context import Context, prefix_end, to_bytes
from corum.cli.etcdctl.kv import show_get
from corum.cli.etcdctl.lease import renewals
from corum.client import methods
from corum.client._sync.watching import Watching
from corum.client.errors import ClientError
from corum.client.watch_state import WatchState
from corum.pb import rpc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from corum.cli.command import Invocation

ELECTION_TTL_S = 60
INTERRUPTED = "context canceled"
LOCK_USAGE = "lock takes a lock name argument and an optional command to execute"
ELECT_USAGE = "elect takes one election name argument and an optional proposal argument"


class _Interrupted(Exception):
    """SIGINT or SIGTERM has come."""


class Ownership:
    """One key `<name>/<lease>` and the lease below it; leaving the block gives both up."""

    def __init__(self, context: Context, name: bytes, value: bytes, ttl_s: int) -> None:
        self._context = context
        self._prefix = name + b"/"
        request = rpc.LeaseGrantRequest(TTL=ttl_s)
        self.lease = context.call(methods.LEASE_GRANT, request).ID
        self.lost = Event()
        Thread(target=self._renew, daemon=True).start()
        self.key = self._prefix + f"{self.lease:x}".encode()
        try:
            self.revision, self.header_revision = self._put(value)
        except BaseException:  # an interrupt too: the key may be there already
            self._revoke()
            raise

    def __enter__(self) -> Ownership:
        return self

    def __exit__(self, *_: object) -> None:
        self._revoke()

    def _revoke(self) -> None:
        try:
            self._context.session.call(methods.LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=self.lease))
        except ClientError:
            pass  # it runs out by itself

    def wait(self) -> None:
        """Return when every key created before ours is gone."""
        while True:
            request = rpc.RangeRequest(
                key=self._prefix,
                range_end=prefix_end(self._prefix),
                max_create_revision=self.revision - 1,
                sort_order=rpc.RangeRequest.DESCEND,
                sort_target=rpc.RangeRequest.CREATE,
                limit=1,
            )
            response = self._context.call(methods.RANGE, request)
            if not response.kvs:
                self.header_revision = response.header.revision
                return
            self._wait_deleted(response.kvs[0].key, response.header.revision)

    def held(self) -> rpc.RangeResponse:
        return self._context.call(methods.RANGE, rpc.RangeRequest(key=self.key))

    def _put(self, value: bytes) -> tuple[int, int]:
        """Create the key; its create revision and the store's."""
        absent = rpc.Compare(
            target=rpc.Compare.CREATE, result=rpc.Compare.EQUAL, key=self.key, create_revision=0
        )
        put = rpc.RequestOp(request_put=rpc.PutRequest(key=self.key, value=value, lease=self.lease))
        read = rpc.RequestOp(request_range=rpc.RangeRequest(key=self.key))
        request = rpc.TxnRequest(compare=[absent], success=[put], failure=[read])
        response = self._context.call(methods.TXN, request)
        if response.succeeded:
            return response.header.revision, response.header.revision
        return response.responses[0].response_range.kvs[0].create_revision, response.header.revision

    def _wait_deleted(self, key: bytes, revision: int) -> None:
        state = WatchState(
            rpc.WatchCreateRequest(
                key=key, start_revision=revision + 1, filters=[rpc.WatchCreateRequest.NOPUT]
            )
        )
        try:
            with Watching(self._context.session, state) as watching:
                for response in watching:
                    if response.events:
                        return
        except ClientError as error:
            raise self._context.failure(error) from None

    def _renew(self) -> None:
        try:
            for _ in renewals(self._context, self.lease):
                pass
        except ExitError:
            pass
        self.lost.set()


def lock(invocation: Invocation) -> int:
    with Context(invocation) as context:
        if not context.arguments:
            raise bad_arguments(LOCK_USAGE)
        name, command = to_bytes(context.arguments[0]), context.arguments[1:]
        _on_signals()
        try:
            with Ownership(context, name, b"", context.values.integer("ttl")) as own:
                own.wait()
                if command:
                    return _execute(own, command)
                show_get(context.out, own.held())
                _hold(own)
        except _Interrupted:
            raise ExitError(EXIT_ERROR, INTERRUPTED) from None
        return 0


def _execute(own: Ownership, command: Sequence[str]) -> int:
    import subprocess

    environment = {
        **os.environ,
        "ETCD_LOCK_KEY": own.key.decode("utf-8", "surrogateescape"),
        "ETCD_LOCK_REV": str(own.header_revision),
    }
    sys.stdout.flush()
    try:
        status = subprocess.run(list(command), env=environment, check=False).returncode
    except OSError:
        text = f'exec: "{command[0]}": executable file not found in $PATH'
        raise ExitError(EXIT_ERROR, text) from None
    if status < 0:
        raise ExitError(EXIT_ERROR, f"signal: {signal.strsignal(-status)}".lower())
    if status:
        raise ExitError(status, f"exit status {status}")
    return 0


def elect(invocation: Invocation) -> int:
    with Context(invocation) as context:
        words, listen = context.arguments, context.values.boolean("listen")
        if not 1 <= len(words) <= 2:
            raise bad_arguments(ELECT_USAGE)
        if len(words) == 1 and not listen:
            raise bad_arguments("no proposal argument but -l not set")
        if len(words) == 2 and listen:
            raise bad_arguments("proposal given but -l is set")
        _on_signals()
        name = to_bytes(words[0])
        if listen:
            try:
                _observe(context, name + b"/")
            except _Interrupted:
                pass
            return 0
        try:
            with Ownership(context, name, to_bytes(words[1]), ELECTION_TTL_S) as own:
                own.wait()
                show_get(context.out, own.held())
                _hold(own)
        except _Interrupted:
            raise ExitError(EXIT_ERROR, INTERRUPTED) from None
        return 0


def _observe(context: Context, prefix: bytes) -> None:
    """Print the present leader and every later one, and each of its proposals."""
    request = rpc.RangeRequest(
        key=prefix,
        range_end=prefix_end(prefix),
        sort_order=rpc.RangeRequest.ASCEND,
        sort_target=rpc.RangeRequest.CREATE,
        limit=1,
    )
    shown = (b"", 0)
    while True:
        response = context.call(methods.RANGE, request)
        for leader in response.kvs:
            if (leader.key, leader.mod_revision) != shown:
                shown = (leader.key, leader.mod_revision)
                show_get(context.out, response)
        state = WatchState(
            rpc.WatchCreateRequest(
                key=prefix,
                range_end=prefix_end(prefix),
                start_revision=response.header.revision + 1,
            )
        )
        try:
            with Watching(context.session, state) as watching:
                next(r for r in watching if r.events)
        except ClientError as error:
            raise context.failure(error) from None


def _hold(own: Ownership) -> None:
    """Until a signal comes; the loss of the lease ends the program."""
    try:
        own.lost.wait()
    except _Interrupted:
        return
    raise ExitError(EXIT_ERROR, "session expired")


def _on_signals() -> None:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Interrupted

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
