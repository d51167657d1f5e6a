"""Frames of the log and the CRC chain that links them. Pure: bytes in, bytes out, no files.

A frame is a length field (u64, little endian), a walpb.Record and zeros up to a multiple of 8. The
low 56 bits of the length field are the record's length; the top byte is 0x80 | padding, or 0 when
there is none. A record is a kind, a CRC and data; the CRC is CRC-32C running over the data of all
records of the log, so that no record can be lost or exchanged. A CRC record begins each segment and
carries the value so far. A length of 0 ends the segment.
(etcd: server/wal/encoder.go, server/wal/decoder.go at v3.5.1)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from mmap import mmap
from struct import Struct
from typing import Final, NamedTuple

from corum.raft.messages import Entry, HardState
from corum.values import value
from corum.wal.codec import (
    VARINTS,
    CodecError,
    encode_entry,
    encode_hard_state,
    numbers_and_bytes,
    read_varint,
    varint,
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
_LENGTH_MASK: Final = (1 << 56) - 1
_PADDING: Final = [bytes(-n % 8) for n in range(8)]  # by length & 7
_PADDED: Final = [0] + [(0x80 | 8 - n) << 56 for n in range(1, 8)]
_HEAD: Final = [b"\x08%b\x10" % VARINTS[kind] for kind in range(8)]

# Two bytes of a varint that goes on: a five-byte CRC is two look-ups and its top four bits.
_HIGH: Final = [bytes((n | 128,)) for n in range(128)]
_PAIRS: Final = [low + high for high in _HIGH for low in _HIGH]


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
            digits = _PAIRS[crc & 16383] + _PAIRS[crc >> 14 & 16383] + VARINTS[crc >> 28]
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
    records = [(ENTRY, encode_entry(entry)) for entry in entries]
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


class Frame(NamedTuple):
    """One record as found at `offset`; `crc` is what it claims, not yet checked."""

    offset: int
    kind: int
    crc: int
    data: bytes


@dataclass(slots=True)
class Fault:
    """Why reading ended at `offset` before the log did."""

    offset: int
    reason: str
    torn: bool = False  # cut off by a crash while it was written, so it never was synced


@value
class Segment:
    """What one segment holds, up to its end or its first fault."""

    records: list[Frame]
    end: int  # offset behind the last good frame
    crc: int  # running value there
    fault: Fault | None = None


def decode(image: bytes | mmap, crc: int, *, is_last: bool) -> Segment:
    """Read a segment's bytes and check them against the running value `crc` (0: unknown yet).

    Only the last segment of a log can be torn; in others a cut-off record is damage like any other.
    """
    frames: list[Frame] = []
    end, fault = 0, None
    for item, end in _walk(image):  # noqa: B007
        if isinstance(item, Fault):
            fault = item
            break
        frames.append(item)
    good, crc = _checked(frames, crc)
    if good < len(frames):
        wrong = frames[good]
        reason = "wal: crc mismatch"
        if wrong.kind != CRC and _has_zero_sector(image, wrong.offset):
            fault = Fault(wrong.offset, reason, torn=True)
        else:
            fault = Fault(wrong.offset, reason)
        end = wrong.offset
    if fault is None and _is_flipped(image, end, crc):
        fault = Fault(end, "wal: length field of a record is gone")
    elif fault is not None and fault.torn:
        fault.torn = is_last and not _is_flipped(image, fault.offset, crc)
    return Segment(frames[:good], end, crc, fault)


def frames(image: bytes | mmap) -> Iterator[Frame]:
    """Frames up to the end or the first broken one, CRCs unchecked: for a quick look."""
    for item, _ in _walk(image):
        if isinstance(item, Fault):
            return
        yield item


def _walk(image: bytes | mmap) -> Iterator[tuple[Frame | Fault, int]]:
    """Each frame with the offset behind it; at last perhaps a fault with its own offset."""
    at, size = 0, len(image)
    unpack = _U64.unpack_from
    while at + FRAME_ALIGN <= size:
        field: int = unpack(image, at)[0]
        if field == 0:
            if any(image[at : _sector_end(at)]):  # a sector is written whole, or it is all zero
                yield Fault(at, "wal: length field of a record is gone"), at
            return
        length = field & _LENGTH_MASK
        if field != length | _PADDED[length & 7]:
            yield Fault(at, "wal: length field of a record is damaged"), at
            return
        padding = -length & 7
        start, stop = at + FRAME_ALIGN, at + FRAME_ALIGN + length
        if stop + padding > size:
            yield Fault(at, "unexpected EOF", torn=True), at
            return
        try:
            kind, crc, data = _parse(image[start:stop])
        except CodecError as error:
            torn = _has_zero_sector(image, at)
            yield Fault(at, f"wal: no record: {error}", torn), at
            return
        end = stop + padding
        yield Frame(at, kind, crc, data), end
        at = end


def _parse(record: bytes) -> tuple[int, int, bytes]:
    """Kind, CRC and data of a walpb.Record."""
    if len(record) > 4 and record[0] == 8 and record[2] == 16 and record[1] < 128:
        crc, at = read_varint(record, 3)
        if at == len(record):
            return record[1], crc, b""
        if record[at] == 26:
            size, at = read_varint(record, at + 1)
            if at + size == len(record):
                return record[1], crc, record[at:]
    numbers, parts = numbers_and_bytes(record)
    if not numbers.keys() <= {1, 2} or not parts.keys() <= {3}:
        raise CodecError("unknown field")  # so that a wrong length cannot swallow what follows
    return numbers.get(1, 0), numbers.get(2, 0), parts.get(3, b"")


def _checked(found: Sequence[Frame], crc: int) -> tuple[int, int]:
    """How many frames from the first on continue the chain, and the running value behind them."""
    good = 0
    while good < len(found):
        if found[good].kind == CRC:
            if crc not in (0, found[good].crc):
                break
            crc = found[good].crc
            good += 1
            continue
        stop = good
        while stop < len(found) and found[stop].kind != CRC:
            stop += 1
        for frame, is_value in zip(
            found[good:stop], crc32c_chain([f.data for f in found[good:stop]], crc), strict=True
        ):
            if frame.crc != is_value:
                return good, crc
            crc = is_value
            good += 1
    return good, crc


def _sector_end(offset: int) -> int:
    return offset - offset % SECTOR_BYTES + SECTOR_BYTES


def _has_zero_sector(image: bytes | mmap, offset: int) -> bool:
    """Whether some sector's share of the record at `offset` is all zero: a torn write's mark."""
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
