"""The log is cut short only behind what is durable elsewhere."""

import json
from collections.abc import Callable

import pytest

from corum import v2store
from corum.member.memory_log import MemoryLog
from corum.pb import rpc
from corum.raft import Snapshot
from corum.server import operations as op
from corum.server.snapshotting import ENTRY_PAYS_BYTES, FREE_BYTES
from server.lone import Lone

COUNT = 20
CATCH_UP = 5


class Keeper(MemoryLog):
    """Notes what it is asked for, and what was on the disk then."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self.saved: list[Snapshot] = []
        self.backend_index: Callable[[], int] = lambda: 0
        self.error: OSError | None = None
        self.hold = False
        self.held: list[Callable[[], None]] = []

    def save(self, snapshot: Snapshot) -> None:
        self.told.append(f"save {snapshot.index} behind {self.backend_index()}")
        if self.error is not None:
            raise self.error
        self.saved.append(snapshot)

    def record(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        self.told.append(f"record {snapshot.index}")
        if self.hold:
            self.held.append(done)
        else:
            done()


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
def lone(keeper: Keeper) -> Lone:
    lone = Lone(
        log=keeper, snapshot_count=COUNT, snapshot_catchup_entries=CATCH_UP, batch_interval_ns=0
    )
    keeper.backend_index = lambda: lone.disk_index()
    return lone


def fill(lone: Lone, until: int) -> None:
    while lone.node.applied_index < until:
        lone.propose(op.PUT, rpc.PutRequest(key=b"k"))


def test_a_large_tree_is_saved_less_often(lone: Lone, keeper: Keeper) -> None:
    """An entry pays for so many bytes of the last snapshot and no more."""
    value = "x" * (FREE_BYTES + 10 * COUNT * ENTRY_PAYS_BYTES)
    v2store.apply(lone.node.v2.store, v2store.Request("PUT", "/1/big", value), 0)
    fill(lone, COUNT + 1)
    assert len(keeper.saved) == 1
    due = (len(keeper.saved[0].data) - FREE_BYTES) // ENTRY_PAYS_BYTES
    assert due >= 10 * COUNT
    fill(lone, COUNT + 1 + due)
    assert len(keeper.saved) == 1
    fill(lone, COUNT + 2 + due)
    assert len(keeper.saved) == 2


def test_every_count_entries(lone: Lone, keeper: Keeper) -> None:
    """More than --snapshot-count of them since the last one."""
    fill(lone, COUNT)
    assert keeper.told == []
    fill(lone, COUNT + 1)
    assert [snapshot.index for snapshot in keeper.saved] == [COUNT + 1]
    fill(lone, 2 * COUNT + 1)
    assert len(keeper.saved) == 1
    fill(lone, 2 * COUNT + 2)
    assert [snapshot.index for snapshot in keeper.saved] == [COUNT + 1, 2 * COUNT + 2]


def test_the_backend_is_first_then_the_file_then_the_record(lone: Lone, keeper: Keeper) -> None:
    """A crash between any two of them leaves a log that reaches back far enough."""
    fill(lone, COUNT + 1)
    index = COUNT + 1
    assert keeper.told == [f"save {index} behind {index}", f"record {index}"]


def test_entries_stay_until_the_record_is_durable(lone: Lone, keeper: Keeper) -> None:
    """Afterwards those of the catch-up window stay."""
    keeper.hold = True
    storage = lone.node.raft_storage
    fill(lone, COUNT + 1)
    assert (storage.first_index(), storage.snapshot().index) == (1, 0)
    fill(lone, 3 * COUNT)  # one snapshot at a time
    assert len(keeper.saved) == 1
    keeper.held.pop()()
    assert storage.snapshot().index == COUNT + 1
    assert storage.first_index() == COUNT + 1 - CATCH_UP + 1


def test_a_snapshot_that_cannot_be_saved_is_tried_again(lone: Lone, keeper: Keeper) -> None:
    """After a second, not in every turn; nothing is forgotten meanwhile."""
    keeper.error = OSError(28, "No space left on device")
    fill(lone, COUNT + 1)
    lone.turn(500)
    assert lone.lines.count("failed to save snapshot") == 1
    assert not any(line.startswith("record") for line in keeper.told)
    assert lone.node.raft_storage.first_index() == 1
    keeper.error = None
    lone.turn(500)
    assert [snapshot.index for snapshot in keeper.saved] == [COUNT + 1]


def test_it_holds_voters_and_the_v2_store(lone: Lone, keeper: Keeper) -> None:
    """What a `.snap` file is: the configuration, and the v2 store's JSON, members within."""
    fill(lone, COUNT + 1)
    (snapshot,) = keeper.saved
    assert snapshot.conf_state.voters == (lone.node.members.local,)
    root = json.loads(snapshot.data)["Root"]
    assert set(root["Children"]) >= {"0", "1"}
