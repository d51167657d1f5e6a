"""The backend as a bbolt file for a client: made by a worker, sent as fast as the client reads.

Pieces of 32 KiB as etcd sends them, `remaining_bytes` counting the database alone, and a last
message
with the SHA-256 of it (rpc §8). At most `PIECES` of them are in memory beside the client's queue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from corum.pb import rpc
from corum.server.commits import Jobs
from corum.server.outbox import Outbox

BLOB_BYTES: Final = 32 * 1024
PIECES: Final = 32


class Image(Protocol):
    """A database file to be (see `backend.bbolt.Image`)."""

    size: int

    def chunks(self) -> Iterator[bytes]: ...


class SnapshotStream:
    """One client's download."""

    def __init__(
        self,
        call: int,
        open_image: Callable[[], tuple[Image, Callable[[], None]]],
        version: str,
        out: Outbox,
        jobs: Jobs,
        finished: Callable[[int], None],
    ) -> None:
        """`open_image` runs in a worker: the image, and what frees what it reads from."""
        self.call = call
        self._open = open_image
        self._version = version
        self._out = out
        self._jobs = jobs
        self._finished = finished
        self._pieces: Iterator[bytes] | None = None
        self._close: Callable[[], None] = lambda: None
        self._blocked = False
        self._working = False
        self._gone = False

    def start(self) -> None:
        """Begin with the first pieces."""
        self._work()

    def blocked(self) -> None:
        """The client does not keep up: wait for `writable`."""
        self._blocked = True

    def writable(self) -> None:
        """There is room again."""
        self._blocked = False
        self._work()

    def cancel(self) -> None:
        """The call is gone."""
        self._gone = True
        if not self._working:
            self._end()

    def _work(self) -> None:
        if not (self._working or self._blocked or self._gone):
            self._working = True
            self._jobs.start(self._produce, self._produced)

    def _produce(self) -> tuple[list[bytes], bool]:
        """Worker: the next messages, and whether they are the last."""
        if self._gone:
            return [], True
        if self._pieces is None:
            image, self._close = self._open()
            self._pieces = self._messages(image)
        batch: list[bytes] = []
        for message in self._pieces:
            batch.append(message)
            if len(batch) == PIECES:
                return batch, False
        return batch, True

    def _messages(self, image: Image) -> Iterator[bytes]:
        digest, remaining = hashlib.sha256(), image.size
        for chunk in image.chunks():
            for at in range(0, len(chunk), BLOB_BYTES):
                blob = chunk[at : at + BLOB_BYTES]
                digest.update(blob)
                remaining -= len(blob)
                yield self._message(remaining, blob)
        yield self._message(0, digest.digest())

    def _message(self, remaining: int, blob: bytes) -> bytes:
        response = rpc.SnapshotResponse(remaining_bytes=remaining, blob=blob, version=self._version)
        return response.SerializeToString()

    def _produced(self, result: Any) -> None:
        self._working = False
        if self._gone:
            self._end()
        elif isinstance(result, BaseException):
            self._out.error(self.call, result)
            self._end()
        else:
            batch, last = result
            self._out.messages += [(self.call, message) for message in batch]
            if last:
                self._out.finish(self.call)
                self._end()
            else:
                self._jobs.start(lambda: None, lambda _: self._work())

    def _end(self) -> None:
        self._gone = True
        self._close()
        self._finished(self.call)
