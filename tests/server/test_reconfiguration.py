"""Configuration changes: checked when they are applied, recorded, and mirrored."""

import json
from dataclasses import replace
from typing import Any

import pytest

from corum import errors
from corum.backend import schema
from corum.membership.members import Member
from corum.pb import raftpb
from corum.server.peering import NoPeers
from corum.server.reconfiguration import conf_state_json
from corum.values import NS_PER_S, MemberId
from server.lone import PEER, Lone

ADD, LEARN, REMOVE, UPDATE = (
    raftpb.ConfChangeAddNode,
    raftpb.ConfChangeAddLearnerNode,
    raftpb.ConfChangeRemoveNode,
    raftpb.ConfChangeUpdateNode,
)
OTHER = Member(MemberId(0xABC), ["http://127.0.0.1:9"], is_learner=True)


def change(lone: Lone, kind: Any, member: int, context: bytes = b"") -> Any:
    """What came of it: None, or the kind of error. One answer, after it was applied."""
    results: list[Any] = []
    lone.turn(
        0,
        lambda: lone.node.propose_conf_change(
            kind, member, context, 7, lambda call, result: results.append((call, result))
        ),
    )
    ((call, result),) = results
    assert call == 7
    return None if result is None else type(result)


def learners(lone: Lone) -> tuple[int, ...]:
    return tuple(lone.node.reconfiguration.conf_state.learners)


def test_a_learner_is_added_and_removed() -> None:
    """List, Raft, backend and v2 store agree; a removed id never comes back."""
    lone = Lone()
    members, v2 = lone.node.members, lone.node.v2.store
    assert change(lone, LEARN, OTHER.id, OTHER.to_json()) is None
    assert members.by_id[OTHER.id].is_learner
    assert learners(lone) == (OTHER.id,)
    assert dict(lone.backend.range(schema.MEMBERS))[b"abc"] == OTHER.to_json()
    event = v2.get("/0/members/abc/raftAttributes", recursive=False, ordered=False, now_ns=0)
    assert json.loads(event.node.value or "")["peerURLs"] == OTHER.peer_urls
    assert change(lone, REMOVE, OTHER.id) is None
    assert OTHER.id not in members.by_id
    assert learners(lone) == ()
    assert lone.backend.get(schema.MEMBERS, b"abc") is None
    assert lone.backend.get(schema.MEMBERS_REMOVED, b"abc") == b"removed"
    assert change(lone, LEARN, OTHER.id, OTHER.to_json()) is errors.MEMBER_NOT_FOUND
    assert not lone.was_removed


@pytest.mark.parametrize(
    ("kind", "member", "wanted"),
    [
        (LEARN, OTHER, errors.MEMBER_EXIST),
        (LEARN, Member(MemberId(5), OTHER.peer_urls), errors.PEER_URL_EXIST),
        (LEARN, Member(MemberId(5), ["http://127.0.0.1:8"]), errors.TOO_MANY_LEARNERS),
        (UPDATE, Member(MemberId(5), ["http://127.0.0.1:8"]), errors.MEMBER_NOT_FOUND),
        (UPDATE, Member(OTHER.id, [PEER]), errors.PEER_URL_EXIST),
        (REMOVE, Member(MemberId(5), []), errors.MEMBER_NOT_FOUND),
    ],
)
def test_what_the_list_forbids_changes_nothing(kind: Any, member: Member, wanted: Any) -> None:
    """The entry becomes a no-op for Raft as well, and the next change goes through."""
    lone = Lone()
    assert change(lone, LEARN, OTHER.id, OTHER.to_json()) is None
    rows = lone.backend.range(schema.MEMBERS)
    state = lone.node.reconfiguration.conf_state
    assert change(lone, kind, member.id, member.to_json()) is wanted
    assert lone.node.reconfiguration.conf_state == state
    assert lone.backend.range(schema.MEMBERS) == rows
    assert change(lone, REMOVE, OTHER.id) is None


def test_peer_urls_change_and_the_name_stays() -> None:
    """An update carries URLs alone."""
    lone = Lone(name="one")
    me = lone.node.members.local
    new = Member(me, ["http://127.0.0.1:12380"])
    assert change(lone, UPDATE, me, new.to_json()) is None
    found = lone.node.members.by_id[me]
    assert (found.name, found.peer_urls) == ("one", ["http://127.0.0.1:12380"])


def test_only_a_learner_is_promoted() -> None:
    """A voter is one already; somebody unknown is nobody."""
    lone = Lone()
    me = lone.node.members.me
    assert me is not None
    promotion = me.to_json(promote=True)
    assert change(lone, ADD, me.id, promotion) is errors.MEMBER_NOT_LEARNER
    stranger = Member(MemberId(5), []).to_json(promote=True)
    assert change(lone, ADD, 5, stranger) is errors.MEMBER_NOT_FOUND


def test_strict_reconfiguration_counts_started_voters() -> None:
    """etcd's rule: started voters must stay a quorum; a cluster of one may always grow."""
    members = Lone().node.members
    assert members.quorum_survives_add()
    members.add(Member(MemberId(2), ["http://127.0.0.1:2"]))  # added, not started
    assert not members.quorum_survives_add()
    assert members.quorum_survives_remove(2)
    assert not members.quorum_survives_remove(members.local)
    members.set_attributes(2, "two", [])
    assert members.quorum_survives_add()  # two of three are a quorum
    assert members.quorum_survives_remove(members.local)
    members.remove(2)
    assert not members.quorum_survives_remove(members.local)


class Reachable(NoPeers):
    """Members that are reachable since some time."""

    def __init__(self, since: dict[int, int]) -> None:
        self.since = since

    def active_since(self, member: int) -> int:
        return self.since.get(member, 0)


def refusal(check: Any, *args: Any) -> type[BaseException] | None:
    try:
        check(*args)
    except errors.EtcdError as error:
        return type(error)
    return None


def test_who_grows_or_shrinks_a_cluster_must_see_its_members() -> None:
    """A fourth voter waits until all three are connected for five seconds; whoever is down may be
    removed, but not one more while another is down."""
    lone = Lone(name="one")
    node, two, three = lone.node, MemberId(2), MemberId(3)
    for other in (two, three):
        node.members.add(Member(other, [f"http://127.0.0.1:{other}"], name=str(other)))
    new = Member(MemberId(9), ["http://127.0.0.1:9"])
    learner = Member(MemberId(9), ["http://127.0.0.1:9"], is_learner=True)
    checks = node.reconfiguration
    node.now_ns, old, young = 60 * NS_PER_S, 1, 56 * NS_PER_S
    for since, grow, drop_two, drop_three in (
        ({two: old, three: old}, None, None, None),
        ({two: old, three: young}, errors.UNHEALTHY, errors.UNHEALTHY, errors.UNHEALTHY),
        ({two: old}, errors.UNHEALTHY, errors.UNHEALTHY, None),
    ):
        node.peers = Reachable(since)
        assert refusal(checks.check_add, new) is grow
        assert refusal(checks.check_add, learner) is grow
        assert refusal(checks.check_remove, two) is drop_two
        assert refusal(checks.check_remove, three) is drop_three
    node.config = replace(node.config, strict_reconfig=False)
    assert refusal(checks.check_add, new) is None
    assert refusal(checks.check_remove, two) is None


def test_conf_state_is_kept_as_go_keeps_it() -> None:
    """The backend's row names voters always, the rest when there is some."""
    lone = Lone()
    change(lone, LEARN, OTHER.id, OTHER.to_json())
    me = lone.node.members.local
    wanted = b'{"voters":[%d],"learners":[%d],"auto_leave":false}' % (me, OTHER.id)
    assert conf_state_json(lone.node.reconfiguration.conf_state) == wanted
    assert lone.backend.get(schema.META, schema.CONF_STATE) == wanted
