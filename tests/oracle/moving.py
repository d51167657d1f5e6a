"""Load that runs while a cluster changes, and what must hold of it at every stage."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import threading
import time
from base64 import b64decode, b64encode
from types import TracebackType
from typing import Any

from oracle.clusters import Cluster, call, until
from oracle.servers import Program, Server

KEYS = 50


def encoded(text: str) -> str:
    """As the JSON gateway wants it."""
    return b64encode(text.encode()).decode()


def decoded(text: str) -> str:
    """As the JSON gateway gives it."""
    return b64decode(text).decode()


def put(server: Server, key: str, value: str) -> bool:
    """Was it acknowledged?"""
    return bool(call(server, "kv/put", {"key": encoded(key), "value": encoded(value)}))


def get(server: Server, key: str) -> str | None:
    """A linearizable read."""
    kvs = call(server, "kv/range", {"key": encoded(key)}).get("kvs")
    return decoded(kvs[0]["value"]) if kvs else None


class Load:
    """Writers of numbers that only grow, each with keys of its own, through whoever answers.

    A write that was not acknowledged may or may not have happened: what is read later must be at
    least the last acknowledged number of the key, and at most the last one tried.
    """

    def __init__(self, cluster: Cluster, writers: int = 2) -> None:
        self._cluster = cluster
        self._ended = threading.Event()
        self.acknowledged: dict[str, int] = {}
        self.tried: dict[str, int] = {}
        self._threads = [
            threading.Thread(target=self._write, args=(f"w{number}",), daemon=True)
            for number in range(writers)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _write(self, writer: str) -> None:
        for number in itertools.count(1):
            if self._ended.is_set():
                return
            key = f"{writer}-{number % KEYS}"
            self.tried[key] = number
            servers = [m for m in list(self._cluster.members.values()) if m.alive()]
            if servers and put(servers[number % len(servers)], key, str(number)):
                self.acknowledged[key] = number
            else:
                time.sleep(0.01)

    @property
    def total(self) -> int:
        """Acknowledged so far, roughly."""
        return sum(self.acknowledged.values())

    def goes_on(self) -> None:
        """Wait until writes are acknowledged again."""
        before = dict(self.acknowledged)
        until(lambda: self.acknowledged != before, 30)

    def check(self, server: Server) -> None:
        """No acknowledged write is missing, nothing was read that nobody wrote."""
        known = dict(self.acknowledged)
        assert known, "nothing was written"
        everything = {"key": encoded("w"), "range_end": encoded("x")}
        kvs = until(lambda: call(server, "kv/range", everything).get("kvs"), 30)
        found = {decoded(kv["key"]): int(decoded(kv["value"])) for kv in kvs}
        for key, number in known.items():
            assert number <= found.get(key, 0) <= self.tried[key], f"{key}: {found}, not {number}"


def same_hash(cluster: Cluster) -> int:
    """HashKV of all live members at one revision; they must agree. The revision."""
    alive = [m for m in cluster.members.values() if m.alive()]
    found = until(lambda: call(alive[0], "kv/range", {"key": encoded("none")}).get("header"), 30)
    revision = int(found["revision"])

    def hash_of(server: Server) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", server.peer_port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/members/hashkv", json.dumps({"revision": revision}))
            answer = connection.getresponse()
            text = answer.read()
        if answer.status != 200:  # it has not come so far yet
            return None
        told = json.loads(text)
        return told["hash"], told.get("compact_revision", 0)

    hashes = {m.name: until(lambda m=m: hash_of(m), 30) for m in alive}
    assert len(set(hashes.values())) == 1, f"revision {revision}: {hashes}"
    return revision


def members(server: Server) -> list[dict[str, Any]]:
    """The list as this member has it."""
    found = until(lambda: call(server, "cluster/member/list", {}).get("members"))
    return list(found)


def id_of(server: Server) -> str:
    """The member's id, decimal."""
    answer = until(lambda: call(server, "maintenance/status", {}).get("header"))
    return str(answer["member_id"])


def add(
    cluster: Cluster, program: Program, name: str, *flags: str, learner: bool = False
) -> Server:
    """One more member, told to the cluster, started, and serving."""
    others = [m for m in cluster.members.values() if m.alive()]
    server = cluster.add(program, name, *flags)
    request = {"peerURLs": [server.peer_url], "isLearner": learner}
    until(lambda: call(others[0], "cluster/member/add", request), 30)
    if learner:
        cluster.spawn(name, "existing")
        until(lambda: any(m.get("name") == name for m in members(others[0])), 30)
    else:
        cluster.start([name], "existing")
    return server


def remove(cluster: Cluster, name: str) -> None:
    """Take a member out for good; its process ends."""
    gone = cluster.members[name]
    others = [m for m in cluster.members.values() if m is not gone and m.alive()]
    listed = members(others[0])
    number = next(
        m["ID"] for m in listed if m.get("name") == name or gone.peer_url in m["peerURLs"]
    )
    until(lambda: call(others[0], "cluster/member/remove", {"ID": number}), 30)
    del cluster.members[name]
    if gone.alive():
        gone.stop()


def replace(cluster: Cluster, name: str, program: Program, *flags: str) -> Server:
    """Another machine takes a member's place: one leaves, then one joins."""
    remove(cluster, name)
    return add(cluster, program, f"{name}2", *flags)
