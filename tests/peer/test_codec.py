"""Frames and messages of the peer protocol: etcd's bytes, and back again."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corum.pb import raftpb
from corum.peer.codec import (
    AppReader,
    AppWriter,
    CodecError,
    MessageReader,
    MessageWriter,
    decode,
    encode,
)
from corum.raft import ConfState, Entry, EntryType, Message, MessageType, Snapshot
from corum.values import MIB

U64 = st.integers(0, 2**64 - 1)


def go_bytes(message: Message) -> bytes:
    """The same message by the generated classes, every scalar set as gogo's encoder writes it."""
    found = raftpb.Message(
        type=int(message.type),
        to=message.to,
        term=message.term,
        logTerm=message.log_term,
        index=message.index,
        commit=message.commit,
        reject=message.reject,
        rejectHint=message.reject_hint,
    )
    setattr(found, "from", message.sender)
    for entry in message.entries:
        one = found.entries.add(Type=int(entry.type), Term=entry.term, Index=entry.index)
        if entry.data:
            one.Data = entry.data
    snapshot = message.snapshot or Snapshot()
    about = found.snapshot.metadata
    about.index, about.term = snapshot.index, snapshot.term
    about.conf_state.voters.extend(snapshot.conf_state.voters)
    about.conf_state.learners.extend(snapshot.conf_state.learners)
    about.conf_state.auto_leave = snapshot.conf_state.auto_leave
    if snapshot.data:
        found.snapshot.data = snapshot.data
    if message.context:
        found.context = message.context
    return found.SerializeToString()


def test_an_answer_as_etcd_3_5_writes_it() -> None:
    """Every scalar is there, and an empty snapshot: field 9, ten bytes (measured on 3.5)."""
    message = Message(MessageType.APP_RESP, to=1, sender=2, term=3, index=300)
    assert encode(message).hex() == (
        "0804100118022003280030ac02" + "4000" + "4a0a12080a02280010001800" + "50005800"
    )


entries = st.builds(
    Entry, U64, U64, st.sampled_from([EntryType.NORMAL, EntryType.CONF_CHANGE]), st.binary()
)
snapshots = st.builds(
    Snapshot,
    U64,
    U64,
    st.builds(ConfState, st.tuples(U64, U64), st.tuples(U64)),
    st.binary(),
)


@given(
    st.builds(
        Message,
        st.sampled_from([MessageType.APP, MessageType.HEARTBEAT, MessageType.VOTE]),
        to=U64,
        sender=U64,
        term=U64,
        log_term=U64,
        index=U64,
        entries=st.lists(entries, max_size=3),
        commit=U64,
        reject=st.booleans(),
        reject_hint=U64,
        context=st.binary(max_size=9),
    )
)
def test_messages_equal_those_of_the_generated_encoder(message: Message) -> None:
    """Byte for byte, and what is read back is what was written."""
    data = encode(message)
    assert data == go_bytes(message)
    assert decode(data) == message


@given(snapshots)
def test_snapshots_travel_in_their_message(snapshot: Snapshot) -> None:
    """Configuration and data included."""
    message = Message(MessageType.SNAP, to=1, sender=2, snapshot=snapshot)
    assert encode(message) == go_bytes(message)
    assert decode(encode(message)).snapshot == snapshot


def app(index: int, *data: bytes, term: int = 5, log_term: int = 5, commit: int = 0) -> Message:
    found = [Entry(term, index + n, EntryType.NORMAL, one) for n, one in enumerate(data, 1)]
    return Message(
        MessageType.APP,
        to=1,
        sender=2,
        term=term,
        log_term=log_term,
        index=index,
        entries=found,
        commit=commit,
    )


def test_entries_that_go_on_are_sent_without_their_message() -> None:
    """The first message is whole (type 2); what follows it in its term is entries only (type 1)."""
    writer = AppWriter()
    first = writer.encode([app(2, b"a", log_term=1, commit=2)])
    assert first[0] == 2
    then = writer.encode([app(3, b"b", commit=3), app(4, commit=4)])
    entry = bytes.fromhex("0800100518042201") + b"b"
    assert then == (
        b"\x01"
        + (1).to_bytes(8, "big")
        + len(entry).to_bytes(8, "big")
        + entry
        + (3).to_bytes(8, "big")
        + b"\x01"
        + bytes(8)
        + (4).to_bytes(8, "big")
    )
    assert writer.encode([app(4, b"c", term=6)])[0] == 2  # another term begins whole


@given(st.lists(st.integers(1, 40), max_size=60))
def test_a_stream_may_arrive_in_any_pieces(cuts: list[int]) -> None:
    """The same messages come out, however the bytes were cut; heartbeats of the link do not."""
    sent = [app(2, b"a", b"b", log_term=1), app(4, b"x" * 30), app(5), app(9, term=7)]
    writer = AppWriter()
    apps = b"".join(writer.encode([one]) + writer.heartbeat for one in sent)
    votes = [Message(MessageType.VOTE, to=1, sender=2, term=n) for n in range(3)]
    whole = MessageWriter()
    others = whole.heartbeat + whole.encode(votes) + whole.heartbeat
    for reader, data, want in (
        (AppReader(1, 2), apps, sent),
        (MessageReader(), others, votes),
    ):
        got: list[Message] = []
        at = 0
        for cut in [*cuts, len(data)]:
            got += reader.feed(data[at : at + cut])
            at += cut
        assert [encode(one) for one in got] == [encode(one) for one in want]


@pytest.mark.parametrize(
    "data",
    [
        b"\x03",
        b"\x02" + b"\xff" * 8,
        b"\x01" + b"\xff" * 8,
        b"\x02" + (3).to_bytes(8, "big") + b"abc",
    ],
)
def test_what_no_member_sends_ends_the_connection(data: bytes) -> None:
    """Unknown frames, lengths beyond the bounds, bytes that are no message."""
    with pytest.raises(CodecError):
        AppReader(1, 2).feed(data)


@pytest.mark.parametrize("kind", ["message", "app", "entries"])
def test_a_large_frame_in_small_pieces_is_copied_once(kind: str) -> None:
    """8 MiB in pieces of 1 KiB: copying what waits for each piece would move 32 GiB."""
    data = bytes(8 * MIB)
    first = Message(MessageType.APP, to=1, sender=2, term=3, log_term=3, index=4, commit=4)
    large = Message(
        MessageType.APP,
        to=1,
        sender=2,
        term=3,
        log_term=3,
        index=4,
        entries=[Entry(3, 5, data=data)],
        commit=5,
    )
    if kind == "message":
        reader: Any = MessageReader()
        image = MessageWriter().encode([large, first])
        wanted = [large, first]
    else:
        reader = AppReader(1, 2)
        wanted = [first, large] if kind == "entries" else [large, first]
        image = AppWriter().encode(wanted)
    began = time.process_time()
    found = [one for at in range(0, len(image), 1024) for one in reader.feed(image[at : at + 1024])]
    assert time.process_time() - began < 2
    assert [(one.index, len(one.entries)) for one in found] == [
        (one.index, len(one.entries)) for one in wanted
    ]
    whole = next(one for one in found if one.entries)
    assert whole.entries[0].data == data
