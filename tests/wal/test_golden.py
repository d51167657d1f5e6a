"""Our codecs against bytes that Go etcd wrote."""

from pathlib import Path

import pytest

from corum.raft.messages import ConfState, EntryType, HardState
from corum.wal import WalSnapshot, codec, records
from corum.wal.crc import crc32c, crc32c_chain, slow_crc32c, slow_crc32c_chain
from corum.wal.replay import replay, segment_names
from corum.wal.snapshot_files import decode_file, encode_file
from wire import golden

SNAP = "go-3.5.1-0000000000000002-0000000000000010.snap"
RECODE = {
    records.METADATA: lambda data: codec.encode_metadata(*codec.decode_metadata(data)),
    records.ENTRY: lambda data: codec.encode_entry(codec.decode_entry(data)),
    records.STATE: lambda data: codec.encode_hard_state(codec.decode_hard_state(data)),
    records.SNAPSHOT: lambda data: codec.encode_wal_snapshot(codec.decode_wal_snapshot(data)),
}


def segment(tmp_path: Path, name: str) -> Path:
    """A WAL directory that holds the golden segment as its only one."""
    (tmp_path / "0000000000000000-0000000000000000.wal").write_bytes(golden(name))
    return tmp_path


def test_wal_of_go_3_5_1_is_written_identically() -> None:
    """Decoding every record of Go's segment and encoding it again gives the same bytes."""
    image = golden("go-3.5.1-wal")
    found = records.decode(image, 0, is_last=True)
    assert found.fault is None
    assert found.end == len(image)
    first, *rest = found.records
    again = [(kind, RECODE[kind](data)) for _, kind, _, data in rest]
    frames, crc = records.encode(again, first[2])
    assert records.encode_crc(first[2]) + frames == image
    assert crc == found.crc


def test_records_of_go_3_7_3_differ_only_in_omitted_zeros(tmp_path: Path) -> None:
    """3.7 leaves out fields that are zero; we read the same values from them."""
    found = replay(segment_names(segment(tmp_path, "go-3.7.3-wal")), WalSnapshot())
    assert found.hard_state == HardState(2, 2593658243182244426, 28)
    assert [entry.index for entry in found.entries] == list(range(1, 29))
    assert found.entries[0].type is EntryType.CONF_CHANGE
    assert {entry.type for entry in found.entries[1:]} == {EntryType.NORMAL}


def test_replay_of_go_3_5_1_from_its_snapshot(tmp_path: Path) -> None:
    """From the record of a snapshot on, only later entries are collected."""
    snap = decode_file(golden(SNAP))
    names = segment_names(segment(tmp_path, "go-3.5.1-wal"))
    found = replay(names, WalSnapshot(snap.index, snap.term))
    assert (snap.term, snap.index) == (2, 16)
    assert snap.conf_state == ConfState(voters=(7616583982444832909,))
    assert found.entries[0].index == 17
    assert found.last_index == 28
    assert codec.decode_metadata(found.metadata) == (7616583982444832909, 3586811377195397337)


def test_snap_of_go_3_5_1_is_written_identically() -> None:
    """A `.snap` file decoded and encoded again is the same file."""
    assert encode_file(decode_file(golden(SNAP))) == golden(SNAP)


def test_first_bytes_of_a_log() -> None:
    """CRC record, metadata, snapshot (0, 0): the start of every WAL, from Go's hex dump."""
    metadata = codec.encode_metadata(7616583982444832909, 3586811377195397337)
    start = (records.SNAPSHOT, codec.encode_wal_snapshot(WalSnapshot()))
    frames, _ = records.encode([(records.METADATA, metadata), start], 0)
    assert (records.encode_crc(0) + frames).hex(" ", 8) == (
        "0400000000000084 0804100000000000 1e00000000000082 08011085d4c08305 "
        "1a14088dd1b79cf1 d8e2d96910d9e1be f099bebae3310000 0e00000000000082 "
        "080510e3b69ffc05 1a04080010000000"
    )


@pytest.mark.parametrize("chain", [crc32c_chain, slow_crc32c_chain])
def test_crc_is_castagnolis(chain: object) -> None:
    """The check value of CRC-32C, whole and continued, in machine code and in Python."""
    assert crc32c(b"123456789") == slow_crc32c(b"123456789") == 0xE3069283
    assert callable(chain)
    assert chain([b"1234", b"", b"56789"], 0)[-1] == 0xE3069283


@pytest.mark.parametrize("number", [0, 1, 127, 128, 16383, 16384, 2**28 - 1, 2**32, 2**64 - 1])
def test_varint_round_trip(number: int) -> None:
    """Every length of a varint, at its limits."""
    data = codec.varint(number)
    assert codec.read_varint(data, 0) == (number, len(data))
    assert len(data) == max(1, -(-number.bit_length() // 7))


def test_joint_configuration_round_trip() -> None:
    """All groups of a ConfState survive; ids are unpacked as Go writes them."""
    state = ConfState((1, 300), (4,), (1, 2), (5,), True)
    assert codec.encode_conf_state(state).hex() == "080108ac0210041801180220052801"
    assert codec.decode_conf_state(codec.encode_conf_state(state)) == state
    assert codec.decode_conf_state(b"\x0a\x03\x01\xac\x02") == ConfState((1, 300))


@pytest.mark.parametrize("data", [b"\x08", b"\x0a\x05abc", b"\x0b", b"\x08" + b"\xff" * 11])
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    """Cut-off varints, fields and unknown wire types are errors, not guesses."""
    with pytest.raises(codec.CodecError):
        codec.decode_hard_state(data)
