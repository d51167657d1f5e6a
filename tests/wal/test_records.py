"""Frames: what is the end, what is torn, what is damage."""

import pytest

from corum.wal import records
from corum.wal.records import ENTRY, Fault, decode

from .helpers import entries


def image(count: int = 3, data: bytes = b"x" * 700) -> bytes:
    """A segment of some entries in a preallocated file of 8 KiB."""
    frames, _ = records.encode_batch(None, entries(1, count, data=data), 0)
    return (records.encode_crc(0) + frames).ljust(8192, b"\0")


def offsets(data: bytes) -> list[int]:
    return [frame[0] for frame in decode(data, 0, is_last=True).records]


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def fault_of(data: bytes, *, is_last: bool = True) -> Fault | None:
    return decode(data, 0, is_last=is_last).fault


def test_zero_length_ends_a_segment() -> None:
    """What was preallocated and not used is no fault."""
    found = decode(image(), 0, is_last=True)
    assert found.fault is None
    assert [kind for _, kind, _, _ in found.records] == [records.CRC, ENTRY, ENTRY, ENTRY]


def test_missing_last_sector_is_torn() -> None:
    """A sector of zeros in the last record means that it was not wholly written."""
    data = image()
    last = offsets(data)[-1]
    sector = last // 512 * 512 + 512
    torn = fault_of(changed(data, sector, bytes(512)))
    assert torn == Fault(last, "wal: crc mismatch", torn=True)


def test_torn_in_the_middle_of_a_batch() -> None:
    """Sectors of one write arrive in any order: what follows the gap was never synced either."""
    data = image()
    second = offsets(data)[2]
    sector = second // 512 * 512 + 512
    found = decode(changed(data, sector, bytes(512)), 0, is_last=True)
    assert found.fault == Fault(second, "wal: crc mismatch", torn=True)
    assert len(found.records) == 2


def test_only_the_last_segment_can_be_torn() -> None:
    """In a segment that has a successor, the same is damage."""
    data = image()
    last = offsets(data)[-1]
    sector = last // 512 * 512 + 512
    found = fault_of(changed(data, sector, bytes(512)), is_last=False)
    assert found == Fault(last, "wal: crc mismatch", torn=False)


def test_file_that_ends_within_a_record_is_torn() -> None:
    """Without preallocation a crash shortens the file."""
    data = image()
    last = offsets(data)[-1]
    assert fault_of(data[: last + 100]) == Fault(last, "unexpected EOF", torn=True)


def test_changed_data_is_damage() -> None:
    """Bytes that differ, without a zero sector, were synced once: never repaired away."""
    data = image()
    second = offsets(data)[2]
    found = fault_of(changed(data, second + 200, b"WWWW"))
    assert found == Fault(second, "wal: crc mismatch", torn=False)


def test_changed_chain_value_is_damage() -> None:
    """The CRC record that begins a segment must continue the segment before."""
    found = decode(records.encode_crc(5), 6, is_last=True)
    assert found.fault == Fault(0, "wal: crc mismatch", torn=False)


@pytest.mark.parametrize("bit", range(64))
def test_flipped_length_is_damage_not_a_tear(bit: int) -> None:
    """A length that reaches into the zeros would pass for torn; synced entries behind would go."""
    data = image()
    second = offsets(data)[2]
    length = int.from_bytes(data[second : second + 8], "little") ^ 1 << bit
    found = fault_of(changed(data, second, length.to_bytes(8, "little")))
    assert found is not None
    assert (found.offset, found.torn) == (second, False)


def test_length_flipped_to_zero_is_not_the_end() -> None:
    """A length of zero ends the segment only if the rest of its sector is zero, too."""
    data = image(data=b"12345")
    second = offsets(data)[2]
    found = fault_of(changed(data, second, bytes(8)))
    assert found == Fault(second, "wal: length field of a record is gone", torn=False)


def test_length_flipped_to_zero_at_the_end_of_a_sector() -> None:
    """The record behind it is whole. Where nothing may be torn, that is damage; in the last segment
    power may have failed when its second sector was written and its first was not."""
    head = records.encode_crc(0)
    fill, crc = records.encode([(ENTRY, b"f" * (504 - len(head) - 8 - 12))], 0)
    assert len(head + fill) == 504
    frame, _ = records.encode([(ENTRY, b"g" * 54)], crc)
    length = int.from_bytes(frame[:8], "little")
    assert length == 64
    data = (head + fill + bytes(8) + frame[8:]).ljust(1024, b"\0")
    reason = "wal: length field of a record is gone"
    assert records.decode(data, 0, is_last=True).fault == Fault(504, reason, torn=True)
    assert records.decode(data, 0, is_last=False).fault == Fault(504, reason, torn=False)


def test_frames_are_padded_to_eight_bytes() -> None:
    """Length fields tell the padding in their top byte, 0 for none."""
    for size in range(1, 20):
        frame, _ = records.encode([(ENTRY, b"d" * size)], 0)
        top = frame[7]
        assert len(frame) % 8 == 0
        padding = top & 7 if top & 0x80 else 0
        assert 8 + int.from_bytes(frame[:7], "little") + padding == len(frame)
        assert records.decode(frame, 0, is_last=True).records[0][3] == b"d" * size


def test_small_crc_is_a_short_varint() -> None:
    """One value in 16 takes four bytes; it is written without a fifth, and read."""
    data, _ = records.encode([(ENTRY, b"%d" % number) for number in range(200)], 0)
    image = records.encode_crc(0) + data
    found = decode(image, 0, is_last=True)
    assert found.fault is None
    lengths = {image.index(b"\x1a", offset + 11) - offset - 11 for offset, *_ in found.records[1:]}
    assert lengths == {4, 5}
