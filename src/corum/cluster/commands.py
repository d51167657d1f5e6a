"""Words to actions: what is typed at `corum cluster`, or sent to it from another terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from corum.cluster.cluster import LocalCluster
from corum.cluster.process import ClusterError

HELP: Final = """\
status                    what each member is doing
leader                    who leads
stop NAME...              in good order (SIGTERM); `all` means every member, here and below
start NAME...             start what is stopped
restart NAME...           one after the other
kill NAME...              at once (SIGKILL)
pause NAME...             freeze (SIGSTOP)
resume NAME...            go on after `pause`
partition NAMES [NAMES]   groups, names joined by commas, that hear nothing of each other;
                          who is not named makes one more group: `partition m1` cuts m1 off
cut FROM TO               one direction: TO hears nothing of FROM
heal                      everybody hears everybody
add NAME [learner]        one member more
remove NAME               one member less
quit                      stop all and leave"""


def execute(cluster: LocalCluster, words: Sequence[str]) -> str:
    """Do it; what there is to say. Raises ClusterError for words that make no sense, too."""
    if not words:
        return ""
    name, *rest = words
    if name in _BY_NAME:
        if not rest:
            raise ClusterError(f"{name} what? Names of members, or all")
        _BY_NAME[name](cluster, *([] if rest == ["all"] else rest))
        return ""
    if name not in _OTHERS:
        raise ClusterError(f"unknown command {name}; these are known:\n{HELP}")
    least, most, act = _OTHERS[name]
    if not least <= len(rest) <= most:
        raise ClusterError(f"wrong number of words after {name}:\n{HELP}")
    return act(cluster, list(rest))


def _start(cluster: LocalCluster, *names: str) -> None:
    """Without waiting: a minority never serves, and the prompt must come back."""
    cluster.start(*names, wait=False)


def _restart(cluster: LocalCluster, *names: str) -> None:
    cluster.restart(*names, wait=len(names) != 1)


def _status(cluster: LocalCluster, rest: list[str]) -> str:
    lines: list[str] = []
    for name, member in cluster.members.items():
        status = cluster.status(name)
        words = [f"{name:8}", member.endpoint, member.state]
        if status:
            mine = status["header"]["member_id"]
            role = "leads" if status.get("leader") == mine else "follows"
            if status.get("isLearner"):
                role = "learns"
            if status.get("leader", "0") == "0":
                role = "knows no leader"
            words.append(f"{role}, term {status['raftTerm']}, index {status['raftIndex']}")
        lines.append("  ".join(words))
    for source, target in sorted(cluster.links_cut):
        lines.append(f"cut      {source} -> {target}")
    return "\n".join(lines)


def _partition(cluster: LocalCluster, rest: list[str]) -> str:
    cluster.partition(*[group.split(",") for group in rest])
    return ""


def _cut(cluster: LocalCluster, rest: list[str]) -> str:
    cluster.cut(*rest)
    return ""


def _heal(cluster: LocalCluster, rest: list[str]) -> str:
    cluster.heal()
    return ""


def _add(cluster: LocalCluster, rest: list[str]) -> str:
    if rest[1:] not in ([], ["learner"]):
        raise ClusterError("add NAME, or add NAME learner")
    return cluster.add(rest[0], learner=len(rest) > 1, wait=False).endpoint


def _remove(cluster: LocalCluster, rest: list[str]) -> str:
    cluster.remove(rest[0])
    return ""


_BY_NAME: Final[dict[str, Callable[..., None]]] = {
    "stop": LocalCluster.stop,
    "start": _start,
    "restart": _restart,
    "kill": LocalCluster.kill,
    "pause": LocalCluster.pause,
    "resume": LocalCluster.resume,
}
_OTHERS: Final[dict[str, tuple[int, int, Callable[[LocalCluster, list[str]], str]]]] = {
    "status": (0, 0, _status),
    "leader": (0, 0, lambda cluster, rest: cluster.leader()),
    "partition": (1, 99, _partition),
    "cut": (2, 2, _cut),
    "heal": (0, 0, _heal),
    "add": (1, 2, _add),
    "remove": (1, 1, _remove),
    "help": (0, 0, lambda cluster, rest: HELP),
}
"""Name: at least and at most so many words, what to do."""
