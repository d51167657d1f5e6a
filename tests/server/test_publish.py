"""What a member says of itself through the log, the cluster version, and downgrades."""

from typing import Any

import pytest

from corum import errors
from corum.backend import schema
from corum.pb import rpc
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
        ("3.6", "3.7.0"),
        ("3.6.0", "3.7.0"),
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
    assert downgrade(lone, ENABLE, "3.6.0") == "3.7.0"
    assert lone.node.members.downgrade_target == "3.6.0"
    row = lone.backend.get(schema.CLUSTER, b"downgrade")
    assert row == b'{"target-version":"3.6.0","enabled":true}'
    assert downgrade(lone, ENABLE, "3.6.0") is errors.DOWNGRADE_IN_PROCESS
    assert downgrade(lone, CANCEL) == "3.7.0"
    assert lone.node.members.downgrade_target is None
    assert downgrade(lone, CANCEL) is errors.NO_INFLIGHT_DOWNGRADE


def test_no_downgrade_before_the_cluster_has_a_version() -> None:
    """What could not be decided yet cannot be lowered."""
    lone = Lone(elect=False)
    assert downgrade(lone, VALIDATE, "3.6") is errors.CLUSTER_VERSION_UNAVAILABLE
