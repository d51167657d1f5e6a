"""Clusters of real processes: ours, Go's, or both."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from oracle.servers import Program, Server


class Cluster:
    """Members by name; all are gone at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.members: dict[str, Server] = {}

    def add(self, program: Program, name: str, *flags: str) -> Server:
        """A member that is not started yet; it has its ports."""
        server = Server(program, self.folder / name, list(flags), name=name)
        self.members[name] = server
        return server

    def start(self, names: Sequence[str], state: str = "new") -> None:
        """Start these, with a list of all members so far, and wait until they serve."""
        for name in names:
            self.spawn(name, state)
        for name in names:
            self.members[name].wait_ready()

    def spawn(self, name: str, state: str = "new") -> None:
        """Start one with a list of all members so far; it may not serve yet."""
        everybody = ",".join(f"{m.name}={m.peer_url}" for m in self.members.values())
        member = self.members[name]
        member.flags = [
            *member.flags,
            f"--initial-cluster={everybody}",
            f"--initial-cluster-state={state}",
        ]
        member.spawn()

    def leader(self) -> Server:
        """Who leads, as soon as all that live agree."""

        def found() -> Server | None:
            alive = [m for m in self.members.values() if m.alive()]
            states = [(call(m, "maintenance/status", {}), m) for m in alive]
            leaders = {one.get("leader") for one, _ in states}
            if len(leaders) != 1 or None in leaders or "0" in leaders:
                return None
            (leader,) = leaders
            return next((m for one, m in states if one["header"]["member_id"] == leader), None)

        return until(found)


def call(server: Server, path: str, request: dict[str, Any]) -> dict[str, Any]:
    """One call of the JSON gateway; {} when it fails."""
    try:
        status, body = server.http("POST", f"/v3/{path}", json.dumps(request).encode())
    except OSError:
        return {}
    found: dict[str, Any] = json.loads(body) if status == 200 else {}
    return found


def until(found: Callable[[], Any], timeout_s: float = 15) -> Any:
    """What `found` gives once it gives something."""
    end = time.monotonic() + timeout_s
    while not (result := found()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)
    return result
