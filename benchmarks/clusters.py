"""Three members instead of one server: the same loads, and what only a cluster can be asked."""

import json
import re
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import corum
from corum.cluster.process import ClusterError, LocalMember
from loads import Load, Scene
from measure import (
    LOAD_TIMEOUT_S,
    LOADGEN,
    Figures,
    LoadFailed,
    cpu_s,
    figures_of,
    remove_folder,
    rss_mib,
    words_of,
)
from oracle.servers import Program

ELECTIONS, ELECTIONS_QUICK = 10, 3
POLL_S = 0.002
ELECTION_TIMEOUT_S = 60.0
NEWCOMER_TIMEOUT_S = 900.0


@contextmanager
def fresh(program: Program, scene: Scene, folder: Path) -> Iterator[corum.LocalCluster]:
    """The scene's members on empty directories, without relays between them."""
    remove_folder(folder)
    try:
        with corum.LocalCluster(
            scene.members,
            directory=folder,
            binary=program.argv,
            flags=scene.flags,
            relayed=False,
        ) as cluster:
            cluster.leader()
            yield cluster
    finally:
        remove_folder(folder)


def running(cluster: corum.LocalCluster) -> list[LocalMember]:
    return [member for member in cluster.members.values() if member.is_running]


def endpoints(cluster: corum.LocalCluster, load: Load) -> str:
    """Where the load goes: all members, or one that leads or follows."""
    if load.to == "all":
        return ",".join(cluster.endpoints)
    name = cluster.leader() if load.to == "leader" else cluster.followers()[0]
    return cluster.members[name].endpoint


def loadgen(cluster: corum.LocalCluster, load: Load, quick: bool) -> Figures:
    """CPU and memory are sums over the members."""
    members = running(cluster)
    where = endpoints(cluster, load)
    before = sum(cpu_s(member.pid) for member in members)
    done = subprocess.run(
        [str(LOADGEN), "-endpoint", where, *words_of(load, quick)],
        capture_output=True,
        text=True,
        timeout=LOAD_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise LoadFailed(done.stderr.strip())
    spent = sum(cpu_s(member.pid) for member in members) - before
    return figures_of(done.stdout, spent) | {
        "rss_mib": sum(rss_mib(member.pid) for member in members)
    }


def failover(cluster: corum.LocalCluster, _load: Load, quick: bool) -> Figures:
    """kill -9 of the leader until another member says that it leads, again and again."""
    took_ms: list[float] = []
    for _ in range(ELECTIONS_QUICK if quick else ELECTIONS):
        old = cluster.leader()
        began = time.monotonic()
        cluster.kill(old)
        while not _leads(cluster):
            if time.monotonic() - began > ELECTION_TIMEOUT_S:
                raise LoadFailed("no new leader")
            time.sleep(POLL_S)
        took_ms.append((time.monotonic() - began) * 1e3)
        cluster.start(old)
    return {
        "leader_ms": statistics.median(took_ms),
        "leader_max_ms": max(took_ms),
    }


def _leads(cluster: corum.LocalCluster) -> bool:
    """Does anybody that runs say that it leads?"""
    for member in running(cluster):
        status = cluster.status(member.name)
        if status and status.get("leader") == status["header"]["member_id"]:
            return True
    return False


def newcomer(cluster: corum.LocalCluster, _load: Load, _quick: bool) -> Figures:
    """An empty member is added: until it has applied what the cluster had when it started."""
    leader = cluster.members[cluster.leader()]
    goal = int(leader.ask("maintenance/status", {})["raftAppliedIndex"])
    before = sum(cpu_s(member.pid) for member in running(cluster))
    began = time.monotonic()
    member = cluster.add("newcomer", wait=False)
    peak = Peak(member.pid)
    while (applied := _applied(member)) < goal:
        if not member.is_running or time.monotonic() - began > NEWCOMER_TIMEOUT_S:
            raise LoadFailed(f"{member} is at {applied} of {goal}\n{member.tail()}")
        time.sleep(0.02)
    cluster.wait_ready("newcomer")
    took_s = time.monotonic() - began
    spent = sum(cpu_s(member.pid) for member in running(cluster)) - before
    return {
        "caught_up_ms": took_s * 1e3,
        "peak_mib": peak.stop(),
        "cpu_ms": spent * 1e3,
    }


def _applied(member: LocalMember) -> int:
    try:
        return int(member.ask("maintenance/status", {}).get("raftAppliedIndex", 0))
    except ClusterError:
        return 0


class Peak:
    """The most memory of its own that a process had, looked at every few milliseconds."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._mib = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.005):
            try:
                self._mib = max(self._mib, own_mib(self._pid))
            except OSError:
                return  # the process is gone

    def stop(self) -> float:
        self._over.set()
        self._thread.join()
        return self._mib


def own_mib(pid: int) -> float:
    """Memory that is the process's own: what is mapped from files (the database) can be dropped."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^RssAnon:\s+(\d+)", status, re.M)
    return int(found[1]) / 1024 if found else 0.0


KINDS = {"loadgen": loadgen, "failover": failover, "newcomer": newcomer}


def measure(cluster: corum.LocalCluster, load: Load, quick: bool) -> Figures:
    try:
        return KINDS[load.kind](cluster, load, quick)
    except (ClusterError, json.JSONDecodeError) as error:
        raise LoadFailed(str(error)) from None
