"""make-mirror: copy a key range to another cluster, then follow its changes."""

from __future__ import annotations

from threading import Thread
from time import sleep
from typing import TYPE_CHECKING

from corum.cli.command import bad_arguments
from corum.cli.etcdctl.context import Context, prefix_end, to_bytes
from corum.client import methods
from corum.client._sync.session import Session
from corum.client._sync.watching import Watching
from corum.client.errors import ClientError
from corum.client.options import Options, Tls
from corum.client.watch_state import WatchState
from corum.pb import rpc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corum.cli.command import Invocation
    from corum.pb import kv as kvpb

REPORT_S = 30
PAGE_KEYS = 1_000
BOTH = "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one"


def make_mirror(invocation: Invocation) -> int:
    with Context(invocation) as context:
        if len(context.arguments) != 1:
            raise bad_arguments("make-mirror takes one destination argument")
        values = context.values
        if values.string("dest-prefix") and values.boolean("no-dest-prefix"):
            raise bad_arguments(BOTH)
        with _destination(context, context.arguments[0]) as destination:
            mirror = Mirror(context, destination)
            Thread(target=mirror.report, daemon=True).start()
            try:
                mirror.run()
            except ClientError as error:
                raise context.failure(error) from None
        return 0


def _destination(context: Context, endpoint: str) -> Session:
    values = context.values
    files = [values.string(f"dest-{name}") or None for name in ("cacert", "cert", "key")]
    tls = None
    if any(files) or not values.boolean("dest-insecure-transport"):
        tls = Tls(ca_file=files[0], cert_file=files[1], key_file=files[2])
    user, password = values.string("dest-user"), values.string("dest-password")
    if user and not password:
        user, _, password = user.partition(":")
    options = Options(
        [endpoint], user=user or None, password=password, tls=tls, timeout_s=context.timeout_s
    )
    session = Session(options)
    try:
        session.login()
    except ClientError as error:
        raise context.failure(error, code=2) from None
    return session


class Mirror:
    """The copying; `count` operations have been done at the destination."""

    def __init__(self, context: Context, destination: Session) -> None:
        values = context.values
        self._source = context.session
        self._destination = destination
        self._prefix = to_bytes(values.string("prefix"))
        self._new_prefix = self._prefix
        if values.boolean("no-dest-prefix"):
            self._new_prefix = b""
        elif values.string("dest-prefix"):
            self._new_prefix = to_bytes(values.string("dest-prefix"))
        self._ops_max = max(values.integer("max-txn-ops"), 1)
        self._revision = values.integer("rev")
        self.count = 0

    def report(self) -> None:
        """The number of operations, every 30 seconds."""
        while True:
            print(self.count, flush=True)
            sleep(REPORT_S)

    def run(self) -> None:
        """Everything there is, then every change. Without an end."""
        start = self._revision or self._copy() + 1
        request = rpc.WatchCreateRequest(start_revision=start, fragment=True)
        request.key, request.range_end = self._range()
        with Watching(self._source, WatchState(request)) as watching:
            for response in watching:
                self._follow(response.message().events)

    def _range(self) -> tuple[bytes, bytes]:
        if self._prefix:
            return self._prefix, prefix_end(self._prefix)
        return b"\0", b"\0"

    def _copy(self) -> int:
        """Copy all keys as of one revision; that revision."""
        begin, end = self._range()
        revision = 0
        while True:
            request = rpc.RangeRequest(key=begin, range_end=end, revision=revision, limit=PAGE_KEYS)
            response = self._source.call(methods.RANGE, request)
            revision = revision or response.header.revision
            for pair in response.kvs:
                self._send([self._put(pair)])
            if not response.more:
                return revision
            begin = response.kvs[-1].key + b"\0"

    def _follow(self, events: Iterable[kvpb.Event]) -> None:
        """Apply events, those of one revision together where a transaction can hold them."""
        waiting: list[rpc.RequestOp] = []
        keys: set[bytes] = set()
        revision = 0
        for event in events:
            pair = event.kv
            full = len(waiting) >= self._ops_max or pair.key in keys
            if waiting and (pair.mod_revision != revision or full):
                self._send(waiting)
                waiting, keys = [], set()
            revision = pair.mod_revision
            keys.add(pair.key)
            waiting.append(self._delete(pair) if event.type else self._put(pair))
        if waiting:
            self._send(waiting)

    def _put(self, pair: kvpb.KeyValue) -> rpc.RequestOp:
        return rpc.RequestOp(
            request_put=rpc.PutRequest(key=self._renamed(pair.key), value=pair.value)
        )

    def _delete(self, pair: kvpb.KeyValue) -> rpc.RequestOp:
        return rpc.RequestOp(
            request_delete_range=rpc.DeleteRangeRequest(key=self._renamed(pair.key))
        )

    def _renamed(self, key: bytes) -> bytes:
        return self._new_prefix + key[len(self._prefix) :]

    def _send(self, operations: list[rpc.RequestOp]) -> None:
        self._destination.call(methods.TXN, rpc.TxnRequest(success=operations))
        self.count += len(operations)
