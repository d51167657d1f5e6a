"""Work on the whole backend: rewriting it without holes, sending it away as a bbolt file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from corum import errors
from corum.backend.bbolt import Image, image_of
from corum.server.streaming import SnapshotStream
from corum.values import NS_PER_MS

if TYPE_CHECKING:
    from corum.server.node import Node


DEFRAGMENT_POLL_NS: Final = 10 * NS_PER_MS


class Defragmentation:
    """One rewrite at a time; commits wait meanwhile, reads and writes go on.

    What a compaction has deleted leaves the file first: its last slice, then a commit, then the
    rewrite, then the new file takes the old one's place.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting: list[Callable[[BaseException | None], None]] = []
        self._job: Any = None
        self._committing = False
        self._began_ns = 0
        self.observe: Callable[[int], None] = lambda took_ns: None
        """Told how long each rewrite took."""

    @property
    def active(self) -> bool:
        """Does the loop have to come back soon?"""
        return bool(self._waiting)

    def start(self, done: Callable[[BaseException | None], None]) -> None:
        """Rewrite; `done(error or None)`. A second call waits for the first one's end."""
        self._waiting.append(done)

    def step(self) -> None:
        """Once per turn: whatever can be done next."""
        node = self._node
        if self._job is None and not self._committing and node.store.compaction is None:
            self._committing = True
            node.commits.when_durable(self._begin)

    def _begin(self) -> None:
        self._committing = False
        self._job = self._node.backend.defragment()
        if self._job is not None:
            self._node.commits.paused = True
            self._began_ns = self._node.ports.clock_ns()
            self._node.ports.jobs.start(self._job.run, self._rewritten)

    def _rewritten(self, result: Any) -> None:
        self._node.backend.defragmented(self._job)
        self.observe(self._node.ports.clock_ns() - self._began_ns)
        self._job = None
        self._node.commits.paused = False
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done(result if isinstance(result, BaseException) else None)


DOWNLOADS_MAX: Final = 16
"""Snapshots being sent to clients at once; to plan one takes a worker a pass over the backend."""
VIEWS_MAX: Final = 64
"""Views that are open when clients' snapshots and hashes are refused."""


def check_views(node: Node) -> None:
    """Raises TOO_MANY_REQUESTS: the backend's readers are not without number."""
    if node.backend.open_views >= VIEWS_MAX:
        raise errors.TOO_MANY_REQUESTS()


class Downloads:
    """Snapshots on their way to clients."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._streams: dict[int, SnapshotStream] = {}
        self.observe: Callable[[int], None] = lambda took_ns: None
        """Told how long each took."""

    def send_to_client(self, call: int) -> None:
        """Begin to send the backend as it is now."""
        node = self._node
        if len(self._streams) >= DOWNLOADS_MAX:
            raise errors.TOO_MANY_REQUESTS()
        view, began_ns = node.backend.view(), node.ports.clock_ns()

        def open_image() -> tuple[Image, Callable[[], None]]:
            return image_of(view), view.close

        stream = SnapshotStream(
            call,
            open_image,
            node.config.cluster_version if node.config.reports_storage else "",
            node.out,
            node.ports.jobs,
            lambda done: self._finished(done, view, began_ns),
        )
        self._streams[call] = stream
        stream.start()

    def _finished(self, call: int, view: Any, began_ns: int) -> None:
        self._streams.pop(call, None)
        self.observe(self._node.ports.clock_ns() - began_ns)
        view.close()

    def blocked(self, call: int) -> bool:
        """The call's queue is over its mark; False when it is no download."""
        stream = self._streams.get(call)
        if stream is None:
            return False
        stream.blocked()
        return True

    def writable(self, call: int) -> bool:
        """The call's queue has room again; False when it is no download."""
        stream = self._streams.get(call)
        if stream is None:
            return False
        stream.writable()
        return True

    def cancel(self, call: int) -> None:
        """The call is gone."""
        stream = self._streams.get(call)
        if stream is not None:
            stream.cancel()
