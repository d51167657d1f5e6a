"""Ears: each hears the first change after its revision, of a key or anywhere in a folder."""

from __future__ import annotations

import pytest

from corum.server.listeners import Change, Listeners


@pytest.fixture
def listeners() -> Listeners:
    return Listeners()


def change(revision: int, key: bytes, stored: bytes | None = b"") -> Change:
    return revision, key, stored


def test_a_key_is_heard_once(listeners: Listeners) -> None:
    """And only that key, and nothing that happened before."""
    heard: list[Change] = []
    listeners.listen(b"k", 5, heard.append)
    listeners.tell([change(5, b"k"), change(6, b"kk"), change(6, b"k"), change(7, b"k")])
    assert heard == [change(6, b"k")]
    assert not listeners.waiting


@pytest.mark.parametrize(
    ("key", "reached"),
    [(b"a/", True), (b"a/b", True), (b"a/b/c", True), (b"a", False), (b"b/a/", False)],
)
def test_a_folder_is_heard_at_any_depth(listeners: Listeners, key: bytes, reached: bool) -> None:
    """By whatever begins with it."""
    heard: list[Change] = []
    listeners.listen(b"a/", 0, heard.append, whole=False)
    listeners.tell([change(1, key)])
    assert bool(heard) == reached == (not listeners.waiting)


def test_who_listens_again_misses_nothing(listeners: Listeners) -> None:
    """From within, for what follows in the same batch."""
    heard: list[int] = []

    def again(change: Change) -> None:
        heard.append(change[0])
        listeners.listen(b"k", change[0], again)

    listeners.listen(b"k", 0, again)
    listeners.tell([change(number, b"k") for number in (1, 2, 2, 3)])
    assert heard == [1, 2, 3]  # a revision changes a key once
    assert listeners.waiting


def test_a_dropped_ear_hears_nothing(listeners: Listeners) -> None:
    """Others at the same key still do."""
    heard: list[str] = []
    gone = listeners.listen(b"k", 0, lambda change: heard.append("gone"))
    listeners.listen(b"k", 0, lambda change: heard.append("here"))
    listeners.drop(gone)
    listeners.tell([change(1, b"k")])
    assert heard == ["here"]
