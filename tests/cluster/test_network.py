"""The relays between members: what is cut hears nothing, and nothing else changes."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from corum.cluster.network import Network
from corum.cluster.owners import GONE, owner
from corum.cluster.process import ClusterError, free_listener, port_of

QUIET_S = 0.3  # how long nothing has to come for us to believe that nothing comes
ANSWER_S = 10.0


class Wires:
    """A network whose only caller is this process, named "a"; "b" listens behind a relay."""

    def __init__(self) -> None:
        self.names = {os.getpid(): "a"}
        self.network = Network(lambda: self.names)
        self.listener = free_listener()
        self.listener.listen()
        self.listener.settimeout(ANSWER_S)
        relay = free_listener()
        self.port = port_of(relay)
        self.network.open("b", relay, port_of(self.listener))
        self._opened: list[socket.socket] = []

    def dial(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_S)
        self._opened.append(connection)
        return connection

    def accept(self) -> socket.socket:
        connection, _ = self.listener.accept()
        connection.settimeout(ANSWER_S)
        self._opened.append(connection)
        return connection

    def wait_for_ends(self, number: int) -> None:
        deadline = time.monotonic() + ANSWER_S
        while self.network.ends != number:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def close(self) -> None:
        for connection in (*self._opened, self.listener):
            connection.close()
        self.network.close()


@pytest.fixture
def wires() -> Iterator[Wires]:
    made = Wires()
    yield made
    made.close()


def is_quiet(connection: socket.socket) -> bool:
    connection.settimeout(QUIET_S)
    try:
        return not connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(ANSWER_S)


def test_bytes_pass_both_ways_and_so_does_the_end(wires: Wires) -> None:
    """A relay is a wire: more than one buffer arrives whole, and hanging up is heard."""
    near = wires.dial()
    far = wires.accept()
    sent = os.urandom(100_000)
    near.sendall(sent)
    got = b""
    while len(got) < len(sent):
        got += far.recv(1 << 16)
    assert got == sent
    far.sendall(b"answer")
    assert near.recv(100) == b"answer"
    near.close()
    assert far.recv(1) == b""


def test_one_direction_can_be_cut(wires: Wires) -> None:
    """What a says does not arrive, what b says does; after healing nothing is missing."""
    near = wires.dial()
    far = wires.accept()
    wires.network.cut([("a", "b")])
    near.sendall(b"lost?")
    far.sendall(b"heard")
    assert near.recv(100) == b"heard"
    assert is_quiet(far)
    wires.network.cut([])
    assert far.recv(100) == b"lost?"


@pytest.mark.parametrize("link", [("a", "b"), ("b", "a")])
def test_a_dial_needs_both_directions(wires: Wires, link: tuple[str, str]) -> None:
    """It is answered neither when the call nor when the answer is lost; later it is."""
    wires.network.cut([link])
    near = wires.dial()
    near.sendall(b"hello")
    wires.listener.settimeout(QUIET_S)
    with pytest.raises(TimeoutError):
        wires.accept()
    wires.listener.settimeout(ANSWER_S)
    wires.network.cut([])
    assert wires.accept().recv(100) == b"hello"


def test_an_end_behind_a_cut_is_heard_after_healing(wires: Wires) -> None:
    """Hanging up is a message too."""
    near = wires.dial()
    far = wires.accept()
    wires.network.cut([("a", "b")])
    near.close()
    assert is_quiet(far)
    wires.network.cut([])
    assert far.recv(1) == b""


def test_a_dial_that_was_given_up_meanwhile_is_not_made(wires: Wires) -> None:
    """Who hung up before healing is not announced to the other side."""
    wires.network.cut([("a", "b")])
    near = wires.dial()
    near.sendall(b"hello")
    wires.wait_for_ends(1)
    near.close()
    wires.wait_for_ends(0)
    second = wires.dial()
    second.sendall(b"second")
    wires.network.cut([])
    assert wires.accept().recv(100) == b"second"
    wires.listener.settimeout(QUIET_S)
    with pytest.raises(TimeoutError):
        wires.accept()


def test_a_stranger_is_always_heard(wires: Wires) -> None:
    """Only connections between members are cut."""
    wires.names.clear()
    wires.network.cut([("a", "b")])
    near = wires.dial()
    near.sendall(b"who?")
    assert wires.accept().recv(100) == b"who?"


def test_a_member_that_does_not_listen_hangs_up(wires: Wires) -> None:
    """A refused connection is not kept open."""
    wires.listener.close()
    near = wires.dial()
    try:
        assert near.recv(1) == b""
    except ConnectionResetError:
        pass


def test_a_cut_that_holds_much_does_not_gather_it(wires: Wires) -> None:
    """A sender behind a cut is stopped by full buffers, as by a dead wire."""
    near = wires.dial()
    wires.accept()
    wires.network.cut([("a", "b")])
    near.settimeout(QUIET_S)
    sent, most = 0, 1 << 25
    with contextlib.suppress(TimeoutError):
        while sent < most:
            sent += near.send(bytes(1 << 16))
    assert sent < most


def test_the_kernel_tells_whose_connection_it_is() -> None:
    """The process that has the socket is found among others; nobody, when it is not there."""
    listener = free_listener()
    listener.listen()
    program = (
        "import socket,sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
        "sys.stdin.read()"
    )
    with (
        listener,
        subprocess.Popen(
            [sys.executable, "-c", program, str(port_of(listener))], stdin=subprocess.PIPE
        ) as process,
    ):
        assert process.stdin is not None
        connection, far = listener.accept()
        with connection:
            near = connection.getsockname()
            assert owner(far, near, [os.getpid(), process.pid]) == process.pid
            assert owner(near, far, [os.getpid(), process.pid]) == os.getpid()
            assert owner(far, near, [os.getpid()]) is None
            process.stdin.close()
            process.wait()
            assert owner(far, near, [os.getpid()]) == GONE


def test_a_port_that_is_taken_is_told() -> None:
    """By number, before anything is started."""
    with free_listener() as taken:
        taken.listen()
        with pytest.raises(ClusterError, match=str(port_of(taken))):
            free_listener(port_of(taken))
