"""One conversation about locks and elections with Go etcd and with ours: the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from auth_server.talk import TIMEOUT_S, Talk
from corum.pb import electionpb
from oracle import servers
from oracle.pair import masked

pytestmark = [pytest.mark.compat, pytest.mark.process, pytest.mark.slow]

LOCK, ELECTION = "/v3lockpb.Lock/", "/v3electionpb.Election/"
LEADER = electionpb.LeaderKey(name=b"e", key=b"e/1", rev=5, lease=1)
OTHER = electionpb.LeaderKey(name=b"e", key=b"e/1", rev=99, lease=1)

FOR_EVER: tuple[str, dict[str, Any]] = (ELECTION + "Campaign", {"lease": 1})
"""Without a name it waits for keys that stay, until its caller gives up."""
PATIENCE_S = 2.0

ALL: dict[str, Any] = {"key": b"\0", "range_end": b"\0"}
CONVERSATION: list[tuple[str, dict[str, Any]]] = [
    (LOCK + "Lock", {"name": b"a", "lease": 123}),
    ("Lease/LeaseGrant", {"ID": 1, "TTL": 600}),
    ("Lease/LeaseGrant", {"ID": 0xFEED, "TTL": 600}),
    (LOCK + "Lock", {"name": b"a", "lease": 0xFEED}),
    (LOCK + "Lock", {"name": b"a", "lease": 0xFEED}),
    (LOCK + "Unlock", {"key": b"a/feed"}),
    (LOCK + "Unlock", {"key": b"a/feed"}),
    (LOCK + "Unlock", {}),
    (LOCK + "Lock", {"lease": 0xFEED}),
    (ELECTION + "Leader", {"name": b"e"}),
    (ELECTION + "Proclaim", {"value": b"1"}),
    (ELECTION + "Resign", {}),
    (ELECTION + "Campaign", {"name": b"e", "lease": 99}),
    (ELECTION + "Campaign", {"name": b"e", "lease": 1, "value": b"1"}),
    (ELECTION + "Campaign", {"name": b"e", "lease": 1, "value": b"1"}),
    (ELECTION + "Campaign", {"name": b"e", "lease": 1, "value": b"2"}),
    (ELECTION + "Leader", {"name": b"e"}),
    (ELECTION + "Proclaim", {"leader": LEADER, "value": b"3"}),
    (ELECTION + "Proclaim", {"leader": OTHER, "value": b"4"}),
    (ELECTION + "Resign", {"leader": OTHER}),
    ("KV/Range", ALL),
    (ELECTION + "Resign", {"leader": LEADER}),
    (ELECTION + "Resign", {"leader": LEADER}),
    (ELECTION + "Proclaim", {"leader": LEADER, "value": b"5"}),
    (ELECTION + "Leader", {"name": b"e"}),
    FOR_EVER,
    (ELECTION + "Leader", {}),
    ("KV/Range", ALL),
]


def said(program: servers.Program, folder: Path) -> list[Any]:
    with servers.running(program, folder) as server, Talk(server.endpoint) as talk:
        answers: list[Any] = []
        for path, fields in CONVERSATION:
            patience_s = PATIENCE_S if (path, fields) == FOR_EVER else TIMEOUT_S
            answer = talk.call(path, timeout_s=patience_s, **fields)
            answers.append((path, fields, masked(answer)))
        answers.append(observed(talk))
    return answers


def observed(talk: Talk) -> list[Any]:
    """What an observer hears of two leaders."""
    heard = talk.stream(ELECTION + "Observe", name=b"o")
    found: list[Any] = []
    for lease, values in ((1, (b"x", b"y")), (0xFEED, (b"z",))):
        for value in values:
            talk.call(ELECTION + "Campaign", name=b"o", lease=lease, value=value)
            found.append(masked(next(heard)))
        talk.call("KV/DeleteRange", key=b"o/%x" % lease)
    heard.cancel()
    return found


def test_the_same_as_go(
    go_program: servers.Program, our_program: servers.Program, tmp_path: Path
) -> None:
    """Keys, revisions, leader keys, codes and texts."""
    ours, theirs = said(our_program, tmp_path / "ours"), said(go_program, tmp_path / "go")
    assert [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]] == []
