"""Reading a bbolt file.

Only meta pages carry a checksum, so everything else is checked for sense: ids, kinds, bounds, the
order of keys, and that no page is met twice. The freelist is not needed.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from struct import error as StructError
from typing import Final, NamedTuple

from corum.backend.bbolt_format import (
    BRANCH,
    BRANCH_ELEMENT,
    BUCKET,
    CHECKSUM,
    ELEMENT_BYTES,
    HEADER,
    HEADER_BYTES,
    LEAF,
    LEAF_ELEMENT,
    MAGIC,
    META_BODY,
    NESTED,
    VERSION,
    BboltError,
    Meta,
    Row,
    fnv1a,
    is_unordered,
)

_DEPTH_MAX: Final = 32


class Page(NamedTuple):
    """A page's place in `image`; `start` is its header's offset, `stop` the end of its overflow."""

    image: bytes | mmap
    id: int
    kind: int
    elements: int
    start: int
    stop: int


class Database:
    """A bbolt file, mapped and read only. A context manager.

    A trailer as saved snapshots have is ignored. Raises BboltError, OSError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.file_bytes = os.fstat(file.fileno()).st_size
            if self.file_bytes < 2 * 512:
                raise BboltError(f"invalid database: {path} has only {self.file_bytes} bytes")
            self._map = mmap(file.fileno(), 0, access=ACCESS_READ)
        try:
            self._meta = self._find_meta()
            self.page_bytes = self._meta.page_bytes
        except BaseException:
            self._map.close()
            raise

    @property
    def size(self) -> int:
        """Bytes of pages in use or free; the file may be longer."""
        return self._meta.high_water * self.page_bytes

    def bucket(self, name: bytes) -> Bucket | None:
        """The top-level bucket `name`, or None."""
        for found in self.buckets():
            if found.name == name:
                return found
        return None

    def buckets(self) -> Iterator[Bucket]:
        """All top-level buckets, by name."""
        for page in self._leaves(self._page(self._meta.root)):
            for flags, name, value in leaf_elements(page):
                if not flags & NESTED or len(value) < BUCKET.size:
                    raise BboltError(f"page {page.id}: {name!r} is not a bucket")
                yield Bucket(self, name, value)

    def _find_meta(self) -> Meta:
        """The newest of the valid metas; the second one's place depends on the page size."""
        found = self._read_meta(0)
        sizes = [found.page_bytes] if found else [512 << shift for shift in range(8)]
        for size in sizes:
            other = self._read_meta(size)
            if other is not None and other.page_bytes == size:
                found = other if found is None else max(found, other, key=lambda m: m.transaction)
        if found is None:
            raise BboltError(f"invalid database: {self.path} has no valid meta page")
        if found.high_water * found.page_bytes > self.file_bytes:
            raise BboltError(
                f"invalid database: {self.path} has {self.file_bytes} bytes, "
                f"should have {found.high_water * found.page_bytes}"
            )
        return found

    def _read_meta(self, offset: int) -> Meta | None:
        start = offset + HEADER_BYTES
        end = start + META_BODY.size
        if end + CHECKSUM.size > self.file_bytes:
            return None
        body = self._map[start:end]
        meta = Meta(*META_BODY.unpack(body))
        if (meta.magic, meta.version) != (MAGIC, VERSION):
            return None
        if CHECKSUM.unpack_from(self._map, end)[0] != fnv1a(body):
            return None
        return meta if meta.page_bytes >= 512 else None

    def _page(self, number: int) -> Page:
        """The header of page `number`, checked."""
        if not 2 <= number < self._meta.high_water:
            raise BboltError(f"page {number} is outside the file")
        start = number * self.page_bytes
        page = page_at(self._map, start, number)
        stop = start + (1 + HEADER.unpack_from(self._map, start)[3]) * self.page_bytes
        if page.id != number:
            raise BboltError(f"page {number} calls itself page {page.id}")
        if stop > self.size:
            raise BboltError(f"page {number} runs over the end of the file")
        return page._replace(stop=stop)

    def _leaves(self, page: Page) -> Iterator[Page]:
        """The leaf pages below `page`, from left to right."""
        left = self._meta.high_water
        stack = [iter((page,))]
        while stack:
            page_or_none = next(stack[-1], None)
            if page_or_none is None:
                stack.pop()
                continue
            left -= 1
            if left < 0 or len(stack) > _DEPTH_MAX:
                raise BboltError(f"page {page_or_none.id} is part of a cycle")
            if page_or_none.kind == LEAF:
                yield page_or_none
            else:
                stack.append(iter([self._page(child) for _, child in _branches(page_or_none)]))

    def close(self) -> None:
        """Buckets of it can be used no more. Idempotent."""
        self._map.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Bucket:
    """One bucket of an open `Database`."""

    def __init__(self, database: Database, name: bytes, value: bytes) -> None:
        self.name = name
        self._database = database
        self._value = value

    def _top(self) -> Page:
        root = BUCKET.unpack_from(self._value)[0]
        if root:
            return self._database._page(root)
        return page_at(self._value, BUCKET.size, 0)

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        page = self._top()
        for _ in range(_DEPTH_MAX):
            if page.kind == LEAF:
                return next((v for _, k, v in leaf_elements(page) if k == key), None)
            children = _branches(page)
            place = bisect_right(children, key, key=lambda child: child[0])
            page = self._database._page(children[max(place - 1, 0)][1])
        raise BboltError(f"page {page.id} is part of a cycle")

    def scan(self) -> Iterator[list[Row]]:
        """All rows ascending, a leaf page at a time."""
        before: bytes | None = None
        for page in self._database._leaves(self._top()):
            rows = leaf_rows(page, self.name, before)
            if rows:
                before = rows[-1][0]
                yield rows


def page_at(image: bytes | mmap, start: int, number: int) -> Page:
    """The page whose header is at `start`; ends with the image."""
    try:
        id_, kind, count, _ = HEADER.unpack_from(image, start)
    except StructError:
        raise BboltError(f"page {number} is cut off") from None
    if kind not in (BRANCH, LEAF):
        raise BboltError(f"page {number} is of kind {kind:#x}, neither branch nor leaf")
    return Page(image, id_, kind, count, start, len(image))


def leaf_elements(page: Page) -> list[tuple[int, bytes, bytes]]:
    """Flags, key and value of each element."""
    image, at, stop = page.image, page.start + HEADER_BYTES, page.stop
    if at + page.elements * ELEMENT_BYTES > stop:
        raise BboltError(f"page {page.id} has {page.elements} elements, more than fit")
    out: list[tuple[int, bytes, bytes]] = []
    for flags, position, key_bytes, value_bytes in LEAF_ELEMENT.iter_unpack(
        image[at : at + page.elements * ELEMENT_BYTES]
    ):
        middle = at + position + key_bytes
        end = middle + value_bytes
        if end > stop:
            raise BboltError(f"page {page.id}: an element runs over the page's end")
        out.append((flags, image[at + position : middle], image[middle:end]))
        at += ELEMENT_BYTES
    return out


def leaf_rows(page: Page, bucket: bytes, before: bytes | None) -> list[Row]:
    """Key and value of each element of a leaf of `bucket`, whose keys so far end with `before`."""
    elements = leaf_elements(page)
    rows = [(key, value) for flags, key, value in elements if not flags]
    if len(rows) < len(elements):
        raise BboltError(f"page {page.id}: bucket {bucket!r} holds a bucket")
    if rows and ((before is not None and before >= rows[0][0]) or is_unordered(rows)):
        raise BboltError(f"page {page.id}: keys out of order in bucket {bucket!r}")
    return rows


def _branches(page: Page) -> list[tuple[bytes, int]]:
    """Smallest key and page of each child."""
    image, at, stop = page.image, page.start + HEADER_BYTES, page.stop
    if not page.elements or at + page.elements * ELEMENT_BYTES > stop:
        raise BboltError(f"page {page.id} has {page.elements} children")
    out: list[tuple[bytes, int]] = []
    for position, key_bytes, child in BRANCH_ELEMENT.iter_unpack(
        image[at : at + page.elements * ELEMENT_BYTES]
    ):
        if at + position + key_bytes > stop:
            raise BboltError(f"page {page.id}: a key runs over the page's end")
        out.append((image[at + position : at + position + key_bytes], child))
        at += ELEMENT_BYTES
    return out
