"""watch and exec-watch: long polls, one event after the other."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from corum.cli.etcdctl_v2.api import (
    EXIT_MISSING_ARGUMENT,
    EXIT_SERVER,
    Answer,
    ApiError,
    Unavailable,
    error,
)
from corum.cli.etcdctl_v2.keys import keys_path, show_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corum.cli.etcdctl_v2.commands import Run

HISTORY_CLEARED = 401


def watch(run: Run) -> None:
    """The next event, or with --forever each one until interrupted."""
    if not run.arguments:
        raise error(EXIT_MISSING_ARGUMENT, "key required")
    recursive, forever = run.values.boolean("recursive"), run.values.boolean("forever")
    for body, index in _events(run, run.arguments[0], recursive=recursive):
        if body["node"].get("dir"):
            continue
        if recursive:
            print(f"[{body['action']}] {body['node']['key']}")
        show_event(run.output, body, index)
        sys.stdout.flush()
        if not forever:
            return


def exec_watch(run: Run) -> None:
    """Start a command for every event, which it finds in its environment."""
    if len(run.arguments) < 2:
        raise error(EXIT_MISSING_ARGUMENT, "key and command to exec required")
    key, *command = run.arguments
    for body, _ in _events(run, key, recursive=run.values.boolean("recursive")):
        node = body["node"]
        if node.get("dir"):
            sys.stderr.write(f"Ignored dir {node['key']} change\n")
            continue
        environment = {
            **os.environ,
            "ETCD_WATCH_ACTION": body["action"],
            "ETCD_WATCH_KEY": node["key"],
            "ETCD_WATCH_VALUE": node.get("value", ""),
            "ETCD_WATCH_MODIFIED_INDEX": str(node["modifiedIndex"]),
        }
        try:
            subprocess.run(command, env=environment, check=False)
        except OSError as problem:
            sys.stderr.write(f"{problem}\n")


def _events(run: Run, key: str, *, recursive: bool) -> Iterator[tuple[dict[str, Any], int]]:
    """(event, X-Etcd-Index) without end, from --after-index on."""
    after = run.values.integer("after-index")
    query = {"wait": "true", "recursive": "true" if recursive else "false"}
    if after:
        query["waitIndex"] = str(after + 1)
    while True:
        answer = _next(run, key, query)
        if not answer.data.strip():  # the server ended the poll without an event
            continue
        body = answer.json()
        query["waitIndex"] = str(body["node"]["modifiedIndex"] + 1)
        yield body, answer.index


def _next(run: Run, key: str, query: dict[str, str]) -> Answer:
    """The next event; when its history is gone, the first one from now on."""
    while True:
        try:
            return run.api.get(keys_path(key), query, wait=True)
        except ApiError as refusal:
            if refusal.body.get("errorCode") != HISTORY_CLEARED:
                raise error(EXIT_SERVER, refusal.key_text()) from None
            query["waitIndex"] = str(int(refusal.body.get("index", 0)) + 1)
        except Unavailable as problem:
            raise problem.failure() from None
