"""A member inside somebody else's program: tests, notebooks, tools.

    with corum.Member() as member:
        client = corum.Client(member.endpoint)

In memory unless `data_dir` is given, on free loopback ports unless told otherwise.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final

from corum.member.settings import Settings
from corum.server.ports import NodeConfig

START_TIMEOUT_S: Final = 30.0


class Member:
    """One etcd member on a thread of this process; use it as a context manager."""

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        name: str = "default",
        client_url: str = "http://127.0.0.1:0",
        peer_url: str = "http://127.0.0.1:0",
        log: Callable[..., None] | None = None,
        **options: Any,
    ) -> None:
        """`data_dir` None keeps everything in memory.

        `log(level, message, **fields)` gets the lines a daemon would log. `options` are fields of
        `NodeConfig` (quota_bytes, request_bytes_max, ...).
        """
        peer = "http://localhost:2380" if peer_url.endswith(":0") else peer_url
        self._settings = Settings(
            NodeConfig(name=name, **options),
            None if data_dir is None else os.fspath(data_dir),
            {name: [peer]},
            [peer],
            [client_url],
            [peer_url],
        )
        self._log = log or _quiet
        self._thread: threading.Thread | None = None
        self._runtime: Any = None
        self._ready = threading.Event()
        self._error: BaseException | None = None

    def start(self) -> Member:
        """Start and wait until it serves. Raises what kept it from starting."""
        assert self._thread is None, "started twice"
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, name="corum-member", daemon=True)
        self._thread.start()
        if not self._ready.wait(START_TIMEOUT_S):
            self.stop()
            raise TimeoutError(f"the member was not ready within {START_TIMEOUT_S:g} s")
        if self._error is not None:
            self._thread.join()
            self._thread = None
            raise self._error
        return self

    def _run(self) -> None:
        from corum.member.runtime import Runtime

        try:
            self._runtime = Runtime(self._settings, self._log, embedded=True)
            self._runtime.ready = self._ready.set
            self._runtime.run()
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    @property
    def endpoint(self) -> str:
        """Where clients connect: "127.0.0.1:port", or a unix socket's URL."""
        return self._runtime.addresses[0]

    def stop(self) -> None:
        """Stop in good order and wait. Idempotent; `start` begins anew (on disk: with the data)."""
        if self._runtime is not None:
            self._runtime.stop()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._runtime = None

    def __enter__(self) -> Member:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _quiet(level: str, message: str, **fields: Any) -> None:
    """Says nothing."""
