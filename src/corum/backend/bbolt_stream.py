"""A bbolt file read while it arrives, if its writer put it into the order of its keys.

Nothing in a bbolt file tells a page's bucket, or whether it counts at all, before the last bytes
have come. Our writer says so in page 0, behind what bbolt reads there: for each bucket where its
pages begin and end, leaves in the order of their keys. Files without this (a Go etcd's) have to be
whole before they can be read. What the file says twice is compared: the mark, the pages' own
numbers, the catalog at its end. Pure; memory: the pages of one piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from struct import error as StructError
from typing import Final, NamedTuple

from corum.backend.bbolt_format import (
    BRANCH,
    BUCKET,
    CHECKSUM,
    HEADER,
    LEAF,
    NESTED,
    PAGE_BYTES,
    BboltError,
    Row,
    fnv1a,
)
from corum.backend.bbolt_read import Page, leaf_elements, leaf_rows

MARK_AT: Final = 1_024
"""Place in page 0."""
HEAD_BYTES: Final = PAGE_BYTES
"""So much of a file shows whether it is in order."""
_MARK: Final = b"corum: buckets in order, 1\n"
_COUNT: Final = Struct("<I")
_SPAN: Final = Struct("<HQQ")


class Span(NamedTuple):
    """A bucket's pages: from `first` up to before `end`."""

    name: bytes
    first: int
    end: int


def mark_of(spans: Sequence[Span]) -> bytes:
    """What page 0 says from `MARK_AT` on; empty if there is no room for it."""
    parts = [_COUNT.pack(len(spans))]
    for span in spans:
        parts += (_SPAN.pack(len(span.name), span.first, span.end), span.name)
    body = b"".join(parts)
    mark = _MARK + body + CHECKSUM.pack(fnv1a(body))
    return mark if MARK_AT + len(mark) <= PAGE_BYTES else b""


def spans_of(head: bytes) -> list[Span] | None:
    """What the mark says in the first `HEAD_BYTES` of a file; None without one."""
    at = MARK_AT + len(_MARK)
    if head[MARK_AT:at] != _MARK:
        return None
    start, spans = at, list[Span]()
    try:
        (count,) = _COUNT.unpack_from(head, at)
        at += _COUNT.size
        for _ in range(count):
            size, first, end = _SPAN.unpack_from(head, at)
            at += _SPAN.size + size
            spans.append(Span(head[at - size : at], first, end))
        (checksum,) = CHECKSUM.unpack_from(head, at)
    except StructError:
        return None
    return spans if checksum == fnv1a(head[start:at]) else None


class Arrival:
    """Takes a file's bytes, from the first, and gives out its rows."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = list(spans)
        self._at = 0
        """The span that is being read; behind the last one the catalog follows."""
        self._page = 0
        self._rest = b""
        self._last_key: bytes | None = None
        self._roots: list[int] = []
        self._root = 0
        self._whole = False

    def feed(self, *pieces: bytes) -> Iterator[tuple[bytes, list[Row]]]:
        """Bucket and rows, ascending, of the pages that are complete. Raises BboltError."""
        data = b"".join((self._rest, *pieces))
        start, size = 0, len(data)
        waiting: list[Row] = []
        while size - start >= PAGE_BYTES:
            if self._page < 2:  # the metas, which `Database` checks if it is ever read
                self._page, start = self._page + 1, start + PAGE_BYTES
                continue
            id_, kind, count, overflow = HEADER.unpack_from(data, start)
            stop = start + (1 + overflow) * PAGE_BYTES
            self._check(id_, kind, overflow)
            if stop > size:
                break
            if kind == LEAF:
                waiting += self._rows(Page(data, id_, kind, count, start, stop))
            self._root, self._page, start = self._page, self._page + 1 + overflow, stop
            ended = self._end_of_span()
            if ended is not None and waiting:
                yield ended, waiting
                waiting = []
        self._rest = data[start:]
        if waiting:
            yield self._spans[self._at].name, waiting

    def _check(self, number: int, kind: int, overflow: int) -> None:
        if self._whole:
            raise BboltError(f"page {self._page} is behind the last one")
        if number != self._page or kind not in (BRANCH, LEAF):
            raise BboltError(f"page {self._page} calls itself {number}, of kind {kind:#x}")
        if self._at < len(self._spans):
            span = self._spans[self._at]
            if not span.first <= number <= number + overflow < span.end:
                raise BboltError(f"page {number} is not one of bucket {span.name!r}")

    def _rows(self, page: Page) -> list[Row]:
        if self._at == len(self._spans):
            self._check_catalog(leaf_elements(page))
            return []
        rows = leaf_rows(page, self._spans[self._at].name, self._last_key)
        if rows:
            self._last_key = rows[-1][0]
        return rows

    def _check_catalog(self, elements: list[tuple[int, bytes, bytes]]) -> None:
        """It must name the same buckets, and the roots that have come."""
        expected = [
            (NESTED, span.name, BUCKET.pack(root, 0))
            for span, root in zip(self._spans, self._roots, strict=True)
        ]
        if elements != expected:
            raise BboltError("the catalog of buckets is not the one that was announced")
        self._whole = True

    def _end_of_span(self) -> bytes | None:
        """The bucket whose last page that was."""
        if self._at == len(self._spans) or self._page != self._spans[self._at].end:
            return None
        self._roots.append(self._root)
        self._at += 1
        self._last_key = None
        return self._spans[self._at - 1].name

    def finish(self) -> None:
        """Nothing more comes. Raises BboltError if something is missing."""
        if not self._whole or self._rest:
            raise BboltError(f"the file ends at page {self._page}, before its catalog")
