"""A cluster of real processes inside a `with`: tests, experiments, demonstrations.

    with corum.LocalCluster(3) as cluster, corum.Client(cluster.endpoints) as client:
        client.put("greeting", "hello")
        cluster.kill(cluster.leader())
        print(client.get("greeting"))

Members are called m1, m2, ... unless they are given names. Everything is on the loopback interface.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from corum.cluster.network import Network
from corum.cluster.owners import can_tell
from corum.cluster.process import ClusterError, Json, LocalMember, free_listener, own_etcd, port_of

READY_TIMEOUT_S: Final = 60.0
LEADER_TIMEOUT_S: Final = 30.0
STATE_FILE: Final = "cluster.json"

Binary = str | os.PathLike[str] | Sequence[str]
"""A path, or the words before the flags."""


class LocalCluster:
    """See the module's docstring. One thread at a time, except that `log` is called by others.

    Where names may be given, none means all members.
    """

    def __init__(
        self,
        members: int | Sequence[str] = 3,
        *,
        directory: str | os.PathLike[str] | None = None,
        binary: Binary | Mapping[str, Binary] | None = None,
        flags: Sequence[str] = (),
        member_flags: Mapping[str, Sequence[str]] | None = None,
        client_ports: Sequence[int] = (),
        peer_ports: Sequence[int] = (),
        relayed: bool = True,
        log: Callable[[str, str], None] | None = None,
    ) -> None:
        """Prepare, start nothing yet. Raises ClusterError for what cannot be.

        directory: where data and logs are kept; the cluster of an earlier time goes on there.
            None: a temporary one, gone with the cluster.
        binary: another etcd than this Python's, for all members or by name.
        flags, member_flags: further flags of etcd, for all members or by name.
        client_ports, peer_ports: in the order of the members; else free ones.
        relayed: False lets members talk directly; then nothing can be cut.
        log: hears `(member's name, line)` of everything that they write.
        """
        names = [f"m{n + 1}" for n in range(members)] if isinstance(members, int) else list(members)
        if not names or len(set(names)) < len(names):
            raise ClusterError("a cluster needs members, each with a name of its own")
        self._is_temporary = directory is None
        self.directory = Path(directory or tempfile.mkdtemp(prefix="corum-cluster-")).absolute()
        self.members: dict[str, LocalMember] = {}
        self._binary, self._log = binary, log
        self._flags, self._member_flags = list(flags), dict(member_flags or {})
        members_now = self.members  # not `self`: a cluster that nobody holds any more shall go
        self._network = Network(lambda: _processes(members_now)) if relayed else None
        self._finalizer = weakref.finalize(self, _leave_nothing, self.members, self._network)
        try:
            known = self._known_ports(names)
            for number, name in enumerate(names):
                given = [ports[number : number + 1] for ports in (client_ports, peer_ports)]
                ports = [one[0] if one else 0 for one in given]
                self._make(name, *(ports if any(ports) else known.get(name, ports)))
            self._remember()
        except BaseException:
            self.close()
            raise
        everybody = self._everybody()
        for member in self.members.values():
            member.bootstrap = [f"--initial-cluster={everybody}", "--initial-cluster-state=new"]

    # ---- making members

    def _known_ports(self, names: list[str]) -> dict[str, list[int]]:
        file = self.directory / STATE_FILE
        if not file.exists():
            return {}
        known: dict[str, list[int]] = json.loads(file.read_text())["members"]
        if list(known) != names:
            raise ClusterError(f"{self.directory} holds a cluster of {', '.join(known)}")
        return known

    def _remember(self) -> None:
        """The ports: data on disk are of use only where the others expect them."""
        self.directory.mkdir(parents=True, exist_ok=True)
        ports = {m.name: [m.client_port, m.peer_port] for m in self.members.values()}
        (self.directory / STATE_FILE).write_text(json.dumps({"members": ports}) + "\n")

    def _make(self, name: str, client_port: int, peer_port: int) -> LocalMember:
        if not name or set(name) & set("/=, "):
            raise ClusterError(f"{name!r} cannot be a member's name")
        client, peer, own = free_listener(client_port), free_listener(peer_port), free_listener()
        with client, own, contextlib.ExitStack() as closed:
            if self._network is None:
                closed.enter_context(peer)
            member = LocalMember(
                name,
                self.directory / name,
                self._binary_of(name),
                [*self._flags, *self._member_flags.get(name, ())],
                client_port=port_of(client),
                peer_port=port_of(peer),
                listen_port=port_of(peer if self._network is None else own),
                log=self._log,
            )
        if self._network is not None:
            self._network.open(name, peer, member.listen_port)
        self.members[name] = member
        return member

    def _binary_of(self, name: str, given: Binary | None = None) -> list[str]:
        found = given
        if found is None:
            found = self._binary.get(name) if isinstance(self._binary, Mapping) else self._binary
        if found is None:
            return own_etcd()
        return [os.fspath(found)] if isinstance(found, str | os.PathLike) else list(found)

    def _everybody(self) -> str:
        return ",".join(f"{m.name}={m.peer_url}" for m in self.members.values())

    # ---- life

    def __enter__(self) -> LocalCluster:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process (at once: data that matter were in `directory` all the time).

        `stop` before it if they are to end in good order. Idempotent.
        """
        self._finalizer()
        if self._is_temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def start(self, *names: str, wait: bool = True) -> None:
        """Start those that do not run, and wait until they serve, unless told not to."""
        chosen = self._named(names)
        for member in chosen:
            if not member.is_running:
                member.spawn()
        if wait:
            self.wait_ready(*[member.name for member in chosen])

    def stop(self, *names: str) -> None:
        """SIGTERM to all of them, then wait: in good order, a leader hands over."""
        chosen = [member for member in self._named(names) if member.is_running]
        for member in chosen:
            member.terminate()
        for member in chosen:
            member.wait()

    def restart(self, *names: str, wait: bool = True) -> None:
        """One after the other: stop, start, wait until it serves."""
        for member in self._named(names):
            self.stop(member.name)
            self.start(member.name, wait=wait)

    def kill(self, *names: str) -> None:
        """SIGKILL."""
        for member in self._named(names):
            member.kill()

    def pause(self, *names: str) -> None:
        """Freeze (SIGSTOP)."""
        for member in self._named(names):
            member.pause()

    def resume(self, *names: str) -> None:
        """Go on after `pause`."""
        for member in self._named(names):
            member.resume()

    def wait_ready(self, *names: str, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until each of them serves linearizable reads (none named: each that runs)."""
        end = time.monotonic() + timeout_s
        for member in self._named(names):
            while not member.is_healthy():
                if not member.is_running:
                    if not names:
                        break
                    raise ClusterError(f"{member.name} {member.state}\n{member.tail()}")
                if time.monotonic() > end:
                    raise ClusterError(
                        f"{member.name} does not serve after {timeout_s:g} s\n{member.tail()}"
                    )
                time.sleep(0.02)

    def _named(self, names: Iterable[str]) -> list[LocalMember]:
        names = list(names)
        for name in names:
            if name not in self.members:
                raise ClusterError(f"no member {name}; there are {', '.join(self.members)}")
        return [self.members[name] for name in names or self.members]

    # ---- who is there

    @property
    def endpoints(self) -> list[str]:
        """Of all members, for a client."""
        return [member.endpoint for member in self.members.values()]

    def status(self, name: str) -> Json | None:
        """Maintenance.Status of a member in JSON's spelling, None when it does not answer."""
        (member,) = self._named((name,))
        if not member.is_running or member.is_paused:
            return None
        try:
            return member.ask("maintenance/status", {})
        except ClusterError:
            return None

    def leader(self, timeout_s: float = LEADER_TIMEOUT_S) -> str:
        """The member that leads: of those who say so, that of the highest term.

        Waits for one. Raises ClusterError when there is none within `timeout_s`.
        """
        end = time.monotonic() + timeout_s
        while True:
            found = {name: self.status(name) for name in self.members}
            claims = [
                (int(status["raftTerm"]), name)
                for name, status in found.items()
                if status and status.get("leader") == status["header"]["member_id"]
            ]
            if claims:
                return max(claims)[1]
            if time.monotonic() > end:
                raise ClusterError(f"no leader within {timeout_s:g} s")
            time.sleep(0.02)

    def followers(self) -> list[str]:
        """All members but the leader, running or not."""
        leader = self.leader()
        return [name for name in self.members if name != leader]

    # ---- who may hear whom

    @property
    def links_cut(self) -> frozenset[tuple[str, str]]:
        """(sender, receiver) of every direction that is cut."""
        return self._wires().links_cut if self._network else frozenset()

    def partition(self, *groups: Sequence[str]) -> None:
        """Members of different groups hear nothing of each other; replaces what was cut.

        Who is in no group belongs to one more: `partition(["m1"])` cuts m1 off.
        """
        group_of: dict[str, int] = {}
        for number, group in enumerate(groups):
            for member in self._named([group] if isinstance(group, str) else group):
                group_of[member.name] = number
        self._wires().cut(
            {
                (a, b)
                for a in self.members
                for b in self.members
                if group_of.get(a) != group_of.get(b)
            }
        )

    def cut(self, source: str, target: str) -> None:
        """`target` hears nothing of `source` any more; the other direction stays as it is."""
        self._named((source, target))
        self._wires().cut({*self._wires().links_cut, (source, target)})

    def heal(self) -> None:
        """Everybody hears everybody."""
        self._wires().cut(())

    def _wires(self) -> Network:
        if self._network is None:
            raise ClusterError("members talk directly (relayed=False): nothing can be cut")
        if not can_tell():
            raise ClusterError("nothing can be cut here: it takes Linux's /proc to tell who calls")
        return self._network

    # ---- who belongs to it

    def add(
        self,
        name: str,
        *,
        binary: Binary | None = None,
        flags: Sequence[str] = (),
        learner: bool = False,
        wait: bool = True,
    ) -> LocalMember:
        """Ask the cluster to take one more member and start it. `flags` come after everybody's."""
        if name in self.members:
            raise ClusterError(f"there is a member {name} already")
        member = self._make(name, 0, 0)
        member.binary, member.flags = self._binary_of(name, binary), [*self._flags, *flags]
        try:
            self._ask("cluster/member/add", {"peerURLs": [member.peer_url], "isLearner": learner})
        except BaseException:
            self._forget(name)
            raise
        everybody = self._everybody()
        member.bootstrap = [f"--initial-cluster={everybody}", "--initial-cluster-state=existing"]
        self._remember()
        member.spawn()
        if wait:
            self.wait_ready(name)
        return member

    def remove(self, name: str) -> None:
        """Ask the cluster to let a member go, and end its process; its folder stays."""
        (member,) = self._named((name,))
        listed: list[dict[str, Any]] = self._ask("cluster/member/list", {})["members"]
        found = [one["ID"] for one in listed if member.peer_url in one.get("peerURLs", ())]
        if not found:
            raise ClusterError(f"the cluster knows no member {name}")
        self._ask("cluster/member/remove", {"ID": found[0]})
        member.terminate()
        if member.state != "stopped":
            member.wait()
        self._forget(name)
        self._remember()

    def _forget(self, name: str) -> None:
        del self.members[name]
        if self._network is not None:
            self._network.forget(name)

    def _ask(self, path: str, request: Json) -> Json:
        """A change of the cluster, through whichever member takes it."""
        end = time.monotonic() + LEADER_TIMEOUT_S
        failed: ClusterError | None = None
        while time.monotonic() < end:
            for member in list(self.members.values()):
                if not member.is_running or member.is_paused:
                    continue
                try:
                    return member.ask(path, request, timeout_s=10)
                except ClusterError as error:
                    failed = error
                    if "unhealthy cluster" not in str(error) and "does not answer" not in str(
                        error
                    ):
                        raise
            time.sleep(0.1)
        raise failed or ClusterError("no member runs")


def _processes(members: dict[str, LocalMember]) -> dict[int, str]:
    return {m.pid: m.name for m in list(members.values()) if m.is_running}


def _leave_nothing(members: dict[str, LocalMember], network: Network | None) -> None:
    """What `close` does, and what happens when nobody calls it."""
    for member in members.values():
        member.kill()
    if network is not None:
        network.close()
