"""Frames of the log and the CRC chain that links them. Pure: bytes in, bytes out, no files.

A frame is a length field (u64, little endian), a walpb.Record and zeros up to a multiple of 8. The
low 56 bits of the length field are the record's length; the top byte is 0x80 | padding, or 0 when
there is none. A record is a kind, a CRC and data; the CRC is CRC-32C running over the data of all
records of the log, so that no record can be lost or exchanged. A CRC record begins each segment and
carries the value so far. A length of 0 ends the segment.
(etcd: server/wal/encoder.go, server/wal/decoder.go at v3.5.1)
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from mmap import mmap
from struct import Struct
from typing import Final

from corum.pb.varints import PAIRS, VARINTS, varint
from corum.raft.messages import Entry, HardState
from corum.values import value
from corum.wal.codec import (
    CodecError,
    encode_entries,
    encode_hard_state,
    numbers_and_bytes,
)
from corum.wal.crc import crc32c, crc32c_chain

METADATA: Final = 1
ENTRY: Final = 2
STATE: Final = 3
CRC: Final = 4
SNAPSHOT: Final = 5

FRAME_ALIGN: Final = 8
SECTOR_BYTES: Final = 512
"""The disk writes this much at once or not at all: what a crash left unwritten is zero sectors."""

_U64: Final = Struct("<Q")
_FRAME_START: Final = Struct("<QQ")
_LENGTH_MASK: Final = (1 << 56) - 1
_PADDING: Final = [bytes(-n % 8) for n in range(8)]  # by length & 7
_PADDED: Final = [0] + [(0x80 | 8 - n) << 56 for n in range(1, 8)]
_USUAL_MASK: Final = 0xF0_80_80_80_80_FF_80_FF
_USUAL: Final = 0x00_80_80_80_80_10_00_08
_HEAD: Final = [b"\x08%b\x10" % VARINTS[kind] for kind in range(8)]


def encode(records: Sequence[tuple[int, bytes]], crc: int) -> tuple[bytes, int]:
    """The frames of (kind, data) records that follow a record with the running value `crc`.

    Returns them with the running value behind them.
    """
    values = crc32c_chain([data for _, data in records], crc)
    out: list[bytes] = []
    for (kind, data), crc in zip(records, values, strict=True):  # noqa: PLR1704
        size = len(data)
        tail = VARINTS[size] if size < 16384 else varint(size)
        if crc >> 28:
            digits = PAIRS[crc & 16383] + PAIRS[crc >> 14 & 16383] + VARINTS[crc >> 28]
        else:
            digits = varint(crc)
        length = 4 + len(digits) + len(tail) + size
        odd = length & 7
        out += (
            _U64.pack(length | _PADDED[odd]),
            _HEAD[kind],
            digits,
            b"\x1a",
            tail,
            data,
            _PADDING[odd],
        )
    return b"".join(out), crc


def batch(hard_state: HardState | None, entries: Sequence[Entry]) -> list[tuple[int, bytes]]:
    """What one Ready has to persist, as records: the entries, then the hard state."""
    records = [(ENTRY, data) for data in encode_entries(entries)]
    if hard_state is not None:
        records.append((STATE, encode_hard_state(hard_state)))
    return records


def encode_batch(
    hard_state: HardState | None, entries: Sequence[Entry], crc: int
) -> tuple[bytes, int]:
    """`encode` of `batch`."""
    return encode(batch(hard_state, entries), crc)


def encode_crc(crc: int) -> bytes:
    """The frame that begins a segment: no data, only the running value."""
    record = _HEAD[CRC] + varint(crc)
    odd = len(record) & 7
    return _U64.pack(len(record) | _PADDED[odd]) + record + _PADDING[odd]


# --- reading -----------------------------------------------------------------------------------


Frame = tuple[int, int, int, bytes]
"""Offset, kind, CRC as claimed (not yet checked) and data of one record. A plain tuple: a segment
holds some 200,000, and a named one costs ten times as much."""


@dataclass(slots=True)
class Fault:
    """Why reading ended at `offset` before the log did."""

    offset: int
    reason: str
    torn: bool = False  # cut off by a crash while it was written, so it never was synced


@value
class Segment:
    """What one segment holds, up to its end or its first fault."""

    records: list[Frame]  # offset, kind, CRC, data
    end: int  # offset behind the last good frame
    crc: int  # running value there
    fault: Fault | None = None


def decode(image: bytes | mmap, crc: int, *, is_last: bool) -> Segment:
    """Read a segment's bytes and check them against the running value `crc` (0: unknown yet).

    Only the last segment of a log can be torn; in others a cut-off record is damage like any other.
    """
    found, end, fault = _walk(image)
    good, crc = _checked(found, crc)
    if good < len(found):
        end, kind, _, _ = found[good]
        torn = kind != CRC and _has_zero_sector(image, end)
        fault = Fault(end, "wal: crc mismatch", torn)
    if fault is None and _is_flipped(image, end, crc):
        # At a sector's end the field may be all that a power failure left out of a write.
        torn = is_last and _sector_end(end) == end + FRAME_ALIGN
        fault = Fault(end, "wal: length field of a record is gone", torn)
    elif fault is not None and fault.torn:
        fault.torn = is_last and not _is_flipped(image, fault.offset, crc)
    return Segment(found[:good], end, crc, fault)


def glance(image: bytes | mmap, kinds: Container[int]) -> list[Frame]:
    """Frames of these kinds up to the end or the first broken one, CRCs unchecked.

    Passes over others without reading them: 0.4 us each, a tenth of `decode`.
    """
    found: list[Frame] = []
    at, last = 0, len(image) - 2 * FRAME_ALIGN
    unpack = _FRAME_START.unpack_from
    while at <= last:
        field, head = unpack(image, at)
        length = field & _LENGTH_MASK
        if length == 0:
            break
        start = at + FRAME_ALIGN
        if head >> 8 & 0xFF in kinds:
            try:
                found.append((at, *_parse(image[start : start + length])))
            except CodecError:
                break
        at = start + length + (-length & 7)
    return found


def _walk(image: bytes | mmap) -> tuple[list[Frame], int, Fault | None]:
    """The frames, the offset behind the last, and why it is the last if not because of a 0."""
    found: list[Frame] = []
    at, size = 0, len(image)
    while at + FRAME_ALIGN <= size:
        field: int = _U64.unpack_from(image, at)[0]
        if field == 0:
            if any(image[at : _sector_end(at)]):  # a sector is written whole, or it is all zero
                return found, at, Fault(at, "wal: length field of a record is gone")
            break
        length = field & _LENGTH_MASK
        if field != length | _PADDED[length & 7]:
            return found, at, Fault(at, "wal: length field of a record is damaged")
        start = at + FRAME_ALIGN
        end = start + length + (-length & 7)
        if end > size:
            return found, at, Fault(at, "unexpected EOF", torn=True)
        try:
            found.append((at, *_parse(image[start : start + length])))
        except CodecError as error:
            torn = _has_zero_sector(image, at)
            return found, at, Fault(at, f"wal: no record: {error}", torn)
        at = end
    return found, at, None


def _parse(record: bytes) -> tuple[int, int, bytes]:
    """Kind, CRC and data of a walpb.Record."""
    if len(record) > 10:
        head: int = _U64.unpack_from(record)[0]
        size, at = record[9], 10
        if size > 127 and record[10] < 128:
            size, at = size & 127 | record[10] << 7, 11
        # Almost all records: fields in order, a CRC of five bytes, data below 16 KiB.
        if head & _USUAL_MASK == _USUAL and record[8] == 26 and at + size == len(record):
            crc = head >> 24 & 0x7F | head >> 25 & 0x3F80 | head >> 26 & 0x1FC000
            return head >> 8 & 0xFF, crc | head >> 27 & 0xFE00000 | head >> 56 << 28, record[at:]
    numbers, parts = numbers_and_bytes(record)
    if not numbers.keys() <= {1, 2} or not parts.keys() <= {3}:
        raise CodecError("unknown field")  # so that a wrong length cannot swallow what follows
    return numbers.get(1, 0), numbers.get(2, 0), parts.get(3, b"")


def _checked(found: Sequence[Frame], crc: int) -> tuple[int, int]:
    """How many frames from the first on continue the chain, and the running value behind them."""
    good = 0
    while good < len(found):
        _, kind, claimed, _ = found[good]
        if kind == CRC:
            if crc not in (0, claimed):
                break
            crc = claimed
            good += 1
            continue
        stretch = list(takewhile(_is_not_crc, islice(found, good, None)))
        running = crc32c_chain([frame[3] for frame in stretch], crc)
        for (_, _, claimed, _), now in zip(stretch, running, strict=True):
            if claimed != now:
                return good, crc
            crc = now
            good += 1
    return good, crc


def _is_not_crc(frame: Frame) -> bool:
    return frame[1] != CRC


def _sector_end(offset: int) -> int:
    return offset - offset % SECTOR_BYTES + SECTOR_BYTES


def _has_zero_sector(image: bytes | mmap, offset: int) -> bool:
    """Whether some sector's share of the record at `offset` is all zero: a torn write's mark.

    A value of zeros has the same mark, so damage elsewhere in such a record passes for a tear, and
    so it does in etcd: whether a record was synced is written nowhere.
    """
    length: int = _U64.unpack_from(image, offset)[0] & _LENGTH_MASK
    at, stop = offset + FRAME_ALIGN, offset + FRAME_ALIGN + length
    while at < stop:
        end = min(_sector_end(at), stop)
        if not any(image[at:end]):
            return True
        at = end
    return False


def _is_flipped(image: bytes | mmap, offset: int, crc: int) -> bool:
    """Whether one wrong bit in the length field is why the log seems to end or tear at `offset`.

    A length of 0 passes for the end, one that reaches into the zeros behind the log for a torn
    write, and repairing that would drop synced records. If the record is whole under a length that
    differs in one bit, it is damage. (etcd goes on without what follows.)
    """
    start = offset + FRAME_ALIGN
    if not any(image[start : start + FRAME_ALIGN]):
        return False  # no record begins here
    field: int = _U64.unpack_from(image, offset)[0]
    for bit in range(56):
        length = (field ^ 1 << bit) & _LENGTH_MASK
        if not 4 <= length <= len(image) - start:
            continue
        try:
            kind, claimed, data = _parse(image[start : start + length])
        except CodecError:
            continue
        if not METADATA <= kind <= SNAPSHOT:
            continue
        begins_log = kind == CRC and offset == 0 and crc == 0
        if begins_log or claimed == (crc if kind == CRC else crc32c(data, crc)):
            return True
    return False
