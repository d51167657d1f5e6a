"""CRC-32C (Castagnoli): the transport's, or a table in Python where it is not built (slow)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

__all__ = ["crc32c", "crc32c_chain"]


@cache
def _table() -> list[int]:
    """Values of all bytes for the reflected polynomial 0x82F63B78 (RFC 3720 §B.4)."""
    table: list[int] = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


def slow_crc32c(data: bytes, crc: int = 0, /) -> int:
    """CRC-32C of `data`, continuing from the value `crc`; about 60 ns per byte."""
    table = _table()
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def slow_crc32c_chain(parts: Sequence[bytes], crc: int, /) -> list[int]:
    """The running value after each part."""
    values: list[int] = []
    for part in parts:
        crc = slow_crc32c(part, crc)
        values.append(crc)
    return values


try:
    from corum._transport import crc32c, crc32c_chain
except ImportError:
    crc32c, crc32c_chain = slow_crc32c, slow_crc32c_chain
