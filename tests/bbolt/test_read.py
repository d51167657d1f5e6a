"""Reading bbolt files that Go etcd wrote, and refusing damaged ones."""

import struct
from pathlib import Path

import pytest

from corum.backend import schema
from corum.backend.bbolt import BboltError, Database
from corum.backend.bbolt_format import META_BODY, fnv1a
from corum.wal.crc import crc32c
from wire import golden

PAGE = 4096
ROWS_SMALL = {
    "alarm": 0,
    "auth": 1,
    "authRoles": 1,
    "authUsers": 1,
    "cluster": 1,
    "key": 20,
    "lease": 1,
    "members": 1,
    "members_removed": 0,
    "meta": 5,
}


def put(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "db"
    path.write_bytes(content)
    return path


def read_all(path: Path) -> dict[bytes, list[tuple[bytes, bytes]]]:
    with Database(path) as database:
        return {
            bucket.name: [row for rows in bucket.scan() for row in rows]
            for bucket in database.buckets()
        }


def hash_of(content: dict[bytes, list[tuple[bytes, bytes]]]) -> int:
    """What etcdutl's `snapshot status` prints as hash."""
    crc = 0
    for name, rows in content.items():
        crc = crc32c(b"".join([name, *(part for row in rows for part in row)]), crc)
    return crc


@pytest.mark.parametrize(
    ("name", "hash_"),
    [
        ("go-3.5.1-small.db", 3496074460),
        ("go-3.7.3-small.db", 1571145951),
        ("go-3.5.1-deep.db", 30440336),
    ],
)
def test_everything_is_read(tmp_path: Path, name: str, hash_: int) -> None:
    """The hash over all rows is the one that Go's etcdutl prints for the file."""
    assert hash_of(read_all(put(tmp_path, golden(name)))) == hash_


def test_buckets_of_a_small_database(tmp_path: Path) -> None:
    """Inline buckets, empty ones, and one with a page of its own."""
    content = read_all(put(tmp_path, golden("go-3.5.1-small.db")))
    assert {name.decode(): len(rows) for name, rows in content.items()} == ROWS_SMALL
    meta = dict(content[b"meta"])
    assert schema.from_u64(meta[schema.CONSISTENT_INDEX]) == 30


def test_values_over_several_pages(tmp_path: Path) -> None:
    """A value of 9000 bytes lies in overflow pages; `get` finds it through two branch levels."""
    path = put(tmp_path, golden("go-3.5.1-deep.db"))
    with Database(path) as database:
        key = database.bucket(b"key")
        assert key is not None
        rows = [row for rows in key.scan() for row in rows]
        assert len(rows) == 2472
        assert sum(b"y" * 9000 in value for _, value in rows) == 1
        assert all(key.get(name) == value for name, value in rows[::50])
        assert key.get(b"nothing") is None
        assert database.bucket(b"nothing") is None


def test_trailer_is_not_part_of_the_database(tmp_path: Path) -> None:
    """`size` counts pages; the SHA-256 of a saved snapshot does not disturb."""
    content = golden("go-3.5.1-small.db")
    with Database(put(tmp_path, content)) as database:
        assert database.size == 53248
        assert database.file_bytes == len(content) == 53248 + 32


def patched(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


def test_one_damaged_meta_page_is_survived(tmp_path: Path) -> None:
    """A torn commit leaves the other meta page, an older state of the same file."""
    content = golden("go-3.5.1-deep.db")
    for number in (0, 1):
        damaged = patched(content, number * PAGE + 40, b"\xff")
        with Database(put(tmp_path, damaged)) as database:
            assert database.page_bytes == PAGE


def test_no_valid_meta_page(tmp_path: Path) -> None:
    """Both checksums wrong: etcd's words for a file that is no database."""
    content = patched(golden("go-3.5.1-small.db"), 40, b"\xff")
    content = patched(content, PAGE + 40, b"\xff")
    with pytest.raises(BboltError, match=r"invalid database: .* has no valid meta page"):
        Database(put(tmp_path, content))


@pytest.mark.parametrize("size", [0, 100, 1023])
def test_file_too_small(tmp_path: Path, size: int) -> None:
    """An empty or tiny file is refused before it is mapped."""
    with pytest.raises(BboltError, match=f"invalid database: .* has only {size} bytes"):
        Database(put(tmp_path, bytes(size)))


def test_cut_off_file(tmp_path: Path) -> None:
    """A download that ended early: fewer bytes than the meta page promises."""
    content = golden("go-3.5.1-small.db")
    with pytest.raises(BboltError, match="has 40000 bytes, should have 53248"):
        Database(put(tmp_path, content[:40000]))


def root_page(content: bytes) -> int:
    metas = [META_BODY.unpack_from(content, number * PAGE + 16) for number in (0, 1)]
    return max(metas, key=lambda meta: meta[8])[4] * PAGE


HEADER = struct.Struct("<QHHI")


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ((99, 2, 1, 0), "calls itself page 99"),
        ((None, 9, 1, 0), "is of kind 0x9, neither branch nor leaf"),
        ((None, 2, 60000, 0), "has 60000 elements, more than fit"),
        ((None, 1, 60000, 0), "has 60000 children"),
        ((None, 1, 0, 0), "has 0 children"),
        ((None, 2, 1, 60000), "runs over the end of the file"),
    ],
)
def test_damaged_page_headers_are_told(
    tmp_path: Path, header: tuple[int | None, int, int, int], text: str
) -> None:
    """Pages have no checksum: what makes no sense is refused with the page's number."""
    content = golden("go-3.5.1-small.db")
    at = root_page(content)
    number, *rest = header
    new = HEADER.pack(at // PAGE if number is None else number, *rest)
    path = put(tmp_path, patched(content, at, new))
    with pytest.raises(BboltError, match=rf"page {at // PAGE}\b.*{text}"):
        read_all(path)


def test_element_outside_its_page(tmp_path: Path) -> None:
    """A length that reaches over the page's end does not read its neighbour."""
    content = golden("go-3.5.1-small.db")
    at = root_page(content) + 16 + 12
    path = put(tmp_path, patched(content, at, (1 << 20).to_bytes(4, "little")))
    with pytest.raises(BboltError, match="an element runs over the page's end"):
        read_all(path)


def test_branch_that_leads_back_is_not_followed_forever(tmp_path: Path) -> None:
    """A cycle of pages ends in an error."""
    content = golden("go-3.5.1-small.db")
    at = root_page(content)
    page = HEADER.pack(at // PAGE, 1, 2, 0) + 2 * struct.pack("<IIQ", 32, 0, at // PAGE)
    path = put(tmp_path, patched(content, at, page))
    with pytest.raises(BboltError, match="part of a cycle"):
        read_all(path)


def test_keys_out_of_order(tmp_path: Path) -> None:
    """A changed key is noticed where it breaks the order."""
    content = golden("go-3.5.1-deep.db")
    key = (300).to_bytes(8, "big") + b"_" + bytes(8)
    assert key in content
    path = put(tmp_path, content.replace(key, b"\xff" + key[1:]))
    with pytest.raises(BboltError, match="keys out of order in bucket b'key'"):
        read_all(path)


def test_checksum_is_fnv1a() -> None:
    """Published values of FNV-1a, 64 bits."""
    assert fnv1a(b"") == 0xCBF29CE484222325
    assert fnv1a(b"foobar") == 0x85944171F73967E8
