"""The wires between the members of a local cluster, and scissors for them.

Every member advertises the address of a *relay* of this process, which passes TCP on to where the
member really listens. All members must be told the same address of one of them, so a relay cannot
know by its port who calls; it asks the kernel whose socket the other end is (`owners`). This works
for any etcd, with TLS too, and without root.

A direction that is cut loses nothing and delivers nothing, as TCP over a dead wire: bytes and the
news that somebody hung up wait in the sender's buffers, dials stay unanswered, and after healing
all goes on unless the two gave up meanwhile.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar, cast

from corum.cluster.owners import GONE, owner

T = TypeVar("T")
LOOPBACK: Final = "127.0.0.1"
CONNECTIONS_MAX: Final = 128
"""Per member, on average; further ones are refused (a pair of members keeps fewer than ten)."""
UNANSWERED_BYTES_MAX: Final = 1 << 16
"""Read from a caller whose dial waits, so that we hear of it when it gives up."""
CALL_TIMEOUT_S: Final = 10.0


class Network:
    """Relays by member name, on a thread of their own. Methods may be called from any thread."""

    def __init__(self, processes: Callable[[], Mapping[int, str]]) -> None:
        """`processes()`: the names of the members by process id, at present."""
        self._processes = processes
        self._servers: dict[str, asyncio.Server] = {}
        self._cut: frozenset[tuple[str, str]] = frozenset()
        self._halves: set[_Half] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="corum-network", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def _do(self, action: Callable[[], T]) -> T:
        async def acted() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(acted(), self._loop).result(CALL_TIMEOUT_S)

    # ---- for the cluster

    def open(self, name: str, listener: socket.socket, target_port: int) -> None:
        """Pass on what arrives at `listener` (bound, becomes ours) to a member's own port."""
        opening = self._loop.create_server(
            lambda: _Half(self, name, target_port), sock=listener, start_serving=True
        )
        self._servers[name] = asyncio.run_coroutine_threadsafe(opening, self._loop).result(
            CALL_TIMEOUT_S
        )

    def cut(self, links: Collection[tuple[str, str]]) -> None:
        """From now on exactly these (sender, receiver) hear nothing of each other."""

        def act() -> None:
            self._cut = frozenset(links)
            for half in list(self._halves):
                half.settle()
                if half.other is not None:
                    half.other.settle()  # may be lost already, which can be told from now on

        self._do(act)

    @property
    def links_cut(self) -> frozenset[tuple[str, str]]:
        """(sender, receiver), as told to `cut`."""
        return self._cut

    @property
    def ends(self) -> int:
        """Ends of connections at our relays, now: two for each that was let through."""
        return len(self._halves)

    def forget(self, name: str) -> None:
        """Close a member's relay."""
        server = self._servers.pop(name, None)
        if server is not None:
            self._do(server.close)

    def close(self) -> None:
        """Hang up everywhere and end the thread. Idempotent."""
        if not self._thread.is_alive():
            return

        async def act() -> None:
            self._is_closing = True
            for server in self._servers.values():
                server.close()
            await asyncio.sleep(0)  # what was just accepted gets its half
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            for half in list(self._halves):
                half.abort()
            await asyncio.sleep(0)  # they hear that they are lost

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(CALL_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT_S)

    # ---- for connections, on the thread

    def is_cut(self, source: str, target: str) -> bool:
        """Does `target` hear nothing of `source`? Who is no member is always heard."""
        return (source, target) in self._cut

    def joined(self, half: _Half) -> bool:
        """A half lives; False when there are too many."""
        if len(self._halves) >= 2 * CONNECTIONS_MAX * max(len(self._servers), 1):
            return False
        self._halves.add(half)
        return True

    def left(self, half: _Half) -> None:
        """It is gone."""
        self._halves.discard(half)

    def caller(self, near: tuple[str, int], far: tuple[str, int]) -> str | None:
        """The member at the other end, "" for anybody else, None when it has hung up."""
        members = self._processes()
        pid = owner(far, near, members)
        if pid == GONE:
            return None
        return "" if pid is None else members[pid]

    def dial(self, half: _Half, port: int) -> None:
        """Connect to the member itself."""
        if self._is_closing:  # accepted a moment ago: nobody would end the dial
            half.abort()
            return

        async def dialled() -> None:
            try:
                await self._loop.create_connection(lambda: _Half.answering(half), LOOPBACK, port)
            except OSError:
                half.abort()  # the caller is told as by a port where nobody listens, a bit later

        task = self._loop.create_task(dialled())
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)


class _Half(asyncio.Protocol):
    """One end of a relayed connection: what is read here is written at the other half.

    While it is cut, at most what one read gives is held; then the kernel's buffers fill.
    """

    def __init__(self, network: Network, target: str, target_port: int = 0) -> None:
        self._network = network
        self._source = ""
        self._target = target
        self._target_port = target_port
        self.other: _Half | None = None
        self._transport: asyncio.Transport | None = None
        self._held: list[bytes] = []
        self._is_lost = False
        self._is_dialling = False
        self._is_other_full = False

    @classmethod
    def answering(cls, caller: _Half) -> _Half:
        """The half at the member that `caller` called."""
        half = cls(caller._network, caller._source)
        half._source = caller._target
        half.other, caller.other = caller, half
        return half

    # ---- asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._network.joined(self):
            self.abort()
            return
        if self.other is None:
            info: Callable[[str], Any] = transport.get_extra_info
            source = self._network.caller(info("sockname")[:2], info("peername")[:2])
            if source is None:
                self.abort()  # it may be one that nobody is to hear
                return
            self._source = source
            self.settle()
        else:
            self.settle()
            self.other.settle()

    def data_received(self, data: bytes) -> None:
        other = self.other
        if other is None or self._network.is_cut(self._source, self._target):
            self._held.append(data)
            self._flow()
        else:
            other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._network.left(self)
        self.settle()

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other._is_other_full = True
            self.other._flow()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other._is_other_full = False
            self.other._flow()

    # ---- ours

    def write(self, data: bytes) -> None:
        """Towards the process at this end; lost when it has hung up."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        """Hang up now."""
        if self._transport is not None:
            self._transport.abort()

    def settle(self) -> None:
        """Do what the wires, as they are now, allow."""
        is_cut = self._network.is_cut
        if is_cut(self._source, self._target):
            self._flow()
            return
        if self.other is None:
            if not (is_cut(self._target, self._source) or self._is_lost or self._is_dialling):
                self._is_dialling = True
                self._network.dial(self, self._target_port)
            return
        for data in self._held:
            self.other.write(data)
        self._held.clear()
        if self._is_lost and self.other._transport is not None:
            self.other._transport.close()
        self._flow()

    def _flow(self) -> None:
        """Read only what can be passed on."""
        if self._transport is None or self._is_lost or self._transport.is_closing():
            return
        if self.other is None:
            stuck = sum(map(len, self._held)) > UNANSWERED_BYTES_MAX
        else:
            stuck = self._network.is_cut(self._source, self._target) or self._is_other_full
        if stuck:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
