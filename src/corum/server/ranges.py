"""Serving reads from the store: small ones at once, big ones by a worker on a view (DESIGN D5)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any, Final, Protocol, TypeAlias

from corum import errors
from corum.mvcc.reads import RangeResult
from corum.mvcc.store import RangeJob, Store
from corum.mvcc.txn import range_options
from corum.pb.wire import varint
from corum.server.apply import Applier, kv_fields, range_body, range_tail
from corum.server.commits import Jobs
from corum.server.headers import Headers
from corum.server.outbox import Outbox

CHUNK_BYTES: Final = 262_144
"""KeyValues in one message of a RangeStream, at least, and one KeyValue more."""
JOBS_MAX: Final = 32
"""Big ranges that workers have or that wait for one, each with its view; others wait without."""

ForCall: TypeAlias = Callable[[int, Any], None]
"""Does something for a call, with its request or with its result."""


class World(Protocol):
    """What ranges need of the ports: workers, and a clock to tell how long they take."""

    @property
    def jobs(self) -> Jobs: ...
    def clock_ns(self) -> int: ...


class Ranges:
    """`serve`, `stream` and `read_txn` are what a confirmed read runs."""

    def __init__(
        self, store: Store, applier: Applier, headers: Headers, out: Outbox, world: World
    ) -> None:
        self._store = store
        self._applier = applier
        self._headers = headers
        self._out = out
        self._jobs = world.jobs
        self._later: dict[int, tuple[ForCall, Any]] = {}
        """Calls that wait for room, or for what a worker is counting; bounded as calls are."""
        self._jobs_out = 0
        self.ranges_total = 0
        self._clock = world.clock_ns
        self._in_workers = 0
        self.observe: Callable[[int, int], None] = lambda took_ns, times: None
        """Told how long so many ranges took each."""

    def timed(self, serve: Callable[[Any], None], reads: Any) -> None:
        """Serve a batch of reads: its time is shared evenly by its ranges, but for the big ones,
        which workers measure."""
        before = self.ranges_total - self._in_workers
        start_ns = self._clock()
        serve(reads)
        count = self.ranges_total - self._in_workers - before
        if count > 0:
            self.observe((self._clock() - start_ns) // count, count)

    def _work(self, call: int, job: RangeJob, run: Callable[[], Any], send: ForCall) -> None:
        """Have a worker `run` what serves a big one."""
        self._in_workers += 1
        self._jobs_out += 1
        start_ns = self._clock()

        def ended(result: object) -> None:
            self.observe(self._clock() - start_ns, 1)
            send(call, result)
            self._finish(job)

        self._jobs.start(run, ended)

    def serve_key(self, call: int, key: bytes) -> None:
        """Answer a RangeRequest for one key and nothing else, the commonest read."""
        self.ranges_total += 1
        store = self._store
        kv = store.get(key)
        body = b"" if kv is None else b"\x12" + varint(len(kv)) + kv + b"\x20\x01"
        self._out.replies.append((call, self._headers.at(store.revision) + body))

    def serve(self, call: int, request: Any) -> None:
        """Answer a RangeRequest."""
        self.ranges_total += 1
        self._serve(call, request)

    def _serve(self, call: int, request: Any) -> None:
        plan = self._planned(call, request, self._serve)
        if isinstance(plan, RangeResult):
            header = self._headers.at(plan.revision)
            self._out.replies.append((call, range_body(plan, header)))
        elif plan is not None:
            header = self._headers.at(self._store.revision)
            self._work(call, plan, lambda: big_body(plan, header), self._out.answer)

    def stream(self, call: int, request: Any) -> None:
        """Answer a RangeRequest in chunks (RangeStream, 3.7)."""
        self.ranges_total += 1
        self._stream(call, request)

    def _stream(self, call: int, request: Any) -> None:
        plan = self._planned(call, request, self._stream)
        if isinstance(plan, RangeResult):
            header = self._headers.at(plan.revision)
            self._send_chunks(call, range_chunks([plan.kvs], header, lambda: range_tail(plan)))
        elif plan is not None:
            header = self._headers.at(self._store.revision)

            def run() -> list[bytes]:
                return range_chunks(plan.stream(), header, lambda: _tail_of(plan))

            self._work(call, plan, run, self._send_chunks)

    def _send_chunks(self, call: int, chunks: Any) -> None:
        if isinstance(chunks, BaseException):
            self._out.error(call, chunks)
            return
        self._out.messages += [(call, chunk) for chunk in chunks]
        self._out.finish(call)

    def read_txn(self, call: int, request: Any) -> None:
        """Answer a transaction without writes."""
        self._out.answer(call, self._applier.read_txn(request))

    def now(self, request: Any) -> RangeResult:
        """The result at once, for a range that is known to be small."""
        return self._store.range(request.key, request.range_end, range_options(request))

    def _finish(self, job: RangeJob) -> None:
        self._store.finish(job)
        self._jobs_out -= 1
        for call in tuple(self._later):
            if self._crowded:
                return
            answer, request = self._later.pop(call)
            answer(call, request)

    def cancel(self, call: int) -> None:
        """The call is gone; what a worker does for it already is done in vain."""
        self._later.pop(call, None)

    @property
    def _crowded(self) -> bool:
        return self._jobs_out >= JOBS_MAX

    def _planned(self, call: int, request: Any, again: ForCall) -> RangeResult | RangeJob | None:
        """How to serve `request`; None when the call was refused, or has to wait: `again` is then
        called with it later."""
        try:
            plan = self._store.plan_range(
                request.key, request.range_end, range_options(request), crowded=self._crowded
            )
        except errors.EtcdError as error:
            self._out.error(call, error)
            return None
        if plan is None:
            self._later[call] = again, request
        return plan


def big_body(job: RangeJob, header: bytes) -> list[bytes]:
    """`range_body` of a job, by a worker, in pieces that nobody ever joins: to copy a million
    KeyValues at once holds the interpreter, and with it everybody's puts, for some 200 ms."""
    pieces = [header, *map(kv_fields, job.stream())]
    pieces.append(_tail_of(job))
    return pieces


def _tail_of(job: RangeJob) -> bytes:
    assert job.result is not None, "a stream that has ended has a result"
    return range_tail(job.result)


def range_chunks(
    pieces: Iterable[list[bytes]], header: bytes, tail: Callable[[], bytes]
) -> list[bytes]:
    """RangeStreamResponses: disjoint kvs; header, more and count come with the last."""
    chunks: list[bytes] = []
    waiting: list[bytes] = []
    for kvs in pieces:
        waiting += kvs
        ends = list(accumulate(map(len, waiting)))
        first = sent = 0
        while (last := bisect_left(ends, sent + CHUNK_BYTES)) < len(ends):
            chunks.append(kv_fields(waiting[first : last + 1], nested=1))
            first, sent = last + 1, ends[last]
        del waiting[:first]
    chunks.append(kv_fields(waiting, header, tail(), nested=1))
    return chunks
