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
    ApiError,
    Failure,
    Unavailable,
)

if TYPE_CHECKING:
    from corum.cli.etcdctl_v2.commands import Run

HEALTH_PERIOD_S = 10
ADD_USAGE = "Provide a name and a single member peerURL"
UPDATE_USAGE = "Provide an ID and a list of comma separated peerURL (0xabcd http://example.com,http://example1.com)"


def _complain(text: str) -> Failure:
    return Failure(EXIT_BAD_ARGUMENTS, text)


def _members(run: Run) -> list[dict[str, Any]]:
    try:
        return run.api.get("/v2/members").json().get("members") or []
    except ApiError as refusal:
        raise _complain(refusal.message) from None


def _urls(member: dict[str, Any], field: str) -> list[str]:
    return member.get(field) or []


def list_members(run: Run) -> None:
    members = _members(run)
    try:
        leader = run.api.get("/v2/members/leader").json().get("id", "")
    except (ApiError, Unavailable) as problem:
        leader = ""
        sys.stderr.write(f"Failed to get leader:  {problem}\n")
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
    try:
        answer = run.api.request("POST", "/v2/members", document={"peerURLs": [url]})
    except ApiError as refusal:
        raise _complain(refusal.message) from None
    new = answer.json()
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
    if identity not in [member["id"] for member in _members(run)]:
        raise _complain(f"Couldn't find a member in the cluster with an ID of {identity}.")
    try:
        run.api.request("DELETE", f"/v2/members/{identity}")
    except ApiError as refusal:
        raise _complain(
            f"Received an error trying to remove member {identity}: {refusal.message}"
        ) from None
    print(f"Removed member {identity} from cluster")


def update(run: Run) -> None:
    if len(run.arguments) != 2:
        raise _complain(UPDATE_USAGE)
    identity, urls = run.arguments
    try:
        run.api.request("PUT", f"/v2/members/{identity}", document={"peerURLs": urls.split(",")})
    except ApiError as refusal:
        raise _complain(refusal.message) from None
    print(f"Updated member with ID {identity} in cluster")


# cluster-health ------------------------------------------------------------------------------


def health(run: Run) -> int:
    """Ask every member for its health; with --forever every ten seconds."""
    try:
        run.api  # noqa: B018  it synchronizes, and fails when nobody answers
    except Failure as failure:
        return _unlisted(failure)
    while True:
        status = _check(run)
        if not run.values.boolean("forever"):
            return status
        print()
        sys.stdout.flush()
        sleep(HEALTH_PERIOD_S)


def _unlisted(failure: Failure) -> int:
    print("cluster may be unhealthy: failed to list members")
    sys.stdout.flush()
    sys.stderr.write(failure.text + "\n")
    return EXIT_SERVER


def _check(run: Run) -> int:
    members = _members(run)
    healthy = sum(_member_is_healthy(run, member) for member in members)
    if healthy == len(members):
        print("cluster is healthy")
        return 0
    if healthy * 2 > len(members):
        print("cluster is degraded")
    else:
        print("cluster is unhealthy")
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
