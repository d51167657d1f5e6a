"""The log against a list: whatever is saved, cut, torn or flipped, it is that list or an error."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corum.raft.messages import Entry, HardState
from corum.wal import Wal, WalError, WalSnapshot, WalTorn, records, repair

from .helpers import METADATA, entry, perform, read

pytestmark = pytest.mark.slow

SEGMENT = 8192
SECTOR = records.SECTOR_BYTES


class Model:
    """What the log should say."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.state = HardState()

    def copy(self) -> "Model":
        twin = Model()
        twin.entries, twin.state = list(self.entries), self.state
        return twin

    def append(self, new: Entry) -> None:
        del self.entries[new.index - 1 :]
        self.entries.append(new)


class Scene:
    """A log in a folder, its model, and where its last write began."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "wal"
        self.wal = Wal.create(self.directory, METADATA, segment_bytes=SEGMENT)
        self.model = Model()
        self.prefixes = [self.model.copy()]  # after each record of the last write
        self.last_write = b""
        self.term = 1

    def save(self, back: int, sizes: list[int], with_state: bool) -> None:
        """Append entries of these sizes, `back` of them over the tail in a new term."""
        first = max(1, len(self.model.entries) + 1 - back)
        self.term += bool(back)
        new = [
            entry(first + place, self.term, bytes((1 + place % 255,)) * size)
            for place, size in enumerate(sizes)
        ]
        state = HardState(self.term, 1, first) if with_state or not new else None
        write = self.wal.save(state, new, must_sync=True)
        perform(write)
        assert write is not None
        self.last_write = write.data
        self.prefixes = [self.model.copy()]
        for one in new:
            self.model.append(one)
            self.prefixes.append(self.model.copy())
        if state is not None:
            self.model.state = state
            self.prefixes.append(self.model.copy())

    def cut(self) -> None:
        self.wal.cut()
        self.last_write = b""
        self.prefixes = [self.model.copy()]

    def reopen(self) -> None:
        self.wal.close()
        self.wal = Wal.open(self.directory, WalSnapshot(), segment_bytes=SEGMENT)
        assert self.wal.replay is not None
        assert self.wal.replay.entries == self.model.entries
        assert self.wal.replay.hard_state == self.model.state

    def tail(self) -> Path:
        return sorted(self.directory.glob("*.wal"))[-1]


SAVE = st.tuples(
    st.integers(0, 3),
    st.lists(st.sampled_from([0, 1, 5, 40, 300, 700, 1500, 5000]), max_size=6),
    st.booleans(),
)
STEPS = st.lists(st.one_of(SAVE, st.sampled_from(["cut", "reopen"])), max_size=12)


def play(folder: Path, steps: list[object]) -> Scene:
    scene = Scene(folder)
    for step in steps:
        if step == "cut":
            scene.cut()
        elif step == "reopen":
            scene.reopen()
        else:
            assert isinstance(step, tuple)
            scene.save(*step)
            if scene.wal.cut_due:
                scene.cut()
    return scene


@settings(max_examples=40)
@given(STEPS)
def test_log_is_the_list(steps: list[object]) -> None:
    """Any order of saves, overwrites, cuts and restarts reads back as the list says."""
    with tempfile.TemporaryDirectory() as folder:
        scene = play(Path(folder), steps)
        scene.reopen()
        scene.wal.close()


@settings(max_examples=60)
@given(STEPS, SAVE, st.data())
def test_torn_last_write_leaves_a_prefix_of_it(
    steps: list[object], last: tuple[int, list[int], bool], data: st.DataObject
) -> None:
    """Lose any sectors of an unsynced write: all before it stays, of it stays a prefix."""
    with tempfile.TemporaryDirectory() as folder:
        scene = play(Path(folder), steps)
        scene.wal.close()
        before = read(scene.directory)
        scene.wal = Wal.open(scene.directory, WalSnapshot(), segment_bytes=SEGMENT)
        scene.save(*last)
        scene.wal.close()
        tear(scene.tail(), before.end, len(scene.last_write), data)
        try:
            found = read(scene.directory)
        except WalTorn:
            assert repair(scene.directory) is not None
            found = read(scene.directory)
        assert (found.entries, found.hard_state) in [(p.entries, p.state) for p in scene.prefixes]
        Wal.open(scene.directory, WalSnapshot(), segment_bytes=SEGMENT).close()
        again = read(scene.directory)
        assert (again.entries, again.hard_state) == (found.entries, found.hard_state)


def tear(path: Path, begin: int, length: int, data: st.DataObject) -> None:
    """Zero some of the sectors that a write touched; the first keeps what was there before."""
    sectors = range(begin // SECTOR, -(-(begin + length) // SECTOR))
    lost = data.draw(st.sets(st.sampled_from(sectors), min_size=1))
    image = bytearray(path.read_bytes())
    for sector in lost:
        start = max(sector * SECTOR, begin)
        end = min((sector + 1) * SECTOR, len(image))
        image[start:end] = bytes(end - start)
    path.write_bytes(image)


@settings(max_examples=80)
@given(STEPS, SAVE, st.data())
def test_one_wrong_bit_is_never_a_silent_loss(
    steps: list[object], last: tuple[int, list[int], bool], data: st.DataObject
) -> None:
    """In what was synced, a flipped bit is refused, or it was in bytes that mean nothing."""
    with tempfile.TemporaryDirectory() as folder:
        scene = play(Path(folder), steps)
        scene.save(*last)
        scene.wal.close()
        used = read(scene.directory).end
        path = data.draw(st.sampled_from(sorted(scene.directory.glob("*.wal"))))
        image = bytearray(path.read_bytes())
        end = used if path == scene.tail() else len(image)
        bit = data.draw(st.integers(0, end * 8 - 1))
        image[bit // 8] ^= 1 << bit % 8
        path.write_bytes(image)
        try:
            found = read(scene.directory)
        except WalTorn:
            raise AssertionError("a repair would cut off what was synced") from None
        except WalError:
            return
        assert found.entries == scene.model.entries
        assert found.hard_state == scene.model.state


@settings(max_examples=40)
@given(STEPS, st.data())
def test_cut_off_file_leaves_a_prefix(steps: list[object], data: st.DataObject) -> None:
    """Without preallocation a crash may shorten the file anywhere in the last write."""
    with tempfile.TemporaryDirectory() as folder:
        scene = play(Path(folder), steps)
        scene.save(0, [300, 20, 900], True)
        scene.wal.close()
        end = read(scene.directory).end
        path = scene.tail()
        size = data.draw(st.integers(end - len(scene.last_write), end - 1))
        shutil.copyfile(path, path.with_suffix(".copy"))
        with path.open("r+b") as file:
            file.truncate(size)
        try:
            found = read(scene.directory)
        except WalTorn:
            repair(scene.directory)
            found = read(scene.directory)
        assert (found.entries, found.hard_state) in [(p.entries, p.state) for p in scene.prefixes]
