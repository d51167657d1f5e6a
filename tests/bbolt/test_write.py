"""Writing bbolt files in one stream, and reading them back."""

import hashlib
import stat
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corum.backend.bbolt import (
    BboltError,
    Database,
    Image,
    Row,
    Source,
    with_trailer,
    write_database,
    write_snapshot,
)
from corum.backend.bbolt_read import _branches
from corum.backend.bbolt_write import _Level
from wire import golden

from .test_read import read_all


def source(name: bytes, rows: Sequence[Row], step: int = 7) -> Source:
    """The rows in lists of `step`."""
    return Source(name, lambda: [rows[at : at + step] for at in range(0, len(rows), step)])


def revisions(count: int, value_bytes: int = 60) -> list[Row]:
    return [
        (main.to_bytes(8, "big") + b"_" + bytes(8), b"v" * (main % (2 * value_bytes)))
        for main in range(2, count + 2)
    ]


def written(path: Path, *sources: Source) -> dict[bytes, list[Row]]:
    image = Image(sources)
    write_database(path, image)
    assert path.stat().st_size == image.size
    return read_all(path)


def test_rows_come_back(tmp_path: Path) -> None:
    """Buckets by name, rows in order; an empty bucket stays a bucket."""
    rows = revisions(30_000)
    meta = [(b"consistent_index", bytes(8))]
    found = written(tmp_path / "db", source(b"meta", meta), source(b"key", rows), source(b"a", []))
    assert list(found.items()) == [(b"a", []), (b"key", rows), (b"meta", meta)]


def test_no_bucket_at_all(tmp_path: Path) -> None:
    """The smallest database: two metas and an empty catalog."""
    assert written(tmp_path / "db") == {}


def test_go_database_written_again(tmp_path: Path) -> None:
    """What Go wrote, read and written by us, reads the same."""
    before = tmp_path / "go"
    before.write_bytes(golden("go-3.5.1-deep.db"))
    content = read_all(before)
    sources = [source(name, rows) for name, rows in content.items()]
    assert written(tmp_path / "db", *sources) == content


KEYS = st.one_of(st.binary(min_size=1, max_size=20), st.integers(1, 3000).map(lambda n: b"k" * n))
VALUES = st.one_of(st.binary(max_size=50), st.integers(0, 20_000).map(bytes))


@settings(max_examples=50)
@given(st.dictionaries(KEYS, VALUES, max_size=60), st.dictionaries(KEYS, VALUES, max_size=5))
@pytest.mark.slow
def test_any_rows_come_back(
    tmp_path_factory: pytest.TempPathFactory, one: dict[bytes, bytes], two: dict[bytes, bytes]
) -> None:
    """Long keys, large and empty values, one row or many."""
    path = tmp_path_factory.mktemp("bbolt") / "db"
    first, second = sorted(one.items()), sorted(two.items())
    assert written(path, source(b"1", first), source(b"2", second)) == {b"1": first, b"2": second}


@settings(max_examples=100)
@given(st.lists(st.one_of(st.just(17), st.integers(0, 3000)), min_size=2, max_size=500))
def test_no_branch_has_a_single_child(key_bytes: list[int]) -> None:
    """bbolt panics when it deletes below such a branch."""
    level = _Level()
    pages: list[list[tuple[bytes, int]]] = []
    for number, size in enumerate(key_bytes):
        full = level.add((b"k" * size, number))
        if full:
            pages.append(full)
    pages += level.rest()
    assert [child for page in pages for _, child in page] == list(range(len(key_bytes)))
    assert min(map(len, pages)) >= 2


def test_tree_of_three_levels_is_balanced(tmp_path: Path) -> None:
    """All leaves at one depth, branches full but for the last ones."""
    rows = revisions(60_000, value_bytes=30)
    write_database(tmp_path / "db", Image([source(b"key", rows, 1000)]))
    with Database(tmp_path / "db") as database:
        bucket = database.bucket(b"key")
        assert bucket is not None
        top = bucket._top()
        lower = [database._page(child) for _, child in _branches(top)]
        sizes = [len(_branches(page)) for page in lower]
        assert len(sizes) > 3
        assert len(set(sizes[:-2])) == 1
        assert min(sizes) >= 2


def test_rows_out_of_order_are_refused(tmp_path: Path) -> None:
    """A source that is not sorted would make keys that cannot be found."""
    with pytest.raises(BboltError, match="not in order"):
        written(tmp_path / "db", source(b"key", [(b"b", b""), (b"a", b"")]))


def test_source_that_changes_between_the_passes(tmp_path: Path) -> None:
    """The meta pages are already sent then; the stream must fail, not end as a wrong file."""
    passes: list[Iterable[Sequence[Row]]] = [[revisions(100)], [revisions(500)]]
    image = Image([Source(b"key", lambda: passes.pop(0))])
    with pytest.raises(BboltError, match="changed between"):
        b"".join(image.chunks())


def test_chunks_are_small_and_add_up() -> None:
    """The stream is bounded in memory and as long as announced; every run gives the same bytes."""
    image = Image([source(b"key", revisions(5000))])
    chunks = list(image.chunks())
    assert sum(map(len, chunks)) == image.size
    assert max(map(len, chunks)) <= 64 * 1024 + 4096
    assert b"".join(chunks) == b"".join(image.chunks())


def test_saved_snapshot_has_a_trailer(tmp_path: Path) -> None:
    """SHA-256 of the database at the end; mode 0600; no `.part` left."""
    image = Image([source(b"key", revisions(100))])
    path = tmp_path / "snapshot.db"
    write_snapshot(path, image)
    content = path.read_bytes()
    assert content[-32:] == hashlib.sha256(content[:-32]).digest()
    assert content == b"".join(with_trailer(image.chunks()))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["snapshot.db"]


@pytest.mark.compat
def test_go_checks_our_file(go_tools: Path, tmp_path: Path) -> None:
    """Go's etcdutl computes the same hash for our copy as for its own file."""
    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"
    theirs.write_bytes(golden("go-3.5.1-deep.db"))
    sources = [source(name, rows) for name, rows in read_all(theirs).items()]
    write_snapshot(ours, Image(sources))
    status = [str(go_tools / "etcdutl"), "snapshot", "status"]
    told = [
        subprocess.run([*status, str(path)], capture_output=True, text=True, check=True).stdout
        for path in (ours, theirs)
    ]
    assert [text.split(", ")[:3] for text in told] == [["1d07b90", "464", "2481"]] * 2
