"""Messages that are joined on their way out tell a member the same as one by one."""

import random

from corum.raft import (
    Config,
    ConfState,
    Entry,
    HardState,
    MemoryStorage,
    Message,
    MessageType,
    RawNode,
    Snapshot,
    merged,
)

TERM = 3


def append(index: int, count: int, commit: int, to: int = 2, term: int = TERM) -> Message:
    entries = [Entry(term, index + n + 1, data=b"%d" % (index + n)) for n in range(count)]
    log_term = 1 if index == 1 else term
    return Message(
        MessageType.APP,
        to=to,
        sender=1,
        term=term,
        log_term=log_term,
        index=index,
        entries=entries,
        commit=commit,
    )


def answer(index: int, *, reject: bool = False, term: int = TERM) -> Message:
    return Message(MessageType.APP_RESP, to=1, sender=2, term=term, index=index, reject=reject)


def test_a_commit_index_travels_with_the_entries_behind_it() -> None:
    """Be it told before them or after them."""
    before = merged([append(5, 0, 5), append(5, 2, 5), append(7, 0, 6)])
    assert [(m.index, len(m.entries), m.commit) for m in before] == [(5, 2, 6)]


def test_entries_are_not_joined_with_entries() -> None:
    """Each message may be as long as Raft allows."""
    assert len(merged([append(5, 1, 5), append(6, 1, 5)])) == 2


def test_what_does_not_follow_is_not_joined() -> None:
    """A probe elsewhere, another term, another member."""
    for other in (append(4, 0, 5), append(5, 0, 5, term=4), append(5, 0, 5, to=3)):
        assert merged([append(5, 0, 5), other]) == [append(5, 0, 5), other]


def test_the_last_acknowledgement_speaks_for_all() -> None:
    """They are cumulative; a rejection is an answer of its own, and ends the row."""
    assert merged([answer(4), answer(6)]) == [answer(6)]
    row = [answer(4), answer(6, reject=True), answer(7), answer(8)]
    assert merged(row) == [row[0], row[1], row[3]]
    assert len(merged([answer(4, term=2), answer(4)])) == 2


def follower() -> RawNode:
    storage = MemoryStorage()
    storage.apply_snapshot(Snapshot(1, 1, ConfState((1, 2, 3)), b""))
    storage.set_hard_state(HardState(TERM, 0, 1))
    return RawNode(Config(id=2, dice=random.Random(1), applied=1), storage)


def test_a_follower_ends_where_it_would_have_ended() -> None:
    """Its log, what it takes for committed, and what it acknowledges last; 300 random rows."""
    dice = random.Random(7)
    for _ in range(300):
        index, commit, row = 1, 1, list[Message]()
        for _ in range(dice.randrange(1, 8)):
            count = dice.choice((0, 0, 1, 3))
            commit = dice.randrange(commit, index + count + 1)
            row.append(append(index, count, commit))
            index += count
        one, other = follower(), follower()
        for message in row:
            one.step(message)
        for message in merged(row):
            other.step(message)
        logs = [each.raft.log for each in (one, other)]
        assert logs[0].committed == logs[1].committed
        assert logs[0].last_index == logs[1].last_index
        answers = [each.raft.after_append for each in (one, other)]
        assert merged(answers[0]) == merged(answers[1])
