"""One conversation with Go etcd and with ours: the same answers, codes and texts, call by call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from auth_server.talk import PERM, USERS, Talk, delete, get, nested, put
from corum.pb import rpc
from oracle import servers
from oracle.pair import masked

pytestmark = [pytest.mark.compat, pytest.mark.process, pytest.mark.slow]

WRITES: dict[str, Any] = {"permType": 1, "key": b"b", "range_end": b"e"}
LEASE = 4_711

BEFORE: list[tuple[str, dict[str, Any]]] = [
    ("Auth/AuthStatus", {}),
    ("Auth/AuthEnable", {}),
    ("Auth/AuthDisable", {}),
    ("Auth/Authenticate", {"name": "root", "password": "x"}),
    ("Auth/UserAdd", {"name": "", "password": "x"}),
    ("Auth/UserAdd", {"name": "root", "password": "secret-r"}),
    ("Auth/UserAdd", {"name": "root", "password": "x"}),
    ("Auth/AuthEnable", {}),
    ("Auth/UserGet", {"name": "ghost"}),
    ("Auth/UserDelete", {"name": "ghost"}),
    ("Auth/UserChangePassword", {"name": "ghost", "password": "x"}),
    ("Auth/UserGrantRole", {"user": "root", "role": "none"}),
    ("Auth/UserGrantRole", {"user": "ghost", "role": "root"}),
    ("Auth/UserRevokeRole", {"name": "root", "role": "root"}),
    ("Auth/RoleAdd", {"name": ""}),
    ("Auth/RoleGet", {"role": "none"}),
    ("Auth/RoleDelete", {"role": "none"}),
    ("Auth/RoleGrantPermission", {"name": "none", "perm": PERM}),
    ("Auth/RoleGrantPermission", {"name": "r"}),
    ("Auth/RoleRevokePermission", {"role": "none", "key": b"a"}),
    *USERS[1:-1],
    ("Auth/RoleGrantPermission", {"name": "r", "perm": WRITES}),
    ("Auth/RoleRevokePermission", {"role": "r", "key": b"zzz"}),
    ("Auth/UserGrantRole", {"user": "u", "role": "r"}),
    ("Auth/UserAdd", {"name": "bare", "options": {"no_password": True}}),
    ("Auth/RoleAdd", {"name": "r"}),
    ("Auth/UserList", {}),
    ("Auth/RoleList", {}),
    ("Auth/UserGet", {"name": "u"}),
    ("Auth/RoleGet", {"role": "r"}),
    ("Auth/AuthStatus", {}),
    ("Auth/AuthEnable", {}),
    ("Auth/Authenticate", {"name": "u", "password": "wrong"}),
    ("Auth/Authenticate", {"name": "ghost", "password": "wrong"}),
    ("Auth/Authenticate", {"name": "bare", "password": ""}),
]

AFTER: list[tuple[str, str, dict[str, Any]]] = [
    ("root", "Auth/AuthEnable", {}),
    ("root", "Auth/AuthStatus", {}),
    *[(who, "Auth/AuthEnable", {}) for who in ("u", "nobody", "bad")],
    *[(who, "Auth/UserList", {}) for who in ("root", "u", "nobody", "bad")],
    *[(who, "Auth/RoleList", {}) for who in ("root", "u", "nobody")],
    *[(who, "Auth/UserGet", {"name": "u"}) for who in ("root", "u", "nobody")],
    *[("u", "Auth/UserGet", {"name": name}) for name in ("root", "ghost")],
    *[("u", "Auth/RoleGet", {"role": name}) for name in ("r", "root", "none")],
    ("u", "Auth/UserChangePassword", {"name": "u", "password": "x"}),
    ("u", "Auth/UserAdd", {"name": "v", "password": "x"}),
    ("root", "Auth/UserDelete", {"name": "root"}),
    ("root", "Auth/RoleDelete", {"role": "root"}),
    ("root", "Auth/UserRevokeRole", {"name": "root", "role": "root"}),
    *[("root", "KV/Put", {"key": key, "value": key}) for key in (b"a", b"b", b"d", b"x")],
    *[("u", "KV/Put", {"key": key, "value": b"1"}) for key in (b"a", b"b", b"d", b"e", b"x")],
    ("u", "KV/Put", {"key": b"d", "prev_kv": True}),
    ("u", "KV/Put", {"key": b"b", "prev_kv": True}),
    *[("u", "KV/Range", {"key": key}) for key in (b"a", b"c", b"d")],
    ("u", "KV/Range", {"key": b"a", "range_end": b"c"}),
    ("u", "KV/Range", {"key": b"a", "range_end": b"d"}),
    ("u", "KV/Range", {"key": b"a", "range_end": b"\0", "serializable": True}),
    *[(who, "KV/Range", {"key": b"a"}) for who in ("nobody", "bad")],
    *[(who, "KV/Put", {"key": b"a"}) for who in ("nobody", "bad")],
    ("u", "KV/DeleteRange", {"key": b"d", "prev_kv": True}),
    ("u", "KV/DeleteRange", {"key": b"d"}),
    ("u", "KV/DeleteRange", {"key": b"a", "range_end": b"e"}),
    ("u", "KV/DeleteRange", {"key": b"a", "range_end": b"f"}),
    ("u", "KV/Txn", {}),
    ("u", "KV/Txn", {"success": [put(b"a"), get(b"b")]}),
    ("u", "KV/Txn", {"success": [put(b"a"), get(b"d")]}),
    ("u", "KV/Txn", {"failure": [delete(b"x")]}),
    ("u", "KV/Txn", {"compare": [rpc.Compare(key=b"x", version=0)]}),
    ("u", "KV/Txn", {"success": [get(b"a", serializable=True)]}),
    ("u", "KV/Txn", {"success": [get(b"x", serializable=True)]}),
    ("nobody", "KV/Txn", {"success": [put(b"a")]}),
    ("nobody", "KV/Txn", {"success": [get(b"a")]}),
    ("root", "Lease/LeaseGrant", {"ID": LEASE, "TTL": 600}),
    ("root", "KV/Put", {"key": b"x", "lease": LEASE}),
    ("u", "KV/Put", {"key": b"a", "lease": LEASE}),
    ("u", "Lease/LeaseRevoke", {"ID": LEASE}),
    ("u", "Lease/LeaseRevoke", {"ID": 99}),
    ("u", "Lease/LeaseGrant", {"ID": LEASE + 1, "TTL": 600}),
    ("u", "KV/Put", {"key": b"a", "lease": LEASE + 1}),
    ("u", "Lease/LeaseRevoke", {"ID": LEASE + 1}),
    ("u", "Cluster/MemberAdd", {"peerURLs": ["http://127.0.0.1:1"]}),
    ("nobody", "Cluster/MemberRemove", {"ID": 5}),
    ("root", "Lease/LeaseRevoke", {"ID": LEASE}),
    ("root", "Auth/UserRevokeRole", {"name": "u", "role": "r"}),
    ("u", "KV/Range", {"key": b"a"}),
    ("root", "Auth/UserDelete", {"name": "u"}),
    ("u", "KV/Range", {"key": b"a"}),
    ("root", "Auth/RoleDelete", {"role": "r"}),
    ("root", "Auth/AuthDisable", {}),
    ("nobody", "Auth/AuthStatus", {}),
    ("nobody", "KV/Range", {"key": b"", "range_end": b""}),
]

AT_LAST: tuple[str, str, dict[str, Any]] = ("bad", "KV/Range", {"key": b"a"})
"""While authentication is off nobody looks at tokens any more; 3.5.1 still did."""

NEWER: list[tuple[str, str, dict[str, Any]]] = [
    # What etcd learnt to refuse after 3.5.1; compared with the newest where it has been built.
    *[("nobody", "Auth/AuthStatus", {}), ("u", "Auth/AuthStatus", {})],
    ("nobody", "Cluster/MemberList", {}),
    ("nobody", "Cluster/MemberList", {"linearizable": True}),
    ("nobody", "Lease/LeaseGrant", {"TTL": 9}),
    ("nobody", "Lease/LeaseRevoke", {"ID": 5}),
    ("nobody", "Lease/LeaseTimeToLive", {"ID": 5}),
    ("nobody", "Lease/LeaseLeases", {}),
    ("nobody", "Maintenance/Alarm", {}),
    ("nobody", "Maintenance/Status", {}),
    ("u", "Maintenance/Defragment", {}),
    ("u", "Maintenance/HashKV", {}),
    ("nobody", "Maintenance/HashKV", {}),
    ("u", "KV/Compact", {"revision": 2}),
    ("u", "KV/Txn", {"success": [nested(put(b"x"))]}),
    ("u", "KV/Txn", {"success": [put(b"d", prev_kv=True)]}),
    ("root", "Auth/RoleGet", {"role": "root"}),
    ("root", "Lease/LeaseGrant", {"ID": LEASE, "TTL": 600}),
    ("root", "KV/Put", {"key": b"x", "lease": LEASE}),
    ("u", "Lease/LeaseTimeToLive", {"ID": LEASE, "keys": True}),
    ("u", "Lease/LeaseLeases", {}),
    ("u", "KV/Txn", {"success": [put(b"a", lease=LEASE)]}),
    ("u", "Auth/RoleGrantPermission", {"name": "r", "perm": {"key": b"b", "range_end": b"a"}}),
    ("root", "Auth/RoleGrantPermission", {"name": "r", "perm": {"key": b"b", "range_end": b"a"}}),
]


def said(program: servers.Program, folder: Path, after: list[Any]) -> list[Any]:
    """What one server answers to everything, with what differs by nature masked."""
    with (
        servers.running(program, folder, "--bcrypt-cost=4") as server,
        Talk(server.endpoint) as talk,
    ):
        answers = [(path, masked(talk.call(path, **fields))) for path, fields in BEFORE]
        tokens = {
            "root": talk.token("root", "secret-r"),
            "u": talk.token("u", "secret-u"),
            "nobody": None,
            "bad": "AbcdefghijklmnoP.3",
        }
        for who, path, fields in after:
            answer = masked(talk.call(path, tokens[who], **fields))
            answers.append((f"{who}: {path} {fields}", answer))
    return answers


def compare(ours: list[Any], theirs: list[Any]) -> None:
    assert [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]] == []


def test_the_same_as_go(
    go_program: servers.Program, our_program: servers.Program, tmp_path: Path
) -> None:
    """Etcd 3.5.1, wherever newer etcd did not change it."""
    theirs = said(go_program, tmp_path / "go", AFTER)
    compare(said(our_program, tmp_path / "ours", AFTER), theirs)


def test_the_same_as_the_newest_go(our_program: servers.Program, tmp_path: Path) -> None:
    """What was refused only later, too."""
    newest = servers.go_newest()
    if newest is None:
        pytest.skip("the newest Go etcd has not been built (make bench)")
    theirs = said(newest, tmp_path / "go", [*NEWER, *AFTER, AT_LAST])
    compare(said(our_program, tmp_path / "ours", [*NEWER, *AFTER, AT_LAST]), theirs)
