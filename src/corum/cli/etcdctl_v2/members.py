"""member list, add, remove, update; cluster-health."""

from __future__ import annotations

import json
import sys
from time import sleep
from typing import TYPE_CHECKING, Any

from corum.cli.etcdctl_v2.api import (
    EXIT_BAD_ARGUMENTS,
    EXIT_SERVER,
    EXIT_UNHEALTHY,
    Answer,
    ApiError,
    Failure,
    Unavailable,
    error,
)

if TYPE_CHECKING:
    from corum.cli.etcdctl_v2.commands import Run

HEALTH_PERIOD_S = 10
ADD_USAGE = "Provide a name and a single member peerURL"
UPDATE_USAGE = "Provide an ID and a list of comma separated peerURL (0xabcd http://example.com,http://example1.com)"


def _complain(text: str) -> Failure:
    return Failure(EXIT_BAD_ARGUMENTS, text)


def _members(run: Run, *, about: str = "") -> list[dict[str, Any]]:
    return _asked(run, "GET", "/v2/members", about=about).json().get("members") or []


def _asked(run: Run, verb: str, path: str, document: Any = None, *, about: str = "") -> Answer:
    """The answer; whatever it is instead ends the program in words after `about`."""
    try:
        return run.api.request(verb, path, document=document)
    except ApiError as refusal:
        raise _complain(about + refusal.message) from None
    except Unavailable as problem:
        raise _complain(f"{about}{problem}") from None


def _urls(member: dict[str, Any], field: str) -> list[str]:
    return member.get(field) or []


def list_members(run: Run) -> None:
    members = _members(run)
    about = "Failed to get leader:  "
    leader = _asked(run, "GET", "/v2/members/leader", about=about).json().get("id", "")
    for member in members:
        peers = ",".join(_urls(member, "peerURLs"))
        if not member.get("name"):
            print(f"{member['id']}[unstarted]: peerURLs={peers}")
            continue
        clients = ",".join(_urls(member, "clientURLs"))
        is_leader = "true" if member["id"] == leader else "false"
        print(
            f"{member['id']}: name={member['name']} peerURLs={peers} "
            f"clientURLs={clients} isLeader={is_leader}"
        )


def add(run: Run) -> None:
    if len(run.arguments) != 2:
        raise _complain(ADD_USAGE)
    name, url = run.arguments
    new = _asked(run, "POST", "/v2/members", {"peerURLs": [url]}).json()
    print(f"Added member named {name} with ID {new['id']} to cluster\n")
    parts = [
        f"{name if member['id'] == new['id'] else member['name']}={peer}"
        for member in _members(run)
        for peer in _urls(member, "peerURLs")
    ]
    print(f'ETCD_NAME="{name}"')
    print(f'ETCD_INITIAL_CLUSTER="{",".join(parts)}"')
    print('ETCD_INITIAL_CLUSTER_STATE="existing"')


def remove(run: Run) -> None:
    if len(run.arguments) != 1:
        raise _complain("Provide a single member ID")
    identity = run.arguments[0]
    about = "Error while verifying ID against known members: "
    if identity not in [member["id"] for member in _members(run, about=about)]:
        raise _complain(f"Couldn't find a member in the cluster with an ID of {identity}.")
    about = f"Received an error trying to remove member {identity}: "
    _asked(run, "DELETE", f"/v2/members/{identity}", about=about)
    print(f"Removed member {identity} from cluster")


def update(run: Run) -> None:
    if len(run.arguments) != 2:
        raise _complain(UPDATE_USAGE)
    identity, urls = run.arguments
    _asked(run, "PUT", f"/v2/members/{identity}", {"peerURLs": urls.split(",")})
    print(f"Updated member with ID {identity} in cluster")


# cluster-health ------------------------------------------------------------------------------


def health(run: Run) -> int:
    """Ask every member for its health; with --forever every ten seconds."""
    try:
        run.api  # noqa: B018  it synchronizes, and fails when nobody answers
    except Failure as failure:
        return _unlisted(failure)
    while True:
        try:
            members = _members(run)
        except Failure as failure:
            return _unlisted(error(EXIT_SERVER, failure.text))
        status = _check(run, members)
        if not run.values.boolean("forever"):
            return status
        print()
        sys.stdout.flush()
        sleep(HEALTH_PERIOD_S)
        run.api.begin_again()


def _unlisted(failure: Failure) -> int:
    print("cluster may be unhealthy: failed to list members")
    sys.stdout.flush()
    sys.stderr.write(failure.text + "\n")
    return EXIT_SERVER


def _check(run: Run, members: list[dict[str, Any]]) -> int:
    healthy = sum(_member_is_healthy(run, member) for member in members)
    if healthy == len(members):
        print("cluster is healthy")
        return 0
    if healthy * 2 > len(members):
        print("cluster is degraded")
    else:
        print("cluster is unavailable")
    return EXIT_UNHEALTHY


def _member_is_healthy(run: Run, member: dict[str, Any]) -> bool:
    identity, urls = member["id"], _urls(member, "clientURLs")
    if not urls:
        print(f"member {identity} is unreachable: no available published client urls")
        return False
    for url in urls:
        try:
            answer = run.api.get("/health", endpoints=[url])
            good = json.loads(answer.data).get("health") in ("true", True)
        except Unavailable as problem:
            if not problem.served:
                print(
                    f"failed to check the health of member {identity} on {url}: "
                    f'Get "{url}/health": {problem.texts[0]}'
                )
                continue
            good = False
        except (ApiError, ValueError):
            good = False
        word = "healthy" if good else "unhealthy"
        print(f"member {identity} is {word}: got {word} result from {url}")
        return good
    print(f"member {identity} is unreachable: [{' '.join(urls)}] are all unreachable")
    return False
