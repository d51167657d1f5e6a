"""Writing a bbolt file from sorted rows, as a stream.

The first bytes of the file name its last pages, and whoever receives a snapshot wants its size
before the first byte. So the sources are read twice: the first pass only adds up lengths (about a
quarter of the work), the second yields the file from front to back. The alternative, a temporary
file, costs the disk a write and a read of the whole store. Memory: one page per level of a tree.

Pages are filled to the brim, leaves and branches follow each other as they fill, the catalog of
buckets comes last; page 0 says so, and a receiver of ours reads the file while it comes
(`bbolt_stream`). No freelist is written (etcd never has one: bbolt rebuilds it on opening).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from struct import Struct
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
    MAGIC,
    META,
    META_BODY,
    NESTED,
    NO_FREELIST,
    PAGE_BYTES,
    VERSION,
    BboltError,
    Meta,
    Row,
    fnv1a,
    is_unordered,
)
from corum.backend.bbolt_stream import MARK_AT, Span, mark_of


class Source(NamedTuple):
    """One bucket to write: `scan()` yields its rows in ascending lists, and the same again.

    `lambda: view.bucket(name).scan()` fits.
    """

    name: bytes
    scan: Callable[[], Iterable[Sequence[Row]]]


_CHUNK_BYTES: Final = 64 * 1024

Child = tuple[bytes, int]  # smallest key, page


class Image:
    """A bbolt file to be: the first pass over the sources has fixed its layout and size.

    The buckets' names must differ. Either pass takes as long as reading all rows: worker thread.
    """

    size: int
    """Bytes that `chunks` will yield in all; a multiple of 4096."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sorted(sources, key=lambda source: source.name)
        assert all(a.name != b.name for a, b in pairwise(self._sources)), "two buckets of a name"
        layout = _Layout()
        spans: list[Span] = []
        for source in self._sources:
            first = layout.next
            for _ in layout.pages(source):
                pass
            spans.append(Span(source.name, first, layout.next))
        self._layout = layout
        self._mark = mark_of(spans)
        self._catalog = [
            (source.name, BUCKET.pack(root, 0))
            for source, root in zip(self._sources, layout.roots, strict=True)
        ]
        catalog_bytes = HEADER_BYTES + sum(
            ELEMENT_BYTES + len(k) + len(v) for k, v in self._catalog
        )
        self._high_water = layout.next + _pages(catalog_bytes)
        self.size = self._high_water * PAGE_BYTES

    def chunks(self, least_bytes: int = _CHUNK_BYTES) -> Iterator[bytes]:
        """The file from its first byte to its last, in pieces of `least_bytes` or a little more.

        Raises BboltError if a source does not yield what it did the first time.
        """
        layout = _Layout()
        parts = [self._meta(0), self._meta(1)]
        waiting = len(parts) * PAGE_BYTES
        for page in chain.from_iterable(map(layout.pages, self._sources)):
            rendered = _render(page)
            parts += rendered
            waiting += sum(map(len, rendered))
            if waiting >= least_bytes:
                yield b"".join(parts)
                parts, waiting = [], 0
        if layout != self._layout:
            raise BboltError("the rows changed between two looks at them")
        parts += _leaf_page(layout.next, self._catalog, NESTED)
        yield b"".join(parts)

    def _meta(self, number: int) -> bytes:
        """Both metas name the same root, so it does not matter which one a reader prefers."""
        root = self._layout.next
        meta = Meta(MAGIC, VERSION, PAGE_BYTES, 0, root, 0, NO_FREELIST, self._high_water, number)
        body = META_BODY.pack(*meta)
        page = HEADER.pack(number, META, 0, 0) + body + CHECKSUM.pack(fnv1a(body))
        if number == 0:
            page = page.ljust(MARK_AT, b"\0") + self._mark
        return page.ljust(PAGE_BYTES, b"\0")


class _LeafPlan(NamedTuple):
    number: int
    rows: list[Row]


class _BranchPlan(NamedTuple):
    number: int
    children: list[Child]


class _Layout:
    """Gives pages their rows and numbers, one bucket after the other; both passes run it."""

    def __init__(self) -> None:
        self.next = 2  # number of the next page
        self.roots: list[int] = []  # of the buckets so far

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Layout) and (self.next, self.roots) == (other.next, other.roots)

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # mutable

    def pages(self, source: Source) -> Iterator[_LeafPlan | _BranchPlan]:
        """The pages of one bucket as they follow each other, each branch after its children."""
        levels = [_Level()]
        for rows, used in _leaf_groups(source.scan()):
            number = self._take(used)
            yield _LeafPlan(number, rows)
            yield from self._add(levels, 0, (rows[0][0] if rows else b"", number))
        depth = 0
        while depth + 1 < len(levels) or len(levels[depth].children) > 1:
            for children in levels[depth].rest():
                yield from self._branch(levels, depth, children)
            depth += 1
        self.roots.append(levels[depth].children[0][1])

    def _add(self, levels: list[_Level], depth: int, child: Child) -> Iterator[_BranchPlan]:
        if depth == len(levels):
            levels.append(_Level())
        children = levels[depth].add(child)
        if children:
            yield from self._branch(levels, depth, children)

    def _branch(
        self, levels: list[_Level], depth: int, children: list[Child]
    ) -> Iterator[_BranchPlan]:
        number = self._take(HEADER_BYTES + sum(ELEMENT_BYTES + len(key) for key, _ in children))
        yield _BranchPlan(number, children)
        yield from self._add(levels, depth + 1, (children[0][0], number))

    def _take(self, used: int) -> int:
        number = self.next
        self.next += _pages(used)
        return number


class _Level:
    """Children on one level of a tree that have no branch page yet.

    bbolt panics when it deletes below a branch that has one child, so two are always kept back.
    """

    def __init__(self) -> None:
        self.children: list[Child] = []
        self._fit = 0  # leading children that fill one page, at least two
        self._used = HEADER_BYTES

    def add(self, child: Child) -> list[Child]:
        """Children for a branch page, once it is full and two others are there; else []."""
        self.children.append(child)
        need = ELEMENT_BYTES + len(child[0])
        all_fit = self._fit == len(self.children) - 1
        if all_fit and (self._used + need <= PAGE_BYTES or self._fit < 2):
            self._fit += 1
            self._used += need
        if len(self.children) < self._fit + 2:
            return []
        full, rest = self.children[: self._fit], self.children[self._fit :]
        self.__init__()
        for one in rest:
            self.add(one)
        return full

    def rest(self) -> list[list[Child]]:
        """What is left at the end, for one or two pages, none of them with a single child."""
        children = self.children
        self.children = []
        if self._fit == len(children) or len(children) < 4:
            return [children]
        return [children[:-2], children[-2:]]


def _leaf_groups(lists: Iterable[Sequence[Row]]) -> Iterator[tuple[list[Row], int]]:
    """Rows for one leaf page each, and the bytes they take; one empty group if there are none.

    A row that is larger than a page gets one of its own, with overflow.
    """
    group: list[Row] = []
    used = HEADER_BYTES
    for rows in lists:
        for row in rows:
            need = ELEMENT_BYTES + len(row[0]) + len(row[1])
            if used + need > PAGE_BYTES and group:
                yield group, used
                group, used = [], HEADER_BYTES
            group.append(row)
            used += need
    yield group, used


def _render(page: _LeafPlan | _BranchPlan) -> list[bytes]:
    """A page in parts, so that values are copied once, when a piece of the file is joined."""
    match page:
        case _LeafPlan(number, rows):
            if len(rows) > 1 and is_unordered(rows):
                raise BboltError(f"the rows for page {number} are not in order")
            return _leaf_page(number, rows, 0)
        case _BranchPlan(number, children):
            return _branch_page(number, children)


def _leaf_page(number: int, rows: Sequence[Row], flags: int) -> list[bytes]:
    elements: list[int] = []
    position = len(rows) * ELEMENT_BYTES  # from this element to its key
    for key, value in rows:
        key_bytes, value_bytes = len(key), len(value)
        elements += (flags, position, key_bytes, value_bytes)
        position += key_bytes + value_bytes - ELEMENT_BYTES
    head = Struct(f"<{len(elements)}I").pack(*elements)
    return _page_parts(number, LEAF, len(rows), [head, *chain.from_iterable(rows)])


def _branch_page(number: int, children: Sequence[Child]) -> list[bytes]:
    elements: list[bytes] = []
    position = len(children) * ELEMENT_BYTES
    for key, child in children:
        elements.append(BRANCH_ELEMENT.pack(position, len(key), child))
        position += len(key) - ELEMENT_BYTES
    keys = [key for key, _ in children]
    return _page_parts(number, BRANCH, len(children), elements + keys)


def _page_parts(number: int, kind: int, count: int, body: list[bytes]) -> list[bytes]:
    used = HEADER_BYTES + sum(map(len, body))
    pages = _pages(used)
    header = HEADER.pack(number, kind, count, pages - 1)
    return [header, *body, bytes(pages * PAGE_BYTES - used)]


def _pages(used: int) -> int:
    return -(-used // PAGE_BYTES)


# --- saved snapshots -----------------------------------------------------------------------------


def write_database(path: Path, image: Image) -> None:
    """The bare file, synced, mode 0600. Raises OSError; what is there then is incomplete."""
    _write(path, image.chunks())


def write_snapshot(path: Path, image: Image) -> None:
    """The file as `etcdctl snapshot save` leaves it: with the SHA-256 of it as trailer.

    Written as `<path>.part`, synced, renamed: it is there whole or not at all. Raises OSError.
    """
    part = path.with_name(path.name + ".part")
    _write(part, with_trailer(image.chunks()))
    part.rename(path)


def with_trailer(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks, and at last the SHA-256 of all of them."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    yield digest.digest()


def _write(path: Path, chunks: Iterable[bytes]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(fd)
