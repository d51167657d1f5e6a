"""What we open to hear from another member, when it is given up."""

from __future__ import annotations

from typing import Any

from corum.peer.stream import APP, InStream, Patience


class Other:
    """Dials and hangs up; bytes of calls that it does not know reach nobody, as in `Peers`."""

    local, id = 1, 2

    def __init__(self) -> None:
        self.calls: dict[int, InStream] = {}
        self.dialled = 0
        self.told: list[str] = []

    def dial(self, stream: InStream) -> int:
        self.dialled += 1
        self.calls[self.dialled] = stream
        return self.dialled

    def hang_up(self, call: int) -> None:
        del self.calls[call]

    def received(self, messages: list[Any]) -> None:
        self.told.append("received")

    def opened(self, stream: InStream) -> None:
        self.told.append("opened")

    def lost(self, stream: InStream, why: str) -> None:
        self.told.append(why)

    def not_dialled(self, why: str) -> None:
        self.told.append(why)

    def refused(self, status: int, text: str) -> None:
        self.told.append(text)


def test_bytes_of_a_stream_given_up_are_nobodys() -> None:
    """A process that stood still gives streams up whose bytes it has not read yet: they must
    neither end it nor get into the stream that it opens next."""
    other: Any = Other()
    wire: Any = None
    stream = InStream(wire, other, APP, Patience(read_ns=1_000))
    stream.tick(1)
    stream.head(200, [], 1)
    stream.tick(900)
    assert other.told == ["opened"]
    now_ns = 1_000_000_000
    stream.tick(now_ns)
    assert other.told == ["opened", "i/o timeout"]
    assert other.calls == {}
    stream.tick(2 * now_ns)
    assert other.calls == {2: stream}
    stream.close()
    assert other.calls == {}
