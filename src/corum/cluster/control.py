"""The same commands from another terminal: a unix socket in the cluster's directory.

A request is one line, a JSON list of words; the answer one line, `[is it done?, text]`.
Only who may write in the directory may connect.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from corum.cluster.process import ClusterError

SOCKET: Final = "control.sock"
PATH_BYTES_MAX: Final = 100
"""Of a unix socket, with some room: the kernel takes 107."""
LINE_BYTES_MAX: Final = 1 << 16
ASK_TIMEOUT_S: Final = 120.0
READ_TIMEOUT_S: Final = 5.0

Obey = Callable[[list[str]], str]
"""Does what the words say and returns what there is to say; raises ClusterError."""


class Control:
    """Listens until closed; commands come one at a time, on a thread of its own."""

    def __init__(self, directory: Path, obey: Obey) -> None:
        self._obey = obey
        self._link = directory / SOCKET
        self._path = self._link
        if len(os.fsencode(self._link)) > PATH_BYTES_MAX:
            self._path = Path(tempfile.mkdtemp(prefix="corum-")) / SOCKET
        for left_over in (self._link, self._path):
            left_over.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(os.fspath(self._path))
        self._path.chmod(0o600)
        if self._path != self._link:
            self._link.symlink_to(self._path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, name="corum-control", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            with connection:
                connection.settimeout(READ_TIMEOUT_S)
                try:
                    self._answer(connection)
                except OSError:
                    continue  # who asked has gone

    def _answer(self, connection: socket.socket) -> None:
        with connection.makefile("rw", encoding="utf-8") as stream:
            try:
                words = json.loads(stream.readline(LINE_BYTES_MAX))
                answer = (True, self._obey([str(word) for word in words]))
            except ClusterError as error:
                answer = (False, str(error))
            except (ValueError, TypeError):
                answer = (False, "not a list of words")
            stream.write(json.dumps(answer) + "\n")

    def close(self) -> None:
        """Listen no more; who has been heard is answered."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        except OSError:
            pass
        self._socket.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(READ_TIMEOUT_S)
        self._link.unlink(missing_ok=True)
        if self._path != self._link:
            self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()


def ask(directory: Path, words: Sequence[str]) -> str:
    """Have the cluster of that directory do it; its answer. Raises ClusterError."""
    path = os.path.realpath(directory / SOCKET)
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        path = os.path.relpath(path)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ASK_TIMEOUT_S)
        try:
            connection.connect(path)
            with connection.makefile("rw", encoding="utf-8") as stream:
                stream.write(json.dumps(list(words)) + "\n")
                stream.flush()
                line = stream.readline()
        except OSError as error:
            told = error.strerror or error
            raise ClusterError(f"no cluster runs in {directory}: {told}") from None
    if not line:
        raise ClusterError("the cluster ended before it answered")
    is_done, text = json.loads(line)
    if not is_done:
        raise ClusterError(text)
    return text
