"""The judge of single keys: what it must let pass, and what it must not."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from corum.sim.linearizability import NEVER, Existed, OnKey, Read, Write, is_linearizable


def write(begin: int, end: int, text: bytes | None) -> OnKey:
    return OnKey(begin, end, ((Write(text),),))


def read(begin: int, end: int, text: bytes | None) -> OnKey:
    return OnKey(begin, end, ((Read(text),),))


def test_a_read_between_two_writes_sees_the_first() -> None:
    assert is_linearizable([write(1, 2, b"a"), read(3, 4, b"a"), write(5, 6, b"b")])


def test_a_read_of_what_was_overwritten_before_it_began_is_stale() -> None:
    assert is_linearizable([write(1, 2, b"a"), write(3, 4, b"b"), read(5, 6, b"a")]) is False


def test_operations_at_the_same_time_may_come_in_any_order() -> None:
    overlapping = [write(1, 9, b"a"), write(2, 8, b"b")]
    assert is_linearizable([*overlapping, read(10, 11, b"a")])
    assert is_linearizable([*overlapping, read(10, 11, b"b")])
    assert is_linearizable([*overlapping, read(10, 11, b"a"), read(12, 13, b"b")]) is False


def test_an_unknown_write_may_happen_at_any_time_after_it_began_or_never() -> None:
    unknown = write(1, NEVER, b"a")
    assert is_linearizable([unknown, read(2, 3, None)])
    assert is_linearizable([unknown, read(2, 3, None), read(8, 9, b"a")])
    assert is_linearizable([unknown, read(2, 3, b"a"), read(8, 9, None)]) is False


def test_an_unknown_transaction_took_one_of_its_branches() -> None:
    unknown = OnKey(1, NEVER, ((Write(b"yes"),), (Write(b"no"),)))
    assert is_linearizable([unknown, read(2, 3, b"yes")])
    assert is_linearizable([unknown, read(2, 3, b"no")])
    assert is_linearizable([unknown, read(2, 3, b"no"), read(4, 5, b"yes")]) is False


def test_a_deletion_that_found_nothing_was_no_deletion_of_something() -> None:
    delete = OnKey(3, 4, ((Existed(False), Write(None)),))
    assert is_linearizable([write(1, 2, b"a"), delete]) is False
    assert is_linearizable([delete, write(5, 6, b"a")])


@pytest.mark.parametrize("seed", range(30))
def test_what_really_happened_one_after_the_other_is_always_accepted(seed: int) -> None:
    """Points in time with calls stretched around them; then one answer from the past is not."""
    dice = Random(seed)
    state: bytes | None = None
    history: list[OnKey] = []
    for number in range(40):
        at = 10 * number
        begin, end = at - dice.randint(0, 40), at + dice.randint(1, 40)
        match dice.randint(0, 2):
            case 0:
                history.append(read(begin, end, state))
            case 1:
                state = b"%d" % number
                history.append(write(begin, NEVER if dice.random() < 0.2 else end, state))
            case _:
                history.append(OnKey(begin, end, ((Existed(state is not None), Write(None)),)))
                state = None
    assert is_linearizable(history)
    last = max(each.returned for each in history if each.returned < NEVER)
    a, b = (write(last + n, last + n + 1, b"end %d" % n) for n in (10, 20))
    assert all(one.returned < other.invoked for one, other in pairwise((a, b)))
    assert is_linearizable([*history, a, b, read(last + 30, last + 31, b"end 10")]) is False
