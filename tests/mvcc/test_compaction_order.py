"""What a copy of the database finds while a compaction is under way."""

from __future__ import annotations

from random import Random

import pytest

from corum.backend import schema
from corum.backend.memory_backend import MemoryBackend
from corum.mvcc.rebuild import rebuild_index
from corum.mvcc.store import Store


def copied(store: Store) -> Store:
    """A store made of another one's `key` and `meta` buckets, as a member gets them."""
    backend = MemoryBackend()
    for name in (schema.KEY, schema.META):
        backend.bucket(name).pending.update(store.backend.range(name))
    rebuild_index(backend)
    return Store(backend)


def alive(store: Store, keys: list[bytes]) -> list[bytes]:
    return [key for key in keys if store.get(key) is not None]


@pytest.mark.parametrize("seed", range(20))
def test_no_deleted_key_is_alive_in_a_copy_made_during_a_compaction(seed: int) -> None:
    """Puts go before the tombstones that ended them, whatever the size of the slices."""
    dice = Random(seed)
    store, keys = Store(MemoryBackend()), [b"k%d" % n for n in range(4)]

    def change() -> None:
        write = store.begin()
        key = dice.choice(keys)
        if dice.random() < 0.4:
            write.delete_range(key)
        else:
            write.put(key, b"v", 0)
        write.end()

    for _ in range(40):
        change()
    store.compact(dice.randint(2, store.revision))
    compaction = store.compaction
    assert compaction is not None
    while not compaction.step(dice.choice((1, 2, 5))):
        if dice.random() < 0.3:
            change()
        copy = copied(store)
        assert alive(copy, keys) == alive(store, keys)
        while copy.compaction is not None:
            copy.compaction.step(1)
        assert alive(copy, keys) == alive(store, keys)
