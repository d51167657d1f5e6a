"""Does a member that starts hold what the others hold? `--feature-gates=InitialCorruptCheck=true`.

Asked before the member serves or votes: whoever differs at the same revision and the same
compaction does not start. Members that cannot be reached, or that are behind, say nothing against
it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from corum import _transport as wire
from corum.member.asking import ask
from corum.membership.bootstrap import BootstrapError
from corum.mvcc.hashing import HashKv
from corum.server.corruption import PATH, parse, question
from corum.server.node import Node
from corum.values import NS_PER_MS

Say = Callable[..., None]

_REFUSALS: Final = {
    "future revision": "cannot fetch hash from slow remote peer",
    "compacted": "cannot fetch hash from remote peer; local member is behind",
    "cluster ID mismatch": "cluster ID mismatch",
}


def check(node: Node, tls: wire.ClientTls | None, say: Say) -> None:
    """Raises BootstrapError when another member holds something else."""
    local = {"local-member-id": f"{node.members.local:x}"}
    say("info", "starting initial corruption check", **local)
    mine = node.store.hash_kv().run()
    with wire.Transport() as transport:
        wrong = sum(
            _differs(transport, node, mine, member.id, member.peer_urls, tls, say)
            for member in node.members
            if member.id != node.members.local
        )
    if wrong:
        raise BootstrapError(f"{node.members.local:x} found data inconsistency with peers")
    say("info", "initial corruption checking passed; no corruption", **local)


def _differs(
    transport: wire.Transport,
    node: Node,
    mine: HashKv,
    member: int,
    urls: tuple[str, ...] | list[str],
    tls: wire.ClientTls | None,
    say: Say,
) -> bool:
    """Has this member another hash where it should have ours?"""
    headers = [("X-Etcd-Cluster-ID", f"{node.members.cluster:x}")]
    fields = {"local-member-id": f"{node.members.local:x}", "remote-peer-id": f"{member:x}"}
    timeout_ms = node.config.timeout_ns // NS_PER_MS
    body = question(mine.hash_revision)
    for url in urls:
        answer = ask(transport, "GET", url, PATH, body, headers, timeout_ms, tls)
        if answer is None:
            say("warn", "failed hash kv request", url=url, error="no answer", **fields)
            continue
        theirs = parse(answer.body) if answer.status == 200 else None
        if theirs is None:
            text = answer.body.decode("utf-8", "replace").strip()
            known = (say_so for word, say_so in _REFUSALS.items() if word in text)
            say("warn", next(known, "failed hash kv request"), error=text, **fields)
            return False
        fields |= {"remote-peer-endpoints": url, "local-member-hash": str(mine.hash)}
        fields |= {"remote-peer-hash": str(theirs.found.hash)}
        if theirs.found.hash == mine.hash:
            return False
        if theirs.found.compact_revision != mine.compact_revision:
            say("warn", "found different compact revision values from remote peer", **fields)
            return False
        say("warn", "found different hash values from remote peer", **fields)
        return True
    return False
