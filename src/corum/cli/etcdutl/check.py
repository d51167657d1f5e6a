"""`etcdutl check v2store`: does a data directory hold v2 keys, which etcd 3.6 refuses to take over?

Looked at are the newest `.snap` file and the log behind it. (etcd: etcdutl at v3.5.32)
"""

from __future__ import annotations

import sys

from corum.cli.command import EXIT_ERROR, ExitError, Invocation
from corum.cli.etcdutl.output import data_dir, require, told
from corum.cli.etcdutl.stopped import read_log, v2_requests, v2_store_of
from corum.server.v2 import RIGHTS
from corum.v2store import CLUSTER_PREFIX, KEYS_PREFIX
from corum.v2store.store import Store
from corum.v2store.tree import Node


def run_v2store(invocation: Invocation) -> int:
    """`etcdutl check v2store --data-dir D [--wal-dir W]`."""
    require(invocation, "data-dir")
    with told("open"):
        log = read_log(data_dir(invocation))
        in_store = has_content(v2_store_of(log.snapshot))
        in_log = any(
            request.method not in ("QGET", "SYNC")
            and not request.path.startswith(CLUSTER_PREFIX + "/")
            for request in v2_requests(log.replay.entries)
        )
    match in_store, in_log:
        case True, True:
            text = "detected custom v2 content in both v2store and WAL records"
        case True, False:
            text = "detected custom content in v2store"
        case False, True:
            text = "detected custom v2 content in WAL records"
        case _:
            sys.stdout.write("No custom content found in both v2store and WAL records.\n")
            return 0
    raise ExitError(EXIT_ERROR, text)


def has_content(store: Store) -> bool:
    """Whether there is anything but members: keys, or users and roles of the v2 API."""
    for name, root in (store.tree.root.children or {}).items():
        if f"/{name}" == CLUSTER_PREFIX:
            continue
        if f"/{name}" == KEYS_PREFIX and root.children:
            return True
        if f"/{name}" == RIGHTS and _has_rights(root):
            return True
    return False


def _has_rights(root: Node) -> bool:
    """Empty directories and `enabled` = false stay behind when everybody was deleted."""
    children = root.children or {}
    enabled = children.get("enabled")
    if enabled is not None and enabled.value not in ("", "false"):
        return True
    return any(node.children for node in children.values())
