"""What a member says of itself through the log, the cluster version, and downgrades."""

from dataclasses import replace
from typing import Any

import pytest

from corum import errors
from corum.backend import schema
from corum.membership.members import Member
from corum.pb import rpc
from corum.server import operations as op
from corum.server.peering import NoPeers
from corum.v2store import Request
from corum.values import MemberId
from server.lone import Lone

ENABLE, VALIDATE, CANCEL = (
    rpc.DowngradeRequest.ENABLE,
    rpc.DowngradeRequest.VALIDATE,
    rpc.DowngradeRequest.CANCEL,
)


def downgrade(lone: Lone, action: Any, version: str = "") -> Any:
    """The cluster version, or the kind of error."""
    results: list[Any] = []
    request = rpc.DowngradeRequest(action=action, version=version)
    lone.turn(0, lambda: lone.node.versions.downgrade(request, results.append))
    (result,) = results
    return type(result) if isinstance(result, errors.EtcdError) else result


# ---- publishing


def test_a_leader_publishes_itself_and_the_version() -> None:
    """Name, client URLs and version are in the list and on the disk; it is said once."""
    lone = Lone(name="one", cluster_version="3.6.0", batch_interval_ns=0)
    me = lone.node.members.me
    assert me is not None
    assert (me.name, me.client_urls) == ("one", ["http://127.0.0.1:2379"])
    assert lone.node.members.version == "3.6.0"
    rows = dict(lone.backend.range(schema.CLUSTER))
    assert rows[b"clusterVersion"] == b"3.6.0"
    lone.turn(5_000)
    assert lone.published_count == 1
    assert lone.lines.count("set initial cluster version") == 1


def test_who_is_on_the_way_into_the_cluster_waits_for_the_log() -> None:
    """It has a leader but no place in the list yet: nothing is due, and the loop may rest."""
    lone = Lone()
    versions, members = lone.node.versions, lone.node.members
    versions.published = False
    me = members.by_id.pop(members.local)
    later = lone.now_ns + 10**10
    assert not versions.due(later)
    members.by_id[me.id] = me
    assert versions.due(later)


def test_nothing_is_published_without_a_leader() -> None:
    """There is nobody to take it; as soon as there is one, it is."""
    lone = Lone(elect=False, election_ticks=1_000_000)
    assert lone.published_count == 0
    assert not lone.node.proposals.waiting
    lone.node.raft.campaign()
    lone.turn()
    assert lone.published_count == 1


def test_storage_version_is_recorded_where_it_is_reported() -> None:
    """From 3.6 on; older versions do not know the row."""
    for reports, wanted in ((True, b"3.7.0"), (False, None)):
        lone = Lone(reports_storage=reports)
        assert lone.backend.get(schema.META, schema.STORAGE_VERSION) == wanted


# ---- downgrades


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("3.6", "3.7"),
        ("3.6.0", "3.7"),
        ("3.6.4", "3.7"),
        ("3.7", errors.INVALID_DOWNGRADE_TARGET_VERSION),
        ("3.8", errors.INVALID_DOWNGRADE_TARGET_VERSION),
        ("3.5", errors.INVALID_DOWNGRADE_TARGET_VERSION),
        ("2.6", errors.INVALID_DOWNGRADE_TARGET_VERSION),
        ("", errors.WRONG_DOWNGRADE_VERSION_FORMAT),
        ("three", errors.WRONG_DOWNGRADE_VERSION_FORMAT),
        ("3.6.1.2", errors.WRONG_DOWNGRADE_VERSION_FORMAT),
    ],
)
def test_only_one_minor_version_down(version: str, wanted: Any) -> None:
    """Validation changes nothing."""
    lone = Lone()
    assert downgrade(lone, VALIDATE, version) == wanted
    assert lone.node.members.downgrade_target is None


def test_a_downgrade_begins_and_is_cancelled() -> None:
    """One at a time, through the log; the disk knows."""
    lone = Lone()
    assert downgrade(lone, CANCEL) is errors.NO_INFLIGHT_DOWNGRADE
    assert downgrade(lone, ENABLE, "3.6.0") == "3.7"
    assert lone.node.members.downgrade_target == "3.6.0"
    row = lone.backend.get(schema.CLUSTER, b"downgrade")
    assert row == b'{"target-version":"3.6.0","enabled":true}'
    assert downgrade(lone, ENABLE, "3.6.0") is errors.DOWNGRADE_IN_PROCESS
    assert downgrade(lone, CANCEL) == "3.7"
    assert lone.node.members.downgrade_target is None
    assert downgrade(lone, CANCEL) is errors.NO_INFLIGHT_DOWNGRADE


class Versions(NoPeers):
    """Other members with these versions."""

    def __init__(self, *versions: str) -> None:
        self.versions = list(versions)

    def versions_of_others(self) -> list[str]:
        return self.versions


def with_others(lone: Lone, *versions: str) -> None:
    """Pretend that there are more members: learners, so that the lone voter still decides."""
    lone.node.peers = Versions(*versions)
    for number, _ in enumerate(versions, 2):
        lone.node.members.add(Member(MemberId(number), [f"http://x:{number}"], is_learner=True))


def later(lone: Lone) -> None:
    """Enough time for the leader to decide anew."""
    for _ in range(3):
        lone.turn(2_500)


def test_a_cluster_goes_down_by_one_and_the_job_ends() -> None:
    """The cluster's version and the storage's go first, then the members, one by one; when the last
    one is down, the job is over (as etcd 3.7.3 does it)."""
    lone = Lone(reports_storage=True)
    with_others(lone, "3.7.3", "3.7.3")
    assert downgrade(lone, ENABLE, "3.6") == "3.7"
    later(lone)
    assert lone.node.members.version == "3.6.0"
    assert lone.backend.get(schema.META, schema.STORAGE_VERSION) == b"3.6.0"
    assert lone.node.members.downgrade_target == "3.6.0"
    lone.node.config = replace(lone.node.config, cluster_version="3.6.0")
    with_others(lone, "3.6.16", "3.7.3")
    later(lone)
    assert lone.node.members.downgrade_target == "3.6.0"
    with_others(lone, "3.6.16", "3.6.9")
    later(lone)
    assert lone.node.members.downgrade_target is None
    assert lone.node.members.version == "3.6.0"


def test_a_cancelled_downgrade_goes_up_again() -> None:
    """All members are still new."""
    lone = Lone()
    with_others(lone, "3.7.3")
    downgrade(lone, ENABLE, "3.6")
    later(lone)
    assert lone.node.members.version == "3.6.0"
    assert downgrade(lone, CANCEL) == "3.6"
    later(lone)
    assert lone.node.members.version == "3.7.0"


def test_the_cluster_is_as_new_as_its_oldest_member() -> None:
    """It goes up with the last member that is replaced, never down by itself."""
    lone = Lone(cluster_version="3.5.0", reports_storage=False)
    lone.node.config = replace(lone.node.config, cluster_version="3.7.0", reports_storage=True)
    with_others(lone, "3.5.1")
    later(lone)
    assert lone.node.members.version == "3.5.0"
    with_others(lone, "3.6.9")
    later(lone)
    assert lone.node.members.version == "3.6.0"
    with_others(lone, "3.5.1")
    later(lone)
    assert lone.node.members.version == "3.6.0"


def test_a_lone_member_raises_the_version_it_finds() -> None:
    """A data directory taken over from an older etcd."""
    lone = Lone(cluster_version="3.5.0")
    lone.node.config = replace(lone.node.config, cluster_version="3.7.0")
    later(lone)
    assert lone.node.members.version == "3.7.0"


def test_what_the_backend_has_is_not_undone_by_older_entries() -> None:
    """The v2 store replays the whole log; a version of long ago does not come back."""
    lone = Lone()
    versions = lone.node.versions
    old = Request("PUT", "/0/version", "3.5.0")
    versions.replay(op.V2_REQUEST, old)
    assert lone.node.members.version == "3.7.0"
    event = lone.node.v2.store.get("/0/version", recursive=False, ordered=False, now_ns=0)
    assert event.node.value == "3.5.0"
    lone.node.v2.apply(old)  # a new entry, of a Go etcd 3.5 that leads
    assert lone.node.members.version == "3.5.0"
    assert lone.backend.get(schema.CLUSTER, b"clusterVersion") == b"3.5.0"


def test_no_downgrade_before_the_cluster_has_a_version() -> None:
    """What could not be decided yet cannot be lowered."""
    lone = Lone(elect=False)
    assert downgrade(lone, VALIDATE, "3.6") is errors.CLUSTER_VERSION_UNAVAILABLE
