"""The log's writes: order, durability calls, failures; and its checksum."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corum import _transport as transport


@pytest.fixture
def inbox() -> Iterator[transport.Transport]:
    with transport.Transport() as inbox:
        yield inbox


@pytest.fixture
def writer(inbox: transport.Transport) -> Iterator[transport.LogWriter]:
    writer = transport.LogWriter(inbox)
    yield writer
    writer.close()


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def synced(inbox: transport.Transport, count: int) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    while len(found) < count:
        batch = inbox.poll(10_000, count)
        assert batch, found
        found += batch
    return found


def test_writes_in_order(inbox: transport.Transport, writer: transport.LogWriter, fd: int) -> None:
    """Everything is written where the last write ended, and reported in order."""
    for token in range(20):
        writer.submit(token, fd, b"%02d" % token, token % 5 == 0)
    events = synced(inbox, 20)
    assert [event[:3] for event in events] == [
        (transport.LOG_SYNCED, token, None) for token in range(20)
    ]
    assert all(event[3] > 0 for event in events)
    assert os.pread(fd, 100, 0) == b"".join(b"%02d" % token for token in range(20))


def test_write_now(writer: transport.LogWriter, fd: int) -> None:
    """The short path appends too and tells how long it took."""
    assert writer.write_now(fd, b"abc", True) > 0
    assert writer.write_now(fd, b"def", False) > 0
    assert os.pread(fd, 100, 0) == b"abcdef"


def test_failure_cuts_back_and_sticks(
    inbox: transport.Transport, writer: transport.LogWriter, fd: int
) -> None:
    """A partial write is undone, and nothing follows it until the error is cleared."""
    writer.write_now(fd, b"good", True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # Python ignores SIGXFSZ
    try:
        writer.submit(1, fd, b"x" * 20, True)
        (failed,) = synced(inbox, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failed[1] == 1
    assert os.strerror(errno.EFBIG) in failed[2]
    assert os.pread(fd, 100, 0) == b"good"
    writer.submit(2, fd, b"after", True)
    assert synced(inbox, 1)[0][2] == failed[2]
    with pytest.raises(transport.TransportError):
        writer.write_now(fd, b"after", True)
    writer.clear_error()
    writer.submit(3, fd, b" again", True)
    assert synced(inbox, 1)[0][2] is None
    assert os.pread(fd, 100, 0) == b"good again"


def test_closed_descriptor_is_an_error(
    inbox: transport.Transport, writer: transport.LogWriter
) -> None:
    """A descriptor that is not open is reported, not fatal."""
    reader, other = os.pipe()
    os.close(other)
    writer.submit(7, reader, b"x", True)
    assert "Bad file descriptor" in synced(inbox, 1)[0][2]
    os.close(reader)


def test_close_finishes(inbox: transport.Transport, fd: int) -> None:
    """Closing waits for what was submitted and refuses more."""
    writer = transport.LogWriter(inbox)
    for token in range(10):
        writer.submit(token, fd, b"x", False)
    writer.close()
    writer.close()
    assert len(inbox.poll(0, 100)) == 10
    with pytest.raises(transport.TransportError):
        writer.submit(11, fd, b"x", False)


def test_crc32c_known_value() -> None:
    """The check value of CRC-32C (RFC 3720 B.4 and the catalogue of CRCs)."""
    assert transport.crc32c(b"123456789") == 0xE3069283
    assert transport.crc32c(bytes(32)) == 0x8A9136AA


@given(st.lists(st.binary(max_size=50)), st.integers(0, (1 << 32) - 1))
def test_crc32c_chain_is_the_running_value(parts: list[bytes], start: int) -> None:
    """Each value of the chain is the checksum of everything so far."""
    chain = transport.crc32c_chain(parts, start)
    whole = [transport.crc32c(b"".join(parts[: n + 1]), start) for n in range(len(parts))]
    assert chain == whole
