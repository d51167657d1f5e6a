"""A database read while it arrives: all of it, nothing but it, and in whatever pieces."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from corum.backend import schema
from corum.backend.bbolt import (
    HEAD_BYTES,
    PAGE_BYTES,
    Arrival,
    BboltError,
    Database,
    Image,
    Row,
    Source,
    spans_of,
    write_database,
)

Rows = list[Row]


def source(name: bytes, rows: Rows) -> Source:
    def scan() -> list[Sequence[Row]]:
        return [rows[at : at + 50] for at in range(0, len(rows), 50)]

    return Source(name, scan)


def buckets() -> dict[bytes, Rows]:
    """Small rows, rows longer than a page, and a bucket without any."""
    dice = random.Random(3)
    return {
        b"alarm": [],
        b"key": [(b"%08d" % n, dice.randbytes(dice.choice((3, 900, 9_000)))) for n in range(700)],
        b"meta": [(b"term", b"x")],
        b"lease": [(b"%05d" % n, b"") for n in range(2_000)],
    }


def image(content: dict[bytes, Rows]) -> bytes:
    return b"".join(Image([source(name, rows) for name, rows in content.items()]).chunks())


def taken(data: bytes, piece: int) -> dict[bytes, Rows]:
    """What comes out when it arrives in pieces of this size, handed on by twos."""
    spans = spans_of(data[:HEAD_BYTES])
    assert spans is not None
    arrival = Arrival(spans)
    found: dict[bytes, Rows] = {span.name: [] for span in spans}
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
    for at in range(0, len(pieces), 2):
        for name, rows in arrival.feed(*pieces[at : at + 2]):
            found[name] += rows
    arrival.finish()
    return found


@pytest.mark.parametrize("piece", [1_000, PAGE_BYTES, 65_537, 1 << 24])
def test_all_rows_come_in_order(piece: int) -> None:
    """However the bytes are cut."""
    assert taken(image(buckets()), piece) == buckets()


def test_the_file_is_still_a_database(tmp_path: Path) -> None:
    """The mark is where bbolt does not look."""
    write_database(tmp_path / "db", Image([source(*one) for one in buckets().items()]))
    with Database(tmp_path / "db") as database:
        found = {
            each.name: [row for rows in each.scan() for row in rows] for each in database.buckets()
        }
    assert found == buckets()


def test_other_files_have_no_mark() -> None:
    """Without it, with a damaged one, and with one that claims more than page 0 holds."""
    head = bytearray(image(buckets())[:HEAD_BYTES])
    assert spans_of(bytes(head)) is not None
    for at in (1_024, 1_060):
        damaged = bytearray(head)
        damaged[at] ^= 1
        assert spans_of(bytes(damaged)) is None
    assert spans_of(bytes(HEAD_BYTES)) is None
    many = {b"%0100d" % n: Rows() for n in range(100)}
    assert spans_of(image(many)[:HEAD_BYTES]) is None


def test_what_is_missing_is_missed() -> None:
    """Cut anywhere, by a page or by a byte, or continued."""
    data = image(buckets())
    for end in (PAGE_BYTES, len(data) // 2, len(data) - PAGE_BYTES, len(data) - 1):
        with pytest.raises(BboltError):
            taken(data[:end], 65_536)
    with pytest.raises(BboltError, match="behind the last"):
        taken(data + data[-PAGE_BYTES:], 65_536)


def test_pages_in_the_wrong_place_are_refused() -> None:
    """Two that changed places; a page of another bucket; a key that is not greater."""
    data = image(buckets())
    third, fourth = (slice(n * PAGE_BYTES, (n + 1) * PAGE_BYTES) for n in (2, 3))
    swapped = data[: third.start] + data[fourth] + data[third] + data[fourth.stop :]
    with pytest.raises(BboltError, match="calls itself"):
        taken(swapped, 65_536)
    at = data.index(b"".join(buckets()[b"key"][500]))
    with pytest.raises(BboltError, match="order"):
        taken(data[:at] + b"00000100" + data[at + 8 :], 65_536)
    other = image(buckets() | {b"meta": Rows()})
    assert other[:HEAD_BYTES] == data[:HEAD_BYTES]
    spans = spans_of(data[:HEAD_BYTES])
    assert spans is not None
    wrong = [spans[0]._replace(end=spans[0].end + 1), spans[1]._replace(first=spans[1].first + 1)]
    arrival = Arrival([*wrong, *spans[2:]])
    with pytest.raises(BboltError):
        for _ in arrival.feed(data):
            pass


def test_names_are_etcds() -> None:
    """The buckets that a member sends fit into the mark."""
    data = image({name.encode(): Rows() for name in schema.ETCD_BUCKETS})
    spans = spans_of(data[:HEAD_BYTES])
    assert spans is not None
    assert sorted(schema.ETCD_BUCKETS) == [span.name.decode() for span in spans]
